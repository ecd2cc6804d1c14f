//! Correlations as stored: the hits of one group within one window.
//!
//! One item a bucket, pk `{account}#CORRELATION#{rule}#{group key}`, sk the window's start. What it holds is
//! `sentinel-correlation`'s, compressed; here it is read and written on the condition that nobody wrote in between.
//! Items expire by the clock, not by the times of events, so that archives can be replayed.

use std::{
    collections::HashMap,
    io::{Read, Write as _},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use sentinel_correlation::{Bucket, Group, wire};
use sentinel_model::{Timestamp, time};
use serde::{Deserialize, Serialize};

use crate::{Condition, Item, Key, Put, Query, SkRange, Table, TableError, Write, sort_time, table::MAX_KEYS};

/// Most bytes that a stored bucket may unfold to.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Longest rule id in a key; a longer one is its hash.
const MAX_RULE_BYTES: usize = 200;
/// Seconds for which a bucket is kept beyond the time in which it can still matter.
const GRACE_SECONDS: i64 = 86_400;

/// Which bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey {
    /// Account.
    pub account: String,
    /// Id of the correlation rule.
    pub rule: String,
    /// Key of the group, see [`Group::key`].
    pub group: u128,
    /// Start of the window.
    pub start: Timestamp,
}

impl BucketKey {
    fn same_group(&self, other: &Self) -> bool {
        self.group == other.group && self.rule == other.rule && self.account == other.account
    }

    fn key(&self) -> Key {
        let rule = if self.rule.len() <= MAX_RULE_BYTES {
            self.rule.clone()
        } else {
            sentinel_model::hash::derived_id("", &[&self.rule])
        };
        Key::new(format!("{}#CORRELATION#{rule}#{:032x}", self.account, self.group), sort_time(self.start))
    }
}

/// A bucket as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredBucket {
    /// The group that it is of.
    pub group: Group,
    /// The hits.
    pub bucket: Bucket,
    /// Counts the writes: 0 when not stored yet.
    pub version: u64,
}

/// The item's body.
#[derive(Serialize, Deserialize)]
struct Body {
    /// Deflated and in base64: what [`wire::write_bucket`] gives.
    hits: String,
}

/// The store of correlations.
#[derive(Clone)]
pub struct Correlations {
    table: Arc<dyn Table>,
}

impl Correlations {
    /// The store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The buckets that are stored, in any order of `keys`. Those of one group come by one query, which is billed by
    /// what it finds; keys are billed one by one, found or not (`DynamoDB` Developer Guide, "Read operations").
    pub async fn load(&self, keys: &[BucketKey]) -> Result<HashMap<BucketKey, StoredBucket>, TableError> {
        if let [first, second, ..] = keys
            && keys.iter().all(|key| key.same_group(first))
        {
            let (from, to) = keys
                .iter()
                .fold((first.start, second.start), |(from, to), key| (from.min(key.start), to.max(key.start)));
            return self.load_group(keys, from, to).await;
        }
        let mut found = HashMap::new();
        for chunk in keys.chunks(MAX_KEYS) {
            let by_key: HashMap<Key, &BucketKey> = chunk.iter().map(|key| (key.key(), key)).collect();
            for item in self.table.get_many(&by_key.keys().cloned().collect::<Vec<_>>()).await? {
                if let Some(key) = by_key.get(&item.key) {
                    found.insert((*key).clone(), decode(&item)?);
                }
            }
        }
        Ok(found)
    }

    /// Buckets of one group between two starts, those asked for.
    async fn load_group(
        &self,
        keys: &[BucketKey],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<HashMap<BucketKey, StoredBucket>, TableError> {
        let by_key: HashMap<Key, &BucketKey> = keys.iter().map(|key| (key.key(), key)).collect();
        let mut found = HashMap::new();
        let Some(pk) = by_key.keys().next().map(|key| key.pk.clone()) else { return Ok(found) };
        let mut after = None;
        loop {
            let query =
                Query::partition(&pk, MAX_KEYS).range(SkRange::Between(sort_time(from), sort_time(to))).after(after);
            let page = self.table.query(query).await?;
            for item in &page.items {
                if let Some(key) = by_key.get(&item.key) {
                    found.insert((*key).clone(), decode(item)?);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Writes the buckets of one group, all or none, each in place of the version that was read.
    /// [`TableError::ConditionFailed`]: somebody wrote in between; read again and start over.
    ///
    /// They are kept for two windows of `minutes` and `timespan` seconds beyond a day from `now`.
    pub async fn save(
        &self,
        buckets: &[(BucketKey, StoredBucket)],
        minutes: u32,
        timespan: u64,
        now: Timestamp,
    ) -> Result<(), TableError> {
        let span = i64::from(minutes) * 120 + i64::try_from(timespan).unwrap_or(i64::MAX / 4);
        let expires = time::plus_seconds(now, span.saturating_add(GRACE_SECONDS));
        let mut writes = Vec::with_capacity(buckets.len());
        for (key, stored) in buckets {
            let condition = if stored.version == 0 { Condition::Absent } else { Condition::Version(stored.version) };
            let body = Body { hits: pack(&wire::write_bucket(&stored.group, &stored.bucket))? };
            writes.push(Write::Put(Put::new(key.key(), &body)?.when(condition).expiring(Some(expires))));
        }
        self.table.write(writes).await
    }
}

fn pack(bytes: &[u8]) -> Result<String, TableError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).map_err(TableError::store)?;
    Ok(BASE64_STANDARD.encode(encoder.finish().map_err(TableError::store)?))
}

/// What another version of the product wrote, or nobody can read, counts as empty: its hits are lost, and those that
/// come are kept in its place.
fn decode(item: &Item) -> Result<StoredBucket, TableError> {
    let body: Body = item.decode()?;
    let (group, bucket) = match unpack(&body.hits) {
        Ok(read) => read,
        Err(reason) => {
            tracing::warn!(partition = item.key.pk, start = item.key.sk, reason, "stored hits were left out");
            Default::default()
        }
    };
    Ok(StoredBucket { group, bucket, version: item.version })
}

fn unpack(hits: &str) -> Result<(Group, Bucket), String> {
    let packed = BASE64_STANDARD.decode(hits).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed.as_slice()).take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    wire::read_bucket(&bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(body: serde_json::Value) -> Item {
        Item { key: Key::new("1#CORRELATION#r#0", "s"), body, version: 3, expires_at: None }
    }

    #[test]
    fn a_bucket_survives_its_item_and_a_broken_one_counts_as_empty() {
        let group = Group(vec![Some("198.51.100.7".into()), None]);
        let mut bucket = Bucket::default();
        bucket.mark_raised();
        let packed = pack(&wire::write_bucket(&group, &bucket)).unwrap();
        let read = decode(&item(serde_json::json!({ "hits": packed }))).unwrap();
        assert_eq!(read, StoredBucket { group, bucket, version: 3 });
        for broken in ["", "!", "AAAA"] {
            let read = decode(&item(serde_json::json!({ "hits": broken }))).unwrap();
            assert_eq!(read, StoredBucket { version: 3, ..StoredBucket::default() }, "{broken}");
        }
        assert!(decode(&item(serde_json::json!({ "other": 1 }))).is_err());
    }

    #[test]
    fn keys_are_of_bounded_length() {
        let key = |rule: String| BucketKey { account: "1".into(), rule, group: 7, start: Timestamp::UNIX_EPOCH }.key();
        assert_eq!(key("r".into()).pk, format!("1#CORRELATION#r#{:032x}", 7));
        assert!(key("x".repeat(5000)).pk.len() < 200);
    }
}
