//! What the glue needs of a queue beside the event that Lambda hands over: opening what a message refers to,
//! and putting a failed one off.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_aws::sqs::{PlainQueue, SqsQueue};
use sentinel_durable::{Message, Queue, QueueError, Stage};

/// The queue behind an event source.
#[async_trait]
pub trait Intake: Send + Sync {
    /// The message with its real body: claims fetched, timers unwrapped. `None`: it no longer counts and is
    /// done with.
    async fn admit(&self, message: Message) -> Result<Option<Message>, QueueError>;

    /// Makes a received message visible again after `delay_seconds`.
    async fn put_off(&self, receipt: &str, delay_seconds: u32) -> Result<(), QueueError>;
}

/// The queue of a stage: its messages may be claims and timers'.
#[derive(Clone)]
pub struct StageQueue {
    stage: Stage,
    queue: SqsQueue,
}

impl StageQueue {
    /// A stage's queue among those that a function knows.
    pub fn new(stage: Stage, queue: SqsQueue) -> Arc<Self> {
        Arc::new(Self { stage, queue })
    }
}

#[async_trait]
impl Intake for StageQueue {
    async fn admit(&self, message: Message) -> Result<Option<Message>, QueueError> {
        self.queue.admit(self.stage, message).await
    }

    async fn put_off(&self, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        self.queue.release(self.stage, receipt, delay_seconds).await
    }
}

/// A queue that other services fill: its messages are what they are.
#[async_trait]
impl Intake for PlainQueue {
    async fn admit(&self, message: Message) -> Result<Option<Message>, QueueError> {
        Ok(Some(message))
    }

    async fn put_off(&self, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        self.release(receipt, delay_seconds).await
    }
}
