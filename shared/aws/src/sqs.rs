//! The queue port over Amazon SQS standard queues.
//!
//! In go messages, out come messages; in between a large body lies in a bucket ([`crate::claims`]) and a timer's
//! message carries the token by which it is recognised ([`crate::timer`]). [`SqsQueue::admit`] opens both: here
//! for what [`Queue::receive`] took, and in a Lambda function for what the event source handed over.
//!
//! Redelivery is the queue's own: visibility timeout, and a redrive policy of [`MAX_RECEIVES`] receives.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    types::{MessageSystemAttributeName, QueueAttributeName},
};
use sentinel_durable::{
    Message, Outgoing, Queue, QueueDepth, QueueError, Stage,
    queue::{MAX_BATCH, MAX_RECEIVES, check_batch},
};
use sentinel_model::Timestamp;
use sentinel_state::Table;
use tracing::{debug, error};

use crate::claims::Claims;
use crate::sdk::CallError;
use crate::timer::{self, TimerMessage};

mod send;

/// What [`Queue::send`] calls; with bodies of any size also [`crate::claims::WRITE`].
pub const SEND: &[&str] = &["sqs:SendMessage"];
/// What [`Queue::receive`], [`Queue::delete`] and [`Queue::release`] call; with bodies of any size also
/// [`crate::claims::READ`].
pub const CONSUME: &[&str] = &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"];
/// What [`Queue::depth`] calls, on a queue and its dead-letter queue.
pub const INSPECT: &[&str] = &["sqs:GetQueueAttributes"];
/// What [`Queue::dead`] calls, on a dead-letter queue.
pub const DEAD: &[&str] = &["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"];

/// Largest body that is sent in a message, and most bytes of one request: the limit that every SQS queue has
/// had, whose `MaximumMessageSize` may since be set up to 1 MiB. A claim costs less than the fifteen further
/// 64 KB units of a full message, sent and received.
pub(crate) const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Longest visibility timeout (SQS API Reference, `ChangeMessageVisibility`).
const MAX_VISIBILITY_SECONDS: u32 = 12 * 60 * 60;
/// How long a look at a dead-letter queue hides a message from another look, unless it is ended before.
const LOOK_SECONDS: i32 = 10;

/// The URLs of the queues that a function knows; using another is an error that says which.
#[derive(Debug, Clone, Default)]
pub struct Queues {
    /// The stages' queues.
    pub queues: BTreeMap<Stage, String>,
    /// Their dead-letter queues.
    pub dead: BTreeMap<Stage, String>,
}

impl Queues {
    /// Also knows a stage's queue.
    #[must_use]
    pub fn with(mut self, stage: Stage, url: impl Into<String>) -> Self {
        self.queues.insert(stage, url.into());
        self
    }

    /// Also knows a stage's dead-letter queue.
    #[must_use]
    pub fn with_dead(mut self, stage: Stage, url: impl Into<String>) -> Self {
        self.dead.insert(stage, url.into());
        self
    }
}

/// A use of a queue that the function was not told of.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} of stage {} is not configured here", .stage.as_str())]
struct UnknownQueue {
    kind: &'static str,
    stage: Stage,
}

/// A message that cannot be opened. It stays in its queue and ends in the dead-letter queue.
#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("a timer's message is malformed: {0}")]
    Timer(serde_json::Error),
    #[error("a timer's message came, but no table is configured here to recognise it by")]
    NoTable,
}

/// A queue that other services fill, for whoever has to put its messages off.
#[derive(Debug, Clone)]
pub struct PlainQueue {
    client: Client,
    url: String,
}

impl PlainQueue {
    /// The queue with this URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    /// Makes a received message visible again after `delay_seconds`. A stale receipt changes nothing.
    pub async fn release(&self, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        show(&self.client, &self.url, receipt, delay_seconds).await
    }
}

/// Queues on SQS.
#[derive(Clone)]
pub struct SqsQueue {
    client: Client,
    queues: Arc<Queues>,
    claims: Claims,
    table: Option<Arc<dyn Table>>,
}

impl SqsQueue {
    /// Queues at these URLs, with large bodies in `claims`. Timers' messages are recognised by `table`; a
    /// function whose queue gets none needs none.
    pub fn new(client: Client, queues: Queues, claims: Claims, table: Option<Arc<dyn Table>>) -> Self {
        Self { client, queues: Arc::new(queues), claims, table }
    }

    /// Opens a received message: a claim becomes the body it stands for, a timer's message the body that was
    /// set. `None` when the timer was cancelled or set again since: such a message is done, and is to be
    /// deleted. A claim that cannot be read, or a broken message, is an error each time it comes.
    pub async fn admit(&self, stage: Stage, mut message: Message) -> Result<Option<Message>, QueueError> {
        if let Some(timed) = TimerMessage::parse(&message.body) {
            let timed = timed.map_err(|e| QueueError::store(MessageError::Timer(e)))?;
            let table = self.table.as_deref().ok_or_else(|| QueueError::store(MessageError::NoTable))?;
            if !timer::is_current(table, stage, &timed).await.map_err(QueueError::store)? {
                debug!(stage = stage.as_str(), timer = timed.id, "a cancelled or replaced timer fired");
                return Ok(None);
            }
            message.body = timed.body;
        }
        // What a claim stands for is never opened again: it may be any text.
        if Claims::is_claim(&message.body) {
            message.body = self.claims.open(&message.body).await?;
        }
        Ok(Some(message))
    }

    fn url(&self, stage: Stage) -> Result<&str, QueueError> {
        let known = self.queues.queues.get(&stage).map(String::as_str);
        known.ok_or_else(|| QueueError::store(UnknownQueue { kind: "queue", stage }))
    }

    fn dead_url(&self, stage: Stage) -> Result<&str, QueueError> {
        let known = self.queues.dead.get(&stage).map(String::as_str);
        known.ok_or_else(|| QueueError::store(UnknownQueue { kind: "dead-letter queue", stage }))
    }

    /// Puts a body where claims lie, and returns the claim that stands for it.
    pub(crate) async fn put_away(&self, body: &str) -> Result<String, QueueError> {
        Ok(self.claims.put(body).await?)
    }

    /// Sends a message whose body is a claim or a timer's.
    pub(crate) async fn send_as_is(&self, stage: Stage, message: Outgoing) -> Result<(), QueueError> {
        send::all(&self.client, self.url(stage)?, vec![message]).await
    }

    /// Receives once; messages are as they lie in the queue.
    async fn take(&self, url: &str, max: usize, visibility: i32) -> Result<Vec<Message>, QueueError> {
        let answer = self
            .client
            .receive_message()
            .queue_url(url)
            // At most MAX_BATCH.
            .max_number_of_messages(i32::try_from(max.min(MAX_BATCH)).unwrap_or(1))
            .visibility_timeout(visibility)
            .wait_time_seconds(0)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|e| QueueError::store(CallError::new(CONSUME[0], &e)))?;
        answer.messages.unwrap_or_default().into_iter().map(message).collect()
    }

    async fn counts(&self, url: &str) -> Result<Counts, QueueError> {
        use QueueAttributeName as Name;
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(Name::ApproximateNumberOfMessages)
            .attribute_names(Name::ApproximateNumberOfMessagesDelayed)
            .attribute_names(Name::ApproximateNumberOfMessagesNotVisible)
            .send()
            .await
            .map_err(|e| QueueError::store(CallError::new(INSPECT[0], &e)))?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = |name: Name| {
            let number = attributes.get(&name).and_then(|text| text.parse().ok());
            let lacks = || CallError::answer(INSPECT[0], None, format!("the answer lacks {}", name.as_str()));
            number.ok_or_else(|| QueueError::store(lacks()))
        };
        Ok(Counts {
            visible: count(Name::ApproximateNumberOfMessages)?,
            delayed: count(Name::ApproximateNumberOfMessagesDelayed)?,
            hidden: count(Name::ApproximateNumberOfMessagesNotVisible)?,
        })
    }
}

/// Makes a message visible after a time; says nothing of one whose receipt is stale.
async fn show(client: &Client, url: &str, receipt: &str, seconds: u32) -> Result<(), QueueError> {
    let seconds = i32::try_from(seconds.min(MAX_VISIBILITY_SECONDS)).unwrap_or(0);
    let call = client.change_message_visibility().queue_url(url).receipt_handle(receipt);
    let changed = call.visibility_timeout(seconds).send().await;
    unless_stale(changed.map(drop).map_err(|e| CallError::new(CONSUME[2], &e)))
}

/// Messages of one queue, by what they wait for.
struct Counts {
    visible: u64,
    delayed: u64,
    hidden: u64,
}

/// Whether a body can be sent as it is. SQS takes no empty one and not every character, and one that begins as
/// a claim or a timer's message would be taken for one.
pub(crate) fn travels(body: &str) -> bool {
    (1..=MAX_INLINE_BYTES).contains(&body.len())
        && !Claims::is_claim(body)
        && !TimerMessage::is_timer(body)
        && body.chars().all(is_allowed)
}

/// The characters of a message (SQS API Reference, `SendMessage`).
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// A stale receipt is no error: the message has gone or comes again by itself.
fn unless_stale(result: Result<(), CallError>) -> Result<(), QueueError> {
    match result {
        Err(e) if is_stale(&e) => Ok(()),
        other => other.map_err(QueueError::store),
    }
}

fn is_stale(e: &CallError) -> bool {
    let code = e.code.as_deref().unwrap_or_default();
    // SQS has one code for each of its two protocols, and tells of a message that is gone in words only.
    code.ends_with("MessageNotInflight")
        || code == "ReceiptHandleIsInvalid"
        || (code == "InvalidParameterValue" && e.to_string().contains("not available for visibility timeout change"))
}

fn message(sent: aws_sdk_sqs::types::Message) -> Result<Message, QueueError> {
    let lacks = |what: &str| QueueError::store(CallError::answer(CONSUME[0], None, format!("a message lacks {what}")));
    let attributes = sent.attributes.unwrap_or_default();
    let number = |name: MessageSystemAttributeName| attributes.get(&name).and_then(|text| text.parse::<i64>().ok());
    let receives = number(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|n| u32::try_from(n).ok());
    let sent_at = number(MessageSystemAttributeName::SentTimestamp).and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(Message {
        id: sent.message_id.ok_or_else(|| lacks("its id"))?,
        receipt: sent.receipt_handle.ok_or_else(|| lacks("its receipt"))?,
        body: sent.body.ok_or_else(|| lacks("its body"))?,
        receives: receives.ok_or_else(|| lacks("its count of receives"))?,
        sent_at: sent_at.ok_or_else(|| lacks("its time of sending"))?,
    })
}

#[async_trait]
impl Queue for SqsQueue {
    /// As the port says; a failure may have sent a part of the batch, as any delivery may happen twice.
    async fn send(&self, stage: Stage, batch: Vec<Outgoing>) -> Result<(), QueueError> {
        check_batch(&batch)?;
        let url = self.url(stage)?;
        let mut folded = Vec::with_capacity(batch.len());
        for message in batch {
            let body = if travels(&message.body) { message.body } else { self.put_away(&message.body).await? };
            folded.push(Outgoing { body, ..message });
        }
        send::all(&self.client, url, folded).await
    }

    async fn receive(&self, stage: Stage, max: usize, visibility_seconds: u32) -> Result<Vec<Message>, QueueError> {
        if !(1..=MAX_BATCH).contains(&max) {
            return Err(QueueError::BatchSize(max));
        }
        let seconds = i32::try_from(visibility_seconds.min(MAX_VISIBILITY_SECONDS)).unwrap_or(0);
        let mut admitted = Vec::new();
        for taken in self.take(self.url(stage)?, max, seconds).await? {
            let (id, receipt) = (taken.id.clone(), taken.receipt.clone());
            match self.admit(stage, taken).await {
                Ok(Some(message)) => admitted.push(message),
                Ok(None) => self.delete(stage, &receipt).await?,
                // It comes again after its visibility timeout, and costs no other message its turn.
                Err(e) => {
                    sentinel_telemetry::error(stage.as_str());
                    error!(stage = stage.as_str(), message_id = %id, error = %e, "message cannot be opened");
                }
            }
        }
        Ok(admitted)
    }

    async fn delete(&self, stage: Stage, receipt: &str) -> Result<(), QueueError> {
        let call = self.client.delete_message().queue_url(self.url(stage)?).receipt_handle(receipt);
        unless_stale(call.send().await.map(drop).map_err(|e| CallError::new(CONSUME[1], &e)))
    }

    async fn release(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        show(&self.client, self.url(stage)?, receipt, delay_seconds).await
    }

    async fn depth(&self, stage: Stage) -> Result<QueueDepth, QueueError> {
        let queue = self.counts(self.url(stage)?).await?;
        let dead = self.counts(self.dead_url(stage)?).await?;
        Ok(QueueDepth {
            ready: queue.visible + queue.delayed,
            in_flight: queue.hidden,
            dead: dead.visible + dead.delayed + dead.hidden,
        })
    }

    /// As the port says, of those that SQS gives: with more than `max` in the queue that is a sample. Bodies
    /// are as they lie in the queue, claims unopened: what is dead may be so because it cannot be opened.
    async fn dead(&self, stage: Stage, max: usize) -> Result<Vec<Message>, QueueError> {
        let url = self.dead_url(stage)?;
        let mut seen: BTreeMap<String, Message> = BTreeMap::new();
        let mut nothing_new = 0;
        // SQS may give less than there is, and nothing where there is something.
        while seen.len() < max && nothing_new < 2 {
            let before = seen.len();
            for message in self.take(url, max - before, LOOK_SECONDS).await? {
                seen.insert(message.id.clone(), message);
            }
            nothing_new = if seen.len() == before { nothing_new + 1 } else { 0 };
        }
        let mut dead = Vec::with_capacity(seen.len());
        for mut message in seen.into_values() {
            show(&self.client, url, &message.receipt, 0).await?;
            // Looks at it count as receives too, but it was received so often when it came here.
            message.receives = message.receives.min(MAX_RECEIVES);
            message.receipt.clear();
            dead.push(message);
        }
        dead.sort_by(|a, b| (b.sent_at, &b.id).cmp(&(a.sent_at, &a.id)));
        Ok(dead)
    }
}

#[cfg(test)]
mod tests;
