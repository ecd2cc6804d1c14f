//! What functions carry with them: a library that only one of them needs makes the start of all slower, even unused.

use std::process::Command;

#[test]
fn only_who_matches_rules_carries_the_models_runtime() {
    let carries = |function: &str| {
        let mut tree = Command::new(env!("CARGO"));
        tree.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--package", function]);
        let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().any(|line| line.starts_with("tract-"))
    };
    for function in ["detect-lambda", "backtest-lambda"] {
        assert!(carries(function), "{function}");
    }
    for function in ["ingest-lambda", "enrich-lambda", "respond-lambda", "dashboard-lambda", "watch-lambda"] {
        assert!(!carries(function), "{function}");
    }
}
