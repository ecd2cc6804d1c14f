//! Which event a record is, and whether it was seen before.
//!
//! A record's identity is its `eventID`; without one, a hash of the record. Copies with equal JSON values are
//! duplicates; another content under the same id is a conflict, kept beside the first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline};
use sentinel_model::hash;
use sonic_rs::{JsonNumberTrait as _, JsonValueTrait as _, Value, ValueRef};
use xxhash_rust::xxh3::xxh3_64;

use crate::head::{self, Head};

/// The identity of a record: its `eventID`, or `sha256:` and a hash of the record with sorted keys.
/// `text` is the record's JSON.
pub fn event_id<'a>(head: &Head<'a>, value: &Value, text: &str) -> Cow<'a, str> {
    match head::text(head.event_id) {
        Some(id) => Cow::Borrowed(id),
        None => Cow::Owned(hashed_id(value, text)),
    }
}

fn hashed_id(value: &Value, text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(sorted) => hash::record_id(&sorted),
        // The two parsers differ at the edges (huge numbers); then the content's own hash has to do.
        Err(_) => format!("xxh3:{:016x}", content_hash(value)),
    }
}

/// Hash of a record's JSON value that ignores key order and the spelling of numbers: the same as
/// [`sentinel_model::hash::content_hash`] gives for the record parsed by `serde_json` (which may round the last
/// digit of a long fraction differently).
pub fn content_hash(value: &Value) -> u64 {
    match value.as_ref() {
        ValueRef::String(text) => hash::string_hash(text),
        ValueRef::Object(members) => hash::object_hash(members.iter().map(|(k, v)| (k.as_bytes(), content_hash(v)))),
        ValueRef::Array(items) => hash::list_hash(items.iter().map(content_hash)),
        ValueRef::Number(n) => hash::number_hash(n.as_i64(), n.as_u64(), n.as_f64()),
        ValueRef::Bool(b) => hash::content_hash(&serde_json::Value::Bool(b)),
        ValueRef::Null => hash::content_hash(&serde_json::Value::Null),
    }
}

/// Secrets of [`likeness`], by what is hashed: a text, a number, anything else.
static SECRETS: [RapidSecrets; 3] = [RapidSecrets::seed(1), RapidSecrets::seed(2), RapidSecrets::seed(3)];

/// A hash that is equal where [`content_hash`] is, at less than half the cost: for comparing records that one process
/// has read. It is never stored, so that another one may take its place; it puts conflicting copies of one id and time in
/// another order than [`content_hash`] does.
pub fn likeness(value: &Value) -> u64 {
    // Nearly all values are texts.
    if let Some(text) = value.as_str() {
        return rapid(0, text.as_bytes());
    }
    match value.as_ref() {
        ValueRef::String(text) => rapid(0, text.as_bytes()),
        ValueRef::Object(members) => {
            let (mut sum, mut count) = (0_u64, 0_u64);
            for (key, value) in members {
                sum = sum.wrapping_add(fold(rapid(0, key.as_bytes()), likeness(value)));
                count += 1;
            }
            fold(sum, count ^ OBJECT)
        }
        ValueRef::Array(items) => items.iter().fold(ARRAY, |hash, item| fold(hash, likeness(item))),
        ValueRef::Number(n) => rapid(1, &hash::number_hash(n.as_i64(), n.as_u64(), n.as_f64()).to_le_bytes()),
        ValueRef::Bool(b) => rapid(2, &[u8::from(b)]),
        ValueRef::Null => rapid(2, &[2]),
    }
}

const OBJECT: u64 = 0x9e37_79b9_7f4a_7c15;
const ARRAY: u64 = 0xd1b5_4a32_d192_ed03;

#[inline]
fn rapid(what: usize, bytes: &[u8]) -> u64 {
    rapidhash_v3_nano_inline::<true, false>(bytes, &SECRETS[what])
}

/// Two hashes in one, in this order.
#[inline]
fn fold(first: u64, second: u64) -> u64 {
    let product = u128::from(first ^ OBJECT) * u128::from(second.rotate_left(32) ^ ARRAY);
    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    // A factor of 0 would forget the other one.
    low ^ high ^ first.rotate_left(17) ^ second
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
            let parsed: Value = sonic_rs::from_str(&text).unwrap();
            prop_assert_eq!(content_hash(&parsed), hash::content_hash(&reparsed), "{}", text);
        }

        /// Both hashes tell the same values apart, whatever the order of keys.
        #[test]
        fn likenesses_are_equal_where_contents_are(one in json(), other in json(), keep in any::<bool>()) {
            let other = if keep { one.clone() } else { other };
            let parsed = |value: &serde_json::Value| sonic_rs::from_str::<Value>(&value.to_string()).unwrap();
            let (a, b) = (parsed(&one), parsed(&other));
            prop_assert_eq!(likeness(&a) == likeness(&b), content_hash(&a) == content_hash(&b), "{} {}", one, other);
        }
    }

    #[test]
    fn the_id_is_the_event_id_or_a_hash_of_the_record() {
        let id = |text: &str| {
            let value = sonic_rs::from_str(text).unwrap();
            event_id(&Head::of(&value), &value, text).into_owned()
        };
        assert_eq!(id(r#"{"eventID":"e-1","a":1}"#), "e-1");
        let hashed = id(r#"{"eventName":"X","eventSource":"y"}"#);
        assert!(hashed.starts_with("sha256:"));
        assert_eq!(hashed, id(r#"{ "eventSource":"y", "eventName":"X" }"#), "key order and white space");
        assert_ne!(hashed, id(r#"{"eventSource":"y","eventName":"Z"}"#));
        assert!(id(r#"{"eventID":"","eventName":"X"}"#).starts_with("sha256:"));
    }

    #[test]
    fn likenesses_ignore_order_and_spelling_and_nothing_else() {
        let of = |text: &str| likeness(&sonic_rs::from_str(text).unwrap());
        let same = [r#"{"a":{"x":1,"y":[1,2]},"b":"t"}"#, r#"{ "b":"\u0074", "a":{"y":[1.0,2],"x":1} }"#];
        assert_eq!(of(same[0]), of(same[1]));
        let others = [
            r#"{"a":{"x":1,"y":[2,1]},"b":"t"}"#,
            r#"{"a":{"x":"1","y":[1,2]},"b":"t"}"#,
            r#"{"b":{"x":1,"y":[1,2]},"a":"t"}"#,
            r#"{"a":{"x":1,"y":[1,2]},"b":"t","c":null}"#,
            r#"{"a":{"x":1},"y":[1,2],"b":"t"}"#,
            r#"{"a":{"x":true,"y":[1,2]},"b":"t"}"#,
            r#"{"a":[],"b":{}}"#,
            r#"{"a":{},"b":[]}"#,
            r#"{"a":null,"b":false}"#,
            r#"{"a":false,"b":null}"#,
        ];
        let all: std::collections::HashSet<u64> = others.iter().map(|text| of(text)).chain([of(same[0])]).collect();
        assert_eq!(all.len(), others.len() + 1);
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
