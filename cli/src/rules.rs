//! `sentinel rules`: check, list and test Sigma rules.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use sentinel_detect::{LoadOptions, RuleSet, check};

use crate::{
    args::{ReportFormat, RulesAction, RulesArgs},
    scan::output::{clean, new_table},
};

fn options(dirs: Vec<PathBuf>) -> LoadOptions {
    LoadOptions { default_rules: dirs.is_empty(), dirs }
}

/// Carries out a command.
pub(crate) fn run(args: RulesArgs) -> Result<ExitCode> {
    match args.action {
        RulesAction::Check { dirs, format } => {
            let (_, report) = RuleSet::load(&options(dirs))?;
            match format {
                ReportFormat::Json => println!("{}", serde_json::to_string(&report)?),
                ReportFormat::Text => {
                    println!("{} rules, {} correlations, {} refused", report.rules, report.correlations, report.refused.len());
                    for refused in &report.refused {
                        println!("refused: {refused}");
                    }
                    for warning in &report.warnings {
                        println!("warning: {warning}");
                    }
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        RulesAction::List { dirs, format } => {
            let (set, _) = RuleSet::load(&options(dirs))?;
            let rows = check::list(&set);
            if format == ReportFormat::Json {
                println!("{}", serde_json::to_string(&rows)?);
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = new_table(["Id", "Level", "Status", "ATT&CK", "Title", "Source"]);
            for row in rows {
                table.add_row([
                    clean(&row.id),
                    row.level.to_string(),
                    row.status.unwrap_or_default(),
                    row.attack.join(" "),
                    clean(&row.title),
                    row.source,
                ]);
            }
            println!("{table}");
            Ok(ExitCode::SUCCESS)
        }
        RulesAction::Test { dirs } => {
            let report = check::run_tests(&options(dirs))?;
            for failure in &report.failures {
                println!("{failure}");
            }
            println!("{} rules, {} test events, {} failures", report.rules, report.cases, report.failures.len());
            Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
