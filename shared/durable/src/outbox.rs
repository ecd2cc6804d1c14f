//! The outbox: a message that is sent if and only if a transaction was written.
//!
//! A stage adds [`put`]'s write to its transaction; [`relay`] sends what lies in the outbox and then deletes
//! it. A crash between the two sends it once more, with the same content: at least once, never lost.
//! Called by handlers after their transaction, and by the worker's chores so that what a crash left is sent.

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::queue::{MAX_BATCH, MAX_BODY_BYTES};
use crate::{Outgoing, Queue, QueueError, Stage};
use sentinel_state::{Condition, Item, Key, Put, Query, Table, TableError, Write};

/// The outbox's partition. One is enough: messages here are raised alerts and decisions, not events, and a
/// partition of `DynamoDB` takes 1,000 writes a second.
const PARTITION: &str = "OUTBOX";
/// Items read at a time.
const PAGE: usize = 25;

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
            let (these, rest) = readable.into_iter().partition(|(_, pending)| pending.stage == stage);
            readable = rest;
            sent += send(table, queue, stage, these).await?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return broken.map_or(Ok(sent), |e| Err(e.into()));
        }
    }
}

/// Sends messages of one stage in batches within the queue's limits, deleting each batch once it is sent.
async fn send(
    table: &dyn Table,
    queue: &dyn Queue,
    stage: Stage,
    messages: Vec<(Item, Pending)>,
) -> Result<usize, OutboxError> {
    let count = messages.len();
    let mut items = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (item, pending) in messages {
        if batch.len() == MAX_BATCH || bytes + pending.body.len() > MAX_BODY_BYTES {
            flush(table, queue, stage, &mut items, &mut batch).await?;
            bytes = 0;
        }
        bytes += pending.body.len();
        items.push(item);
        batch.push(Outgoing::now(pending.body));
    }
    flush(table, queue, stage, &mut items, &mut batch).await?;
    Ok(count)
}

async fn flush(
    table: &dyn Table,
    queue: &dyn Queue,
    stage: Stage,
    items: &mut Vec<Item>,
    batch: &mut Vec<Outgoing>,
) -> Result<(), OutboxError> {
    if batch.is_empty() {
        return Ok(());
    }
    queue.send(stage, std::mem::take(batch)).await?;
    let deleted = items.drain(..).map(|item| async move {
        // Put again meanwhile, it has a later version and stays to be sent again.
        match table.write(vec![Write::Delete(item.key, Condition::Version(item.version))]).await {
            Ok(()) | Err(TableError::ConditionFailed(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    });
    join_all(deleted).await.into_iter().collect()
}
