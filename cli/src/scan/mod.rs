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
use sentinel_detect::{Builder, Config, LoadOptions, LoadReport, RuleIndex, RuleSet, Scorer, models::ModelScorer};
use sentinel_enrich::{Accumulator, IndicatorList, incident};
use sentinel_ingest::{Found, Limits, Record, Seen, Sight, identity, lineage, normalise};
use sentinel_model::{Channel, Event, LineageEdge, Provenance, Timestamp};

use crate::args::{Format, ScanArgs};

mod files;
pub(crate) mod output;
mod progress;
mod summary;

use files::Input;
use progress::Progress;
use summary::{Malformed, Summary, Unreadable};

/// Events scored by the model at once.
const MODEL_BATCH: usize = 256;
/// Records between two updates of the progress bar.
const PROGRESS_EVERY: u64 = 4096;

/// Scans and prints; the exit status is 1 only when something could not be opened or decompressed.
pub(crate) fn run(args: &ScanArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let (rules, report) =
        RuleSet::load(&LoadOptions { default_rules: !args.no_default_rules, dirs: args.rules.clone() })?;
    tell_rules(&report);
    let list = indicators(args.indicators.as_deref())?;
    let (inputs, unreadable) = files::list(&args.paths);
    let mut scan = Scan::new(rules, list, args)?;
    scan.summary.unreadable = unreadable;
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
    eprint!("{}", summary.text());
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
        eprintln!("rules: {warning}");
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

/// A model and the events that wait for it.
struct Models {
    scorer: ModelScorer,
    runtime: tokio::runtime::Runtime,
    waiting: Vec<Event>,
}

struct Scan {
    rules: RuleSet,
    hits: Vec<RuleIndex>,
    seen: Seen,
    alerts: Accumulator,
    lineage: Option<Vec<LineageEdge>>,
    models: Option<Models>,
    summary: Summary,
    limits: Limits,
    now: Timestamp,
}

impl Scan {
    fn new(rules: RuleSet, list: Arc<IndicatorList>, args: &ScanArgs) -> Result<Self> {
        let models = args
            .models
            .then(|| -> Result<Models> {
                Ok(Models {
                    scorer: ModelScorer::in_memory().context("loading the behaviour model")?,
                    runtime: tokio::runtime::Builder::new_current_thread().build()?,
                    waiting: Vec::new(),
                })
            })
            .transpose()?;
        Ok(Self {
            rules,
            hits: Vec::new(),
            seen: Seen::new(),
            alerts: Accumulator::new(list),
            lineage: args.incidents.then(Vec::new),
            models,
            summary: Summary::new(),
            limits: Limits { input_bytes: args.max_file_gib.saturating_mul(1 << 30), ..Limits::generous() },
            now: Timestamp::now(),
        })
    }

    /// Reads one input to its end; what breaks it is told in the summary.
    fn read(&mut self, input: &Input, progress: &Progress) {
        let name = input.name();
        self.summary.files += 1;
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
            Found::Malformed { position, reason } => self.malformed(name, position.to_string(), reason),
            Found::Unknown { kind } => *self.summary.unknown.entry(kind).or_default() += 1,
        });
        read.map_err(|e| e.to_string())
    }

    fn malformed(&mut self, name: &str, position: String, reason: String) {
        self.summary.malformed.push(Malformed { file: name.to_owned(), position, reason });
    }

    fn record(&mut self, name: &str, record: &Record<'_>) {
        self.summary.records += 1;
        let id = identity::event_id(&record.value, record.text);
        match self.seen.note(&id, identity::content_hash(&record.value)) {
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
        let event = match normalise::normalise(record, provenance) {
            Ok(event) => event,
            Err(e) => return self.malformed(name, record.position.to_string(), e.to_string()),
        };
        self.event(event);
    }

    fn event(&mut self, event: Event) {
        for detection in self.rules.detections_for(&event, &self.hits) {
            self.alerts.add(&detection);
        }
        if let Some(lineage) = &mut self.lineage {
            lineage.extend(event.lineage.iter().cloned());
        }
        if let Some(models) = &mut self.models {
            models.waiting.push(event);
            if models.waiting.len() >= MODEL_BATCH {
                self.score();
            }
        }
    }

    /// Scores what waits for the model. In memory it cannot fail but by a defect, which is told.
    fn score(&mut self) {
        let Some(models) = &mut self.models else { return };
        let events = std::mem::take(&mut models.waiting);
        match models.runtime.block_on(models.scorer.score(&events)) {
            Ok(scored) => {
                let mut builder = Builder::new(&self.rules, Config::default());
                for one in &scored {
                    builder.add_scored(&events[one.index], one);
                }
                for detection in builder.finish() {
                    self.alerts.add(&detection);
                }
            }
            Err(e) => eprintln!("model: {e}"),
        }
    }

    /// Prints what was found and hands back the counts.
    fn finish(mut self, args: &ScanArgs) -> Result<Summary> {
        self.score();
        let alerts = self.alerts.finish();
        for alert in &alerts {
            self.summary.count_alert(alert.level);
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = if let Some(lineage) = &self.lineage {
            let incidents = incident::group(&alerts, lineage);
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
        Ok(self.summary)
    }
}

fn event_name(record: &sonic_rs::Value) -> &str {
    use sonic_rs::JsonValueTrait as _;
    record.get("eventName").and_then(|n| n.as_str()).unwrap_or_default()
}
