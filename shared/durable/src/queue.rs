//! The queue port: at-least-once delivery with visibility timeouts and a dead-letter queue, as Amazon SQS
//! gives it (SQS Developer Guide, "Amazon SQS visibility timeout", "dead-letter queues").

use async_trait::async_trait;
use sentinel_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Largest body in bytes: SQS's limit for one message and for one batch, 1 MiB (SQS Developer Guide,
/// "Amazon SQS message quotas"), less room for attributes.
pub const MAX_BODY_BYTES: usize = 1_000_000;
/// Most messages in one send, receive or delete.
pub const MAX_BATCH: usize = 10;
/// Longest delay of a message in seconds.
pub const MAX_DELAY_SECONDS: u32 = 900;
/// Receives after which a message goes to the dead-letter queue.
pub const MAX_RECEIVES: u32 = 5;

/// The queues between stages, each with its dead-letter queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Input of detect: event batches.
    Detect,
    /// Input of enrich: detection batches.
    Enrich,
    /// Input of respond: raised alerts, approvals, due steps.
    Respond,
}

impl Stage {
    /// All queues, in pipeline order.
    pub const ALL: [Self; 3] = [Self::Detect, Self::Enrich, Self::Respond];

    /// The queue's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Enrich => "enrich",
            Self::Respond => "respond",
        }
    }
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Text, at most [`MAX_BODY_BYTES`].
    pub body: String,
    /// Seconds before it can be received (0 to [`MAX_DELAY_SECONDS`]).
    pub delay_seconds: u32,
}

impl Outgoing {
    /// A message to be received at once.
    pub fn now(body: String) -> Self {
        Self { body, delay_seconds: 0 }
    }
}

/// A message received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same at every receive.
    pub id: String,
    /// Names this receive; a later receive makes it stale.
    pub receipt: String,
    /// Text.
    pub body: String,
    /// How often it has been received, this time included.
    pub receives: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
}

/// What a handler says of one message of a batch: an SQS partial batch response, item by item.
#[derive(Debug)]
pub enum Outcome {
    /// Done: delete it.
    Done,
    /// Not done: let it come again. The reason is logged and counted.
    Retry(String),
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// Can be received now or after its delay.
    pub ready: u64,
    /// Received and not deleted yet.
    pub in_flight: u64,
    /// In the dead-letter queue.
    pub dead: u64,
}

/// What can go wrong with a queue. Only [`Store`](Self::Store) is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A batch's bodies are together over the limit; nothing of it was sent.
    #[error("messages of {0} bytes are over the limit of {MAX_BODY_BYTES}")]
    TooLarge(usize),
    /// A batch has no or too many entries.
    #[error("a batch takes 1 to {MAX_BATCH} messages, not {0}")]
    BatchSize(usize),
    /// A delay is over the limit.
    #[error("a message can be delayed by 0 to {MAX_DELAY_SECONDS} seconds, not {0}")]
    Delay(u32),
    /// The queue itself failed.
    #[error("the queue failed: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl QueueError {
    /// Wraps an adapter's own error.
    pub fn store(e: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Store(Box::new(e))
    }
}

/// Checks a batch against the limits that every queue has; adapters call it first.
pub fn check_batch(batch: &[Outgoing]) -> Result<(), QueueError> {
    if batch.is_empty() || batch.len() > MAX_BATCH {
        return Err(QueueError::BatchSize(batch.len()));
    }
    if let Some(message) = batch.iter().find(|m| m.delay_seconds > MAX_DELAY_SECONDS) {
        return Err(QueueError::Delay(message.delay_seconds));
    }
    let bytes = batch.iter().map(|m| m.body.len()).sum();
    if bytes > MAX_BODY_BYTES {
        return Err(QueueError::TooLarge(bytes));
    }
    Ok(())
}

/// Durable queues, one a stage.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends a batch (1 to [`MAX_BATCH`], together at most [`MAX_BODY_BYTES`]); when it returns, all are durable.
    async fn send(&self, stage: Stage, batch: Vec<Outgoing>) -> Result<(), QueueError>;

    /// Takes up to `max` messages and hides them for `visibility_seconds`. Returns at once, empty when there is
    /// none. A message that was received [`MAX_RECEIVES`] times already moves to the dead-letter queue instead.
    async fn receive(&self, stage: Stage, max: usize, visibility_seconds: u32) -> Result<Vec<Message>, QueueError>;

    /// Deletes a received message. A stale receipt deletes nothing and is no error (as on SQS, where a message
    /// that became visible again may be delivered again).
    async fn delete(&self, stage: Stage, receipt: &str) -> Result<(), QueueError>;

    /// Makes a received message visible again after `delay_seconds`. A stale receipt changes nothing.
    async fn release(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError>;

    /// How full a queue is (approximate on AWS).
    async fn depth(&self, stage: Stage) -> Result<QueueDepth, QueueError>;

    /// The newest messages of the dead-letter queue, at most `max`, without taking them.
    async fn dead(&self, stage: Stage, max: usize) -> Result<Vec<Message>, QueueError>;
}
