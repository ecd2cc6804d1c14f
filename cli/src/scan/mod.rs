//! `sentinel scan`: hunts in files and folders of logs, in memory, without a store.
//!
//! Each record is read by ingest's reader, told from its duplicates over the whole input, matched by detect's
//! rules, and what matches is collected into alerts and incidents by enrich's pure functions: the alerts are
//! the ones that the pipeline would raise. A record that matches nothing is never normalised.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use sentinel_detect::{LoadOptions, LoadReport, RuleIndex, RuleSet, ScorerError};
use sentinel_enrich::{Accumulator, IndicatorList, incident};
use sentinel_ingest::{Found, Limits, Record, Seen, Sight, identity, lineage, normalise, reader::KeyHints};
use sentinel_model::{Channel, Detection, Event, Provenance, RawRecord, Timestamp};

use crate::args::{Format, ScanArgs};

mod files;
mod models;
pub(crate) mod output;
mod progress;
mod steps;
mod summary;

use files::Input;
use models::Models;
use progress::Progress;
use steps::Steps;
use summary::{Summary, Unreadable};

/// Records between two updates of the progress bar.
const PROGRESS_EVERY: u64 = 4096;

/// Scans and prints; the exit status is 1 only when something could not be opened or decompressed.
pub(crate) fn run(args: &ScanArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let (rules, report) =
        RuleSet::load(&LoadOptions { default_rules: !args.no_default_rules, dirs: args.rules.clone() })?;
    tell_rules(&report);
    let list = indicators(args.indicators.as_deref())?;
    let files::Listing { mut inputs, unreadable, skipped } = files::list(&args.paths);
    if args.models {
        // The model wants events in order of time, so the Regions of a trail are read side by side.
        inputs.sort_by_cached_key(|input| KeyHints::of(&input.name()).time);
    }
    let mut scan = Scan::new(rules, list, args)?;
    scan.summary.unreadable = unreadable;
    scan.summary.skipped = skipped;
    scan.summary.rules = report.rules;
    scan.summary.rules_refused = report.refused.len();
    let progress = Progress::new(inputs.len());
    for input in &inputs {
        progress.file(&input.name());
        scan.read(input, &progress);
        progress.file_done();
    }
    progress.finish();
    let mut summary = scan.finish(args)?;
    summary.finish(start.elapsed());
    // Whoever reads standard error may have gone too: nobody is left to be told.
    let _ = io::stderr().write_all(summary.text().as_bytes());
    if let Some(path) = &args.summary {
        let file = File::create(path).with_context(|| format!("writing the summary to {}", path.display()))?;
        serde_json::to_writer(file, &summary)?;
    }
    Ok(if summary.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

struct Scan {
    rules: RuleSet,
    hits: Vec<RuleIndex>,
    /// Stands for the text of events of which only the outline is needed.
    no_text: RawRecord,
    seen: Seen,
    alerts: Accumulator,
    lineage: Option<Steps>,
    models: Option<Models>,
    summary: Summary,
    limits: Limits,
    now: Timestamp,
}

impl Scan {
    fn new(rules: RuleSet, list: Arc<IndicatorList>, args: &ScanArgs) -> Result<Self> {
        Ok(Self {
            rules,
            hits: Vec::new(),
            no_text: RawRecord::new("null".into())?,
            seen: Seen::new(),
            alerts: Accumulator::new(list),
            lineage: args.incidents.then(Steps::default),
            models: args.models.then(Models::new).transpose()?,
            summary: Summary::new(),
            limits: Limits { input_bytes: args.max_file_gib.saturating_mul(1 << 30), ..Limits::generous() },
            now: Timestamp::now(),
        })
    }

    /// Reads one input to its end; what breaks it is told in the summary.
    fn read(&mut self, input: &Input, progress: &Progress) {
        let name = input.name();
        self.summary.begin_file();
        let read = match input {
            Input::Stdin => self.records(&name, None, io::stdin(), progress),
            Input::File(path) => match File::open(path) {
                Ok(file) => {
                    let modified = file.metadata().and_then(|m| m.modified()).ok();
                    let modified = modified.and_then(|t| Timestamp::try_from(t).ok());
                    self.records(&name, modified, file, progress)
                }
                Err(e) => Err(e.to_string()),
            },
        };
        self.summary.end_file(&name);
        if let Err(reason) = read {
            self.summary.unreadable.push(Unreadable { file: name, reason });
        }
    }

    fn records(
        &mut self,
        name: &str,
        modified: Option<Timestamp>,
        input: impl io::Read + Send,
        progress: &Progress,
    ) -> Result<(), String> {
        let limits = self.limits.clone();
        let read = sentinel_ingest::read(input, name, modified, &limits, &mut |found| match found {
            Found::Record(record) => {
                self.record(name, &record);
                if self.summary.records.is_multiple_of(PROGRESS_EVERY) {
                    progress.records(self.summary.records);
                }
            }
            Found::Malformed { position, reason } => self.summary.malformed(name, position.to_string(), reason),
            Found::Unknown { kind } => self.summary.unknown(kind),
        });
        read.map_err(|e| e.to_string())
    }

    fn record(&mut self, name: &str, record: &Record<'_>) {
        self.summary.records += 1;
        let id = identity::event_id(&record.value, record.text);
        let content = identity::content_hash(&record.value);
        match self.seen.note(&id, content) {
            Sight::New => {}
            Sight::Conflicting => self.summary.conflicting += 1,
            Sight::Duplicate => {
                self.summary.duplicates += 1;
                return;
            }
        }
        if normalise::check_account(&record.value, record.envelope).is_err() {
            self.summary.account_mismatches += 1;
        }
        self.rules.matches(&record.value, &mut self.hits);
        let lineage = self.lineage.is_some() && lineage::is_lineage_action(event_name(&record.value));
        if self.hits.is_empty() && !lineage && self.models.is_none() {
            return;
        }
        let provenance = Provenance { channel: Channel::Folder { path: name.to_owned() }, received_at: self.now };
        if !lineage && self.models.is_none() {
            let event = normalise::outline(record, id.into_owned(), content, provenance, self.no_text.clone());
            return self.alerts_of(&event);
        }
        match normalise::normalise(record, provenance) {
            Ok(event) => self.event(event),
            Err(e) => self.summary.malformed(name, record.position.to_string(), e.to_string()),
        }
    }

    fn alerts_of(&mut self, event: &Event) {
        if !self.hits.is_empty() {
            let (matched, rules) = self.rules.matched(event, &self.hits);
            self.alerts.add_matches(&matched, rules);
        }
    }

    fn event(&mut self, event: Event) {
        self.alerts_of(&event);
        if let Some(lineage) = &mut self.lineage {
            lineage.add(&event.lineage);
        }
        if let Some(models) = &mut self.models {
            let scored = models.add(event, &self.rules);
            self.scored(scored);
        }
    }

    /// Takes what the model found. In memory it cannot fail but by a defect, which is told.
    fn scored(&mut self, scored: Result<Vec<Detection>, ScorerError>) {
        match scored {
            Ok(detections) => detections.iter().for_each(|detection| self.alerts.add(detection)),
            Err(e) => eprintln!("model: {e}"),
        }
    }

    /// Prints what was found and hands back the counts.
    fn finish(mut self, args: &ScanArgs) -> Result<Summary> {
        if let Some(models) = &mut self.models {
            let scored = models.finish(&self.rules);
            self.scored(scored);
        }
        let alerts = self.alerts.finish();
        for alert in &alerts {
            self.summary.count_alert(alert.level);
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = if let Some(lineage) = &self.lineage {
            let incidents = incident::group(&alerts, lineage.all());
            let shown: Vec<_> = incidents.iter().filter(|i| i.level >= args.min_level).collect();
            output::incidents(&mut out, args.format, &shown)
        } else {
            let mut shown: Vec<_> = alerts.iter().filter(|a| a.level >= args.min_level).collect();
            if args.format == Format::Table {
                shown.sort_by(|a, b| b.level.cmp(&a.level).then(a.time.cmp(&b.time)));
            }
            output::alerts(&mut out, args.format, &shown)
        };
        match printed.and_then(|()| out.flush()) {
            // The reader of a pipe went away, as `head` does: that is no failure of ours.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        // The process ends now; taking millions of small pieces apart first would cost a tenth of a scan.
        std::mem::forget(alerts);
        Ok(self.summary)
    }
}

fn event_name(record: &sonic_rs::Value) -> &str {
    use sonic_rs::JsonValueTrait as _;
    record.get("eventName").and_then(|n| n.as_str()).unwrap_or_default()
}
