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
};

use anyhow::{Context, Result};
use sentinel_detect::{Call, Correlator, Looked, Matcher, Noted, RuleIndex, RuleSet, ScorerError};
use sentinel_enrich::{
    Accumulator, Collector, IndicatorList,
    collect::{Fact, Who, at_once},
};
use sentinel_ingest::{
    self as ingest, Envelope, Head, Limits, Record, Seen, Sight, identity, lineage,
    normalise::{self, Met, Sketcher},
};
use sentinel_model::{Channel, Detection, Event, Level, Principal, Provenance, Timestamp, Window, alert::MatchedRule};
use sentinel_replay::{Pair, Pass};

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
const MATCHES: usize = 22 << 20;
/// Bytes of records' identities that all workers together hold in memory.
const IDENTITIES: usize = 4 << 20;
/// Bytes of what counts for correlations that all workers together hold in memory.
const CORRELATED: usize = 6 << 20;
/// Parts that correlations are looked at in side by side, if there are several workers. Some accounts have far more hits
/// than others, so there are more than would be needed; each takes a block of memory of each worker.
const PARTS: usize = 2;

/// What is to be done, and with what.
pub(super) struct Work {
    rules: RuleSet,
    /// Two sets to be compared, instead of one that hunts.
    pair: Option<Pair>,
    list: Arc<IndicatorList>,
    inputs: Vec<Input>,
    threads: usize,
    limits: Limits,
    lineage: bool,
    models: bool,
    /// Whether informational alerts are only counted.
    only_counts: bool,
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
    /// What two sets that are compared made of the events.
    pub(super) pass: Option<Pass>,
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
            pair: None,
            list,
            threads: threads.max(1),
            inputs,
            limits: Limits { input_bytes: args.max_file_gib.saturating_mul(1 << 30), ..Limits::generous() },
            lineage: args.incidents,
            models: args.models,
            only_counts: args.incidents || args.min_level > Level::Informational,
            now: Timestamp::now(),
            next: AtomicUsize::new(0),
            records: AtomicU64::new(0),
        }
    }

    /// Work that compares two sets; nothing is hunted.
    pub(super) fn comparing(mut self, pair: Pair) -> Self {
        self.pair = Some(pair);
        self
    }

    pub(super) fn pair(&self) -> Option<&Pair> {
        self.pair.as_ref()
    }

    /// Reads all files.
    pub(super) fn all(&self) -> Result<Vec<Found>> {
        let progress = Progress::new(self.inputs.len());
        let workers = self.threads.min(self.inputs.len()).max(1);
        let collectors = Collector::several(MATCHES, u16::try_from(workers)?);
        let made = collectors.into_iter().zip(0..).map(|(collector, n)| Worker::new(self, n, workers, collector));
        let made = made.collect::<Result<Vec<_>>>()?;
        let jobs = made.into_iter().map(|worker| || worker.work(&progress)).collect();
        let found = at_once(workers, jobs);
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

    /// What the rules say, at their numbers; then what correlations say, at theirs.
    pub(super) fn labels(&self) -> impl Iterator<Item = MatchedRule<'_>> {
        let rules = self.rules.iter().map(move |(index, _)| self.rules.labels(index));
        rules.chain(self.rules.correlation_labels())
    }
}

struct Worker<'w> {
    work: &'w Work,
    hits: Vec<RuleIndex>,
    numbers: Vec<u32>,
    sketcher: Sketcher<Somebody>,
    /// A model must see each event once, and at once.
    known: Option<Seen>,
    models: Option<Models>,
    found: Found,
    /// What made going on impossible: a full disk.
    failed: Option<io::Error>,
}

/// What is noted of a principal in an account when it is met.
struct Somebody {
    who: Who,
    /// Who it is, as sentences say it.
    said: String,
}

impl Somebody {
    fn of(account: &str, principal: &Principal) -> Self {
        let mut said = String::new();
        Call::who(principal, &mut said);
        Self { who: Who::new(account, &principal.id), said }
    }
}

/// A record as far as it was read.
struct Read<'r> {
    head: &'r Head<'r>,
    envelope: &'r Envelope,
    id: &'r str,
    content: u64,
    looked: Looked<'r>,
}

impl<'w> Worker<'w> {
    fn new(work: &'w Work, worker: u16, workers: usize, collector: Collector) -> Result<Self> {
        Ok(Self {
            work,
            hits: Vec::new(),
            numbers: Vec::new(),
            sketcher: Sketcher::new(Somebody::of),
            known: work.models.then(Seen::new),
            models: work.models.then(Models::new).transpose()?,
            found: Found {
                reading: Reading::default(),
                seen: Identities::new(IDENTITIES / workers),
                collector,
                steps: Steps::default(),
                others: Accumulator::new(work.list()),
                correlator: Correlator::in_parts(CORRELATED / workers, if workers > 1 { PARTS } else { 1 }),
                pass: work.pair.as_ref().map(|_| Pass::new((MATCHES + CORRELATED) / workers, worker)),
            },
            failed: None,
        })
    }

    /// Takes files as long as there are any.
    fn work(mut self, progress: &Progress) -> Result<Found> {
        // Apart, so that what it has looked up of a record stays while the rest collects.
        let mut matcher = Matcher::new(&self.work.rules);
        loop {
            let number = self.work.next.fetch_add(1, Ordering::Relaxed);
            let Some(input) = self.work.inputs.get(number) else { break };
            progress.file(&input.name());
            self.read(number, input, &mut matcher, progress);
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
        self.found.seen.seal();
        self.found.collector.seal();
        self.found.correlator.seal();
        if let Some(pass) = &mut self.found.pass {
            pass.seal();
        }
        Ok(self.found)
    }

    /// Reads one input to its end; what breaks it is told in the summary.
    fn read(&mut self, number: usize, input: &Input, matcher: &mut Matcher<'w>, progress: &Progress) {
        let name = input.name();
        self.found.reading.begin_file(number);
        let read = match input {
            Input::Stdin => self.records(&name, None, io::stdin(), matcher, progress),
            Input::File(path) => match File::open(path) {
                Ok(file) => {
                    let modified = file.metadata().and_then(|m| m.modified()).ok();
                    let modified = modified.and_then(|t| Timestamp::try_from(t).ok());
                    self.records(&name, modified, file, matcher, progress)
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
        matcher: &mut Matcher<'w>,
        progress: &Progress,
    ) -> Result<(), String> {
        let (work, mut since) = (self.work, 0);
        let read = ingest::read(input, name, modified, &work.limits, &mut |found| match found {
            ingest::Found::Record(record) => {
                if self.failed.is_none()
                    && let Err(e) = self.record(name, &record, matcher)
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

    fn record(&mut self, name: &str, record: &Record<'_>, matcher: &mut Matcher<'w>) -> io::Result<()> {
        let Record { value, ref head, .. } = *record;
        self.found.reading.records += 1;
        let id = identity::event_id(head, value, record.text);
        let content = value.likeness();
        self.found.seen.note(&id, content)?;
        if normalise::check_account(head, record.envelope).is_err() {
            self.found.reading.account_mismatches += 1;
        }
        if self.known.as_mut().is_some_and(|known| known.note(&id, content) == Sight::Duplicate) {
            return Ok(());
        }
        let work = self.work;
        if let (Some(pair), Some(pass)) = (&work.pair, &mut self.found.pass) {
            let (time, _) = normalise::event_time(head, record.envelope, work.now);
            let reading = &mut self.found.reading;
            return pass.add(pair, value, time, || {
                let channel = Channel::Folder { path: name.to_owned() };
                let made = normalise::normalise(record, Provenance { channel, received_at: work.now });
                made.map_err(|e| reading.malformed(name, record.position.to_string(), e.to_string())).ok()
            });
        }
        let rules = &work.rules;
        let looked = matcher.matches(value, &mut self.hits);
        let lineage = work.lineage && lineage::is_lineage_action(head.name());
        // What exceptions look at is not all in the sketch.
        let excepted = !self.hits.is_empty() && !rules.exceptions().is_empty();
        if !lineage && !excepted && self.models.is_none() {
            return self.collect(&Read { head, envelope: record.envelope, id: &id, content, looked }, None);
        }
        let channel = Channel::Folder { path: name.to_owned() };
        match normalise::normalise(record, Provenance { channel, received_at: work.now }) {
            Ok(event) => {
                rules.suppress(&event, &mut self.hits);
                self.collect(&Read { head, envelope: record.envelope, id: &id, content, looked }, Some(&event))?;
                self.event(event);
            }
            Err(e) => self.found.reading.malformed(name, record.position.to_string(), e.to_string()),
        }
        Ok(())
    }

    /// Collects what an event matched: what counts for correlations, and what are alerts.
    fn collect(&mut self, read: &Read<'_>, event: Option<&Event>) -> io::Result<()> {
        if self.hits.is_empty() {
            return Ok(());
        }
        let rules = &self.work.rules;
        let sketch = self.sketcher.sketch(read.head, read.envelope, self.work.now);
        let Met { principal, noted } = sketch.who;
        let collector = &mut self.found.collector;
        self.numbers.clear();
        let mut feeds = false;
        for hit in &self.hits {
            let brief = rules.brief(*hit);
            feeds |= brief.feeds;
            if !brief.alerts {
                continue;
            }
            if self.work.only_counts && brief.level == Level::Informational {
                let window = Window::around(sketch.time, brief.window_minutes);
                collector.count(noted.who, hit.number(), window)?;
            } else {
                self.numbers.push(hit.number());
            }
        }
        if self.numbers.is_empty() && !feeds {
            return Ok(());
        }
        let class = collector.class(sketch.service, sketch.action, sketch.read_only, sketch.failure.is_none());
        let fact = Fact {
            time: sketch.time,
            id: read.id,
            content: read.content,
            account: sketch.account,
            principal: &principal.id,
            kind: principal.kind,
            who: &noted.said,
            region: sketch.region,
            source: sketch.source.as_deref(),
            user_agent: sketch.user_agent,
            access_key: sketch.access_key,
            class,
            service: sketch.service,
            action: sketch.action,
            invoked_by: sketch.invoked_by,
            failure: sketch.failure.as_deref(),
        };
        let at = collector.keep(&fact)?;
        if feeds {
            let noted = Noted { account: fact.account, time: fact.time, at, event };
            self.found.correlator.add(rules, &noted, &read.looked, &self.hits).map_err(io::Error::other)?;
        }
        if self.numbers.is_empty() {
            return Ok(());
        }
        collector.add(at, &fact, &self.numbers)
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
