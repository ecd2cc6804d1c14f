//! The record of which rules were in force: one item for each change, numbered, so that the last is found and
//! can be read again by its object versions.
//!
//! Items have pk `RULES#OPERATORS` and sk `SET#` with the number in twelve digits. Many processes see a change at
//! about the same time: each adds it on the condition that its number is free, and finds that the last one says
//! the same.

use std::sync::Arc;

use sentinel_model::Timestamp;
use sentinel_state::{Condition, Key, Put, Query, SkRange, Table, TableError, Write};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MAX_NAME_BYTES, RuleObject};
use crate::rules::Refused;

const PARTITION: &str = "RULES#OPERATORS";
const PREFIX: &str = "SET#";
/// Refusals that a record repeats.
const MAX_REFUSED: usize = 100;
/// Bytes of a refusal's reason that a record repeats.
const MAX_REASON_BYTES: usize = 300;
/// Tries at adding a record while others do.
const TRIES: usize = 8;

/// A set that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSet {
    /// When it was taken over.
    pub at: Timestamp,
    /// SHA-256 over names and texts of the files that were usable, in hexadecimal digits.
    pub hash: String,
    /// The stored files, with versions.
    pub objects: Vec<RuleObject>,
    /// Rules loaded, our own included.
    pub rules: usize,
    /// What was refused: the first 100.
    pub refused: Vec<RecordedRefusal>,
    /// How many were refused.
    pub refused_count: usize,
}

/// A refused piece of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedRefusal {
    /// Its file.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u32,
    /// Why.
    pub reason: String,
}

impl RecordedSet {
    pub(super) fn new(
        at: Timestamp,
        hash: String,
        mut objects: Vec<RuleObject>,
        rules: usize,
        refused: &[Refused],
    ) -> Self {
        // Those were refused by name; a longer list would not fit into an item.
        objects.retain(|o| o.name.len() <= MAX_NAME_BYTES);
        objects.truncate(super::MAX_OBJECTS);
        let repeat = |r: &Refused| RecordedRefusal {
            file: shortened(&r.file, MAX_NAME_BYTES),
            line: r.line,
            reason: shortened(&r.reason, MAX_REASON_BYTES),
        };
        Self {
            at,
            hash,
            objects,
            rules,
            refused: refused.iter().take(MAX_REFUSED).map(repeat).collect(),
            refused_count: refused.len(),
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.objects == other.objects && self.hash == other.hash
    }
}

/// The hash of usable files, given in order.
pub(super) fn hash(files: &[(&str, &str)]) -> String {
    let mut hasher = Sha256::new();
    for part in files.iter().flat_map(|(name, text)| [name, text]) {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

fn shortened(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

/// The records.
#[derive(Clone)]
pub struct Records {
    table: Arc<dyn Table>,
}

impl Records {
    /// Records in a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The set recorded last.
    pub async fn last(&self) -> Result<Option<RecordedSet>, TableError> {
        Ok(self.newest().await?.map(|(_, set)| set))
    }

    /// The sets recorded last, the newest first, at most `most`.
    pub async fn recent(&self, most: usize) -> Result<Vec<RecordedSet>, TableError> {
        let query = Query { descending: true, ..Query::partition(PARTITION, most) };
        let page = self.table.query(query.range(SkRange::Prefix(PREFIX.to_owned()))).await?;
        page.items.iter().map(sentinel_state::Item::decode).collect()
    }

    /// Adds a set, unless the last one says the same. Returns whether it was added.
    pub async fn add(&self, set: RecordedSet) -> Result<bool, TableError> {
        for _ in 0..TRIES {
            let newest = self.newest().await?;
            if newest.as_ref().is_some_and(|(_, last)| last.same(&set)) {
                return Ok(false);
            }
            let number = newest.map_or(0, |(number, _)| number) + 1;
            let key = Key::new(PARTITION, format!("{PREFIX}{number:012}"));
            let put = Put::new(key, &set)?.when(Condition::Absent);
            match self.table.write(vec![Write::Put(put)]).await {
                Err(e) if e.is_condition() => {}
                other => return other.map(|()| true),
            }
        }
        Err(TableError::Store("the record of rules is written by too many at once".into()))
    }

    async fn newest(&self) -> Result<Option<(u64, RecordedSet)>, TableError> {
        let query = Query { descending: true, ..Query::partition(PARTITION, 1) };
        let page = self.table.query(query.range(SkRange::Prefix(PREFIX.to_owned()))).await?;
        let Some(item) = page.items.first() else { return Ok(None) };
        let number = item.key.sk.strip_prefix(PREFIX).and_then(|n| n.parse().ok());
        let number = number.ok_or_else(|| TableError::Malformed {
            key: format!("{}/{}", item.key.pk, item.key.sk),
            reason: "its sort key has no number".to_owned(),
        })?;
        Ok(Some((number, item.decode()?)))
    }
}
