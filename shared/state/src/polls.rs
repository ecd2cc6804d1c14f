//! How far the polls of the CloudTrail API have come: one item for each account and Region.
//!
//! The poller writes it after every slice of time that it handed on; whoever watches for a poll that stalled
//! reads it. The item also remembers which events of the last minutes were handed on, so that reading them
//! again for late arrivals hands on only those. Beside it lies, while a poll is stalled, since when and whether operators
//! were told, which the poller never touches.

use std::sync::Arc;

use sentinel_model::{Timestamp, time};
use serde::{Deserialize, Serialize};

use crate::{Condition, Key, Put, Table, TableError, Write};

/// Where the poll of one account and Region stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollCursor {
    /// The account asked.
    pub account: String,
    /// The Region asked.
    pub region: String,
    /// Events before this (whole seconds) were read once and handed on.
    pub through: Timestamp,
    /// Events before this can not arrive any more, however late: they are not read again.
    pub settled: Timestamp,
    /// Seconds of events that are asked for at once.
    pub slice_seconds: i64,
    /// Whether the last run came to its end, so that everything shown up to its start was handed on.
    pub complete: bool,
    /// When the last slice was read and handed on: a poll whose last success grows old has stalled.
    pub last_success: Timestamp,
    /// What the last run failed with; `None` when it did not.
    pub error: Option<String>,
    /// Hashes of the events handed on from `settled` on, by the minute of their time.
    pub seen: Vec<SeenMinute>,
}

/// Events handed on of one minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenMinute {
    /// Minutes since 1970.
    #[serde(rename = "m")]
    pub minute: i64,
    /// Their hashes of 8 bytes each, in base64.
    #[serde(rename = "h")]
    pub hashes: String,
}

/// A cursor and its item's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPoll {
    /// The cursor.
    pub cursor: PollCursor,
    /// Version of the item.
    pub version: u64,
}

/// Seconds for which a stalled poll is remembered.
const STALL_SECONDS: i64 = 86_400;

/// A poll that is stalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Since when that is known.
    pub since: Timestamp,
    /// Whether operators know it.
    pub told: bool,
}

/// The store of cursors.
#[derive(Clone)]
pub struct Polls {
    table: Arc<dyn Table>,
}

fn key(account: &str, region: &str) -> Key {
    Key::new(format!("POLL#{account}#{region}"), "CURSOR")
}

fn stall_key(account: &str, region: &str) -> Key {
    Key { sk: "STALL".into(), ..key(account, region) }
}

impl Polls {
    /// A store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The table, for leases.
    pub fn table(&self) -> &Arc<dyn Table> {
        &self.table
    }

    /// The cursor of an account and Region; `None` before its first poll.
    pub async fn get(&self, account: &str, region: &str) -> Result<Option<StoredPoll>, TableError> {
        let Some(item) = self.table.get(&key(account, region)).await? else { return Ok(None) };
        Ok(Some(StoredPoll { cursor: item.decode()?, version: item.version }))
    }

    /// Writes a cursor; `version` is the one read, `None` for the first. Returns the new version.
    pub async fn put(&self, cursor: &PollCursor, version: Option<u64>) -> Result<u64, TableError> {
        let condition = version.map_or(Condition::Absent, Condition::Version);
        let put = Put::new(key(&cursor.account, &cursor.region), cursor)?.when(condition);
        self.table.write(vec![Write::Put(put)]).await?;
        Ok(version.map_or(1, |before| before + 1))
    }

    /// What is known of a poll that is stalled; `None` while it goes on.
    pub async fn stall(&self, account: &str, region: &str) -> Result<Option<Stall>, TableError> {
        self.table.get(&stall_key(account, region)).await?.map(|item| item.decode()).transpose()
    }

    /// Remembers for a day that a poll is stalled, or forgets it: what is still stalled then is told again, and a Region that
    /// is polled again after weeks begins anew.
    pub async fn note_stall(&self, account: &str, region: &str, stall: Option<&Stall>) -> Result<(), TableError> {
        let key = stall_key(account, region);
        let write = match stall {
            Some(stall) => {
                Write::Put(Put::new(key, stall)?.expiring(Some(time::plus_seconds(stall.since, STALL_SECONDS))))
            }
            None => Write::Delete(key, Condition::None),
        };
        self.table.write(vec![write]).await
    }
}
