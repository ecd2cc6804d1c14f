//! `sentinel rules`: check, list and test Sigma rules, and show what they cover.

use std::{
    fs::File,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use sentinel_detect::{
    LoadOptions, Refused, RuleSet,
    check::{self, CheckReport},
};

use crate::{
    args::{CoverageArgs, CoverageFormat, ReportFormat, RuleFiles, RulesAction, RulesArgs},
    coverage::Coverage,
    scan::output::{clean, new_table},
};

fn options(files: RuleFiles) -> LoadOptions {
    let RuleFiles { dirs, site } = files;
    LoadOptions { default_rules: dirs.is_empty(), dirs, placeholders: site.placeholders, exceptions: site.exceptions }
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
        RulesAction::Check { rules, format } => {
            let report = CheckReport::from(RuleSet::load(&options(rules))?.1);
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
            Ok(if report.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        RulesAction::Coverage(args) => {
            coverage(&mut out, &args)?;
            Ok(ExitCode::SUCCESS)
        }
        RulesAction::List { rules, format } => {
            let (set, _) = RuleSet::load(&options(rules))?;
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

fn coverage(out: &mut impl io::Write, args: &CoverageArgs) -> Result<()> {
    let options =
        LoadOptions { default_rules: !args.no_default_rules, dirs: args.rules.clone(), ..LoadOptions::default() };
    let (set, report) = RuleSet::load(&options)?;
    for refused in &report.refused {
        eprintln!("rule refused: {}", place(refused));
    }
    let coverage = Coverage::of(&set, &args.sources);
    if let Some(path) = &args.navigator {
        let file = File::create(path).with_context(|| format!("writing the layer to {}", path.display()))?;
        serde_json::to_writer_pretty(file, &coverage.layer())?;
    }
    match args.format {
        CoverageFormat::Json => writeln!(out, "{}", serde_json::to_string(&coverage)?)?,
        CoverageFormat::Markdown => out.write_all(coverage.markdown().as_bytes())?,
        CoverageFormat::Table => coverage.table(out)?,
    }
    Ok(())
}
