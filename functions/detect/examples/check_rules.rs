//! Loads folders of Sigma rules and prints what was refused and why: `cargo run --example check_rules DIR...`.

use std::{path::PathBuf, time::Instant};

use sentinel_detect::{LoadError, LoadOptions, RuleSet};

fn main() -> Result<(), LoadError> {
    let dirs: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let started = Instant::now();
    let (set, report) = RuleSet::load(&LoadOptions { default_rules: dirs.is_empty(), dirs, ..LoadOptions::default() })?;
    let took = started.elapsed();
    for refused in &report.refused {
        println!("{}:{}: {}: {}", refused.file, refused.line, refused.field.as_deref().unwrap_or("-"), refused.reason);
    }
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    println!(
        "{} rules of {} files in {took:?}: {} evaluated ({:?}), {} correlations, {} filters, {} refused",
        report.rules,
        report.files,
        report.evaluated,
        set.dispatch_stats(),
        report.correlations,
        report.filters,
        report.refused.len()
    );
    Ok(())
}
