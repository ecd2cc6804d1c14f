//! Timers on SQS and EventBridge Scheduler, in the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;
#[path = "common/queues.rs"]
mod queues;

use std::time::Duration;

use common::emulator;
use queues::Fixture;
use sentinel_durable::conformance::{self, Setup};
use sentinel_durable::{Queue, Stage, Timer};
use sentinel_model::time::plus_seconds;

const STAGE: Stage = Stage::Respond;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timer_suite() {
    let Some(config) = emulator().await else { return };
    conformance::timer::suite(&async || Fixture::new(&config).await).await;
}

#[tokio::test]
async fn a_body_that_fits_no_message_comes_by_a_claim_and_is_dropped_with_its_timer() {
    let Some(config) = emulator().await else { return };
    let fixture = Fixture::new(&config).await;
    let (timer, now) = (fixture.scheduled(), fixture.clock().now());
    // The second fits alone, but not once it is quoted within the timer's message.
    let bodies = ["timer:{}".to_owned(), "\"".repeat(200_000), "x".repeat(300_000)];
    for (i, body) in bodies.iter().enumerate() {
        timer.set(&i.to_string(), now, STAGE, body).await.unwrap();
    }
    timer.set("cancelled", now, STAGE, &bodies[2]).await.unwrap();
    timer.cancel("cancelled").await.unwrap();
    let mut received: Vec<String> = Vec::new();
    for _ in 0..3 {
        received.extend(fixture.sqs().receive(STAGE, 10, 600).await.unwrap().into_iter().map(|m| m.body));
    }
    received.sort_unstable_by_key(String::len);
    assert!(received == bodies, "{:?}", received.iter().map(String::len).collect::<Vec<_>>());
}

/// How many schedules there are.
async fn schedules(fixture: &Fixture) -> usize {
    let scheduler = aws_sdk_scheduler::Client::new(&fixture.config);
    scheduler.list_schedules().group_name(&fixture.group).send().await.unwrap().schedules().len()
}

#[tokio::test]
async fn a_schedule_fires_once_and_goes_and_a_cancelled_one_does_not_fire() {
    let Some(config) = emulator().await else { return };
    let fixture = Fixture::new(&config).await;
    let timer = fixture.scheduled().schedule_beyond(0);
    let due = plus_seconds(fixture.clock().now(), 2);
    for (id, body) in [("kept", "old"), ("kept", r#"{"undo":"1"}"#), ("cancelled", "c")] {
        timer.set(id, due, STAGE, body).await.unwrap();
    }
    assert_eq!(schedules(&fixture).await, 2, "the one that was replaced is gone");
    timer.cancel("cancelled").await.unwrap();
    assert_eq!(schedules(&fixture).await, 1);
    let mut bodies = Vec::new();
    // The emulator looks every ten seconds which schedules are due, AWS every minute.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bodies.extend(fixture.sqs().receive(STAGE, 10, 600).await.unwrap().into_iter().map(|m| m.body));
        if schedules(&fixture).await == 0 {
            break;
        }
    }
    bodies.extend(fixture.sqs().receive(STAGE, 10, 600).await.unwrap().into_iter().map(|m| m.body));
    assert_eq!(bodies, [r#"{"undo":"1"}"#]);
    assert_eq!(schedules(&fixture).await, 0, "it deletes itself");
}
