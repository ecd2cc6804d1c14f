//! The timer port: at a due time, a message goes to a stage's queue, at least once (EventBridge Scheduler,
//! one-time schedules, on AWS).

use async_trait::async_trait;
use sentinel_model::Timestamp;

use crate::Stage;

/// What can go wrong with a timer; all of it is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The timer's store failed.
    #[error("the timer failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
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
