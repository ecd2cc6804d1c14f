//! Writes and conditions as `DynamoDB` expressions.
//!
//! A put is an update that sets or removes every attribute an item can have, because only an update can count:
//! `version` grows by one whatever it was.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use sentinel_model::Timestamp;
use sentinel_state::{Condition, Index, Put, TableError};

use super::item::{Attributes, BODY, EXPIRES_AT, EXPIRES_MS, NONCE, PK, VERSION, ZBODY, columns, number, pack, text};

/// The expressions of one request with the names and values that they use, and no other: `DynamoDB` refuses
/// unused ones.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) update: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) names: HashMap<String, String>,
    pub(super) values: Attributes,
}

impl Expression {
    /// What must hold of the item at `now_ms`; no condition for [`Condition::None`].
    pub(super) fn when(condition: Condition, now_ms: i64) -> Self {
        let mut all = Self::default();
        all.add_condition(condition, now_ms);
        all
    }

    /// A put of `body`, the put's own as text. A nonce is stored where one is given, and otherwise stays as it
    /// is: whoever wrote it still learns from it that it did.
    pub(super) fn put(put: &Put, body: String, now_ms: i64, nonce: Option<Blob>) -> Result<Self, TableError> {
        let mut all = Self::default();
        let (version, zero, one) = (all.name(VERSION), all.value("zero", number(0)), all.value("one", number(1)));
        let mut set = vec![format!("{version} = if_not_exists({version}, {zero}) + {one}")];
        let mut remove = Vec::new();
        for (name, value) in attributes(put, body, nonce)? {
            match value {
                Some(value) => set.push(format!("{} = {}", all.name(name), all.value(name, value))),
                None => remove.push(all.name(name)),
            }
        }
        let mut update = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            update.push_str(" REMOVE ");
            update.push_str(&remove.join(", "));
        }
        all.update = Some(update);
        all.add_condition(put.condition, now_ms);
        Ok(all)
    }

    /// The names, unless there are none, which `DynamoDB` refuses.
    pub(super) fn some_names(&self) -> Option<HashMap<String, String>> {
        Some(self.names.clone()).filter(|n| !n.is_empty())
    }

    /// The values, unless there are none.
    pub(super) fn some_values(&self) -> Option<Attributes> {
        Some(self.values.clone()).filter(|v| !v.is_empty())
    }

    /// A name is always written as a placeholder: several are reserved words.
    pub(super) fn name(&mut self, attribute: &str) -> String {
        let placeholder = format!("#{attribute}");
        self.names.insert(placeholder.clone(), attribute.to_owned());
        placeholder
    }

    pub(super) fn value(&mut self, name: &str, value: AttributeValue) -> String {
        let placeholder = format!(":{name}");
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    fn add_condition(&mut self, condition: Condition, now_ms: i64) {
        self.condition = match condition {
            Condition::None => None,
            Condition::Absent => {
                let (pk, expires) = (self.name(PK), self.name(EXPIRES_MS));
                let now = self.value("now", number(now_ms));
                Some(format!("attribute_not_exists({pk}) OR {expires} <= {now}"))
            }
            Condition::Version(wanted) => {
                let (version, expires) = (self.name(VERSION), self.name(EXPIRES_MS));
                let (wanted, now) = (self.value("wanted", number(wanted)), self.value("now", number(now_ms)));
                Some(format!("{version} = {wanted} AND (attribute_not_exists({expires}) OR {expires} > {now})"))
            }
        };
    }
}

/// Everything a put sets (or, without a value, removes), but the key and the version.
fn attributes(
    put: &Put,
    body: String,
    nonce: Option<Blob>,
) -> Result<Vec<(&'static str, Option<AttributeValue>)>, TableError> {
    let (packed, value) = pack(body)?;
    let other = if packed == BODY { ZBODY } else { BODY };
    let expires_ms = put.expires_at.map(Timestamp::as_millisecond);
    // Rounded up: what has a moment left must not be deleted.
    let expires_at = expires_ms.map(|ms| ms.div_euclid(1_000) + i64::from(ms.rem_euclid(1_000) > 0));
    let mut all = vec![
        (packed, Some(value)),
        (other, None),
        (EXPIRES_MS, expires_ms.map(number)),
        (EXPIRES_AT, expires_at.map(number)),
    ];
    for (index, place) in [(Index::One, &put.index_one), (Index::Two, &put.index_two)] {
        let (pk, sk) = columns(Some(index));
        all.push((pk, place.as_ref().map(|p| text(&p.pk))));
        all.push((sk, place.as_ref().map(|p| text(&p.sk))));
    }
    if let Some(nonce) = nonce {
        all.push((NONCE, Some(AttributeValue::B(nonce))));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use sentinel_state::{IndexKey, Key};
    use serde_json::json;

    use super::*;

    fn put() -> Put {
        Put::new(Key::new("pk", "sk"), &json!({})).unwrap()
    }

    #[test]
    fn every_name_and_value_that_is_declared_is_used_and_the_other_way_round() {
        let full = put()
            .listed(Index::One, IndexKey::new("a", "b"))
            .listed(Index::Two, IndexKey::new("c", "d"))
            .expiring(Some(Timestamp::from_millisecond(5).unwrap()));
        for put in [put(), full] {
            for condition in [Condition::None, Condition::Absent, Condition::Version(7)] {
                for nonce in [None, Some(Blob::new(b"n"))] {
                    let all = Expression::put(&put.clone().when(condition), "{}".into(), 1, nonce).unwrap();
                    let text = format!("{} {}", all.update.unwrap(), all.condition.unwrap_or_default());
                    let mut used: Vec<&str> = text
                        .split(|c: char| !(c.is_alphanumeric() || "_#:".contains(c)))
                        .filter(|w| w.starts_with(['#', ':']))
                        .collect();
                    used.sort_unstable();
                    used.dedup();
                    let mut declared: Vec<&str> =
                        all.names.keys().chain(all.values.keys()).map(String::as_str).collect();
                    declared.sort_unstable();
                    assert_eq!(used, declared, "{text}");
                }
            }
        }
    }

    #[test]
    fn the_seconds_of_the_ttl_attribute_are_rounded_up() {
        for (ms, seconds) in [(1_000, "1"), (1_001, "2"), (1_999, "2"), (-1, "0"), (-1_000, "-1"), (0, "0")] {
            let put = put().expiring(Some(Timestamp::from_millisecond(ms).unwrap()));
            let all = Expression::put(&put, "{}".into(), 0, None).unwrap();
            assert_eq!(all.values[":expires_at"], number(seconds), "{ms} ms");
            assert_eq!(all.values[":expires_ms"], number(ms));
        }
    }
}
