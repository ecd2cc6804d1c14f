//! The handler: one input in, its events archived, indexed for search and queued for detection, a report out.
//!
//! Order and idempotence: a batch is archived first, so nothing is detected that could not be read again, then
//! indexed, then queued. Each of these may happen twice without harm (the archive names objects by content,
//! the index replaces documents, alerts count an event once), so after a crash the whole input is simply
//! accepted again.

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

use crate::batch::{BATCH_EVENTS, Batch};
use crate::{Limits, Position, ReadError, Reader, Report};

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
}

impl<'a> Input<'a> {
    /// An input that comes now, under the limits for requests.
    pub fn new(name: &'a str, reader: impl Read + Send + 'a, channel: Channel) -> Self {
        Self { name, reader: Box::new(reader), channel, received_at: None, modified: None, limits: Limits::request() }
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
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
    /// archive and on their way to detection. Reading blocks the calling task while it decompresses and parses.
    pub async fn accept(&self, input: Input<'_>) -> Result<Report, IngestError> {
        let received_at = input.received_at.unwrap_or_else(|| self.clock.now());
        let name = input.name;
        let mut reader = Reader::new(input.reader, name, input.modified, input.limits);
        let mut batch = Batch::new(name, input.channel, received_at);
        let end = loop {
            match reader.step(&mut |found| batch.take(found)) {
                Ok(true) if batch.is_full(self.batch_events) => self.hand_on(&mut batch, received_at).await?,
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.hand_on(&mut batch, received_at).await?;
        let report = batch.report;
        count(&report);
        match end {
            Ok(()) => Ok(report),
            Err(error) => Err(IngestError::Read { name: name.to_owned(), error, report: Box::new(report) }),
        }
    }

    async fn hand_on(&self, batch: &mut Batch<'_>, received_at: Timestamp) -> Result<(), IngestError> {
        let events = batch.drain();
        if events.is_empty() {
            return Ok(());
        }
        let delays: Vec<_> = events.iter().map(|e| time::seconds_between(e.time, received_at)).collect();
        let correlation_id = correlation_id(&events);
        self.archive.put(&events).await?;
        self.search.index(documents(&events)?).await?;
        let all = events.len();
        let split = codec::split(events, |events| EventBatch { correlation_id: correlation_id.clone(), events })?;
        for (_, event) in &split.too_large {
            // Kept and searchable, but no message can carry it: told, so that nobody takes it for looked at.
            let reason = format!("event {} is archived, but too large to be passed on to detection", event.id);
            tracing::error!(correlation_id, event_id = event.id, "event too large for a message");
            sentinel_telemetry::error("ingest");
            batch.report.malformed(batch.name, Position::default(), reason);
        }
        let accepted = (all - split.too_large.len()) as u64;
        for group in groups(split.bodies) {
            self.queue.send(Stage::Detect, group).await?;
        }
        tracing::info!(correlation_id, events = accepted, "events accepted");
        batch.report.accepted += accepted;
        metrics::events(accepted);
        for delay in delays {
            // An event from the future is a clock's fault, not a delay. Exact up to 2^32 seconds.
            metrics::event_delay(f64::from(u32::try_from(delay.max(0)).unwrap_or(u32::MAX)));
        }
        Ok(())
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
