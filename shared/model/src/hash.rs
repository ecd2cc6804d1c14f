//! Hashes that give things their identity: equal JSON values hash alike whatever their key order.

use serde::Serialize;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

/// Hash of a JSON value that ignores key order and the spelling of numbers (`1` and `1.0` are equal
/// values). For telling duplicates from conflicts, not against a forger.
pub fn content_hash(value: &serde_json::Value) -> u64 {
    use serde_json::Value;
    match value {
        Value::Null => 1,
        Value::Bool(b) => tagged(2, &[u8::from(*b)]),
        Value::Number(n) => number_hash(n.as_i64(), n.as_u64(), n.as_f64()),
        Value::String(s) => tagged(5, s.as_bytes()),
        Value::Array(items) => list_hash(items.iter().map(content_hash)),
        Value::Object(map) => object_hash(map.iter().map(|(k, v)| (k.as_bytes(), content_hash(v)))),
    }
}

/// Hash of a number as [`content_hash`] counts it.
pub fn number_hash(int: Option<i64>, unsigned: Option<u64>, float: Option<f64>) -> u64 {
    if let Some(i) = int {
        return tagged(3, &i.to_le_bytes());
    }
    if let Some(u) = unsigned {
        return tagged(4, &u.to_le_bytes());
    }
    let f = float.unwrap_or(f64::NAN);
    #[allow(clippy::cast_possible_truncation, reason = "guarded: only whole numbers within i64's exact range")]
    if f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 {
        return tagged(3, &(f as i64).to_le_bytes());
    }
    tagged(6, &f.to_bits().to_le_bytes())
}

/// Hash of a string as [`content_hash`] counts it.
pub fn string_hash(text: &str) -> u64 {
    tagged(5, text.as_bytes())
}

/// Hash of an array from its members' hashes.
pub fn list_hash(items: impl Iterator<Item = u64>) -> u64 {
    let mut hash = 7_u64;
    for item in items {
        hash = xxh3_64_with_seed(&item.to_le_bytes(), hash);
    }
    hash
}

/// Hash of an object from its keys and its values' hashes, in any order.
pub fn object_hash<'a>(entries: impl Iterator<Item = (&'a [u8], u64)>) -> u64 {
    let mut sum = 0_u64;
    let mut count = 0_u64;
    for (key, value) in entries {
        let mut pair = [0_u8; 16];
        pair[..8].copy_from_slice(&xxh3_64(key).to_le_bytes());
        pair[8..].copy_from_slice(&value.to_le_bytes());
        sum = sum.wrapping_add(xxh3_64(&pair));
        count += 1;
    }
    let mut whole = [8_u8; 17];
    whole[1..9].copy_from_slice(&sum.to_le_bytes());
    whole[9..].copy_from_slice(&count.to_le_bytes());
    xxh3_64(&whole)
}

fn tagged(tag: u8, bytes: &[u8]) -> u64 {
    // A seed instead of a prefix: the one-shot function is many times faster than the streaming one on the
    // short strings that records are made of.
    xxh3_64_with_seed(bytes, u64::from(tag))
}

/// 64-bit hash of bytes, for finding things again.
pub fn hash_64(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// 128-bit hash of bytes, for telling members of a set apart.
pub fn hash_128(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// A stable identifier from parts: `prefix` and 32 hexadecimal digits of SHA-256 over the parts, each
/// preceded by its length so that no two lists of parts collide by concatenation.
pub fn derived_id(prefix: &str, parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let (mut digits, digest) = ([0; 32], hasher.finalize());
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    let mut id = String::with_capacity(prefix.len() + digits.len());
    id.push_str(prefix);
    id.extend(std::str::from_utf8(&digits));
    id
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// SHA-256 of a record's JSON with sorted keys, in hexadecimal: the identity of a record that has no
/// `eventID`.
pub fn record_id(value: &serde_json::Value) -> String {
    let mut hasher = Sha256::new();
    // Whether `serde_json` keeps the order of keys depends on what else is built in.
    let mut value = value.clone();
    value.sort_all_objects();
    // Writing a Value cannot fail: its keys are strings and a hasher takes every byte.
    let mut bytes = Vec::new();
    if value.serialize(&mut serde_json::Serializer::new(&mut bytes)).is_err() {
        bytes = value.to_string().into_bytes();
    }
    hasher.update(&bytes);
    format!("sha256:{}", hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn key_order_and_number_spelling_do_not_matter() {
        let a: serde_json::Value = serde_json::from_str(r#"{"a":1,"b":[1.0,"x",null]}"#).unwrap();
        let b: serde_json::Value = serde_json::from_str(r#"{"b":[1,"x",null],"a":1.0}"#).unwrap();
        assert_eq!(content_hash(&a), content_hash(&b));
    }

    #[test]
    fn different_values_differ() {
        let values = [
            json!(null),
            json!(0),
            json!("0"),
            json!(false),
            json!([]),
            json!({}),
            json!([[]]),
            json!({"a":{}}),
            json!({"a":[]}),
            json!([1, 2]),
            json!([2, 1]),
            json!(1.5),
        ];
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                assert_ne!(content_hash(a), content_hash(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn ids_depend_on_the_cut_between_parts() {
        assert_ne!(derived_id("al-", &["ab", "c"]), derived_id("al-", &["a", "bc"]));
    }
}
