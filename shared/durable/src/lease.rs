//! Leases: at most one owner at a time of a piece of work, until a time.
//!
//! Written once over the table's conditional writes. An owner that was paused may believe in a lease that
//! has passed on, so each grant carries a fencing token that grows: what the work writes is conditioned on
//! it where two owners would do harm (Kleppmann, "How to do distributed locking", 2016).

use serde::{Deserialize, Serialize};

use crate::Clock;
use sentinel_model::{Timestamp, time::plus_seconds};
use sentinel_state::{Condition, Key, Put, Table, TableError, Write};

/// A lease held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is a lease of.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// Fencing token: greater at every grant.
    pub token: u64,
    /// When it ends, unless renewed.
    pub until: Timestamp,
    /// Version of the item that stands for it.
    version: u64,
}

/// A lease as stored. Kept when it has ended, for its token.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    owner: Option<String>,
    token: u64,
    until: Timestamp,
}

fn key(name: &str) -> Key {
    Key::new(format!("LEASE#{name}"), "LEASE")
}

/// Takes a lease for some seconds; `None` when another owner holds it, or took it at the same moment.
/// An owner that holds it already gets it anew, with a greater token: it may be a restarted process.
pub async fn acquire(
    table: &dyn Table,
    name: &str,
    owner: &str,
    clock: &dyn Clock,
    seconds: u32,
) -> Result<Option<Lease>, TableError> {
    let now = clock.now();
    let (condition, token) = match table.get(&key(name)).await? {
        None => (Condition::Absent, 1),
        Some(item) => {
            let stored: Stored = item.decode()?;
            if stored.until > now && stored.owner.as_deref().is_some_and(|holder| holder != owner) {
                return Ok(None);
            }
            (Condition::Version(item.version), stored.token + 1)
        }
    };
    write(table, name, owner, token, plus_seconds(now, i64::from(seconds)), condition).await
}

/// Holds a lease for some seconds from now; `None` when it has passed to another owner. A lease that ended
/// but was taken by nobody is renewed.
pub async fn renew(
    table: &dyn Table,
    lease: &Lease,
    clock: &dyn Clock,
    seconds: u32,
) -> Result<Option<Lease>, TableError> {
    let until = plus_seconds(clock.now(), i64::from(seconds));
    write(table, &lease.name, &lease.owner, lease.token, until, Condition::Version(lease.version)).await
}

/// Gives a lease back before its end. One that has passed on is left alone.
pub async fn release(table: &dyn Table, lease: &Lease, clock: &dyn Clock) -> Result<(), TableError> {
    let free = Stored { owner: None, token: lease.token, until: clock.now() };
    let put = Put::new(key(&lease.name), &free)?.when(Condition::Version(lease.version));
    match table.write(vec![Write::Put(put)]).await {
        Ok(()) | Err(TableError::ConditionFailed(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

async fn write(
    table: &dyn Table,
    name: &str,
    owner: &str,
    token: u64,
    until: Timestamp,
    condition: Condition,
) -> Result<Option<Lease>, TableError> {
    let stored = Stored { owner: Some(owner.to_owned()), token, until };
    match table.write(vec![Write::Put(Put::new(key(name), &stored)?.when(condition))]).await {
        Ok(()) => {}
        Err(TableError::ConditionFailed(_)) => return Ok(None),
        Err(e) => return Err(e),
    }
    let version = match condition {
        Condition::Version(v) => v + 1,
        Condition::Absent | Condition::None => 1,
    };
    Ok(Some(Lease { name: name.to_owned(), owner: owner.to_owned(), token, until, version }))
}
