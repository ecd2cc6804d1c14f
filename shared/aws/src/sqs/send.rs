//! Sending: requests within SQS's limits, and what SQS refused of one sent again.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    config::AsyncSleep,
    types::{BatchResultErrorEntry, SendMessageBatchRequestEntry},
};
use rand::Rng;
use sentinel_durable::{Outgoing, QueueError, queue::MAX_BATCH};

use super::{MAX_INLINE_BYTES, SEND};
use crate::sdk::CallError;

/// Most requests for one entry of a batch. SQS refuses single entries when it is throttled or has a fault;
/// the SDK tries again only what failed as a whole.
const MAX_SENDS: u32 = 5;
/// Rest before the first time that refused entries are sent again; doubled for each further one.
const REST: Duration = Duration::from_millis(100);

/// Sends messages, all durable when it returns. Each body fits a message.
pub(super) async fn all(client: &Client, url: &str, messages: Vec<Outgoing>) -> Result<(), QueueError> {
    for part in parts(messages) {
        batch(client, url, part).await?;
    }
    Ok(())
}

/// Cuts messages into requests.
fn parts(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut parts: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let fits = bytes + message.body.len() <= MAX_INLINE_BYTES;
        match parts.last_mut() {
            Some(part) if fits && part.len() < MAX_BATCH => {
                bytes += message.body.len();
                part.push(message);
            }
            _ => {
                bytes = message.body.len();
                parts.push(vec![message]);
            }
        }
    }
    parts
}

async fn batch(client: &Client, url: &str, messages: Vec<Outgoing>) -> Result<(), QueueError> {
    let mut waiting = messages.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>()?;
    for attempt in 1.. {
        let sent = client.send_message_batch().queue_url(url).set_entries(Some(waiting.clone())).send().await;
        let failed = sent.map_err(|e| QueueError::store(CallError::new(SEND[0], &e)))?.failed;
        let Some(first) = failed.iter().find(|f| f.sender_fault()).or(failed.first()) else { break };
        if first.sender_fault() || attempt == MAX_SENDS {
            return Err(QueueError::store(refused(first, failed.len())));
        }
        waiting.retain(|entry| failed.iter().any(|f| f.id() == entry.id()));
        rest(client, attempt).await;
    }
    Ok(())
}

fn entry((at, message): (usize, &Outgoing)) -> Result<SendMessageBatchRequestEntry, QueueError> {
    SendMessageBatchRequestEntry::builder()
        .id(at.to_string())
        .message_body(&message.body)
        // At most 15 minutes.
        .delay_seconds(i32::try_from(message.delay_seconds).unwrap_or(0))
        .build()
        .map_err(QueueError::store)
}

fn refused(entry: &BatchResultErrorEntry, count: usize) -> CallError {
    let message = entry.message().unwrap_or("no reason given");
    let detail = format!("{count} messages of the batch were refused: {}: {message}", entry.code());
    CallError::answer(SEND[0], Some(entry.code().to_owned()), detail)
}

/// Rests with the client's own sleep, which ends where the invocation's budget does.
async fn rest(client: &Client, attempt: u32) {
    let longest = REST * (1 << attempt.min(6));
    let time = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
    match client.config().sleep_impl() {
        Some(sleep) => sleep.sleep(time).await,
        None => tokio::time::sleep(time).await,
    }
}
