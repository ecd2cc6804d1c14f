//! Events on their way: gathered from the reader, each id and content once, up to a bounded number and size.

use std::collections::HashMap;

use sentinel_model::{Channel, Event, Provenance, Timestamp, hash, provenance};

use crate::normalise::{self, check_account};
use crate::{Found, Record, Report, Seen, Sight, identity};

/// Most events handed on at once, unless the handler is told otherwise.
pub const BATCH_EVENTS: usize = 1_000;
/// Raw bytes of events after which they are handed on, however few they are.
const BATCH_BYTES: usize = 8 << 20;

/// Events gathered of one input, and what was said of the rest.
pub(crate) struct Batch<'a> {
    pub(crate) name: &'a str,
    channel: Channel,
    received_at: Timestamp,
    seen: Seen,
    events: Vec<Event>,
    /// Events by id and content, to find the one that a copy belongs to.
    index: HashMap<u128, usize>,
    bytes: usize,
    pub(crate) report: Report,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(name: &'a str, channel: Channel, received_at: Timestamp) -> Self {
        Self {
            name,
            channel,
            received_at,
            seen: Seen::new(),
            events: Vec::new(),
            index: HashMap::new(),
            bytes: 0,
            report: Report::default(),
        }
    }

    pub(crate) fn take(&mut self, found: Found<'_>) {
        match found {
            Found::Record(record) => self.record(&record),
            Found::Malformed { position, reason } => self.report.malformed(self.name, position, reason),
            Found::Unknown { kind } => self.report.unknown(kind),
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        self.report.records += 1;
        let id = identity::event_id(&record.value, record.text);
        if let Err(mismatch) = check_account(&record.value, record.envelope) {
            tracing::warn!(event_id = %id, input = self.name, %mismatch, "record set aside");
            self.report.set_aside(id.into_owned(), mismatch.to_string());
            return;
        }
        let content = identity::content_hash(&record.value);
        let key = key(&id, content);
        let copy = Provenance { channel: self.channel.clone(), received_at: self.received_at };
        match self.seen.note(&id, content) {
            Sight::Duplicate => {
                self.report.duplicates += 1;
                if let Some(event) = self.index.get(&key).and_then(|i| self.events.get_mut(*i)) {
                    provenance::merge(&mut event.provenance, [copy]);
                }
                return;
            }
            Sight::Conflicting => self.report.conflicting += 1,
            Sight::New => {}
        }
        match normalise::normalise(record, copy) {
            Ok(event) => {
                self.bytes += record.text.len();
                self.index.insert(key, self.events.len());
                self.events.push(event);
            }
            Err(e) => self.report.malformed(self.name, record.position, e.to_string()),
        }
    }

    /// Whether it is time to hand on what was gathered.
    pub(crate) fn is_full(&self, events: usize) -> bool {
        self.events.len() >= events || self.bytes >= BATCH_BYTES
    }

    /// The events gathered; the batch is empty after it, but still knows what it has seen.
    pub(crate) fn drain(&mut self) -> Vec<Event> {
        self.index.clear();
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }
}

fn key(id: &str, content: u64) -> u128 {
    hash::hash_128(format!("{id}\u{0}{content}").as_bytes())
}
