//! `sentinel rules`: check, list and test Sigma rules.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use sentinel_detect::{
    LoadOptions, Refused, RuleSet,
    check::{self, CheckReport},
};

use crate::{
    args::{ReportFormat, RulesAction, RulesArgs},
    scan::output::{clean, new_table},
};

fn options(dirs: Vec<PathBuf>) -> LoadOptions {
    LoadOptions { default_rules: dirs.is_empty(), dirs }
}

/// Where a rule was refused, and why.
pub(crate) fn place(refused: &Refused) -> String {
    let field = refused.field.as_deref().map(|f| format!(", field {f}")).unwrap_or_default();
    clean(&format!("{}: line {}{field}: {}", refused.file, refused.line, refused.reason))
}

/// Carries out a command.
pub(crate) fn run(args: RulesArgs) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match args.action {
        RulesAction::Check { dirs, format } => {
            let report = CheckReport::from(RuleSet::load(&options(dirs))?.1);
            match format {
                ReportFormat::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
                ReportFormat::Text => {
                    writeln!(
                        out,
                        "{} rules, {} correlations, {} refused",
                        report.rules,
                        report.correlations,
                        report.refused.len()
                    )?;
                    for refused in &report.refused {
                        writeln!(out, "refused: {}", place(refused))?;
                    }
                    for warning in &report.warnings {
                        writeln!(out, "warning: {}", clean(warning))?;
                    }
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        RulesAction::List { dirs, format } => {
            let (set, _) = RuleSet::load(&options(dirs))?;
            let rows = check::list(&set);
            if format == ReportFormat::Json {
                writeln!(out, "{}", serde_json::to_string(&rows)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = new_table(["Id", "Level", "Status", "ATT&CK", "Title", "Source"]);
            for row in rows {
                table.add_row([
                    clean(&row.id),
                    row.level.to_string(),
                    row.status.unwrap_or_default(),
                    row.attack.techniques.join(" "),
                    clean(&row.title),
                    row.source,
                ]);
            }
            writeln!(out, "{table}")?;
            Ok(ExitCode::SUCCESS)
        }
        RulesAction::Test { dirs } => {
            let mut reports = Vec::new();
            if dirs.is_empty() {
                reports.push(check::run_pack_tests());
            }
            for dir in &dirs {
                reports.push(check::run_tests(dir)?);
            }
            for failure in reports.iter().flat_map(|r| &r.failures) {
                let case = failure.case.as_deref().map(|c| format!(": {c}")).unwrap_or_default();
                writeln!(out, "{}{}: {}", clean(&failure.file), clean(&case), clean(&failure.reason))?;
            }
            let sum = |of: fn(&check::TestReport) -> usize| reports.iter().map(of).sum::<usize>();
            writeln!(
                out,
                "{} rules, {} cases, {} failures",
                sum(|r| r.rules),
                sum(|r| r.cases),
                sum(|r| r.failures.len())
            )?;
            Ok(if reports.iter().all(check::TestReport::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
