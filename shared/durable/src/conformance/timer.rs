//! The timer's promises.

use sentinel_model::time::plus_seconds;

use super::{Setup, bodies, now, receive};
use crate::{Stage, TimerError, queue::MAX_BODY_BYTES};

/// Runs the timer's suite.
pub async fn suite<S: Setup>(make: &impl AsyncFn() -> S) {
    fires_once_when_due(&make().await).await;
    the_same_id_replaces(&make().await).await;
    cancelled_does_not_fire(&make().await).await;
    fires_after_a_restart(&make().await).await;
    many_fire_together(&make().await).await;
    limits(&make().await).await;
}

const STAGE: Stage = Stage::Respond;

async fn fires_once_when_due(setup: &impl Setup) {
    let timer = setup.timer();
    timer.set("later", plus_seconds(now(setup), 3), STAGE, "later").await.unwrap();
    timer.set("past", plus_seconds(now(setup), -60), Stage::Enrich, "past").await.unwrap();
    timer.fire_due().await.unwrap();
    assert_eq!(bodies(&receive(&*setup.queue(), Stage::Enrich, 600).await), ["past"], "what is past is due at once");
    assert!(receive(&*setup.queue(), STAGE, 600).await.is_empty(), "not before its time");
    setup.pass(4).await;
    timer.fire_due().await.unwrap();
    timer.fire_due().await.unwrap();
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["later"]);
    setup.pass(4).await;
    timer.fire_due().await.unwrap();
    assert!(receive(&*setup.queue(), STAGE, 600).await.is_empty(), "once");
}

async fn the_same_id_replaces(setup: &impl Setup) {
    let timer = setup.timer();
    timer.set("a", plus_seconds(now(setup), 2), STAGE, "first").await.unwrap();
    timer.set("a", plus_seconds(now(setup), 5), STAGE, "second").await.unwrap();
    timer.set("a", plus_seconds(now(setup), 5), STAGE, "second").await.unwrap();
    setup.pass(3).await;
    timer.fire_due().await.unwrap();
    assert!(receive(&*setup.queue(), STAGE, 600).await.is_empty());
    setup.pass(3).await;
    timer.fire_due().await.unwrap();
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["second"]);
}

async fn cancelled_does_not_fire(setup: &impl Setup) {
    let timer = setup.timer();
    timer.set("a", plus_seconds(now(setup), 1), STAGE, "a").await.unwrap();
    timer.cancel("a").await.unwrap();
    timer.cancel("never set").await.unwrap();
    setup.pass(2).await;
    timer.fire_due().await.unwrap();
    assert!(receive(&*setup.queue(), STAGE, 600).await.is_empty());
}

async fn fires_after_a_restart(setup: &impl Setup) {
    setup.timer().set("a", plus_seconds(now(setup), 2), STAGE, "a").await.unwrap();
    setup.restart().await;
    setup.pass(3).await;
    setup.timer().fire_due().await.unwrap();
    setup.restart().await;
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), ["a"]);
}

async fn many_fire_together(setup: &impl Setup) {
    let timer = setup.timer();
    let names: Vec<String> = (0..120).map(|i| format!("{i:03}")).collect();
    for name in &names {
        timer.set(name, now(setup), STAGE, name).await.unwrap();
    }
    setup.pass(1).await;
    timer.fire_due().await.unwrap();
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 600).await), names);
}

async fn limits(setup: &impl Setup) {
    let timer = setup.timer();
    let longest = "a".repeat(64);
    timer.set(&longest, plus_seconds(now(setup), 60), STAGE, "x").await.unwrap();
    timer.set("AZaz09-_.", plus_seconds(now(setup), 60), STAGE, "x").await.unwrap();
    for id in ["", "a b", "a/b", "é", &format!("{longest}a")] {
        let refused = timer.set(id, now(setup), STAGE, "x").await;
        assert!(matches!(refused, Err(TimerError::BadId(_))), "{id:?}: {refused:?}");
    }
    let refused = timer.set("a", now(setup), STAGE, &"x".repeat(MAX_BODY_BYTES + 1)).await;
    assert!(matches!(refused, Err(TimerError::TooLarge(_))), "{refused:?}");
}
