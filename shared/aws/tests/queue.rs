//! The queue on SQS, in the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;
#[path = "common/queues.rs"]
mod queues;

use common::emulator;
use queues::Fixture;
use sentinel_durable::conformance::{self, Setup};
use sentinel_durable::{Message, Outgoing, Queue, Stage, queue::MAX_BODY_BYTES};

const STAGE: Stage = Stage::Detect;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_suite() {
    let Some(config) = emulator().await else { return };
    conformance::queue::suite(&async || Fixture::new(&config).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_suite() {
    let Some(config) = emulator().await else { return };
    conformance::worker::suite(&async || Fixture::new(&config).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbox_suite() {
    let Some(config) = emulator().await else { return };
    conformance::outbox::suite(&async || Fixture::new(&config).await).await;
}

/// What lies in a queue itself, as a Lambda event source hands it over.
async fn raw(fixture: &Fixture) -> Vec<Message> {
    let sqs = aws_sdk_sqs::Client::new(&fixture.config);
    let call = sqs.receive_message().queue_url(&fixture.queues.queues[&STAGE]).max_number_of_messages(10);
    let messages = call.send().await.unwrap().messages.unwrap_or_default();
    let message = |m: aws_sdk_sqs::types::Message| Message {
        id: m.message_id.unwrap(),
        receipt: m.receipt_handle.unwrap(),
        body: m.body.unwrap(),
        receives: 1,
        sent_at: fixture.clock().now(),
    };
    messages.into_iter().map(message).collect()
}

#[tokio::test]
async fn a_large_body_lies_in_the_bucket_and_any_text_comes_as_it_was() {
    let Some(config) = emulator().await else { return };
    let fixture = Fixture::new(&config).await;
    let queue = fixture.sqs();
    let sent =
        ["x".repeat(MAX_BODY_BYTES - 100), "timer:{}".into(), "claim:{}".into(), "\0\u{ffff}".into(), String::new()];
    queue.send(STAGE, sent.iter().cloned().map(Outgoing::now).collect()).await.unwrap();
    let lying = raw(&fixture).await;
    assert_eq!(lying.len(), sent.len());
    let mut admitted = Vec::new();
    for message in lying {
        assert!(message.body.starts_with("claim:{") && message.body.len() < 1000, "{}", message.body);
        admitted.push(queue.admit(STAGE, message).await.unwrap().expect("no timer").body);
    }
    admitted.sort_unstable();
    let mut expected = sent.to_vec();
    expected.sort_unstable();
    assert!(admitted == expected, "each text as it was");
}

#[tokio::test]
async fn a_changed_object_is_refused_and_its_message_dies_alone() {
    let Some(config) = emulator().await else { return };
    let fixture = Fixture::new(&config).await;
    let queue = fixture.sqs();
    let large = "x".repeat(300_000);
    queue.send(STAGE, vec![Outgoing::now(large)]).await.unwrap();
    let s3 = aws_sdk_s3::Client::new(&config);
    let listed = s3.list_objects_v2().bucket(&fixture.bucket).send().await.unwrap();
    let key = listed.contents()[0].key().unwrap();
    let forged = "y".repeat(300_000).into_bytes();
    s3.put_object().bucket(&fixture.bucket).key(key).body(forged.into()).send().await.unwrap();
    queue.send(STAGE, vec![Outgoing::now("good".into())]).await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..8 {
        for message in queue.receive(STAGE, 10, 0).await.unwrap() {
            queue.delete(STAGE, &message.receipt).await.unwrap();
            bodies.push(message.body);
        }
    }
    assert_eq!(bodies, ["good"]);
    let dead = queue.dead(STAGE, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].body.starts_with("claim:{"), "as it lies there: {}", dead[0].body);
}

#[tokio::test]
async fn looking_at_dead_messages_takes_none() {
    let Some(config) = emulator().await else { return };
    let fixture = Fixture::new(&config).await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    for i in 0..25 {
        let call = sqs.send_message().queue_url(&fixture.queues.dead[&STAGE]);
        call.message_body(format!("{i:02}")).send().await.unwrap();
    }
    let queue = fixture.sqs();
    for _ in 0..2 {
        let dead = queue.dead(STAGE, 100).await.unwrap();
        let mut bodies: Vec<_> = dead.iter().map(|m| m.body.clone()).collect();
        assert!(dead.is_sorted_by_key(|m| std::cmp::Reverse(m.sent_at)), "newest first");
        bodies.sort_unstable();
        assert_eq!(bodies, (0..25).map(|i| format!("{i:02}")).collect::<Vec<_>>());
    }
    assert_eq!(queue.dead(STAGE, 3).await.unwrap().len(), 3);
    assert_eq!(queue.depth(STAGE).await.unwrap().dead, 25);
}
