//! `sentinel backtest`: replays files and folders of logs through two rule sets and shows what differs.
//!
//! The workers of a scan read the logs, once for both sets; what the sets make of them, and what differs, is
//! `sentinel-replay`'s. Models take no part: they have no rules that could differ.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use sentinel_detect::{LoadOptions, RuleSet};
use sentinel_model::Level;
use sentinel_replay::{Loaded, Pair, Report, compare};

use super::{difference, files, indicators, output, summary::Summary, threads, work::Work};
use crate::args::{BacktestArgs, Format, ReportFormat, ScanArgs};

/// Replays and prints; the exit status is 1 only when something could not be opened or decompressed.
pub(crate) fn run(args: BacktestArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let pair = load(&args)?;
    let (format, summary_file) = (args.format, args.summary.clone());
    let args = as_scan(args);
    let list = indicators(args.indicators.as_deref())?;
    let files::Listing { inputs, unreadable, skipped } = files::list(&args.paths);
    let work = Work::new(RuleSet::default(), list, inputs, threads(&args), &args).comparing(pair);
    let mut summary = Summary::new();
    summary.unreadable = unreadable;
    summary.skipped = skipped;
    let report = replayed(&work, &mut summary)?;
    summary.finish(start.elapsed());
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        ReportFormat::Json => {
            serde_json::to_writer(&mut out, &report)?;
            out.write_all(b"\n")?;
        }
        ReportFormat::Text => difference::print(&mut out, &report)?,
    }
    out.flush()?;
    // Whoever reads standard error may have gone too: nobody is left to be told.
    let _ = io::stderr().write_all(summary.text().as_bytes());
    if let Some(path) = &summary_file {
        let file = File::create(path).with_context(|| format!("writing the summary to {}", path.display()))?;
        serde_json::to_writer(file, &summary)?;
    }
    Ok(if summary.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads both sets; what was refused is told of each.
fn load(args: &BacktestArgs) -> Result<Pair> {
    let before = LoadOptions {
        default_rules: args.default_rules || args.baseline.is_empty(),
        dirs: args.baseline.clone(),
        placeholders: args.site.placeholders.clone(),
        exceptions: args.site.exceptions.clone(),
    };
    let mut after = before.clone();
    if !args.on_top {
        after.default_rules = args.default_rules;
        after.dirs.clear();
    }
    after.dirs.extend(args.rules.iter().cloned());
    let pair = Pair { baseline: Loaded::load(&before, [])?, candidate: Loaded::load(&after, [])? };
    for (name, loaded) in [("baseline", &pair.baseline), ("candidate", &pair.candidate)] {
        for refused in &loaded.report.refused {
            eprintln!("{name}: rule refused: {}", crate::rules::place(refused));
        }
        for warning in &loaded.report.warnings {
            eprintln!("{name}: {}", output::clean(warning));
        }
        if loaded.report.rules == 0 {
            eprintln!("{name}: no rule was loaded");
        }
    }
    Ok(pair)
}

/// The scan that reads what a backtest reads.
fn as_scan(args: BacktestArgs) -> ScanArgs {
    ScanArgs {
        paths: args.paths,
        format: Format::Ndjson,
        min_level: Level::Informational,
        rules: Vec::new(),
        no_default_rules: true,
        site: args.site,
        models: false,
        incidents: false,
        indicators: args.indicators,
        summary: None,
        threads: args.threads,
        max_file_gib: args.max_file_gib,
    }
}

/// Reads everything and compares. The summary is that of a scan with the candidate.
fn replayed(work: &Work, summary: &mut Summary) -> Result<Report> {
    let pair = work.pair().context("two sets are compared")?;
    let (mut readings, mut seen, mut passes) = (Vec::new(), Vec::new(), Vec::new());
    for one in work.all()? {
        readings.push(one.reading);
        seen.push(one.seen);
        passes.extend(one.pass);
    }
    summary.read(readings);
    let distinct = super::Identities::count(seen)?;
    summary.duplicates = summary.records - distinct.events;
    summary.conflicting = distinct.events - distinct.ids;
    summary.suppressed = pair.candidate.rules.exceptions().suppressed();
    summary.rules = pair.candidate.report.rules;
    summary.rules_refused = pair.candidate.report.refused.len();
    let mut report = compare(pair, passes, &work.list(), work.threads())?;
    for level in Level::ALL {
        summary.count_alerts(level, report.candidate.by_level.get(level.as_str()).copied().unwrap_or_default());
    }
    let unreadable = |u: &super::summary::Unreadable| format!("{}: {}", u.file, u.reason);
    report.unreadable = summary.unreadable.iter().map(unreadable).collect();
    Ok(report)
}
