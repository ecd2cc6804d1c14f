//! The outbox: a message that is sent if and only if a transaction was written.
//!
//! A stage adds [`put`]'s write to its transaction; [`relay`] sends what lies in the outbox and then deletes
//! it. A crash between the two sends it once more, with the same content: at least once, never lost.
//! Called by handlers after their transaction, and by the worker's chores so that what a crash left is sent. A handler
//! that knows what it has just put need not look for it: [`send_fresh`], or [`Noted`] where it writes in many places.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::queue::{MAX_BATCH, MAX_BODY_BYTES};
use crate::{Outgoing, Queue, QueueError, Stage};
use sentinel_state::{Condition, Item, Key, Page, Put, Query, Table, TableError, Write};

/// The outbox's partition. One is enough: messages here are raised alerts and decisions, not events, and a
/// partition of `DynamoDB` takes 1,000 writes a second.
const PARTITION: &str = "OUTBOX";
/// Items read at a time.
const PAGE: usize = 25;
/// Messages that are deleted one after the other.
const FEW: usize = 2;

/// What can go wrong with the outbox. What was not sent stays in it.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The table failed, or an item of the outbox is not of the expected form.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A message as it lies in the outbox.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    stage: Stage,
    body: String,
}

/// The write that puts a message in the outbox. The `id` names the message's content: putting it again
/// before it was sent leaves one, so a handler that is run twice can put the same one twice.
pub fn put(id: &str, stage: Stage, body: &str) -> Result<Write, TableError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(TableError::BadRequest(format!("message of {} bytes is too large for a queue", body.len())));
    }
    Ok(Write::Put(Put::new(Key::new(PARTITION, id), &Pending { stage, body: body.to_owned() })?))
}

/// A message that a transaction has just put in the outbox ([`put`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// The id that it was put under.
    pub id: String,
    /// Where it goes.
    pub stage: Stage,
    /// Its body.
    pub body: String,
}

/// Sends what this caller has just put, without looking for it, then deletes it. Messages that others left stay, for them
/// or for [`relay`]; where one of these had lain there before, all is relayed.
pub async fn send_fresh(table: &dyn Table, queue: &dyn Queue, messages: Vec<Fresh>) -> Result<(), OutboxError> {
    let mut deleted = true;
    for stage in Stage::ALL {
        let these = messages.iter().filter(|fresh| fresh.stage == stage);
        let these = these.map(|fresh| (Lying { id: fresh.id.clone(), version: FIRST }, fresh.body.clone()));
        deleted &= send(table, queue, stage, these.collect()).await?;
    }
    if !deleted {
        relay(table, queue).await?;
    }
    Ok(())
}

/// A table that notes what is put in the outbox through it.
pub struct Noted {
    table: Arc<dyn Table>,
    fresh: Mutex<Vec<Fresh>>,
}

impl Noted {
    /// Over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table, fresh: Mutex::default() }
    }

    /// What was put since this was last asked for; it is the caller's to send.
    pub fn take(&self) -> Vec<Fresh> {
        std::mem::take(&mut *self.noted())
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Fresh>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Table for Noted {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.table.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.table.get_many(keys).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let mut fresh = Vec::new();
        for write in &writes {
            if let Write::Put(put) = write
                && put.key.pk == PARTITION
                && let Ok(Pending { stage, body }) = Pending::deserialize(&put.body)
            {
                fresh.push(Fresh { id: put.key.sk.clone(), stage, body });
            }
        }
        self.table.write(writes).await?;
        self.noted().append(&mut fresh);
        Ok(())
    }

    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.table.query(query).await
    }
}

/// The version of an item that was not there before.
const FIRST: u64 = 1;

/// An item of the outbox as it was seen.
struct Lying {
    id: String,
    version: u64,
}

/// Sends all that lies in the outbox, then deletes it; returns how many messages were sent.
/// An item that cannot be read stops no other: it stays, is logged, and is the error returned at the end.
pub async fn relay(table: &dyn Table, queue: &dyn Queue) -> Result<usize, OutboxError> {
    let mut sent = 0;
    let mut broken = None;
    let mut cursor = None;
    loop {
        let page = table.query(Query::partition(PARTITION, PAGE).after(cursor)).await?;
        let mut readable = Vec::with_capacity(page.items.len());
        for item in page.items {
            match item.decode::<Pending>() {
                Ok(pending) => readable.push((item, pending)),
                Err(e) => {
                    error!(item = %item.key.sk, error = %e, "outbox item cannot be read");
                    broken = Some(e);
                }
            }
        }
        for stage in Stage::ALL {
            let (these, rest): (Vec<_>, _) = readable.into_iter().partition(|(_, pending)| pending.stage == stage);
            readable = rest;
            sent += these.len();
            let lying = |item: Item| Lying { id: item.key.sk, version: item.version };
            send(table, queue, stage, these.into_iter().map(|(i, p)| (lying(i), p.body)).collect()).await?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return broken.map_or(Ok(sent), |e| Err(e.into()));
        }
    }
}

/// Sends messages of one stage in batches within the queue's limits, deleting each batch once it is sent. Returns
/// whether all are deleted: one that was put again meanwhile stays.
async fn send(
    table: &dyn Table,
    queue: &dyn Queue,
    stage: Stage,
    messages: Vec<(Lying, String)>,
) -> Result<bool, OutboxError> {
    let mut deleted = true;
    let mut items = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (item, body) in messages {
        if batch.len() == MAX_BATCH || bytes + body.len() > MAX_BODY_BYTES {
            deleted &= flush(table, queue, stage, &mut items, &mut batch).await?;
            bytes = 0;
        }
        bytes += body.len();
        items.push(item);
        batch.push(Outgoing::now(body));
    }
    deleted &= flush(table, queue, stage, &mut items, &mut batch).await?;
    Ok(deleted)
}

async fn flush(
    table: &dyn Table,
    queue: &dyn Queue,
    stage: Stage,
    items: &mut Vec<Lying>,
    batch: &mut Vec<Outgoing>,
) -> Result<bool, OutboxError> {
    if batch.is_empty() {
        return Ok(true);
    }
    queue.send(stage, std::mem::take(batch)).await?;
    let delete = |item: Lying| async move {
        // Put again meanwhile, it has a later version and stays to be sent again.
        let delete = Write::Delete(Key::new(PARTITION, item.id), Condition::Version(item.version));
        match table.write(vec![delete]).await {
            Ok(()) => Ok(true),
            Err(TableError::ConditionFailed(_)) => Ok(false),
            Err(e) => Err(e.into()),
        }
    };
    // Asked for at once, each may open a connection of its own, which for few costs more than the wait.
    let at_once = if items.len() <= FEW { 1 } else { MAX_BATCH };
    let deleted: Vec<_> = stream::iter(items.drain(..)).map(delete).buffered(at_once).collect().await;
    deleted.into_iter().try_fold(true, |all, one| one.map(|one| all && one))
}
