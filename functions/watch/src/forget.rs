//! Forgetting old events of a search index that keeps everything until told otherwise, as OpenSearch does. The
//! archive keeps them for longer.
//!
//! In: the index, and how many days of events can be searched. Out: how many are gone. An item of the table, which
//! expires, says when to look again: in a day, or, if the work came to no end, in an hour.

use sentinel_model::{Timestamp, time};
use sentinel_search::{DocumentKind, SearchError, SearchIndex};
use sentinel_state::{Condition, Key, Put, Table, TableError, Write};
use serde::Serialize;

/// Seconds between two times that it is done.
pub const PAUSE_SECONDS: i64 = 86_400;
/// Seconds after which it is tried again when it failed, or its process ended in the middle of it.
pub const RETRY_SECONDS: i64 = 3_600;
/// Minutes of a day.
const DAY_MINUTES: u32 = 24 * 60;

/// Why old events were not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The table, which knows when it was done.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The index.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// The item that stands for "not again yet" until it expires.
#[derive(Debug, Serialize)]
struct Mark {
    at: Timestamp,
}

fn mark(now: Timestamp, seconds: i64) -> Result<Put, TableError> {
    let put = Put::new(Key::new("CONTROL", "SEARCH_FORGETS"), &Mark { at: now })?;
    Ok(put.expiring(Some(time::plus_seconds(now, seconds))))
}

/// Has events older than `days` forgotten, unless that was done within a day or another is at it; returns how
/// many are gone. Only whole UTC days go, as an index of one day can be deleted at once.
pub async fn once_a_day(
    table: &dyn Table,
    search: &dyn SearchIndex,
    days: u32,
    now: Timestamp,
) -> Result<u64, ForgetError> {
    let trying = mark(now, RETRY_SECONDS)?;
    // Reading is cheaper than a write whose condition fails, every minute.
    if table.get(&trying.key).await?.is_some() {
        return Ok(0);
    }
    match table.write(vec![Write::Put(trying.when(Condition::Absent))]).await {
        Err(e) if e.is_condition() => return Ok(0),
        other => other?,
    }
    let before = time::window_start(time::plus_seconds(now, -86_400 * i64::from(days)), DAY_MINUTES);
    let gone = search.forget_before(DocumentKind::Event, before).await?;
    table.write(vec![Write::Put(mark(now, PAUSE_SECONDS)?)]).await?;
    tracing::info!(gone, %before, "old events are forgotten in the search index");
    Ok(gone)
}

#[cfg(test)]
mod tests;
