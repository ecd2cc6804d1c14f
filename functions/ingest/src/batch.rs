//! Events on their way: gathered from one input or several, each id and content once, up to a bounded number
//! and size.
//!
//! Where a batch ends depends on the records alone, not on time: an input that is read again, from its start or
//! from where it was cut, makes the same batches, and so the same archive objects.

use std::collections::HashMap;

use sentinel_model::{Channel, Event, Provenance, Timestamp, hash, provenance};

use crate::normalise::{self, check_account};
use crate::{Found, Position, Record, Report, Seen, Sight, identity};

/// Most events handed on at once, unless the handler is told otherwise.
pub const BATCH_EVENTS: usize = 1_000;
/// Raw bytes of events after which they are handed on, however few they are.
const BATCH_BYTES: usize = 8 << 20;
/// Records looked at for each event of a full batch after which a batch ends, however few of them were new.
const RECORDS_PER_EVENT: u64 = 20;

/// Where the records of a batch come from.
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) channel: Channel,
    pub(crate) received_at: Timestamp,
    /// Records at its start that were handed on before.
    pub(crate) skip: u64,
}

/// A source, what was said of it so far, and how far it was read.
struct Taken<'a> {
    source: Source<'a>,
    report: Report,
    passed: u64,
}

/// Events drained from a batch.
pub(crate) struct Drained {
    pub(crate) events: Vec<Event>,
    /// For each event, the position of the source that brought it.
    pub(crate) origins: Vec<usize>,
}

/// Events gathered, and what was said of the rest.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    taken: Vec<Taken<'a>>,
    seen: Seen,
    events: Vec<Event>,
    origins: Vec<usize>,
    /// Events by id and content, to find the one that a copy belongs to.
    index: HashMap<u128, usize>,
    bytes: usize,
    records: u64,
    handed_on: bool,
}

impl<'a> Batch<'a> {
    /// What is taken from now on comes from this source.
    pub(crate) fn begin(&mut self, source: Source<'a>) {
        if self.handed_on {
            // A copy by another channel could no longer add its provenance to an event that has gone.
            self.seen = Seen::new();
            self.handed_on = false;
        }
        self.taken.push(Taken { source, report: Report::default(), passed: 0 });
    }

    pub(crate) fn take(&mut self, found: Found<'_>) {
        let origin = self.taken.len().saturating_sub(1);
        let Some(taken) = self.taken.last_mut() else { return };
        let skipped = taken.passed < taken.source.skip;
        match found {
            Found::Record(record) => {
                taken.passed += 1;
                if skipped {
                    self.skip(&record);
                } else {
                    self.records += 1;
                    self.record(origin, &record);
                }
            }
            // Told when it was read the first time.
            Found::Malformed { .. } | Found::Unknown { .. } if skipped => {}
            Found::Malformed { position, reason } => {
                taken.report.malformed(taken.source.name, position, reason);
            }
            Found::Unknown { kind } => taken.report.unknown(kind),
        }
    }

    /// Takes note of a record handed on before, so that what follows is judged as it was then.
    fn skip(&mut self, record: &Record<'_>) {
        let head = record.head;
        if check_account(&head, record.envelope).is_ok() {
            let id = identity::event_id(&head, record.value, record.text);
            self.seen.note(&id, identity::content_hash(record.value));
        }
    }

    fn record(&mut self, origin: usize, record: &Record<'_>) {
        let Taken { source, report, .. } = &mut self.taken[origin];
        report.records += 1;
        let head = record.head;
        let id = identity::event_id(&head, record.value, record.text);
        if let Err(mismatch) = check_account(&head, record.envelope) {
            tracing::warn!(event_id = %id, input = source.name, %mismatch, "record set aside");
            report.set_aside(id.into_owned(), mismatch.to_string());
            return;
        }
        let content = identity::content_hash(record.value);
        let key = key(&id, content);
        let copy = Provenance { channel: source.channel.clone(), received_at: source.received_at };
        match self.seen.note(&id, content) {
            Sight::Duplicate => {
                report.duplicates += 1;
                if let Some(event) = self.index.get(&key).and_then(|i| self.events.get_mut(*i)) {
                    provenance::merge(&mut event.provenance, [copy]);
                }
                return;
            }
            Sight::Conflicting => report.conflicting += 1,
            Sight::New => {}
        }
        match normalise::normalise(record, copy) {
            Ok(event) => {
                self.bytes += record.text.len();
                self.index.insert(key, self.events.len());
                self.events.push(event);
                self.origins.push(origin);
            }
            Err(e) => report.malformed(source.name, record.position, e.to_string()),
        }
    }

    /// Whether it is time to hand on what was gathered.
    pub(crate) fn is_full(&self, events: usize) -> bool {
        self.events.len() >= events
            || self.bytes >= BATCH_BYTES
            || self.records >= RECORDS_PER_EVENT.saturating_mul(events as u64)
    }

    /// The events gathered; the batch is empty after it, but still knows what it has seen of a single source.
    pub(crate) fn drain(&mut self) -> Drained {
        self.index.clear();
        self.bytes = 0;
        self.records = 0;
        self.handed_on |= !self.events.is_empty();
        if self.taken.len() > 1 {
            self.seen = Seen::new();
        }
        Drained { events: std::mem::take(&mut self.events), origins: std::mem::take(&mut self.origins) }
    }

    /// Records of the current source up to here, skipped ones included.
    pub(crate) fn passed(&self) -> u64 {
        self.taken.last().map_or(0, |taken| taken.passed)
    }

    /// When a source's records came.
    pub(crate) fn received_at(&self, origin: usize) -> Timestamp {
        self.taken[origin].source.received_at
    }

    /// Counts events of a source as handed on.
    pub(crate) fn accepted(&mut self, origin: usize) {
        self.taken[origin].report.accepted += 1;
    }

    /// Notes something of a source that went wrong after it was read.
    pub(crate) fn malformed(&mut self, origin: usize, reason: String) {
        let Taken { source, report, .. } = &mut self.taken[origin];
        report.malformed(source.name, Position::default(), reason);
    }

    /// What became of each source, in the order in which they were begun.
    pub(crate) fn reports(self) -> impl Iterator<Item = Report> {
        self.taken.into_iter().map(|taken| taken.report)
    }
}

fn key(id: &str, content: u64) -> u128 {
    hash::hash_128(format!("{id}\u{0}{content}").as_bytes())
}
