//! The worker: takes messages from a stage's queue, hands them to its handler, and deletes what is done.
//!
//! The one-machine counterpart of Lambda's SQS event source with partial batch responses, with the same
//! promises: at least once, a failed message comes again later, a panic or a crash loses nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_state::Table;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{debug, error, warn};

use crate::queue::{MAX_BATCH, MAX_RECEIVES};
use crate::{Message, Outcome, Queue, QueueError, Stage, Timer, codec, outbox};

/// A stage's work.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a batch and says of each message, in the same order, how it went. Messages come at least
    /// once and in any order, so it must have no second effect for one that it has handled before.
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome>;
}

/// How a worker takes and retries messages.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most messages handed over at once (1 to [`MAX_BATCH`]).
    pub batch: usize,
    /// Seconds that a message is hidden while it is handled; longer than a batch may take.
    pub visibility_seconds: u32,
    /// Seconds before the first retry; doubled for each further one, then jittered.
    pub retry_base_seconds: u32,
    /// Most seconds before a retry.
    pub retry_cap_seconds: u32,
    /// How long [`run`] rests when a queue is empty.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: MAX_BATCH,
            visibility_seconds: 120,
            retry_base_seconds: 2,
            retry_cap_seconds: 300,
            idle: Duration::from_millis(100),
        }
    }
}

/// The part of a message that logs repeat.
#[derive(Deserialize)]
struct Correlated {
    correlation_id: String,
}

/// Handles one batch of a stage's queue, if there is one; returns how many messages were received.
///
/// Errors are the queue's when it cannot be received from. A message whose deletion or release fails comes
/// again after its visibility timeout, as it does when the process dies here.
pub async fn run_once(
    queue: &dyn Queue,
    stage: Stage,
    handler: &Arc<dyn Handler>,
    settings: &Settings,
) -> Result<usize, QueueError> {
    let batch = queue.receive(stage, settings.batch.clamp(1, MAX_BATCH), settings.visibility_seconds).await?;
    if batch.is_empty() {
        return Ok(0);
    }
    let outcomes = handled(handler, batch.clone()).await;
    for (message, outcome) in batch.iter().zip(outcomes) {
        let settled = match outcome {
            Outcome::Done => queue.delete(stage, &message.receipt).await,
            Outcome::Retry(reason) => retry(queue, stage, message, &reason, settings).await,
        };
        if let Err(e) = settled {
            sentinel_telemetry::error(stage.as_str());
            error!(stage = stage.as_str(), message_id = %message.id, error = %e, "message was not settled; it will come again");
        }
    }
    Ok(batch.len())
}

/// Runs the handler in a task of its own, so that a panic costs only this batch's try.
async fn handled(handler: &Arc<dyn Handler>, batch: Vec<Message>) -> Vec<Outcome> {
    let count = batch.len();
    let handler = Arc::clone(handler);
    let again = |reason: String| (0..count).map(|_| Outcome::Retry(reason.clone())).collect::<Vec<_>>();
    match tokio::spawn(async move { handler.handle(batch).await }).await {
        Ok(outcomes) if outcomes.len() == count => outcomes,
        Ok(outcomes) => again(format!("the handler answered {} of {count} messages", outcomes.len())),
        Err(e) => again(format!("the handler panicked: {e}")),
    }
}

async fn retry(
    queue: &dyn Queue,
    stage: Stage,
    message: &Message,
    reason: &str,
    settings: &Settings,
) -> Result<(), QueueError> {
    sentinel_telemetry::error(stage.as_str());
    let correlation = codec::decode::<Correlated>(&message.body).map(|c| c.correlation_id).unwrap_or_default();
    let delay = retry_delay(message, settings);
    warn!(
        stage = stage.as_str(),
        message_id = %message.id,
        correlation_id = %correlation,
        receives = message.receives,
        last = message.receives >= MAX_RECEIVES,
        delay_seconds = delay,
        reason,
        "message failed"
    );
    queue.release(stage, &message.receipt, delay).await
}

/// Seconds before a message that failed comes again: doubling from the base up to the cap, the upper half of
/// it jittered by the message's id, so that messages that failed together do not come back together.
pub fn retry_delay(message: &Message, settings: &Settings) -> u32 {
    let doublings = message.receives.saturating_sub(1).min(20);
    let full = settings.retry_base_seconds.saturating_mul(1 << doublings).min(settings.retry_cap_seconds);
    let mut hasher = DefaultHasher::new();
    (&message.id, message.receives).hash(&mut hasher);
    let half = u64::from(full / 2);
    // Both terms are at most half of a u32.
    full - u32::try_from(hasher.finish() % (half + 1)).unwrap_or(0)
}

/// Handles a stage's queue until nothing can be received; returns how many messages were received.
pub async fn drain(
    queue: &dyn Queue,
    stage: Stage,
    handler: &Arc<dyn Handler>,
    settings: &Settings,
) -> Result<usize, QueueError> {
    let mut total = 0;
    loop {
        match run_once(queue, stage, handler, settings).await? {
            0 => return Ok(total),
            n => total += n,
        }
    }
}

/// Handles several stages in turn until none of their queues has anything to receive: a whole pipeline run
/// to its end. What waits for a retry or a timer still waits.
pub async fn drain_all(
    queue: &dyn Queue,
    stages: &[(Stage, Arc<dyn Handler>)],
    settings: &Settings,
) -> Result<usize, QueueError> {
    let mut total = 0;
    loop {
        let before = total;
        for (stage, handler) in stages {
            total += drain(queue, *stage, handler, settings).await?;
        }
        if total == before {
            return Ok(total);
        }
    }
}

/// Handles a stage's queue until `shutdown` turns true (or its sender is gone); a batch begun is ended first.
/// Several may run for one stage. Errors of the queue are logged and counted, and tried again after a rest.
pub async fn run(
    queue: Arc<dyn Queue>,
    stage: Stage,
    handler: Arc<dyn Handler>,
    settings: Settings,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut failures = 0_u32;
    while !stopped(&shutdown) {
        let rest = match run_once(queue.as_ref(), stage, &handler, &settings).await {
            Ok(0) => settings.idle,
            Ok(n) => {
                debug!(stage = stage.as_str(), messages = n, "batch handled");
                failures = 0;
                continue;
            }
            Err(e) => {
                failures = (failures + 1).min(6);
                sentinel_telemetry::error(stage.as_str());
                error!(stage = stage.as_str(), error = %e, "cannot receive messages");
                settings.idle.max(Duration::from_millis(50)) * (1 << failures)
            }
        };
        pause(rest, &mut shutdown).await;
    }
}

/// Does the chores that AWS does by itself: fires due timers, and sends what a crash left in the outbox.
/// Runs until `shutdown` turns true. One a process is enough; several do no harm.
pub async fn run_chores(
    table: Arc<dyn Table>,
    queue: Arc<dyn Queue>,
    timer: Arc<dyn Timer>,
    every: Duration,
    mut shutdown: watch::Receiver<bool>,
) {
    while !stopped(&shutdown) {
        chores(table.as_ref(), queue.as_ref(), timer.as_ref()).await;
        pause(every, &mut shutdown).await;
    }
}

/// One round of [`run_chores`]; returns how many messages it put in queues. Errors are logged and counted.
pub async fn chores(table: &dyn Table, queue: &dyn Queue, timer: &dyn Timer) -> usize {
    let fired = timer.fire_due().await.unwrap_or_else(|e| {
        sentinel_telemetry::error("timer");
        error!(error = %e, "due timers could not be fired");
        0
    });
    let sent = outbox::relay(table, queue).await.unwrap_or_else(|e| {
        sentinel_telemetry::error("outbox");
        error!(error = %e, "the outbox could not be sent");
        0
    });
    fired + sent
}

/// Whether it is time to end; so it is, too, when nobody is left who could say.
fn stopped(shutdown: &watch::Receiver<bool>) -> bool {
    *shutdown.borrow() || shutdown.has_changed().is_err()
}

/// Rests, or ends early at shutdown.
async fn pause(rest: Duration, shutdown: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

#[cfg(test)]
mod tests {
    use sentinel_model::Timestamp;

    use super::*;

    fn delay(id: u32, receives: u32) -> u32 {
        let message = Message {
            id: id.to_string(),
            receipt: String::new(),
            body: String::new(),
            receives,
            sent_at: Timestamp::UNIX_EPOCH,
        };
        let settings = Settings { retry_base_seconds: 10, retry_cap_seconds: 100, ..Settings::default() };
        retry_delay(&message, &settings)
    }

    #[test]
    fn delays_double_up_to_the_cap_and_are_spread() {
        for (receives, full) in [(0, 10), (1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (u32::MAX, 100)] {
            let delays: Vec<u32> = (0..200).map(|id| delay(id, receives)).collect();
            assert!(delays.iter().all(|d| (full / 2..=full).contains(d)), "{receives}: {delays:?}");
            let distinct: std::collections::HashSet<_> = delays.iter().collect();
            assert!(distinct.len() > 4, "{receives}: {delays:?}");
            assert_eq!(delays[7], delay(7, receives), "the same at every asking");
        }
    }
}
