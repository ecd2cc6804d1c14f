//! What became of one input, as the API answers and as logs tell it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Position;

/// Malformed entries that a report lists; further ones are only counted.
pub const MALFORMED_CAP: usize = 100;
/// Different kinds of unknown objects that a report tells apart; further ones count as `other`.
const KIND_CAP: usize = 50;

/// One piece of an input that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MalformedEntry {
    /// The input's name.
    pub file: String,
    /// `line N, byte M`.
    pub position: String,
    /// Why.
    pub reason: String,
}

/// A record set aside because it came from an account that it does not name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Its id.
    pub event_id: String,
    /// Why.
    pub reason: String,
}

/// Where an input was cut: all before it was handed on, what follows was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Records from the input's very start; what [`Input::skip_records`](crate::Input::skip_records) takes.
    pub records: u64,
}

/// What became of one input, or of the part of it that was read this time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// CloudTrail records read, duplicates included.
    pub records: u64,
    /// Events handed on.
    pub accepted: u64,
    /// Copies of a record of this input.
    pub duplicates: u64,
    /// Records with the id of another one of this input, and other content; they are accepted too.
    pub conflicting: u64,
    /// What could not be read, the first [`MALFORMED_CAP`].
    pub malformed: Vec<MalformedEntry>,
    /// How many pieces could not be read.
    pub malformed_count: u64,
    /// JSON objects that are no CloudTrail records, by kind.
    pub unknown: BTreeMap<String, u64>,
    /// Records whose account is not the one that sent them: kept out, the first [`MALFORMED_CAP`] listed.
    pub set_aside_events: Vec<SetAside>,
    /// How many these are.
    pub set_aside: u64,
    /// Where it was cut, if it was not read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

impl Report {
    pub(crate) fn malformed(&mut self, file: &str, position: Position, reason: String) {
        self.malformed_count += 1;
        if self.malformed.len() < MALFORMED_CAP {
            self.malformed.push(MalformedEntry { file: file.to_owned(), position: position.to_string(), reason });
        }
    }

    pub(crate) fn set_aside(&mut self, event_id: String, reason: String) {
        self.set_aside += 1;
        if self.set_aside_events.len() < MALFORMED_CAP {
            self.set_aside_events.push(SetAside { event_id, reason });
        }
    }

    pub(crate) fn unknown(&mut self, kind: String) {
        let kind =
            if self.unknown.len() < KIND_CAP || self.unknown.contains_key(&kind) { kind } else { "other".to_owned() };
        *self.unknown.entry(kind).or_default() += 1;
    }
}
