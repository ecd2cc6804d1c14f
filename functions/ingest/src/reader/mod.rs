//! The reader: any bytes in, CloudTrail records out, one at a time.
//!
//! Takes whatever holds CloudTrail records (`AWSLogs` files, NDJSON, arrays, EventBridge envelopes, CloudWatch
//! Logs subscriptions, `LookupEvents` answers, index dumps, SNS and SQS messages, our own archive's objects, each
//! plain or gzipped), told apart by content. Neither a file nor a line is ever held whole: one value is read at a time, and
//! wrappings of many records are entered. What is broken, too large or too deep costs itself only and is told with its
//! position; other kinds of JSON objects are told by kind.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use sentinel_json::Value;
use sentinel_model::Timestamp;

use crate::Head;

mod key;
mod scan;
mod source;
mod spare;
mod unwrap;
mod walk;
mod window;

pub use key::KeyHints;

/// How much one input may ask of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest record in bytes; a larger one is malformed.
    pub record_bytes: usize,
    /// Deepest nesting of a record, the record itself counted as 1; a deeper one is malformed.
    pub nesting: u32,
    /// Most bytes that an input may have, uncompressed; beyond it the input ends with [`ReadError::TooLarge`].
    pub input_bytes: u64,
    /// Most wrappings inside each other that are texts of their own (JSON in a JSON string, base64).
    pub wrappings: usize,
}

impl Limits {
    /// For files that a person names: bounded only against bombs (64 GiB of text).
    pub const fn generous() -> Self {
        Self { record_bytes: 4 << 20, nesting: 64, input_bytes: 64 << 30, wrappings: 8 }
    }

    /// For what comes over the network (128 MiB of text).
    pub const fn request() -> Self {
        Self { input_bytes: 128 << 20, ..Self::generous() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::generous()
    }
}

/// A place in an input's uncompressed text. What stands inside a wrapped text has its wrapping's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Byte offset, from 0.
    pub byte: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, byte {}", self.line, self.byte)
    }
}

/// What is known of a record from around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The account an EventBridge envelope names.
    pub account: Option<String>,
    /// The owner of a CloudWatch Logs subscription's log group: not necessarily the account of its records.
    pub owner: Option<String>,
    /// The Region an EventBridge envelope names.
    pub region: Option<String>,
    /// The time that the envelope gives the record.
    pub time: Option<Timestamp>,
    /// What the input's name says.
    pub key: KeyHints,
    /// When the file was last written.
    pub file_time: Option<Timestamp>,
}

/// A CloudTrail record: an object with `eventName` and one of `eventSource`, `eventID`.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its JSON text, exactly as it came.
    pub text: &'a str,
    /// The same, parsed.
    pub value: Value<'a>,
    /// The members that nearly everybody asks for.
    pub head: Head<'a>,
    /// What is known from around it.
    pub envelope: &'a Envelope,
    /// Where it stood.
    pub position: Position,
}

impl<'a> Record<'a> {
    /// A record of this text, parsed.
    pub fn new(text: &'a str, value: Value<'a>, envelope: &'a Envelope, position: Position) -> Self {
        Self { text, value, head: Head::of(value), envelope, position }
    }
}

/// What the reader finds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed to a closure one at a time, and never kept")]
pub enum Found<'a> {
    /// A record.
    Record(Record<'a>),
    /// Something that cannot be read; reading goes on behind it.
    Malformed {
        /// Where.
        position: Position,
        /// Why, as a sentence without a full stop.
        reason: String,
    },
    /// A JSON object that is no CloudTrail record.
    Unknown {
        /// What it is, as far as that can be told: `cloudtrail-digest`, `eventbridge:GuardDuty Finding`, `unrecognised`.
        kind: String,
    },
}

/// Why an input could not be read to its end. What was found before it stands.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input itself failed.
    #[error("could not be read: {0}")]
    Input(#[source] std::io::Error),
    /// Damaged or cut gzip.
    #[error("could not be decompressed: {0}")]
    Decompress(#[source] std::io::Error),
    /// More text than [`Limits::input_bytes`].
    #[error("is larger than {limit} bytes when decompressed; the rest of it was not read")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

/// Reads one input step by step.
pub struct Reader<'r> {
    walkers: Vec<walk::Walker<'r>>,
    limits: Limits,
    budget: source::Budget,
    peak: usize,
    opening: Option<Box<dyn Read + Send + 'r>>,
    envelope: Arc<Envelope>,
}

impl<'r> Reader<'r> {
    /// A reader of `input`. `name` is its path or object key, `modified` when it was last written: both only
    /// help records that lack account, Region or time.
    pub fn new(input: impl Read + Send + 'r, name: &str, modified: Option<Timestamp>, limits: Limits) -> Self {
        let budget = source::Budget::new(limits.input_bytes);
        let envelope = Envelope { key: KeyHints::of(name), file_time: modified, ..Envelope::default() };
        Self {
            walkers: Vec::new(),
            limits,
            budget,
            peak: 0,
            opening: Some(Box::new(input)),
            envelope: Arc::new(envelope),
        }
    }

    /// Reads the next value and tells `sink` what was found in it: at most one record, and what broke before
    /// it. `false` when nothing is left. After an error, too, nothing is left.
    pub fn step(&mut self, sink: &mut dyn FnMut(Found<'_>)) -> Result<bool, ReadError> {
        let result = self.try_step(sink);
        if result.is_err() {
            self.walkers.clear();
        }
        result
    }

    fn try_step(&mut self, sink: &mut dyn FnMut(Found<'_>)) -> Result<bool, ReadError> {
        if let Some(input) = self.opening.take() {
            let text = source::open(input, &self.budget, true)?;
            self.walkers.push(walk::Walker::new(text, self.envelope.clone(), None, &self.limits));
        }
        let Some(walker) = self.walkers.last_mut() else { return Ok(false) };
        let mut wrapped = Vec::new();
        let goes_on = walker.step(&mut unwrap::Out { sink, wrapped: &mut wrapped, limits: &self.limits });
        self.peak = self.peak.max(walker.peak());
        // A damaged wrapped text costs that text alone; a budget that is used up ends the input.
        let goes_on = match goes_on {
            Err(e @ ReadError::Decompress(_)) if walker.outer().is_some() => {
                walker.give_up(&e.to_string(), sink);
                false
            }
            other => other?,
        };
        if !goes_on {
            self.walkers.pop();
        }
        // Last in, first out: pushed in reverse, they are read in order.
        for text in wrapped.into_iter().rev() {
            self.open_wrapped(text, sink)?;
        }
        Ok(!self.walkers.is_empty())
    }

    fn open_wrapped(&mut self, text: unwrap::Wrapped, sink: &mut dyn FnMut(Found<'_>)) -> Result<(), ReadError> {
        let position = text.position;
        if self.walkers.len() > self.limits.wrappings {
            let reason = format!("wrapped in more than {} texts", self.limits.wrappings);
            sink(Found::Malformed { position, reason });
            return Ok(());
        }
        match source::open(std::io::Cursor::new(text.bytes), &self.budget, false) {
            Ok(source) => {
                self.walkers.push(walk::Walker::new(source, text.envelope, Some(position), &self.limits));
                Ok(())
            }
            Err(ReadError::Decompress(e)) => {
                sink(Found::Malformed { position, reason: ReadError::Decompress(e).to_string() });
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Most bytes of text that were held at once, to see that reading is bounded.
    pub fn peak_bytes(&self) -> usize {
        self.peak
    }
}

/// Reads an input to its end.
pub fn read<'r>(
    input: impl Read + Send + 'r,
    name: &str,
    modified: Option<Timestamp>,
    limits: &Limits,
    sink: &mut dyn FnMut(Found<'_>),
) -> Result<(), ReadError> {
    let mut reader = Reader::new(input, name, modified, limits.clone());
    while reader.step(sink)? {}
    Ok(())
}

#[cfg(test)]
mod tests;
