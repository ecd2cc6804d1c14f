//! The timer port over SQLite. Firing moves a timer into its queue in one transaction, so it fires once.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_durable::{Stage, Timer, TimerError, timer::check_timer};
use sentinel_model::Timestamp;

use crate::DatabaseError;
use crate::database::{Inner, micros};
use crate::queue::insert;

pub(crate) struct SqliteTimer(pub(crate) Arc<Inner>);

/// Timers fired in one transaction.
const BATCH: u32 = 100;

#[async_trait]
impl Timer for SqliteTimer {
    async fn set(&self, id: &str, due: Timestamp, stage: Stage, body: &str) -> Result<(), TimerError> {
        check_timer(id, body)?;
        let (id, due, body) = (id.to_owned(), micros(due), body.to_owned());
        self.0
            .write(move |c| {
                let sql = "INSERT OR REPLACE INTO timer (id, due, stage, body) VALUES (?1, ?2, ?3, ?4)";
                let done = c.prepare_cached(sql).and_then(|mut s| s.execute((id, due, stage.as_str(), body)));
                done.map_err(DatabaseError::from)?;
                Ok(())
            })
            .await
    }

    async fn cancel(&self, id: &str) -> Result<(), TimerError> {
        let id = id.to_owned();
        self.0
            .write(move |c| {
                let done = c.prepare_cached("DELETE FROM timer WHERE id = ?1").and_then(|mut s| s.execute([id]));
                done.map_err(DatabaseError::from)?;
                Ok(())
            })
            .await
    }

    async fn fire_due(&self) -> Result<usize, TimerError> {
        let mut fired = 0;
        loop {
            let now = micros(self.0.clock.now());
            let due = self.0.read(move |c| Ok::<_, TimerError>(is_due(c, now)?)).await?;
            if !due {
                return Ok(fired);
            }
            fired += self.0.write(move |c| Ok::<_, TimerError>(fire(c, now)?)).await?;
        }
    }
}

fn is_due(c: &rusqlite::Connection, now: i64) -> Result<bool, DatabaseError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM timer WHERE due <= ?1)";
    Ok(c.prepare_cached(sql)?.query_row([now], |row| row.get(0))?)
}

fn fire(c: &rusqlite::Connection, now: i64) -> Result<usize, DatabaseError> {
    let mut due = c.prepare_cached("SELECT id, stage, body FROM timer WHERE due <= ?1 ORDER BY due LIMIT ?2")?;
    let rows: Vec<(String, String, String)> =
        due.query_map((now, BATCH), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    for (id, stage, body) in &rows {
        let stage = Stage::ALL
            .into_iter()
            .find(|s| s.as_str() == stage)
            .ok_or_else(|| DatabaseError::Corrupt(format!("timer {id} is for an unknown stage {stage:?}")))?;
        insert(c, stage, body, now, now)?;
        c.prepare_cached("DELETE FROM timer WHERE id = ?1")?.execute([id])?;
    }
    Ok(rows.len())
}
