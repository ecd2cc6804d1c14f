use std::sync::Mutex;

use async_trait::async_trait;
use sentinel_durable::QueueError;
use serde_json::json;

use super::*;

fn message_of(id: &str, receives: u32, body: &str) -> Message {
    Message {
        id: id.to_owned(),
        receipt: format!("receipt-{id}"),
        body: body.to_owned(),
        receives,
        sent_at: Timestamp::UNIX_EPOCH,
    }
}

fn record(id: &str) -> serde_json::Value {
    json!({
        "messageId": id, "receiptHandle": "r", "body": "b", "eventSource": "aws:sqs",
        "attributes": { "ApproximateReceiveCount": "3", "SentTimestamp": "1700000000123" }
    })
}

fn parsed(records: &[serde_json::Value]) -> Result<Vec<Message>, BadEvent> {
    messages(serde_json::from_value(json!({ "Records": records })).unwrap())
}

#[test]
fn messages_carry_receives_and_the_time_they_were_sent() {
    let messages = parsed(&[record("m1"), record("m2")]).unwrap();
    assert_eq!(messages.len(), 2);
    let sent_at = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    assert_eq!(messages[0], Message { id: "m1".into(), receipt: "r".into(), body: "b".into(), receives: 3, sent_at });
}

#[test]
fn a_message_that_could_not_be_named_as_failed_fails_the_event() {
    for (field, missing) in
        [("messageId", "messageId"), ("receiptHandle", "receiptHandle"), ("attributes", "ApproximateReceiveCount")]
    {
        let mut bad = record("m1");
        bad.as_object_mut().unwrap().remove(field);
        assert_eq!(parsed(&[record("m0"), bad]).unwrap_err(), BadEvent(missing));
    }
    assert_eq!(parsed(&[record("")]).unwrap_err(), BadEvent("messageId"));
}

#[test]
fn the_answer_names_what_failed() {
    let answer = serde_json::to_value(response(["a", "b"])).unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "a" }, { "itemIdentifier": "b" }] }));
    assert_eq!(serde_json::to_value(response([])).unwrap(), json!({ "batchItemFailures": [] }));
}

#[test]
fn answering_is_left_a_tenth_of_the_time_within_bounds() {
    let seconds = Duration::from_secs_f64;
    for (left, working) in [(30.0, 28.0), (10.0, 9.0), (1.0, 0.2), (0.1, 0.0), (0.0, 0.0)] {
        assert_eq!(working_time(seconds(left)), seconds(working), "{left}");
    }
    assert_eq!(working_time(Duration::MAX), Duration::from_secs(898));
}

/// Notes what it is handed; its answer depends on the body.
#[derive(Default)]
struct Stub(Mutex<Vec<Vec<String>>>);

impl Stub {
    fn calls(&self) -> Vec<Vec<String>> {
        let mut calls = self.0.lock().unwrap().clone();
        calls.sort();
        calls
    }
}

#[async_trait]
impl Handler for Stub {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        self.0.lock().unwrap().push(batch.iter().map(|m| m.id.clone()).collect());
        let mut outcomes = Vec::new();
        for message in batch {
            match message.body.as_str() {
                "panic" => panic!("poison"),
                "slow" => tokio::time::sleep(Duration::from_hours(1)).await,
                "silent" => continue,
                "fail" => {
                    outcomes.push(Outcome::Retry("failed".into()));
                    continue;
                }
                _ => {}
            }
            outcomes.push(Outcome::Done);
        }
        outcomes
    }
}

/// A claim is opened, a replaced timer is dropped, a store can fail.
struct Door;

#[async_trait]
impl Intake for Door {
    async fn admit(&self, mut message: Message) -> Result<Option<Message>, QueueError> {
        match message.body.as_str() {
            "claim" => message.body = "opened".into(),
            "replaced" => return Ok(None),
            "broken" => return Err(QueueError::BatchSize(99)),
            "crash" => panic!("door"),
            "stuck" => tokio::time::sleep(Duration::from_hours(1)).await,
            _ => {}
        }
        Ok(Some(message))
    }

    async fn put_off(&self, _: &str, _: u32) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The clock stands while anything is at work: a panic's backtrace alone may take longer than these messages have.
async fn handled(batch: &[(&str, u32, &str)]) -> (Vec<Result<(), String>>, Vec<Vec<String>>) {
    let stub = Arc::new(Stub::default());
    let messages = batch.iter().map(|(id, receives, body)| message_of(id, *receives, body)).collect();
    let outcomes = handle(messages, Arc::new(Door), stub.clone(), Duration::from_millis(300)).await;
    let told = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Done => Ok(()),
            Outcome::Retry(reason) => Err(reason),
        })
        .collect();
    (told, stub.calls())
}

#[tokio::test(start_paused = true)]
async fn new_messages_go_together_and_those_that_came_before_each_alone() {
    let (told, calls) = handled(&[("a", 1, ""), ("b", 2, "fail"), ("c", 1, ""), ("d", 5, "")]).await;
    assert_eq!(told, [Ok(()), Err("failed".into()), Ok(()), Ok(())]);
    assert_eq!(calls, [vec!["a", "c"], vec!["b"], vec!["d"]]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_only_the_message_that_causes_it() {
    let (told, calls) = handled(&[("a", 1, ""), ("b", 1, "panic"), ("c", 1, "")]).await;
    assert!(told[0].is_ok() && told[2].is_ok(), "{told:?}");
    assert!(told[1].as_ref().unwrap_err().contains("panicked"), "{told:?}");
    assert_eq!(calls, [vec!["a"], vec!["a", "b", "c"], vec!["b"], vec!["c"]]);
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_fails_and_what_came_before_by_itself_does_not_wait_for_it() {
    let (told, _) = handled(&[("a", 2, "slow"), ("b", 2, ""), ("c", 1, "")]).await;
    assert!(told[0].as_ref().unwrap_err().contains("no time left"), "{told:?}");
    assert!(told[1].is_ok() && told[2].is_ok(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn too_few_answers_are_none() {
    let (told, _) = handled(&[("a", 1, ""), ("b", 1, "silent")]).await;
    assert!(told.iter().all(|t| t.as_ref().is_err_and(|r| r.contains("answered 1 of 2"))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn messages_are_admitted_one_by_one() {
    let batch = [("a", 1, "claim"), ("b", 1, "replaced"), ("c", 1, "broken"), ("d", 1, "crash"), ("e", 1, "fine")];
    let (told, calls) = handled(&batch).await;
    assert!(told[0].is_ok() && told[1].is_ok() && told[4].is_ok(), "{told:?}");
    assert!(told[2].as_ref().unwrap_err().contains("99"), "{told:?}");
    assert!(told[3].as_ref().unwrap_err().contains("panicked"), "{told:?}");
    assert_eq!(calls, [vec!["a", "e"]]);
    let (told, calls) = handled(&[("a", 1, "stuck"), ("b", 1, "fine")]).await;
    assert!(told.iter().all(Result::is_err), "no time is left for what was admitted: {told:?}");
    assert!(calls.iter().all(|c| c == &["b"]), "{calls:?}");
}
