//! Heartbeats of the sources that deliver logs, by which one that stops is noticed.
//!
//! A source is what can fall silent by itself: an account and Region by one kind of channel. Ingest notes it
//! after it took something in, at most once in [`BEAT_SECONDS`] and warm process ([`Heartbeats`]), never for each
//! event; the watch stage lists all of them. What is remembered of a source is when it was first and last
//! seen and how long its pauses were, day by day, for [`KEPT_DAYS`]; one that is silent for so long expires.
//!
//! One item a source: pk `{account}#SOURCE#{region}#{channel}`, sk `SOURCE`, listed in [`Index::One`] under
//! `SOURCES` by a key that never changes, so that a heartbeat moves nothing in the index.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use sentinel_model::{Timestamp, time};
use serde::{Deserialize, Serialize};

use crate::{Condition, Index, IndexKey, Key, Put, Query, Table, TableError, Write};

/// Seconds between two heartbeats written for one source.
pub const BEAT_SECONDS: i64 = 300;
/// Days for which pauses are remembered, and after which a source that delivers nothing is forgotten.
pub const KEPT_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 86_400;
const LISTING: &str = "SOURCES";
/// Sources listed at a time.
const PAGE: usize = 100;
/// Tries of a write that another process was faster with.
const TRIES: usize = 5;

/// The kind of channel that a source delivers by. Polls of the CloudTrail API are none: their cursors tell when
/// they last succeeded ([`crate::polls`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// EventBridge.
    Bus,
    /// Objects of a trail's bucket.
    Objects,
}

impl Delivery {
    /// Its name in keys and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Objects => "objects",
        }
    }
}

/// What delivers logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The account that the logs are of.
    pub account: String,
    /// The Region that they are of.
    pub region: String,
    /// How they come.
    pub delivery: Delivery,
}

impl Source {
    fn key(&self) -> Key {
        Key::new(format!("{}#SOURCE#{}#{}", self.account, self.region, self.delivery.as_str()), "SOURCE")
    }

    fn listed(&self) -> IndexKey {
        IndexKey::new(LISTING, format!("{}#{}#{}", self.account, self.region, self.delivery.as_str()))
    }
}

/// What is remembered of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The source.
    #[serde(flatten)]
    pub source: Source,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen, [`BEAT_SECONDS`] late at most.
    pub last_seen: Timestamp,
    /// The longest pause that ended on a UTC day, in seconds, for each of the last [`KEPT_DAYS`] days that had one.
    pub pauses: BTreeMap<String, i64>,
    /// Since when it is known to be silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
    /// The UTC day on which a silence ended last that was told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_ended: Option<String>,
}

impl Heartbeat {
    fn first(source: Source, now: Timestamp) -> Self {
        Self {
            source,
            first_seen: now,
            last_seen: now,
            pauses: BTreeMap::new(),
            silent_since: None,
            silence_ended: None,
        }
    }

    /// The longest pause of the last [`KEPT_DAYS`], in seconds; 0 when there was none yet.
    pub fn longest_pause(&self) -> i64 {
        self.pauses.values().copied().max().unwrap_or(0)
    }

    /// Seconds between the first and the last time that it was seen.
    pub fn history(&self) -> i64 {
        time::seconds_between(self.first_seen, self.last_seen)
    }

    fn beat(&mut self, now: Timestamp) {
        let (pause, today) = (time::seconds_between(self.last_seen, now), time::utc_day(now));
        let oldest = time::utc_day(time::plus_seconds(now, -KEPT_DAYS * DAY_SECONDS));
        // One outage is no habit: taken for one, it would let the next go unnoticed for as long. A second one on another day
        // of these weeks is how the source is.
        let again = self.silence_ended.as_ref().is_some_and(|day| *day != today && *day >= oldest);
        if self.silent_since.is_none() || again {
            let longest = self.pauses.entry(today.clone()).or_default();
            *longest = pause.max(*longest);
        }
        if self.silent_since.is_some() {
            self.silence_ended = Some(today);
        }
        self.pauses.retain(|day, _| *day >= oldest);
        self.last_seen = now;
    }

    fn put(&self, condition: Condition) -> Result<Write, TableError> {
        let expires = time::plus_seconds(self.last_seen, KEPT_DAYS * DAY_SECONDS);
        let put = Put::new(self.source.key(), self)?.listed(Index::One, self.source.listed());
        Ok(Write::Put(put.expiring(Some(expires)).when(condition)))
    }
}

/// A heartbeat as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHeartbeat {
    /// What is remembered.
    pub heartbeat: Heartbeat,
    version: u64,
}

/// The heartbeats of all sources.
#[derive(Clone)]
pub struct Sources {
    table: Arc<dyn Table>,
}

impl Sources {
    /// Heartbeats in a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Notes that a source delivered, unless that was noted within [`BEAT_SECONDS`]; gives when it was last
    /// seen as the table now has it.
    pub async fn beat(&self, source: &Source, now: Timestamp) -> Result<Timestamp, TableError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (heartbeat, condition) = match self.table.get(&source.key()).await? {
                None => (Heartbeat::first(source.clone(), now), Condition::Absent),
                Some(item) => {
                    let mut heartbeat: Heartbeat = item.decode()?;
                    if time::seconds_between(heartbeat.last_seen, now) < BEAT_SECONDS {
                        return Ok(heartbeat.last_seen);
                    }
                    heartbeat.beat(now);
                    (heartbeat, Condition::Version(item.version))
                }
            };
            match self.table.write(vec![heartbeat.put(condition)?]).await {
                Ok(()) => return Ok(now),
                Err(e) if e.is_condition() && tries < TRIES => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// All sources that are not forgotten, in order of account, Region and kind.
    pub async fn list(&self) -> Result<Vec<StoredHeartbeat>, TableError> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let query = Query { descending: false, ..Query::listing(Index::One, LISTING, PAGE) };
            let page = self.table.query(query.after(cursor)).await?;
            for item in page.items {
                all.push(StoredHeartbeat { heartbeat: item.decode()?, version: item.version });
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// What is remembered of a source now; `None` when it is not known, or forgotten.
    pub async fn get(&self, source: &Source) -> Result<Option<Heartbeat>, TableError> {
        self.table.get(&source.key()).await?.map(|item| item.decode()).transpose()
    }

    /// Writes since when a source is known to be silent, or that it is not (`None`). `false` when it was
    /// written meanwhile: nothing was changed, and the next look decides anew.
    pub async fn mark(&self, read: &StoredHeartbeat, silent_since: Option<Timestamp>) -> Result<bool, TableError> {
        let heartbeat = Heartbeat { silent_since, ..read.heartbeat.clone() };
        match self.table.write(vec![heartbeat.put(Condition::Version(read.version))?]).await {
            Ok(()) => Ok(true),
            Err(e) if e.is_condition() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Heartbeats of one process: remembers what the table knows, so that most deliveries ask it nothing.
pub struct Heartbeats {
    sources: Sources,
    known: Mutex<HashMap<Source, Timestamp>>,
}

impl Heartbeats {
    /// Heartbeats in a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { sources: Sources::new(table), known: Mutex::new(HashMap::new()) }
    }

    /// Notes that a source delivered, unless it is known that this was noted within [`BEAT_SECONDS`].
    pub async fn note(&self, source: Source, now: Timestamp) -> Result<(), TableError> {
        let known = self.lock().get(&source).copied();
        if known.is_some_and(|last| time::seconds_between(last, now) < BEAT_SECONDS) {
            return Ok(());
        }
        let last = self.sources.beat(&source, now).await?;
        self.lock().insert(source, last);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Source, Timestamp>> {
        // What is in it is right after any step, so a panic elsewhere does not spoil it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
