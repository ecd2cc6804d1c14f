//! What the glue needs of a queue beside the event that Lambda hands over: opening what a message refers to,
//! and putting a failed one off.

use async_trait::async_trait;
use sentinel_aws::sqs::SqsQueue;
use sentinel_durable::{Message, Queue, QueueError, Stage};

/// The queue behind an event source.
#[async_trait]
pub trait Intake: Send + Sync {
    /// The message with its real body: claims fetched, timers unwrapped. `None`: it no longer counts and is
    /// done with.
    async fn admit(&self, stage: Stage, message: Message) -> Result<Option<Message>, QueueError>;

    /// Makes a received message visible again after `delay_seconds`.
    async fn put_off(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError>;
}

#[async_trait]
impl Intake for SqsQueue {
    async fn admit(&self, stage: Stage, message: Message) -> Result<Option<Message>, QueueError> {
        Self::admit(self, stage, message).await
    }

    async fn put_off(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        self.release(stage, receipt, delay_seconds).await
    }
}
