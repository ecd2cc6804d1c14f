//! The workers of a scan: they share the files among them, and each collects what it finds for itself.
//!
//! In: files. Out, of each worker: what it read ([`Reading`]), which records it saw ([`Identities`]), what matched
//! ([`Collector`]), the steps of lineage, and what models said.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use sentinel_detect::{Call, Correlator, RuleIndex, RuleSet, ScorerError};
use sentinel_enrich::{Accumulator, Collector, IndicatorList, collect::Fact};
use sentinel_ingest::{self as ingest, Limits, Record, Seen, Sight, identity, lineage, normalise};
use sentinel_model::{Channel, Detection, Event, Provenance, RawRecord, Timestamp, alert::MatchedRule};

use super::{
    files::Input,
    identities::Identities,
    models::Models,
    progress::Progress,
    steps::Steps,
    summary::{Reading, Unreadable},
};
use crate::args::ScanArgs;

/// Records between two updates of the progress bar.
const PROGRESS_EVERY: u64 = 4096;
/// Bytes of matching events that all workers together hold in memory.
const MATCHES: usize = 12 << 20;
/// Bytes of records' identities that all workers together hold in memory.
const IDENTITIES: usize = 4 << 20;
/// Bytes of what counts for correlations that all workers together hold in memory.
const CORRELATED: usize = 6 << 20;

/// What is to be done, and with what.
pub(super) struct Work {
    rules: RuleSet,
    list: Arc<IndicatorList>,
    inputs: Vec<Input>,
    threads: usize,
    limits: Limits,
    lineage: bool,
    models: bool,
    now: Timestamp,
    next: AtomicUsize,
    records: AtomicU64,
}

/// What one worker found.
pub(super) struct Found {
    pub(super) reading: Reading,
    pub(super) seen: Identities,
    pub(super) collector: Collector,
    pub(super) steps: Steps,
    /// Alerts that do not come from single events alone.
    pub(super) others: Accumulator,
    /// What counts for correlations.
    pub(super) correlator: Correlator,
}

impl Work {
    pub(super) fn new(
        rules: RuleSet,
        list: Arc<IndicatorList>,
        inputs: Vec<Input>,
        threads: usize,
        args: &ScanArgs,
    ) -> Self {
        Self {
            rules,
            list,
            threads: threads.max(1),
            inputs,
            limits: Limits { input_bytes: args.max_file_gib.saturating_mul(1 << 30), ..Limits::generous() },
            lineage: args.incidents,
            models: args.models,
            now: Timestamp::now(),
            next: AtomicUsize::new(0),
            records: AtomicU64::new(0),
        }
    }

    /// Reads all files.
    pub(super) fn all(&self) -> Result<Vec<Found>> {
        let progress = Progress::new(self.inputs.len());
        let workers = self.threads.min(self.inputs.len()).max(1);
        let made = (0..workers).map(|_| Worker::new(self, workers)).collect::<Result<Vec<_>>>()?;
        let found = if workers == 1 {
            made.into_iter().map(|worker| worker.work(&progress)).collect()
        } else {
            let progress = &progress;
            thread::scope(|scope| {
                let running: Vec<_> = made.into_iter().map(|one| scope.spawn(move || one.work(progress))).collect();
                let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
                joined.map(|one| one.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            })
        };
        progress.finish();
        found
    }

    pub(super) fn rules(&self) -> &RuleSet {
        &self.rules
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn list(&self) -> Arc<IndicatorList> {
        Arc::clone(&self.list)
    }

    /// What the rules say, at their numbers.
    pub(super) fn labels(&self) -> impl Iterator<Item = MatchedRule<'_>> {
        self.rules.iter().map(move |(index, _)| self.rules.labels(index))
    }
}

struct Worker<'w> {
    work: &'w Work,
    hits: Vec<RuleIndex>,
    numbers: Vec<u32>,
    call: String,
    /// A model must see each event once, and at once.
    known: Option<Seen>,
    models: Option<Models>,
    /// Stands for the text of events of which only the outline is needed.
    no_text: RawRecord,
    found: Found,
    /// What made going on impossible: a full disk.
    failed: Option<io::Error>,
}

impl<'w> Worker<'w> {
    fn new(work: &'w Work, workers: usize) -> Result<Self> {
        Ok(Self {
            work,
            hits: Vec::new(),
            numbers: Vec::new(),
            call: String::new(),
            known: work.models.then(Seen::new),
            models: work.models.then(Models::new).transpose()?,
            no_text: RawRecord::new("null".into())?,
            found: Found {
                reading: Reading::default(),
                seen: Identities::new(IDENTITIES / workers),
                collector: Collector::new(MATCHES / workers),
                steps: Steps::default(),
                others: Accumulator::new(work.list()),
                correlator: Correlator::with_budget(CORRELATED / workers),
            },
            failed: None,
        })
    }

    /// Takes files as long as there are any.
    fn work(mut self, progress: &Progress) -> Result<Found> {
        loop {
            let number = self.work.next.fetch_add(1, Ordering::Relaxed);
            let Some(input) = self.work.inputs.get(number) else { break };
            progress.file(&input.name());
            self.read(number, input, progress);
            progress.file_done();
            if let Some(e) = self.failed.take() {
                // The others need not go on either.
                self.work.next.store(self.work.inputs.len(), Ordering::Relaxed);
                return Err(e).context("keeping what was found in a temporary file");
            }
        }
        if let Some(models) = &mut self.models {
            let scored = models.finish(&self.work.rules);
            self.scored(scored);
        }
        self.found.collector.seal();
        Ok(self.found)
    }

    /// Reads one input to its end; what breaks it is told in the summary.
    fn read(&mut self, number: usize, input: &Input, progress: &Progress) {
        let name = input.name();
        self.found.reading.begin_file(number);
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
        self.found.reading.end_file(&name);
        if let Err(reason) = read {
            self.found.reading.unreadable.push((number, Unreadable { file: name, reason }));
        }
    }

    fn records(
        &mut self,
        name: &str,
        modified: Option<Timestamp>,
        input: impl io::Read + Send,
        progress: &Progress,
    ) -> Result<(), String> {
        let (work, mut since) = (self.work, 0);
        let read = ingest::read(input, name, modified, &work.limits, &mut |found| match found {
            ingest::Found::Record(record) => {
                if self.failed.is_none()
                    && let Err(e) = self.record(name, &record)
                {
                    self.failed = Some(e);
                }
                since += 1;
                if since == PROGRESS_EVERY {
                    progress.records(work.records.fetch_add(since, Ordering::Relaxed) + since);
                    since = 0;
                }
            }
            ingest::Found::Malformed { position, reason } => {
                self.found.reading.malformed(name, position.to_string(), reason);
            }
            ingest::Found::Unknown { kind } => self.found.reading.unknown(kind),
        });
        work.records.fetch_add(since, Ordering::Relaxed);
        read.map_err(|e| e.to_string())
    }

    fn record(&mut self, name: &str, record: &Record<'_>) -> io::Result<()> {
        let value = &record.value;
        self.found.reading.records += 1;
        let id = identity::event_id(value, record.text);
        let content = identity::content_hash(value);
        self.found.seen.note(&id, content)?;
        if normalise::check_account(value, record.envelope).is_err() {
            self.found.reading.account_mismatches += 1;
        }
        if self.known.as_mut().is_some_and(|known| known.note(&id, content) == Sight::Duplicate) {
            return Ok(());
        }
        let work = self.work;
        let rules = &work.rules;
        rules.matches(value, &mut self.hits);
        let lineage = work.lineage && lineage::is_lineage_action(event_name(value));
        // What exceptions look at is not all in the sketch.
        let excepted = !self.hits.is_empty() && !rules.exceptions().is_empty();
        if lineage || excepted || self.models.is_some() {
            let channel = Channel::Folder { path: name.to_owned() };
            match normalise::normalise(record, Provenance { channel, received_at: work.now }) {
                Ok(event) => {
                    rules.suppress(&event, &mut self.hits);
                    self.correlate(value, &event)?;
                    self.collect(record, &id, content)?;
                    self.event(event);
                }
                Err(e) => self.found.reading.malformed(name, record.position.to_string(), e.to_string()),
            }
            return Ok(());
        }
        if rules.feeds_correlations(&self.hits) {
            let channel = Channel::Folder { path: name.to_owned() };
            let provenance = Provenance { channel, received_at: self.work.now };
            let event = normalise::outline(record, id.to_string(), content, provenance, self.no_text.clone());
            self.correlate(value, &event)?;
        }
        self.collect(record, &id, content)
    }

    /// Collects what an event counts for correlations; what remains of its matches are alerts.
    fn correlate(&mut self, record: &sonic_rs::Value, event: &Event) -> io::Result<()> {
        let rules = &self.work.rules;
        self.found.correlator.add(rules, event, record, &self.hits).map_err(io::Error::other)?;
        rules.drop_quiet(&mut self.hits);
        Ok(())
    }

    /// Collects what an event matched.
    fn collect(&mut self, record: &Record<'_>, id: &str, content: u64) -> io::Result<()> {
        if self.hits.is_empty() {
            return Ok(());
        }
        let sketch = normalise::sketch(&record.value, record.envelope, self.work.now);
        self.call.clear();
        let source = sketch.source.as_deref();
        Call {
            principal: &sketch.principal,
            service: sketch.service,
            action: sketch.action,
            invoked_by: sketch.invoked_by,
            source,
            region: sketch.region,
            failure: sketch.failure.as_deref(),
        }
        .write(&mut self.call);
        self.numbers.clear();
        self.numbers.extend(self.hits.iter().map(|hit| hit.number()));
        let collector = &mut self.found.collector;
        let class = collector.class(sketch.service, sketch.action, sketch.read_only, sketch.failure.is_none());
        let fact = Fact {
            time: sketch.time,
            id,
            content,
            account: sketch.account,
            principal: &sketch.principal.id,
            kind: sketch.principal.kind,
            region: sketch.region,
            source,
            user_agent: sketch.user_agent,
            access_key: sketch.access_key,
            class,
            action: sketch.action,
            call: &self.call,
        };
        collector.add(&fact, &self.numbers)
    }

    fn event(&mut self, event: Event) {
        if self.work.lineage {
            self.found.steps.add(&event.lineage);
        }
        if let Some(models) = &mut self.models {
            let scored = models.add(event, &self.work.rules);
            self.scored(scored);
        }
    }

    /// Takes what the model found. In memory it cannot fail but by a defect, which is told.
    fn scored(&mut self, scored: Result<Vec<Detection>, ScorerError>) {
        match scored {
            Ok(detections) => detections.iter().for_each(|detection| self.found.others.add(detection)),
            Err(e) => eprintln!("model: {e}"),
        }
    }
}

fn event_name(record: &sonic_rs::Value) -> &str {
    use sonic_rs::JsonValueTrait as _;
    record.get("eventName").and_then(|n| n.as_str()).unwrap_or_default()
}
