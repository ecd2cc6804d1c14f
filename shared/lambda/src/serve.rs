//! The loop between Lambda and a stage: events in, the stage's answer or a reported failure out.
//!
//! Each invocation sets the time budget, is handled within it, and flushes metrics, whose failure costs no more
//! than a log line. Nothing here ends the process: what panics becomes an error that Lambda is told, and the
//! next invocation is handled by the same instance.

use std::{pin::Pin, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use sentinel_durable::{
    Message, Outcome, codec,
    queue::MAX_RECEIVES,
    worker::{Handler, retry_delay},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::{Intake, Start, batch};

/// Part of the time left that putting failed messages off may take.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// Failed messages that are put off side by side: a batch may have hundreds.
const AT_ONCE: usize = 16;

type Answer = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;
type OnEvent = Arc<dyn Fn(Value) -> Answer + Send + Sync>;

/// Serves a queue until Lambda ends the process: each batch is admitted, handled, and answered with
/// the messages that failed, which come again after [`retry_delay`].
pub async fn serve_queue(start: Start, intake: Arc<dyn Intake>, handler: Arc<dyn Handler>) -> Result<()> {
    run(start, Service { batches: Some(Batches { intake, handler }), on_event: None }).await
}

/// Serves schedules and direct invocations.
pub async fn serve_events<F, A>(start: Start, on_event: F) -> Result<()>
where
    F: Fn(Value) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value>> + Send + 'static,
{
    run(start, Service { batches: None, on_event: Some(boxed(on_event)) }).await
}

/// Serves a stage's queue and, in the same function, schedules: what is no batch of SQS goes to `on_event`.
pub async fn serve_queue_and_events<F, A>(
    start: Start,
    intake: Arc<dyn Intake>,
    handler: Arc<dyn Handler>,
    on_event: F,
) -> Result<()>
where
    F: Fn(Value) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value>> + Send + 'static,
{
    let batches = Some(Batches { intake, handler });
    run(start, Service { batches, on_event: Some(boxed(on_event)) }).await
}

fn boxed<F, A>(on_event: F) -> OnEvent
where
    F: Fn(Value) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value>> + Send + 'static,
{
    Arc::new(move |event| Box::pin(on_event(event)))
}

/// What a function answers to.
struct Service {
    batches: Option<Batches>,
    on_event: Option<OnEvent>,
}

struct Batches {
    intake: Arc<dyn Intake>,
    handler: Arc<dyn Handler>,
}

async fn run(start: Start, service: Service) -> Result<()> {
    let shared = Arc::new((start, service));
    let served = lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let shared = Arc::clone(&shared);
        async move {
            let (start, service) = &*shared;
            start.invocation_begins(event.context.deadline);
            let answer = service.answer(start, event.payload).await;
            start.invocation_ended();
            answer.map_err(|e| failed(start.stage, &e))
        }
    }));
    served.await.map_err(anyhow::Error::from_boxed)
}

fn failed(stage: &'static str, error: &anyhow::Error) -> Diagnostic {
    let told = format!("{error:#}");
    tracing::error!(stage, error = told, "the invocation failed");
    Diagnostic { error_type: "InvocationFailed".to_owned(), error_message: told }
}

impl Start {
    /// Sets the time budget: `deadline_ms` is Lambda's, in milliseconds since 1970. Like
    /// [`invocation_ended`](Self::invocation_ended) for whoever runs another loop than those here.
    pub fn invocation_begins(&self, deadline_ms: u64) {
        if deadline_ms > 0 {
            self.budget.set_deadline_ms(deadline_ms);
        }
    }

    /// Sends metrics off, at the end of every invocation.
    pub fn invocation_ended(&self) {
        if let Err(e) = self.metrics.flush(std::io::stdout().lock()) {
            tracing::warn!(stage = self.stage, error = %e, "metrics were not written");
        }
    }
}

impl Service {
    async fn answer(&self, start: &Start, event: Value) -> Result<Value> {
        let answer = match (&self.batches, &self.on_event) {
            (Some(batches), _) if is_batch(&event) => batches.answer(start, event).await,
            (_, Some(on_event)) => on_its_own(on_event(event), batch::working_time(start.budget.remaining())).await,
            (_, None) => Err(anyhow::anyhow!("the event is no batch of SQS messages")),
        };
        if answer.is_err() {
            sentinel_telemetry::error(start.stage);
        }
        answer
    }
}

/// Runs in a task of its own, so that a panic is an error like others.
async fn on_its_own(answer: Answer, time: Duration) -> Result<Value> {
    let mut task = tokio::spawn(answer);
    match timeout(time, &mut task).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => bail!("the handler panicked: {e}"),
        Err(_) => {
            task.abort();
            bail!("the event was not handled in time")
        }
    }
}

/// Whether an event is a batch that an event source mapping of SQS sends.
fn is_batch(event: &Value) -> bool {
    event["Records"].as_array().and_then(|records| records.first()).is_some_and(|r| r["eventSource"] == "aws:sqs")
}

impl Batches {
    async fn answer(&self, start: &Start, event: Value) -> Result<Value> {
        let messages = batch::messages(serde_json::from_value::<SqsEvent>(event)?)?;
        let time = batch::working_time(start.budget.remaining());
        let outcomes = batch::handle(messages.clone(), Arc::clone(&self.intake), Arc::clone(&self.handler), time).await;
        let failed: Vec<(Message, String)> = messages
            .into_iter()
            .zip(outcomes)
            .filter_map(|(message, outcome)| match outcome {
                Outcome::Done => None,
                Outcome::Retry(reason) => Some((message, reason)),
            })
            .collect();
        self.put_off(start, &failed).await;
        Ok(serde_json::to_value(batch::response(failed.iter().map(|(message, _)| message.id.as_str())))?)
    }

    /// Logs and counts failed messages, and has them come again after a while of their own. Best effort: a
    /// message that is not put off comes again after its visibility timeout.
    async fn put_off(&self, start: &Start, failed: &[(Message, String)]) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut calls = JoinSet::new();
        for (message, reason) in failed {
            sentinel_telemetry::error(start.stage);
            let delay = retry_delay(message, &start.retries);
            tell(start.stage, message, reason, delay);
            let (intake, receipt, room) = (Arc::clone(&self.intake), message.receipt.clone(), Arc::clone(&room));
            calls.spawn(async move {
                // Never closed, so a turn always comes; without one the call is as good.
                let _turn = room.acquire_owned().await;
                intake.put_off(&receipt, delay).await
            });
        }
        let time = start.budget.remaining().saturating_sub(LAST_MOMENT);
        let all = async {
            while let Some(put_off) = calls.join_next().await {
                match put_off {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => not_put_off(start.stage, &e),
                    Err(e) => not_put_off(start.stage, &e),
                }
            }
        };
        if timeout(time, all).await.is_err() {
            tracing::warn!(stage = start.stage, "no time left to put failed messages off");
        }
    }
}

fn not_put_off(stage: &'static str, error: &dyn std::error::Error) {
    tracing::warn!(stage, error = %error, "a failed message was not put off; it comes again after its visibility timeout");
}

/// The part of a message that logs repeat.
#[derive(Deserialize)]
struct Correlated {
    correlation_id: String,
}

fn tell(stage: &'static str, message: &Message, reason: &str, delay_seconds: u32) {
    let correlation = codec::decode::<Correlated>(&message.body).map(|c| c.correlation_id).unwrap_or_default();
    tracing::warn!(
        stage,
        message_id = %message.id,
        correlation_id = %correlation,
        receives = message.receives,
        last = message.receives >= MAX_RECEIVES,
        delay_seconds,
        reason,
        "message failed"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_is_told_from_a_schedule_by_its_shape() {
        assert!(is_batch(&json!({ "Records": [{ "eventSource": "aws:sqs", "body": "x" }] })));
        for other in [
            json!({ "source": "aws.events", "detail-type": "Scheduled Event" }),
            json!({ "Records": [{ "eventSource": "aws:s3" }] }),
            json!({ "Records": [] }),
            json!({}),
            json!("text"),
            Value::Null,
        ] {
            assert!(!is_batch(&other), "{other}");
        }
    }

    #[tokio::test]
    async fn an_event_that_panics_or_takes_too_long_is_an_error() {
        let fine = on_its_own(Box::pin(async { Ok(json!(1)) }), Duration::from_secs(5)).await;
        assert_eq!(fine.unwrap(), json!(1));
        let panicked = on_its_own(Box::pin(async { panic!("oh no") }), Duration::from_secs(5)).await.unwrap_err();
        assert!(panicked.to_string().contains("oh no"), "{panicked}");
        let slow = async {
            tokio::time::sleep(Duration::from_hours(1)).await;
            Ok(Value::Null)
        };
        let late = on_its_own(Box::pin(slow), Duration::from_millis(20)).await.unwrap_err();
        assert!(late.to_string().contains("in time"), "{late}");
    }
}
