//! Which event a record is, and whether it was seen before.
//!
//! A record's identity is its `eventID`; without one, a hash of the record. Copies with equal JSON values are
//! duplicates; another content under the same id is a conflict, kept beside the first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use sentinel_json::{Kind, Value};
use sentinel_model::hash;
use xxhash_rust::xxh3::xxh3_64;

use crate::head::{self, Head};

/// The identity of a record: its `eventID`, or `sha256:` and a hash of the record with sorted keys.
/// `text` is the record's JSON.
pub fn event_id<'a>(head: &Head<'a>, value: Value<'_>, text: &str) -> Cow<'a, str> {
    match head::text(head.event_id) {
        Some(id) => Cow::Borrowed(id),
        None => Cow::Owned(hashed_id(value, text)),
    }
}

fn hashed_id(value: Value<'_>, text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(sorted) => hash::record_id(&sorted),
        // The two parsers differ at the edges (huge numbers); then the content's own hash has to do.
        Err(_) => format!("xxh3:{:016x}", content_hash(value)),
    }
}

/// Hash of a record's JSON value that ignores key order and the spelling of numbers: the same as
/// [`sentinel_model::hash::content_hash`] gives for the record parsed by `serde_json` (which may round the last
/// digit of a long fraction differently).
pub fn content_hash(value: Value<'_>) -> u64 {
    match value.kind() {
        Kind::String => hash::string_hash(value.as_str().unwrap_or_default()),
        Kind::Object => hash::object_hash(value.members().map(|(k, v)| (k.as_bytes(), content_hash(v)))),
        Kind::Array => hash::list_hash(value.items().map(content_hash)),
        Kind::Number => hash::number_hash(value.as_i64(), value.as_u64(), value.as_f64()),
        Kind::Boolean => hash::content_hash(&serde_json::Value::Bool(value.as_bool() == Some(true))),
        Kind::Null => hash::content_hash(&serde_json::Value::Null),
    }
}

/// What a record is among those seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The first of its id.
    New,
    /// Id and content were seen before.
    Duplicate,
    /// The id was seen before, this content was not: to be kept beside the first.
    Conflicting,
}

/// Remembers the events seen, in about 17 bytes each: hashes only, so two ids may be taken for one once in
/// many billions of pairs; their events then count as conflicting, and both are kept.
#[derive(Debug, Default)]
pub struct Seen {
    first: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
    /// Further contents of ids that have several.
    others: HashMap<u64, Vec<u64>, BuildHasherDefault<Hashed>>,
}

impl Seen {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of an event.
    pub fn note(&mut self, id: &str, content: u64) -> Sight {
        let key = xxh3_64(id.as_bytes());
        match self.first.entry(key) {
            Entry::Vacant(free) => {
                free.insert(content);
                return Sight::New;
            }
            Entry::Occupied(first) if *first.get() == content => return Sight::Duplicate,
            Entry::Occupied(_) => {}
        }
        let others = self.others.entry(key).or_default();
        if others.contains(&content) {
            return Sight::Duplicate;
        }
        others.push(content);
        Sight::Conflicting
    }

    /// How many different ids were seen.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// Takes keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sentinel_json::Document;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            // Short fractions: serde_json may miss the last digit of long ones.
            any::<i32>().prop_map(|n| serde_json::Value::from(f64::from(n) / 8.0)),
            ".{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_parsers_hash_alike(value in json()) {
            let text = value.to_string();
            let reparsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let parsed = Document::parse(&text).unwrap();
            prop_assert_eq!(content_hash(parsed.root()), hash::content_hash(&reparsed), "{}", text);
        }

        /// Both hashes tell the same values apart, whatever the order of keys.
        #[test]
        fn likenesses_are_equal_where_contents_are(one in json(), other in json(), keep in any::<bool>()) {
            let other = if keep { one.clone() } else { other };
            let (one, other) = (one.to_string(), other.to_string());
            let (a, b) = (Document::parse(&one).unwrap(), Document::parse(&other).unwrap());
            let alike = a.root().likeness() == b.root().likeness();
            prop_assert_eq!(alike, content_hash(a.root()) == content_hash(b.root()), "{} {}", one, other);
        }
    }

    #[test]
    fn the_id_is_the_event_id_or_a_hash_of_the_record() {
        let id = |text: &str| {
            let record = Document::parse(text).unwrap();
            event_id(&Head::of(record.root()), record.root(), text).into_owned()
        };
        assert_eq!(id(r#"{"eventID":"e-1","a":1}"#), "e-1");
        let hashed = id(r#"{"eventName":"X","eventSource":"y"}"#);
        assert!(hashed.starts_with("sha256:"));
        assert_eq!(hashed, id(r#"{ "eventSource":"y", "eventName":"X" }"#), "key order and white space");
        assert_ne!(hashed, id(r#"{"eventSource":"y","eventName":"Z"}"#));
        assert!(id(r#"{"eventID":"","eventName":"X"}"#).starts_with("sha256:"));
    }

    #[test]
    fn a_second_content_conflicts_once() {
        let mut seen = Seen::new();
        assert_eq!(seen.note("a", 1), Sight::New);
        assert_eq!(seen.note("a", 1), Sight::Duplicate);
        assert_eq!(seen.note("a", 2), Sight::Conflicting);
        assert_eq!(seen.note("a", 2), Sight::Duplicate);
        assert_eq!(seen.note("a", 1), Sight::Duplicate);
        assert_eq!(seen.note("b", 1), Sight::New);
        assert_eq!(seen.len(), 2);
    }
}
