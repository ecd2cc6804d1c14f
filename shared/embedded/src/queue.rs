//! The queue port over SQLite, with SQS's redelivery: a received message is hidden until a time, not locked.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row};
use sentinel_durable::{
    Message, Outgoing, Queue, QueueDepth, QueueError, Stage,
    queue::{MAX_BATCH, MAX_RECEIVES, check_batch},
};
use sentinel_model::time::plus_seconds;
use uuid::Uuid;

use crate::DatabaseError;
use crate::database::{Inner, micros, time};

pub(crate) struct SqliteQueue(pub(crate) Arc<Inner>);

impl SqliteQueue {
    fn in_seconds(&self, seconds: u32) -> i64 {
        micros(plus_seconds(self.0.clock.now(), i64::from(seconds)))
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn send(&self, stage: Stage, batch: Vec<Outgoing>) -> Result<(), QueueError> {
        check_batch(&batch)?;
        let now = self.in_seconds(0);
        let batch: Vec<_> = batch.into_iter().map(|m| (m.body, self.in_seconds(m.delay_seconds))).collect();
        self.0
            .write(move |c| {
                for (body, visible_at) in &batch {
                    insert(c, stage, body, now, *visible_at)?;
                }
                Ok(())
            })
            .await
    }

    async fn receive(&self, stage: Stage, max: usize, visibility_seconds: u32) -> Result<Vec<Message>, QueueError> {
        if !(1..=MAX_BATCH).contains(&max) {
            return Err(QueueError::BatchSize(max));
        }
        let (now, until) = (self.in_seconds(0), self.in_seconds(visibility_seconds));
        // Most receives find nothing: they should not take the write lock.
        let waiting: bool = self
            .0
            .read(move |c| {
                let sql = "SELECT EXISTS (SELECT 1 FROM message WHERE stage = ?1 AND dead_at IS NULL
                           AND visible_at <= ?2)";
                let found = c.prepare_cached(sql).and_then(|mut s| s.query_row((stage.as_str(), now), |r| r.get(0)));
                Ok::<_, QueueError>(found.map_err(DatabaseError::from)?)
            })
            .await?;
        if !waiting {
            return Ok(Vec::new());
        }
        self.0.write(move |c| Ok(receive(c, stage, max, now, until)?)).await
    }

    async fn delete(&self, stage: Stage, receipt: &str) -> Result<(), QueueError> {
        let Some(seq) = sequence(receipt) else { return Ok(()) };
        let receipt = receipt.to_owned();
        self.0
            .write(move |c| {
                let sql = "DELETE FROM message WHERE seq = ?1 AND receipt = ?2 AND stage = ?3 AND dead_at IS NULL";
                let done = c.prepare_cached(sql).and_then(|mut s| s.execute((seq, receipt, stage.as_str())));
                done.map_err(DatabaseError::from)?;
                Ok(())
            })
            .await
    }

    async fn release(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        let Some(seq) = sequence(receipt) else { return Ok(()) };
        let (receipt, visible_at) = (receipt.to_owned(), self.in_seconds(delay_seconds));
        self.0
            .write(move |c| {
                let sql = "UPDATE message SET visible_at = ?4
                           WHERE seq = ?1 AND receipt = ?2 AND stage = ?3 AND dead_at IS NULL";
                let done =
                    c.prepare_cached(sql).and_then(|mut s| s.execute((seq, receipt, stage.as_str(), visible_at)));
                done.map_err(DatabaseError::from)?;
                Ok(())
            })
            .await
    }

    async fn depth(&self, stage: Stage) -> Result<QueueDepth, QueueError> {
        let now = self.in_seconds(0);
        self.0
            .read(move |c| {
                let sql = "SELECT count(*) FILTER (WHERE dead_at IS NULL AND (receipt IS NULL OR visible_at <= ?2)),
                           count(*) FILTER (WHERE dead_at IS NULL AND receipt IS NOT NULL AND visible_at > ?2),
                           count(*) FILTER (WHERE dead_at IS NOT NULL) FROM message WHERE stage = ?1";
                let depth = c.prepare_cached(sql).and_then(|mut s| {
                    s.query_row((stage.as_str(), now), |row| {
                        Ok(QueueDepth { ready: row.get(0)?, in_flight: row.get(1)?, dead: row.get(2)? })
                    })
                });
                Ok(depth.map_err(DatabaseError::from)?)
            })
            .await
    }

    async fn dead(&self, stage: Stage, max: usize) -> Result<Vec<Message>, QueueError> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        self.0
            .read(move |c| {
                let sql = "SELECT seq, id, body, sent_at, receives FROM message
                           WHERE stage = ?1 AND dead_at IS NOT NULL ORDER BY dead_at DESC, seq DESC LIMIT ?2";
                let rows = c
                    .prepare_cached(sql)
                    .and_then(|mut s| s.query_map((stage.as_str(), max), stored)?.collect::<Result<Vec<_>, _>>());
                let rows = rows.map_err(DatabaseError::from)?;
                Ok(rows.into_iter().map(|row| message(row, String::new())).collect::<Result<_, _>>()?)
            })
            .await
    }
}

/// Puts a message in a queue.
pub(crate) fn insert(c: &Connection, stage: Stage, body: &str, now: i64, visible_at: i64) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO message (stage, id, body, sent_at, visible_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let id = Uuid::new_v4().to_string();
    c.prepare_cached(sql)?.execute((stage.as_str(), id, body, now, visible_at))?;
    Ok(())
}

fn receive(c: &Connection, stage: Stage, max: usize, now: i64, until: i64) -> Result<Vec<Message>, DatabaseError> {
    let mut taken = Vec::new();
    while taken.len() < max {
        let sql = "SELECT seq, id, body, sent_at, receives FROM message
                   WHERE stage = ?1 AND dead_at IS NULL AND visible_at <= ?2 ORDER BY visible_at, seq LIMIT 1";
        let next = c.prepare_cached(sql)?.query_row((stage.as_str(), now), stored).optional()?;
        let Some((seq, id, body, sent_at, receives)) = next else { break };
        if receives >= MAX_RECEIVES {
            let sql = "UPDATE message SET dead_at = ?2, receipt = NULL WHERE seq = ?1";
            c.prepare_cached(sql)?.execute((seq, now))?;
            tracing::error!(stage = stage.as_str(), message_id = %id, receives, "message goes to the dead-letter queue");
            continue;
        }
        let receipt = format!("{seq}:{}", Uuid::new_v4());
        let sql = "UPDATE message SET receives = ?2, receipt = ?3, visible_at = ?4 WHERE seq = ?1";
        // Hidden for no time, it would be found again and again by this loop.
        c.prepare_cached(sql)?.execute((seq, receives + 1, &receipt, until.max(now + 1)))?;
        taken.push(message((seq, id, body, sent_at, receives + 1), receipt)?);
    }
    Ok(taken)
}

/// Sequence, id, body, time of sending, receives.
type Stored = (i64, String, String, i64, u32);

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn message((_, id, body, sent_at, receives): Stored, receipt: String) -> Result<Message, DatabaseError> {
    Ok(Message { id, receipt, body, receives, sent_at: time(sent_at)? })
}

/// The sequence number that a receipt begins with; `None` for a text that is no receipt of ours.
fn sequence(receipt: &str) -> Option<i64> {
    receipt.split_once(':')?.0.parse().ok()
}
