//! The timer port: at a due time, a message goes to a stage's queue, at least once (EventBridge Scheduler,
//! one-time schedules, on AWS).

use async_trait::async_trait;
use sentinel_model::Timestamp;

use crate::{Stage, queue::MAX_BODY_BYTES};

/// What can go wrong with a timer; only [`Store`](Self::Store) is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The id has other characters than it may, or is empty or too long.
    #[error("bad timer id {0:?}")]
    BadId(String),
    /// The body is over the queue's limit.
    #[error("message of {0} bytes is over the limit of {MAX_BODY_BYTES}")]
    TooLarge(usize),
    /// The timer's store failed.
    #[error("the timer failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Checks what [`Timer::set`] is given; adapters call it first.
pub fn check_timer(id: &str, body: &str) -> Result<(), TimerError> {
    let fits = (1..=64).contains(&id.len());
    if !fits || !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(TimerError::BadId(id.to_owned()));
    }
    if body.len() > MAX_BODY_BYTES {
        return Err(TimerError::TooLarge(body.len()));
    }
    Ok(())
}

/// Durable one-time timers.
#[async_trait]
pub trait Timer: Send + Sync {
    /// Has `body` sent to `stage` at `due` (at once when that has passed). The same `id` again replaces the
    /// earlier one, so setting a timer is idempotent. Ids: letters, digits, `-`, `_`, `.`, at most 64.
    async fn set(&self, id: &str, due: Timestamp, stage: Stage, body: &str) -> Result<(), TimerError>;

    /// Forgets a timer that has not fired; one that has or never was is no error.
    async fn cancel(&self, id: &str) -> Result<(), TimerError>;

    /// Sends what is due by now to its queues; returns how many. On AWS the service does this by itself and
    /// this returns 0; on one machine the worker loop calls it.
    async fn fire_due(&self) -> Result<usize, TimerError>;
}
