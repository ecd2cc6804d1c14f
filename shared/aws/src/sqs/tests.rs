//! What cannot be had from an emulator: entries refused one by one, throttling, broken messages.

use aws_sdk_sqs::operation::{
    receive_message::ReceiveMessageOutput,
    send_message_batch::{SendMessageBatchInput, SendMessageBatchOutput},
};
use aws_sdk_sqs::types::{BatchResultErrorEntry, Message as Sent, SendMessageBatchResultEntry};
use aws_smithy_mocks::{Rule, mock};
use std::sync::Mutex;

use super::*;
use crate::mocked;

const STAGE: Stage = Stage::Detect;

fn queue(rules: &[&Rule]) -> SqsQueue {
    let queues = Queues::default().with(STAGE, "http://sqs/detect").with_dead(STAGE, "http://sqs/dead");
    SqsQueue::new(mocked::sqs(rules), queues, Claims::new(mocked::s3(&[]), "data"), None)
}

fn bodies(names: &[&str]) -> Vec<Outgoing> {
    names.iter().map(|name| Outgoing::now((*name).to_owned())).collect()
}

fn entry(id: &str) -> SendMessageBatchResultEntry {
    SendMessageBatchResultEntry::builder().id(id).message_id("m").md5_of_message_body("5").build().unwrap()
}

fn refusal(id: &str, code: &str, sender_fault: bool) -> BatchResultErrorEntry {
    BatchResultErrorEntry::builder().id(id).code(code).message("because").sender_fault(sender_fault).build().unwrap()
}

/// Bodies of each request that was made.
type Requests = Arc<Mutex<Vec<Vec<String>>>>;

/// Answers every request to send; `refused` says which entries are, from the number of requests so far.
fn answering(
    refused: impl Fn(usize, &str) -> Option<(&'static str, bool)> + Send + Sync + 'static,
) -> (Requests, Rule) {
    let requests = Requests::default();
    let log = Arc::clone(&requests);
    let rule = mock!(Client::send_message_batch).then_compute_output(move |input: &SendMessageBatchInput| {
        let mut log = log.lock().unwrap();
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for sent in input.entries() {
            match refused(log.len(), sent.message_body()) {
                Some((code, fault)) => failed.push(refusal(sent.id(), code, fault)),
                None => done.push(entry(sent.id())),
            }
        }
        log.push(input.entries().iter().map(|e| e.message_body().to_owned()).collect());
        let answer = SendMessageBatchOutput::builder().set_successful(Some(done)).set_failed(Some(failed));
        answer.build().unwrap()
    });
    (requests, rule)
}

#[tokio::test]
async fn only_refused_entries_are_sent_again() {
    let (requests, rule) = answering(|request, body| match (request, body) {
        (0, "b" | "c") | (1, "c") => Some(("ServiceUnavailable", false)),
        _ => None,
    });
    queue(&[&rule]).send(STAGE, bodies(&["a", "b", "c"])).await.unwrap();
    let requests = requests.lock().unwrap();
    assert_eq!(*requests, [vec!["a", "b", "c"], vec!["b", "c"], vec!["c"]]);
}

#[tokio::test]
async fn what_stays_refused_is_an_error() {
    let (requests, rule) = answering(|_, body| (body == "b").then_some(("InternalError", false)));
    let error = queue(&[&rule]).send(STAGE, bodies(&["a", "b"])).await.unwrap_err();
    assert!(error.to_string().contains("InternalError: because"), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn the_senders_fault_is_not_tried_again() {
    let (requests, rule) = answering(|_, body| (body == "b").then_some(("InvalidMessageContents", true)));
    let error = queue(&[&rule]).send(STAGE, bodies(&["a", "b"])).await.unwrap_err();
    assert!(error.to_string().contains("InvalidMessageContents"), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn requests_stay_within_the_limits() {
    let (requests, rule) = answering(|_, _| None);
    let (big, small) = ("x".repeat(100 * 1024), "y".repeat(10));
    let batch = bodies(&[&big, &big, &small, &big, &big, &big, &small]);
    queue(&[&rule]).send(STAGE, batch.clone()).await.unwrap();
    let requests = requests.lock().unwrap();
    let sizes: Vec<usize> = requests.iter().map(|r| r.iter().map(String::len).sum()).collect();
    assert!(sizes.iter().all(|size| *size <= MAX_INLINE_BYTES), "{sizes:?}");
    let sent: Vec<&String> = requests.iter().flatten().collect();
    assert_eq!(sent, batch.iter().map(|m| &m.body).collect::<Vec<_>>(), "all, in order");
    assert_eq!(requests.len(), 3, "in as few requests as they fit");
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let throttled = r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}"#;
    let rule = mock!(Client::send_message_batch)
        .sequence()
        .http_status(400, Some(throttled.to_owned()))
        .http_status(503, None)
        .output(|| {
            let done = SendMessageBatchOutput::builder().successful(entry("0"));
            done.set_failed(Some(Vec::new())).build().unwrap()
        })
        .build();
    queue(&[&rule]).send(STAGE, bodies(&["a"])).await.unwrap();
    assert_eq!(rule.num_calls(), 3);
}

#[tokio::test]
async fn a_queue_that_is_not_configured_is_named() {
    let queue = queue(&[]);
    let text = |e: QueueError| e.to_string();
    let error = text(queue.send(Stage::Enrich, bodies(&["a"])).await.unwrap_err());
    assert!(error.contains("the queue of stage enrich is not configured"), "{error}");
    let error = text(queue.dead(Stage::Respond, 1).await.unwrap_err());
    assert!(error.contains("the dead-letter queue of stage respond is not configured"), "{error}");
}

#[tokio::test]
async fn a_stale_receipt_is_no_error() {
    let answer =
        |code: &str, message: &str| Some(format!(r#"{{"__type":"com.amazonaws.sqs#{code}","message":"{message}"}}"#));
    let gone = "Value x for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available \
                for visibility timeout change.";
    for (code, message, stale) in [
        ("ReceiptHandleIsInvalid", "", true),
        ("MessageNotInflight", "", true),
        ("InvalidParameterValue", gone, true),
        ("InvalidParameterValue", "VisibilityTimeout", false),
        ("QueueDoesNotExist", "", false),
    ] {
        let change =
            mock!(Client::change_message_visibility).sequence().http_status(400, answer(code, message)).build();
        let delete = mock!(Client::delete_message).sequence().http_status(400, answer(code, message)).build();
        let queue = queue(&[&change, &delete]);
        let settled = (queue.release(STAGE, "stale", 1).await, queue.delete(STAGE, "stale").await);
        assert_eq!((settled.0.is_ok(), settled.1.is_ok()), (stale, stale), "{code} {message}: {settled:?}");
    }
}

fn received(id: &str, body: &str) -> Sent {
    Sent::builder()
        .message_id(id)
        .receipt_handle(format!("receipt of {id}"))
        .body(body)
        .attributes(MessageSystemAttributeName::ApproximateReceiveCount, "7")
        .attributes(MessageSystemAttributeName::SentTimestamp, "1704067200123")
        .build()
}

#[tokio::test]
async fn a_broken_message_costs_no_other_its_turn() {
    let rule = mock!(Client::receive_message).then_output(|| {
        let broken = ["claim:{}", "timer:nonsense", r#"timer:{"id":"a","token":"t","body":"x"}"#];
        let mut messages: Vec<Sent> = broken.iter().map(|body| received(body, body)).collect();
        messages.insert(1, received("good", "{}"));
        ReceiveMessageOutput::builder().set_messages(Some(messages)).build()
    });
    let messages = queue(&[&rule]).receive(STAGE, 10, 30).await.unwrap();
    let expected = Message {
        id: "good".into(),
        receipt: "receipt of good".into(),
        body: "{}".into(),
        receives: 7,
        sent_at: "2024-01-01T00:00:00.123Z".parse().unwrap(),
    };
    assert_eq!(messages, [expected]);
}

#[test]
fn bodies_that_sqs_does_not_take_do_not_travel() {
    for body in ["{}", " ", "gz:abc", "Zo\u{eb} \u{1F600}\t\r\n", "\u{e000}\u{fffd}\u{10ffff}", "xclaim:"] {
        assert!(travels(body), "{body:?}");
    }
    for body in ["", "\0", "a\u{1b}", "\u{fffe}", "\u{ffff}", "claim:{}", "timer:"] {
        assert!(!travels(body), "{body:?}");
    }
    assert!(travels(&"x".repeat(MAX_INLINE_BYTES)));
    assert!(!travels(&"x".repeat(MAX_INLINE_BYTES + 1)));
}
