//! `sentinel scan`: hunts in files and folders of logs, without a store.
//!
//! Workers share the files among them ([`work`]). Each record is read by ingest's reader and matched by detect's
//! rules; what matches is collected by enrich ([`sentinel_enrich::collect`]), which tells copies apart at the end and
//! makes the alerts that the pipeline would raise, one at a time. What is kept while reading is bounded and goes to
//! disk past that, and the result follows from the set of records alone: neither the order of files nor the number
//! of workers changes it.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use sentinel_detect::{Correlator, LoadOptions, LoadReport, RuleSet};
use sentinel_enrich::{
    Collected, IndicatorList,
    collect::{Counts, Form, Wanted},
    incident,
};
use sentinel_ingest::reader::KeyHints;
use sentinel_model::{Level, incident::AlertBrief};

use crate::args::{Format, ScanArgs};

pub(crate) mod backtest;
mod difference;
mod files;
mod identities;
mod models;
pub(crate) mod output;
mod progress;
mod steps;
mod summary;
mod work;

use identities::Identities;
use steps::Steps;
use summary::Summary;
use work::Work;

/// Rows of a table that people get to see; programs get all.
const TABLE_ROWS: usize = 2_000;

/// Scans and prints; the exit status is 1 only when something could not be opened or decompressed.
pub(crate) fn run(args: &ScanArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let (rules, report) = RuleSet::load(&LoadOptions {
        default_rules: !args.no_default_rules,
        dirs: args.rules.clone(),
        placeholders: args.site.placeholders.clone(),
        exceptions: args.site.exceptions.clone(),
    })?;
    tell_rules(&report);
    let list = indicators(args.indicators.as_deref())?;
    let files::Listing { mut inputs, unreadable, skipped } = files::list(&args.paths);
    if args.models {
        // The model wants events in order of time, so the Regions of a trail are read side by side.
        inputs.sort_by_cached_key(|input| KeyHints::of(&input.name()).time);
    }
    let work = Work::new(rules, list, inputs, threads(args), args);
    let found = work.all()?;
    let mut summary = Summary::new();
    summary.unreadable = unreadable;
    summary.skipped = skipped;
    summary.rules = report.rules;
    summary.rules_refused = report.refused.len();
    finish(&work, found, args, &mut summary)?;
    summary.finish(start.elapsed());
    // Whoever reads standard error may have gone too: nobody is left to be told.
    let _ = io::stderr().write_all(summary.text().as_bytes());
    if let Some(path) = &args.summary {
        fs::write(path, serde_json::to_vec(&summary)?)
            .with_context(|| format!("writing the summary to {}", path.display()))?;
    }
    // The process ends: memory goes back at once, not rule by rule.
    std::mem::forget(work);
    Ok(if summary.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The threads to use: as many as the machine has, unless told. A model scores events in their order, so it has one.
fn threads(args: &ScanArgs) -> usize {
    if args.models {
        return 1;
    }
    let all = || thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or_else(all, usize::from)
}

/// Brings together what the workers found and prints it.
fn finish(work: &Work, found: Vec<work::Found>, args: &ScanArgs, summary: &mut Summary) -> Result<()> {
    let (mut readings, mut seen, mut collectors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut steps, mut others) = (Steps::default(), Vec::new());
    let mut correlator: Option<Correlator> = None;
    for one in found {
        readings.push(one.reading);
        seen.push(one.seen);
        collectors.push(one.collector);
        steps.add(one.steps.all());
        others.extend(one.others.finish());
        correlator = Some(match correlator {
            None => one.correlator,
            Some(all) => all.merge(one.correlator),
        });
    }
    summary.read(readings);
    let distinct = Identities::count(seen)?;
    summary.duplicates = summary.records - distinct.events;
    summary.conflicting = distinct.events - distinct.ids;
    summary.suppressed = work.rules().exceptions().suppressed();

    let form = match args.format {
        _ if args.incidents => Form::Brief,
        Format::Ndjson => Form::Line,
        Format::Table => Form::Row,
    };
    // Alerts below that are in no incident.
    let min_level = if args.incidents { Level::Low } else { args.min_level };
    let wanted = Wanted { form, min_level, threads: work.threads() };
    let alerts = Collected::new(collectors, work.labels(), sentinel_replay::say, work.list());
    let found = sentinel_replay::correlations(work.rules(), correlator.unwrap_or_default(), &alerts, work.threads())?;
    let alerts = alerts.with(found);
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let mut counts = Counts::default();
    let printed = print(alerts, wanted, &others, &steps, args, &mut counts, &mut out);
    for (level, count) in Level::ALL.into_iter().zip(counts) {
        summary.count_alerts(level, count);
    }
    match printed.and_then(|()| out.flush()) {
        // The reader of a pipe went away, as `head` does: that is no failure of ours.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn print(
    alerts: Collected<'_>,
    wanted: Wanted,
    others: &[sentinel_model::Alert],
    steps: &Steps,
    args: &ScanArgs,
    counts: &mut Counts,
    out: &mut impl Write,
) -> io::Result<()> {
    match wanted.form {
        Form::Line => alerts.tell(wanted, others, counts, &mut |lines| out.write_all(lines)),
        Form::Row => {
            let (mut rows, mut more) = (Vec::new(), 0);
            alerts.tell(wanted, others, counts, &mut |lines| {
                for row in serde_json::Deserializer::from_slice(lines).into_iter() {
                    let row = row?;
                    if rows.len() < TABLE_ROWS {
                        rows.push(row);
                    } else {
                        more += 1;
                    }
                }
                Ok(())
            })?;
            output::alerts(out, &rows, more)
        }
        Form::Brief => {
            let mut briefs: Vec<AlertBrief> = Vec::new();
            alerts.tell(wanted, others, counts, &mut |lines| {
                for brief in serde_json::Deserializer::from_slice(lines).into_iter() {
                    briefs.push(brief?);
                }
                Ok(())
            })?;
            let incidents = incident::group_briefs(&briefs, steps.all());
            let shown: Vec<_> = incidents.iter().filter(|i| i.level >= args.min_level).collect();
            output::incidents(out, args.format, &shown)
        }
    }
}

fn tell_rules(report: &LoadReport) {
    for refused in &report.refused {
        eprintln!("rule refused: {}", crate::rules::place(refused));
    }
    for warning in &report.warnings {
        eprintln!("rules: {}", output::clean(warning));
    }
    if report.rules == 0 {
        eprintln!("rules: none is in force: name folders of your own with --rules");
    }
}

fn indicators(path: Option<&Path>) -> Result<Arc<IndicatorList>> {
    let mut list = IndicatorList::default();
    if let Some(path) = path {
        let bad = list.load(path).with_context(|| format!("reading indicators {}", path.display()))?;
        for line in bad {
            eprintln!("indicator left out: {line}");
        }
    }
    Ok(Arc::new(list))
}
