//! The handler: inputs in, their events archived, indexed for search and queued for detection, reports out.
//!
//! Order and idempotence: a batch is archived first, so nothing is detected that could not be read again, then
//! indexed, then queued. Each of these may happen twice without harm (the archive names objects by content,
//! the index replaces documents, alerts count an event once), so after a crash the whole input is simply
//! accepted again. A long input may be cut between two batches and continued from there in another process;
//! many small ones may share their batches.

use std::io::Read;
use std::sync::Arc;

use sentinel_archive::{Archive, ArchiveError};
use sentinel_durable::{
    Clock, Outgoing, Queue, QueueError, Stage,
    codec::{self, CodecError},
    queue::{MAX_BATCH, MAX_BODY_BYTES},
};
use sentinel_model::{Channel, Event, EventRef, Timestamp, hash, message::EventBatch, time};
use sentinel_search::{Document, DocumentKind, SearchError, SearchIndex};
use sentinel_telemetry::metrics;

use crate::batch::{BATCH_EVENTS, Batch, Source};
use crate::{Cut, Limits, ReadError, Reader, Report};

/// Asked after each batch whether to stop there.
pub type Stop<'a> = Box<dyn Fn() -> bool + Send + 'a>;

/// One input: a file, an object, a request's body.
pub struct Input<'a> {
    /// Path or key: told with malformed entries, and read for account, Region and time.
    pub name: &'a str,
    /// The bytes, plain or gzipped.
    pub reader: Box<dyn Read + Send + 'a>,
    /// How it came.
    pub channel: Channel,
    /// When it came; `None`: now.
    pub received_at: Option<Timestamp>,
    /// When the file was last written, where it is a file.
    pub modified: Option<Timestamp>,
    /// How much it may ask of the machine.
    pub limits: Limits,
    /// Records at its start that were handed on before: where a [`Cut`] told to go on. They are read, so that
    /// copies of them are known, but neither handed on nor counted.
    pub skip_records: u64,
    /// When to stop early, if ever.
    pub stop: Option<Stop<'a>>,
}

impl<'a> Input<'a> {
    /// An input that comes now, under the limits for requests.
    pub fn new(name: &'a str, reader: impl Read + Send + 'a, channel: Channel) -> Self {
        Self {
            name,
            reader: Box::new(reader),
            channel,
            received_at: None,
            modified: None,
            limits: Limits::request(),
            skip_records: 0,
            stop: None,
        }
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Continued behind these many records, and stopped after a batch once `stop` says so.
    #[must_use]
    pub fn resumable(mut self, skip_records: u64, stop: impl Fn() -> bool + Send + 'a) -> Self {
        self.skip_records = skip_records;
        self.stop = Some(Box::new(stop));
        self
    }
}

/// Why an input was not taken in to its end. The same input may be accepted again at any time.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The input broke off. What was read before it stands and was handed on, as the report says; trying again
    /// does not help.
    #[error("{name} {error}")]
    Read {
        /// The input's name.
        name: String,
        /// What happened.
        #[source]
        error: ReadError,
        /// What was read before.
        report: Box<Report>,
    },
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The search index failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Events could not be written as a message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// An event could not be written as a search document.
    #[error("an event could not be written: {0}")]
    Document(#[from] serde_json::Error),
    /// What failed for all inputs of [`Ingest::accept_all`] alike.
    #[error("{0}")]
    Together(Arc<IngestError>),
}

/// The first stage over its ports.
pub struct Ingest {
    archive: Arc<dyn Archive>,
    search: Arc<dyn SearchIndex>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    batch_events: usize,
}

impl Ingest {
    /// The stage over these ports.
    pub fn new(
        archive: Arc<dyn Archive>,
        search: Arc<dyn SearchIndex>,
        queue: Arc<dyn Queue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { archive, search, queue, clock, batch_events: BATCH_EVENTS }
    }

    /// With another number of events (at least 1) handed on at once.
    #[must_use]
    pub fn batch_events(mut self, events: usize) -> Self {
        self.batch_events = events.max(1);
        self
    }

    /// Takes in one input, in batches of bounded size. When it returns, all accepted events are durable in the
    /// archive and on their way to detection, up to the input's end or to the [`Cut`] that the report tells.
    /// Reading blocks the calling task while it decompresses and parses.
    pub async fn accept(&self, input: Input<'_>) -> Result<Report, IngestError> {
        let name = input.name;
        let mut batch = Batch::default();
        let end = self.read(&mut batch, input).await?;
        self.hand_on(&mut batch).await?;
        let report = batch.reports().next().unwrap_or_default();
        outcome(name, report, end)
    }

    /// Takes in many small inputs, such as the messages of one delivery, in batches that they share: one
    /// archive object an account and day, one message, however many inputs. Says of each, in their order, what
    /// became of it: one that breaks off fails alone; when a port fails, all fail ([`IngestError::Together`]).
    /// None is cut; what their `stop` says is not asked.
    pub async fn accept_all(&self, inputs: Vec<Input<'_>>) -> Vec<Result<Report, IngestError>> {
        let count = inputs.len();
        match self.try_accept_all(inputs).await {
            Ok(outcomes) => outcomes,
            Err(e) => {
                let shared = Arc::new(e);
                (0..count).map(|_| Err(IngestError::Together(Arc::clone(&shared)))).collect()
            }
        }
    }

    async fn try_accept_all(&self, inputs: Vec<Input<'_>>) -> Result<Vec<Result<Report, IngestError>>, IngestError> {
        let mut batch = Batch::default();
        let mut ends = Vec::with_capacity(inputs.len());
        for input in inputs {
            let name = input.name;
            ends.push((name, self.read(&mut batch, Input { stop: None, ..input }).await?));
        }
        self.hand_on(&mut batch).await?;
        Ok(batch.reports().zip(ends).map(|(report, (name, end))| outcome(name, report, end)).collect())
    }

    /// Reads an input to its end or to where it is cut, handing on every batch that is full.
    async fn read<'a>(&self, batch: &mut Batch<'a>, input: Input<'a>) -> Result<End, IngestError> {
        let Input { name, reader, channel, received_at, modified, limits, skip_records, stop } = input;
        let received_at = received_at.unwrap_or_else(|| self.clock.now());
        let mut reader = Reader::new(reader, name, modified, limits);
        batch.begin(Source { name, channel, received_at, skip: skip_records });
        loop {
            match reader.step(&mut |found| batch.take(found)) {
                Ok(true) if batch.is_full(self.batch_events) => {
                    self.hand_on(batch).await?;
                    if stop.as_ref().is_some_and(|stop| stop()) {
                        return Ok(End::Cut(Cut { records: batch.passed() }));
                    }
                }
                Ok(true) => {}
                Ok(false) => return Ok(End::Whole),
                Err(e) => return Ok(End::Broken(e)),
            }
        }
    }

    async fn hand_on(&self, batch: &mut Batch<'_>) -> Result<(), IngestError> {
        let drained = batch.drain();
        if drained.events.is_empty() {
            return Ok(());
        }
        let (events, origins) = (drained.events, drained.origins);
        let times: Vec<Timestamp> = events.iter().map(|e| e.time).collect();
        let correlation_id = correlation_id(&events);
        self.archive.put(&events).await?;
        self.search.index(documents(&events)?).await?;
        let split = codec::split(events, |events| EventBatch { correlation_id: correlation_id.clone(), events })?;
        for group in groups(split.bodies) {
            self.queue.send(Stage::Detect, group).await?;
        }
        let mut too_large = vec![false; origins.len()];
        for (at, event) in &split.too_large {
            // Kept and searchable, but no message can carry it: told, so that nobody takes it for looked at.
            let reason = format!("event {} is archived, but too large to be passed on to detection", event.id);
            tracing::error!(correlation_id, event_id = event.id, "event too large for a message");
            sentinel_telemetry::error("ingest");
            too_large[*at] = true;
            batch.malformed(origins[*at], reason);
        }
        for (origin, _) in origins.iter().zip(&too_large).filter(|(_, too_large)| !**too_large) {
            batch.accepted(*origin);
        }
        let accepted = (origins.len() - split.too_large.len()) as u64;
        tracing::info!(correlation_id, events = accepted, "events accepted");
        metrics::events(accepted);
        for (time, origin) in times.into_iter().zip(origins) {
            let delay = time::seconds_between(time, batch.received_at(origin));
            // An event from the future is a clock's fault, not a delay. Exact up to 2^32 seconds.
            metrics::event_delay(f64::from(u32::try_from(delay.max(0)).unwrap_or(u32::MAX)));
        }
        Ok(())
    }
}

/// How reading an input ended.
enum End {
    Whole,
    Cut(Cut),
    Broken(ReadError),
}

fn outcome(name: &str, mut report: Report, end: End) -> Result<Report, IngestError> {
    count(&report);
    match end {
        End::Whole => Ok(report),
        End::Cut(cut) => {
            report.cut = Some(cut);
            Ok(report)
        }
        End::Broken(error) => Err(IngestError::Read { name: name.to_owned(), error, report: Box::new(report) }),
    }
}

/// One id for a batch, from what is in it, so that a batch that is accepted again keeps its name in the logs.
fn correlation_id(events: &[Event]) -> String {
    let mut parts = Vec::with_capacity(events.len());
    for event in events {
        parts.push(format!("{}\u{0}{}", event.id, event.content));
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    hash::derived_id("co-", &parts)
}

/// Search documents, one for each content of an id.
fn documents(events: &[Event]) -> Result<Vec<Document>, serde_json::Error> {
    let document = |event: &Event| {
        let member = EventRef { time: event.time, id: event.id.clone(), content: event.content };
        Ok(Document {
            kind: DocumentKind::Event,
            id: member.document_id(),
            time: event.time,
            account: event.account.clone(),
            principal: event.principal.id.clone(),
            text: searched_text(event),
            body: serde_json::to_string(event)?,
        })
    };
    events.iter().map(document).collect()
}

fn searched_text(event: &Event) -> String {
    let mut words = vec![
        event.id.as_str(),
        &event.action.service,
        &event.action.name,
        &event.principal.id,
        &event.principal.actor,
        &event.account,
    ];
    let address = event.network.source_ip.map(|ip| ip.to_string());
    words.extend(address.as_deref());
    words.extend(event.network.source_host.as_deref());
    words.extend(event.network.user_agent.as_deref());
    words.extend(event.region.as_deref());
    words.extend(event.access_key_id.as_deref());
    words.extend(event.principal.name.as_deref());
    if let sentinel_model::Outcome::Failure { code, message } = &event.outcome {
        words.push(code);
        words.extend(message.as_deref());
    }
    words.extend(event.targets.iter().map(|t| t.id.as_str()));
    words.join(" ")
}

/// Messages in groups that one send takes.
fn groups(bodies: Vec<String>) -> Vec<Vec<Outgoing>> {
    let mut groups: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for body in bodies {
        bytes += body.len();
        match groups.last_mut() {
            Some(group) if group.len() < MAX_BATCH && bytes <= MAX_BODY_BYTES => group.push(Outgoing::now(body)),
            _ => {
                bytes = body.len();
                groups.push(vec![Outgoing::now(body)]);
            }
        }
    }
    groups
}

fn count(report: &Report) {
    metrics::malformed(report.malformed_count);
    metrics::duplicates(report.duplicates);
    metrics::conflicting(report.conflicting);
    metrics::set_aside(report.set_aside);
}

#[cfg(test)]
mod tests;
