//! Correlations as stored: the hits of groups within windows.
//!
//! What one principal (or address, or bucket) does is a group of many rules. All groups with the same values, of one
//! account and of windows of one width, make a [`Shelf`]: pk `{account}#CORRELATION#{minutes}#{values}`, one item a
//! window, sk its start. So a batch reads a shelf by one query and writes one item, however many rules it concerns. A
//! bucket that grows large moves to an item of its own, sk `{start}#{name}`, so that small news stay cheap.
//!
//! What buckets hold is `sentinel-correlation`'s, compressed; here it is read, and written on the condition that
//! nobody wrote in between. Items expire by the clock, not by the times of events, so that archives can be replayed.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write as _},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use sentinel_correlation::{
    Bucket, Group,
    wire::{self, Entry},
};
use sentinel_model::{Timestamp, hash, time};
use serde::{Deserialize, Serialize};

use crate::{
    Condition, Item, Key, Put, Query, SkRange, Table, TableError, Write, sort_time,
    table::{MAX_KEYS, MAX_WRITES},
};

/// Most bytes that a stored item may unfold to.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes, before compression, beyond which a bucket moves to an item of its own.
const LARGE_BUCKET: usize = 6 * 1024;
/// Bytes, before compression, that a bucket may have at all: whatever they are, an item takes them.
const LARGEST_BUCKET: usize = 256 * 1024;
/// Those of all buckets of an item together, beyond which the largest moves.
const LARGE_ITEM: usize = 24 * 1024;
/// Seconds for which an item is kept beyond the time in which it can still matter.
const GRACE_SECONDS: i64 = 86_400;

/// Which shelf.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShelfKey {
    /// Account.
    pub account: String,
    /// Width of its windows.
    pub minutes: u32,
    /// What its groups have in common.
    pub values: u128,
}

impl ShelfKey {
    fn pk(&self) -> String {
        format!("{}#CORRELATION#{}#{:032x}", self.account, self.minutes, self.values)
    }

    fn key(&self, start: Timestamp) -> Key {
        Key::new(self.pk(), sort_time(start))
    }
}

/// The name of a group's buckets on its shelf: that of its rule and of its key, see [`Group::key`].
pub fn bucket_name(rule: &str, group: u128) -> u128 {
    let mut bytes = group.to_le_bytes().to_vec();
    bytes.extend(rule.as_bytes());
    hash::hash_128(&bytes)
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

/// An item: the buckets in it, and what must not have changed when it is written.
#[derive(Debug, Clone, Default)]
struct Kept {
    version: u64,
    entries: BTreeMap<u128, Entry>,
    changed: bool,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.bytes.len()).sum()
    }

    fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.name, entry);
        self.changed = true;
    }

    /// The bucket that should lie elsewhere; one that is alone may be as large as it likes.
    fn too_large(&self) -> Option<u128> {
        let largest = self.entries.values().max_by_key(|entry| entry.bytes.len())?;
        let large = largest.bytes.len() > LARGE_BUCKET || self.bytes() > LARGE_ITEM;
        (large && self.entries.len() > 1).then_some(largest.name)
    }
}

/// The items of one window.
#[derive(Debug, Clone, Default)]
struct ShelfWindow {
    shared: Kept,
    own: BTreeMap<u128, Kept>,
}

/// The buckets of groups with the same values, of some windows, as read and as they are to be written.
#[derive(Debug, Clone)]
pub struct Shelf {
    key: ShelfKey,
    windows: BTreeMap<Timestamp, ShelfWindow>,
}

impl Shelf {
    /// Bytes of all that lies on it, before compression.
    pub fn bytes(&self) -> usize {
        let own = |window: &ShelfWindow| window.own.values().map(Kept::bytes).sum::<usize>();
        self.windows.values().map(|window| window.shared.bytes() + own(window)).sum()
    }

    /// A bucket by its name and the start of its window. One that nobody can read is left out: its hits are lost, and
    /// those that come are kept in its place.
    pub fn bucket(&self, name: u128, start: Timestamp) -> Option<StoredBucket> {
        let window = self.windows.get(&start)?;
        let own = window.own.get(&name).and_then(|kept| kept.entries.get(&name));
        let entry = own.or_else(|| window.shared.entries.get(&name))?;
        match wire::read_bucket(&entry.bytes) {
            Ok((group, bucket)) => Some(StoredBucket { group, bucket, version: entry.version }),
            Err(reason) => {
                tracing::warn!(partition = self.key.pk(), %start, %reason, "stored hits were left out");
                Some(StoredBucket { version: entry.version, ..StoredBucket::default() })
            }
        }
    }

    /// Puts a bucket in place of the one that it was made of. Of one too large for an item the first hits are kept.
    pub fn put(&mut self, name: u128, start: Timestamp, stored: &StoredBucket) {
        let mut bytes = wire::write_bucket(&stored.group, &stored.bucket);
        if bytes.len() > LARGEST_BUCKET {
            let mut bucket = stored.bucket.clone();
            while bytes.len() > LARGEST_BUCKET && bucket.shrink() {
                bytes = wire::write_bucket(&stored.group, &bucket);
            }
        }
        let entry = Entry { name, version: stored.version + 1, bytes };
        let window = self.windows.entry(start).or_default();
        match window.own.get_mut(&name) {
            Some(own) => own.put(entry),
            None => window.shared.put(entry),
        }
    }
}

/// The item's body.
#[derive(Serialize, Deserialize)]
struct Body {
    /// Deflated and in base64: what [`wire::write_entries`] gives. Another version's form has none.
    #[serde(default)]
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

    /// A shelf's windows that start between two times, both included. It comes by one query, which is billed by what
    /// it finds; keys are billed one by one, found or not (`DynamoDB` Developer Guide, "Read operations").
    pub async fn load(&self, key: &ShelfKey, from: Timestamp, to: Timestamp) -> Result<Shelf, TableError> {
        let mut loaded = Shelf { key: key.clone(), windows: BTreeMap::new() };
        // Of the last window the items of large buckets too: their keys begin with its start.
        let range = SkRange::Between(sort_time(from), format!("{}~", sort_time(to)));
        let mut after = None;
        loop {
            let query = Query::partition(key.pk(), MAX_KEYS).range(range.clone()).after(after);
            let page = self.table.query(query).await?;
            for item in &page.items {
                let (start, name) =
                    item.key.sk.split_once('#').map_or((item.key.sk.as_str(), None), |(s, n)| (s, Some(n)));
                let Ok(start) = start.parse() else { continue };
                let window = loaded.windows.entry(start).or_default();
                let kept = decode(item)?;
                match name.and_then(|name| u128::from_str_radix(name, 16).ok()) {
                    None => window.shared = kept,
                    Some(name) => {
                        window.own.insert(name, kept);
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(loaded);
            }
        }
    }

    /// Buckets each alone on its shelf, by shelf, name and start; those that are not stored are left out.
    pub async fn load_alone(
        &self,
        wanted: &[(ShelfKey, u128, Timestamp)],
    ) -> Result<HashMap<(u128, Timestamp), StoredBucket>, TableError> {
        let mut found = HashMap::new();
        for chunk in wanted.chunks(MAX_KEYS) {
            let by_key: HashMap<Key, &(ShelfKey, u128, Timestamp)> =
                chunk.iter().map(|wanted| (wanted.0.key(wanted.2), wanted)).collect();
            for item in self.table.get_many(&by_key.keys().cloned().collect::<Vec<_>>()).await? {
                let Some((key, name, start)) = by_key.get(&item.key) else { continue };
                let window = ShelfWindow { shared: decode(&item)?, ..ShelfWindow::default() };
                let alone = Shelf { key: key.clone(), windows: BTreeMap::from([(*start, window)]) };
                if let Some(bucket) = alone.bucket(*name, *start) {
                    found.insert((*name, *start), bucket);
                }
            }
        }
        Ok(found)
    }

    /// Writes what was put on a shelf since it was read, each item on the condition that it still is as it was read.
    /// [`TableError::ConditionFailed`]: somebody wrote in between; read again and start over. What was written until
    /// then stays: one window does not need another.
    ///
    /// Items are kept for three windows and a day from `now`.
    pub async fn save(&self, read: Shelf, now: Timestamp) -> Result<(), TableError> {
        let expires = time::plus_seconds(now, i64::from(read.key.minutes) * 180 + GRACE_SECONDS);
        let put = |key: Key, kept: &Kept| {
            let condition = if kept.version == 0 { Condition::Absent } else { Condition::Version(kept.version) };
            let body = Body { hits: pack(&wire::write_entries(kept.entries.values()))? };
            Ok::<_, TableError>(Write::Put(Put::new(key, &body)?.when(condition).expiring(Some(expires))))
        };
        for (start, mut window) in read.windows {
            let key = read.key.key(start);
            let own_key = |name: u128| Key::new(key.pk.clone(), format!("{}#{name:032x}", key.sk));
            let mut moved = Vec::new();
            while window.shared.changed
                && moved.len() + 1 < MAX_WRITES
                && let Some(name) = window.shared.too_large()
            {
                let entry = window.shared.entries.remove(&name);
                let own = Kept { entries: entry.into_iter().map(|entry| (name, entry)).collect(), ..Kept::default() };
                moved.push(put(own_key(name), &own)?);
            }
            if window.shared.changed {
                // A move is all or nothing; else a bucket could be in both places, or in none.
                moved.push(put(key.clone(), &window.shared)?);
                self.table.write(moved).await?;
            }
            for (name, own) in window.own.iter().filter(|(_, own)| own.changed) {
                self.table.write(vec![put(own_key(*name), own)?]).await?;
            }
        }
        Ok(())
    }
}

fn pack(bytes: &[u8]) -> Result<String, TableError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).map_err(TableError::store)?;
    Ok(BASE64_STANDARD.encode(encoder.finish().map_err(TableError::store)?))
}

/// What another version of the product wrote, or nobody can read, counts as empty.
fn decode(item: &Item) -> Result<Kept, TableError> {
    let body: Body = item.decode()?;
    let entries = unpack(&body.hits).unwrap_or_else(|reason| {
        tracing::warn!(partition = item.key.pk, start = item.key.sk, reason, "stored hits were left out");
        Vec::new()
    });
    let entries = entries.into_iter().map(|entry| (entry.name, entry)).collect();
    Ok(Kept { version: item.version, entries, changed: false })
}

fn unpack(hits: &str) -> Result<Vec<Entry>, String> {
    let packed = BASE64_STANDARD.decode(hits).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed.as_slice()).take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    wire::read_entries(&bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf_key() -> ShelfKey {
        ShelfKey { account: "111122223333".into(), minutes: 60, values: 7 }
    }

    #[test]
    fn what_cannot_be_read_counts_as_empty() {
        let start = Timestamp::UNIX_EPOCH;
        let item = |body| Item { key: shelf_key().key(start), body, version: 3, expires_at: None };
        for broken in ["", "!", "AAAA"] {
            let kept = decode(&item(serde_json::json!({ "hits": broken }))).unwrap();
            assert!(kept.entries.is_empty() && kept.version == 3, "{broken}");
        }
        let other = decode(&item(serde_json::json!({ "other": 1 }))).unwrap();
        assert!(other.entries.is_empty() && other.version == 3, "another version's form");
        let mut kept = Kept::default();
        kept.put(Entry { name: 1, version: 4, bytes: vec![9, 9] });
        let window = ShelfWindow { shared: kept, ..ShelfWindow::default() };
        let shelf = Shelf { key: shelf_key(), windows: BTreeMap::from([(start, window)]) };
        assert_eq!(shelf.bucket(1, start), Some(StoredBucket { version: 4, ..StoredBucket::default() }));
    }
}
