//! `sentinel demo`: the attack is replayed, the stolen key contained, nothing else touched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::run;

#[test]
fn the_demonstration_contains_the_stolen_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let output = run(&["demo", "--once", "--data", data.to_str().unwrap()], b"");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for stage in ["ingest", "detect", "enrich", "respond", "SIMULATED", "INCIDENT"] {
        assert!(told.contains(stage), "{stage} is missing:\n{told}");
    }

    let listed = run(&["respond", "list", "--format", "ndjson", "--data", data.to_str().unwrap()], b"");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let responses: Vec<serde_json::Value> =
        String::from_utf8(listed.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let contained: Vec<_> = responses.iter().filter(|r| r["state"] == "contained").collect();
    assert!(!contained.is_empty());
    for response in contained {
        assert!(response["snapshot"].is_object() && response["verification"].is_object(), "{response:#}");
    }
}

#[test]
fn in_observe_mode_nothing_is_done() {
    let output = run(&["demo", "--once", "--mode", "observe"], b"");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("Observed") && !told.contains("Contained"), "{told}");
}

#[test]
fn a_folder_that_holds_data_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sentinel.db"), "something").unwrap();
    let output = run(&["demo", "--once", "--data", folder.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(folder.path().join("sentinel.db")).unwrap(), b"something");
}
