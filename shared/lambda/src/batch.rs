//! One SQS batch: from Lambda's event to messages, to the stage's handler, to what failed.
//!
//! In: messages, a handler and the time there is. Out: an outcome a message, whatever happens. The handler runs
//! in tasks of its own, so that a panic is a failure of its messages and never of the process. Messages that
//! come for the first time are handled together; each that came before is handled by itself, and so is each of
//! a batch that panicked: a message that always fails drags no other one into the dead-letter queue.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use sentinel_aws::sdk::MARGIN;
use sentinel_durable::{Message, Outcome, worker::Handler};
use sentinel_model::Timestamp;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use crate::Intake;

/// Longest that an invocation can last (Lambda quotas).
const LONGEST: Duration = Duration::from_mins(15);

/// An event that is not what SQS sends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a message of the event has no {0}")]
pub(crate) struct BadEvent(&'static str);

/// The messages of an event.
pub(crate) fn messages(event: SqsEvent) -> Result<Vec<Message>, BadEvent> {
    event.records.into_iter().map(message).collect()
}

fn message(record: SqsMessage) -> Result<Message, BadEvent> {
    let attribute = |name: &str| record.attributes.get(name).and_then(|text| text.parse::<i64>().ok());
    let receives = attribute("ApproximateReceiveCount").and_then(|n| u32::try_from(n).ok());
    let sent_at = attribute("SentTimestamp").and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(Message {
        receives: receives.ok_or(BadEvent("ApproximateReceiveCount"))?,
        sent_at: sent_at.ok_or(BadEvent("SentTimestamp"))?,
        id: record.message_id.filter(|id| !id.is_empty()).ok_or(BadEvent("messageId"))?,
        receipt: record.receipt_handle.ok_or(BadEvent("receiptHandle"))?,
        body: record.body.unwrap_or_default(),
    })
}

/// The partial batch response that names these messages as failed.
pub(crate) fn response<'a>(failed: impl IntoIterator<Item = &'a str>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.set_failures(failed);
    response
}

/// How long work may take when so much time is left: less what putting failed messages off and answering needs,
/// a tenth between 0.8 and 2 seconds. AWS calls begin no later than [`MARGIN`] before the end.
pub(crate) fn working_time(remaining: Duration) -> Duration {
    let remaining = remaining.min(LONGEST);
    let answering = (remaining / 10).clamp(MARGIN + Duration::from_millis(300), Duration::from_secs(2));
    remaining.saturating_sub(answering)
}

/// Which messages are handed over together.
fn groups(messages: &[(usize, Message)]) -> Vec<Vec<usize>> {
    let (first, again): (Vec<usize>, Vec<usize>) = (0..messages.len()).partition(|at| messages[*at].1.receives <= 1);
    let mut groups: Vec<Vec<usize>> = again.into_iter().map(|at| vec![at]).collect();
    if !first.is_empty() {
        groups.push(first);
    }
    groups
}

/// Handles a batch within `time` and says of each message, in order, how it went.
pub(crate) async fn handle(
    batch: Vec<Message>,
    intake: Arc<dyn Intake>,
    handler: Arc<dyn Handler>,
    time: Duration,
) -> Vec<Outcome> {
    let cutoff = Instant::now() + time;
    let mut outcomes: Vec<Outcome> =
        batch.iter().map(|_| Outcome::Retry("there was no time left to handle it".to_owned())).collect();
    let batch: Vec<(usize, Message)> = batch.into_iter().enumerate().collect();
    let admitted = admit(batch, &intake, cutoff, &mut outcomes).await;
    handle_admitted(&admitted, &handler, cutoff, &mut outcomes).await;
    outcomes
}

/// Opens what messages refer to, all at once; what remains to be handled comes back in order.
async fn admit(
    batch: Vec<(usize, Message)>,
    intake: &Arc<dyn Intake>,
    cutoff: Instant,
    outcomes: &mut [Outcome],
) -> Vec<(usize, Message)> {
    let mut tasks = Tasks::new(cutoff);
    for (at, message) in batch {
        let intake = Arc::clone(intake);
        tasks.spawn(at, async move { intake.admit(message).await });
    }
    let mut admitted = Vec::new();
    while let Some((at, result)) = tasks.next().await {
        match result {
            Ok(Ok(Some(message))) => admitted.push((at, message)),
            Ok(Ok(None)) => outcomes[at] = Outcome::Done,
            Ok(Err(e)) => outcomes[at] = Outcome::Retry(e.to_string()),
            Err(e) => outcomes[at] = Outcome::Retry(format!("opening it panicked: {e}")),
        }
    }
    admitted.sort_by_key(|(at, _)| *at);
    admitted
}

async fn handle_admitted(
    admitted: &[(usize, Message)],
    handler: &Arc<dyn Handler>,
    cutoff: Instant,
    outcomes: &mut [Outcome],
) {
    let mut tasks = Tasks::new(cutoff);
    let hand_over = |tasks: &mut Tasks<Vec<usize>, Vec<Outcome>>, group: Vec<usize>| {
        let handler = Arc::clone(handler);
        let messages: Vec<Message> = group.iter().map(|at| admitted[*at].1.clone()).collect();
        tasks.spawn(group, async move { handler.handle(messages).await });
    };
    for group in groups(admitted) {
        hand_over(&mut tasks, group);
    }
    while let Some((group, result)) = tasks.next().await {
        match result {
            Ok(answered) if answered.len() == group.len() => {
                for (at, outcome) in group.into_iter().zip(answered) {
                    outcomes[admitted[at].0] = outcome;
                }
            }
            Err(e) if group.len() > 1 => {
                tracing::warn!(messages = group.len(), error = %e, "the handler panicked; its messages are handled one by one");
                for at in group {
                    hand_over(&mut tasks, vec![at]);
                }
            }
            other => {
                let reason = match other {
                    Ok(answered) => format!("the handler answered {} of {} messages", answered.len(), group.len()),
                    Err(e) => format!("the handler panicked: {e}"),
                };
                for at in group {
                    outcomes[admitted[at].0] = Outcome::Retry(reason.clone());
                }
            }
        }
    }
}

/// Tasks with a label each, stopped at a point in time.
struct Tasks<L, T> {
    cutoff: Instant,
    set: JoinSet<T>,
    labels: HashMap<Id, L>,
}

impl<L, T: Send + 'static> Tasks<L, T> {
    fn new(cutoff: Instant) -> Self {
        Self { cutoff, set: JoinSet::new(), labels: HashMap::new() }
    }

    fn spawn(&mut self, label: L, task: impl Future<Output = T> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.labels.insert(id, label);
    }

    /// The next that ended, with its panic if it had one; `None` when all have, or the time is over.
    async fn next(&mut self) -> Option<(L, Result<T, JoinError>)> {
        let ended = timeout_at(self.cutoff, self.set.join_next_with_id()).await.ok()??;
        let (id, result) = match ended {
            Ok((id, value)) => (id, Ok(value)),
            Err(e) => (e.id(), Err(e)),
        };
        self.labels.remove(&id).map(|label| (label, result))
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
