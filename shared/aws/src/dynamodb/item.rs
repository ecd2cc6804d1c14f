//! Items as `DynamoDB` has them: the names of attributes, and bodies packed and unpacked.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use sentinel_model::Timestamp;
use sentinel_state::{Index, Item, Key, TableError, table::MAX_BODY_BYTES};

use super::compress;

pub(super) const PK: &str = "pk";
pub(super) const SK: &str = "sk";
pub(super) const BODY: &str = "body";
pub(super) const ZBODY: &str = "zbody";
pub(super) const VERSION: &str = "version";
pub(super) const EXPIRES_AT: &str = "expires_at";
pub(super) const EXPIRES_MS: &str = "expires_ms";
pub(super) const NONCE: &str = "nonce";

/// Bodies longer than this are compressed: a write unit is 1 KB, of which keys and the other attributes take a part.
const PLAIN_BYTES: usize = 512;

pub(super) type Attributes = HashMap<String, AttributeValue>;

/// Name of an index.
pub(super) fn index_name(index: Index) -> &'static str {
    match index {
        Index::One => "gsi1",
        Index::Two => "gsi2",
    }
}

/// The attributes of a partition and its order: of the table or of an index.
pub(super) fn columns(index: Option<Index>) -> (&'static str, &'static str) {
    match index {
        None => (PK, SK),
        Some(Index::One) => ("gsi1pk", "gsi1sk"),
        Some(Index::Two) => ("gsi2pk", "gsi2sk"),
    }
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(format!("{value}"))
}

/// A key as attributes.
pub(super) fn key_attributes(key: &Key) -> Attributes {
    HashMap::from([(PK.to_owned(), text(&key.pk)), (SK.to_owned(), text(&key.sk))])
}

/// The key of an item.
pub(super) fn key_of(attributes: &Attributes) -> Result<Key, TableError> {
    let part = |name| {
        string(attributes, name).ok_or_else(|| TableError::Malformed {
            key: "an item without a key".to_owned(),
            reason: format!("no text {name}"),
        })
    };
    Ok(Key::new(part(PK)?, part(SK)?))
}

/// An attribute's text.
pub(super) fn string<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name)?.as_s().ok().map(String::as_str)
}

/// A body as its attribute.
pub(super) fn pack(body: String) -> Result<(&'static str, AttributeValue), TableError> {
    if body.len() <= PLAIN_BYTES {
        return Ok((BODY, AttributeValue::S(body)));
    }
    let packed = compress::pack(body.as_bytes()).map_err(TableError::store)?;
    if packed.len() >= body.len() {
        return Ok((BODY, AttributeValue::S(body)));
    }
    Ok((ZBODY, AttributeValue::B(Blob::new(packed))))
}

/// An item, unless it has expired at `now_ms`.
pub(super) fn live(attributes: &Attributes, now_ms: i64) -> Result<Option<Item>, TableError> {
    let key = key_of(attributes)?;
    let malformed = |reason: String| TableError::Malformed { key: format!("{}/{}", key.pk, key.sk), reason };
    let expires_ms: Option<i64> = parse(attributes, EXPIRES_MS).map_err(malformed)?;
    if expires_ms.is_some_and(|at| at <= now_ms) {
        return Ok(None);
    }
    let expires_at = expires_ms.map(Timestamp::from_millisecond).transpose().map_err(|e| malformed(e.to_string()))?;
    let version = parse(attributes, VERSION).map_err(malformed)?.ok_or_else(|| malformed("no version".to_owned()))?;
    let body = unpack(attributes).map_err(malformed)?;
    Ok(Some(Item { body, version, expires_at, key }))
}

fn parse<T: std::str::FromStr>(attributes: &Attributes, name: &str) -> Result<Option<T>, String> {
    let Some(value) = attributes.get(name) else { return Ok(None) };
    let parsed = value.as_n().ok().and_then(|digits| digits.parse().ok());
    parsed.map(Some).ok_or_else(|| format!("{name} is not the number it should be"))
}

fn unpack(attributes: &Attributes) -> Result<serde_json::Value, String> {
    if let Some(text) = string(attributes, BODY) {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    let Some(AttributeValue::B(packed)) = attributes.get(ZBODY) else {
        return Err(format!("neither {BODY} nor {ZBODY}"));
    };
    // No longer body was ever written.
    let body = compress::unpack(packed.as_ref(), MAX_BODY_BYTES + 1)?;
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(body: &serde_json::Value) -> Attributes {
        let (name, value) = pack(body.to_string()).unwrap();
        let mut attributes = key_attributes(&Key::new("pk", "sk"));
        attributes.extend([(name.to_owned(), value), (VERSION.to_owned(), number(3))]);
        attributes
    }

    #[test]
    fn long_bodies_are_compressed_where_it_helps_and_read_back() {
        let exact = |bytes: usize| json!({ "t": "x".repeat(bytes - r#"{"t":""}"#.len()) });
        // No two parts alike, and of all printable characters: compression saves only what its letters leave free.
        let mut seed = 1_u32;
        let dense: String = (0..1_100)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from_u32(0x4E00 + (seed >> 19)).unwrap()
            })
            .collect();
        for (body, attribute) in [
            (json!({}), BODY),
            (exact(PLAIN_BYTES), BODY),
            (exact(PLAIN_BYTES + 1), ZBODY),
            (exact(MAX_BODY_BYTES), ZBODY),
            (json!({ "t": dense }), ZBODY),
        ] {
            let attributes = stored(&body);
            assert!(attributes.contains_key(attribute), "{} bytes", body.to_string().len());
            let item = live(&attributes, 0).unwrap().unwrap();
            assert_eq!((item.body, item.version), (body, 3));
        }
        let Some(AttributeValue::B(packed)) = stored(&exact(MAX_BODY_BYTES)).remove(ZBODY) else { panic!("packed") };
        assert!(packed.as_ref().len() < 1_000, "{} bytes", packed.as_ref().len());
    }

    #[test]
    fn an_item_is_absent_from_the_very_millisecond_it_expires() {
        let mut attributes = stored(&json!({}));
        attributes.insert(EXPIRES_MS.to_owned(), number(1_000));
        assert_eq!(
            live(&attributes, 999).unwrap().unwrap().expires_at,
            Some(Timestamp::from_millisecond(1_000).unwrap())
        );
        assert_eq!(live(&attributes, 1_000).unwrap(), None);
    }

    #[test]
    fn what_is_not_as_written_is_named() {
        for (name, value) in [
            (VERSION, text("3")),
            (EXPIRES_MS, text("soon")),
            (BODY, text("{")),
            (BODY, number(1)),
            (ZBODY, AttributeValue::B(Blob::new(b"nothing"))),
        ] {
            let mut attributes = stored(&json!({}));
            if name == ZBODY {
                attributes.remove(BODY);
            }
            attributes.insert(name.to_owned(), value);
            let error = live(&attributes, 0).unwrap_err();
            assert!(matches!(&error, TableError::Malformed { key, .. } if key == "pk/sk"), "{name}: {error}");
        }
    }
}
