//! Which events were handed on: 8 bytes of hash each, by the minute of their time, within one item's size.

use std::collections::{BTreeMap, HashSet};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use sentinel_json::{Document, Value};
use sentinel_model::{Timestamp, time};
use sentinel_state::polls::SeenMinute;
use xxhash_rust::xxh3::xxh3_64;

use crate::{head::Head, identity};

/// Most events remembered: 360 KB of text, within the 380 KiB of an item's body. One run reads fewer, so only
/// a very long one can meet it; the oldest are forgotten then, and would be handed on a second time.
const MOST: usize = 32_000;

/// The identity of a record, as id and content, and its minute. What cannot be read is known by its text.
pub(super) fn of_record(record: &str, otherwise: Timestamp) -> (u64, i64) {
    let Ok(document) = Document::parse(record) else {
        return (xxh3_64(record.as_bytes()), minute(otherwise));
    };
    let value = document.root();
    let id = identity::event_id(&Head::of(value), value, record);
    let hash = xxh3_64(format!("{id}\u{0}{}", identity::content_hash(value)).as_bytes());
    let at = value.get("eventTime").and_then(Value::as_str).and_then(time::parse_event_time);
    (hash, minute(at.unwrap_or(otherwise)))
}

fn minute(t: Timestamp) -> i64 {
    t.as_second().div_euclid(60)
}

/// The events handed on.
#[derive(Debug, Default)]
pub(super) struct Seen {
    known: HashSet<u64>,
    minutes: BTreeMap<i64, Vec<u64>>,
}

impl Seen {
    /// As a cursor holds them. What is damaged counts as not seen.
    pub(super) fn read(stored: &[SeenMinute]) -> Self {
        let mut seen = Self::default();
        for SeenMinute { minute, hashes } in stored {
            let Ok(bytes) = BASE64_STANDARD_NO_PAD.decode(hashes) else {
                tracing::warn!(minute, "a poll's memory is damaged; events may be handed on again");
                continue;
            };
            for chunk in bytes.as_chunks::<8>().0 {
                seen.note(u64::from_le_bytes(*chunk), *minute);
            }
        }
        seen
    }

    /// For a cursor: the newest that fit.
    pub(super) fn write(&self) -> Vec<SeenMinute> {
        let mut left = MOST;
        let mut stored = Vec::with_capacity(self.minutes.len());
        for (minute, hashes) in self.minutes.iter().rev() {
            let kept = &hashes[hashes.len().saturating_sub(left)..];
            if kept.is_empty() {
                break;
            }
            left -= kept.len();
            let bytes: Vec<u8> = kept.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            stored.push(SeenMinute { minute: *minute, hashes: BASE64_STANDARD_NO_PAD.encode(bytes) });
        }
        stored.reverse();
        stored
    }

    pub(super) fn knows(&self, hash: u64) -> bool {
        self.known.contains(&hash)
    }

    pub(super) fn note(&mut self, hash: u64, minute: i64) {
        if self.known.insert(hash) {
            self.minutes.entry(minute).or_default().push(hash);
        }
    }

    /// Forgets minutes that lie wholly before a time.
    pub(super) fn forget_before(&mut self, t: Timestamp) {
        let kept = self.minutes.split_off(&minute(t));
        for hash in std::mem::replace(&mut self.minutes, kept).into_values().flatten() {
            self.known.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_state::table::MAX_BODY_BYTES;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_survives_the_cursor_and_forgets_by_time() {
        let mut seen = Seen::default();
        for n in 0..100_u64 {
            seen.note(n, i64::try_from(n / 10).unwrap());
        }
        let mut again = Seen::read(&seen.write());
        assert!((0..100).all(|n| again.knows(n)) && !again.knows(100));
        again.forget_before(at(5 * 60 + 30));
        assert!((0..50).all(|n| !again.knows(n)) && (50..100).all(|n| again.knows(n)));
    }

    #[test]
    fn the_item_stays_within_its_size_and_the_newest_are_kept() {
        let mut seen = Seen::default();
        for n in 0..200_000_u64 {
            seen.note(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), i64::try_from(n / 200).unwrap());
        }
        let stored = seen.write();
        let text = serde_json::to_string(&stored).unwrap();
        assert!(text.len() < MAX_BODY_BYTES - 4096, "{}", text.len());
        let again = Seen::read(&stored);
        assert!(again.knows(199_999_u64.wrapping_mul(0x9E37_79B9_7F4A_7C15)) && !again.knows(0));
    }

    #[test]
    fn copies_of_a_record_are_known_however_they_are_written() {
        let hash = |text: &str| of_record(text, at(0));
        let one = hash(r#"{"eventID":"e","eventTime":"2026-03-01T12:00:30Z","a":1}"#);
        assert_eq!(one, hash(r#"{ "a":1, "eventTime":"2026-03-01T12:00:30Z","eventID":"e"}"#));
        assert_ne!(one.0, hash(r#"{"eventID":"e","eventTime":"2026-03-01T12:00:30Z","a":2}"#).0);
        assert_eq!(hash("{broken").1, 0);
    }
}
