//! A crash after every single call, then redelivery: nothing is done twice, nothing is forgotten.

use std::sync::atomic::Ordering;

use sentinel_model::response::{Mode, ResponseState};

use super::world::*;
use crate::iam::KeyStatus;

/// Calls of an undisturbed run.
async fn calls_of(run: impl AsyncFn(&World), mode: Mode) -> usize {
    let world = World::new(mode).await;
    world.raise(alert("al-1")).await;
    run(&world).await;
    world.faults.calls.load(Ordering::SeqCst)
}

async fn assert_contained_once(world: &World, case: &str) {
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Contained, "{case}: {:?}", response.steps);
    assert_eq!((world.status(KEY).await, world.changes(KEY).await), (KeyStatus::Inactive, 1), "{case}");
    assert_eq!((world.status(OTHER_KEY).await, world.changes(OTHER_KEY).await), (KeyStatus::Active, 0), "{case}");
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1, "{case}: IAM is called once");
    for step in ["plan", "snapshot", "act", "verify"] {
        assert!(response.steps.iter().any(|s| s.step == step), "{case}: {step} is missing in the audit trail");
    }
    assert_eq!(response.snapshot.as_ref().unwrap()["status"], "Active", "{case}");
    let (alert, contained) = (1, 1);
    assert_eq!(world.distinct_notices().len(), alert + contained, "{case}: {:?}", world.titles());
    let depth = world.db.queue().depth(sentinel_durable::Stage::Respond).await.unwrap();
    assert_eq!((depth.ready, depth.in_flight, depth.dead), (0, 0, 0), "{case}");
}

#[tokio::test]
async fn a_crash_after_any_call_of_a_containment_is_resumed_and_nothing_is_done_twice() {
    let calls = calls_of(async |w| w.pass(300).await, Mode::Automatic).await;
    assert!(calls > 20, "{calls}");
    for n in 1..=calls {
        let world = World::new(Mode::Automatic).await;
        world.raise(alert("al-1")).await;
        world.faults.crash_after(n);
        for _ in 0..4 {
            world.pass(15).await;
        }
        assert!(world.faults.restart(), "call {n} was reached");
        world.pass(600).await;
        assert_contained_once(&world, &format!("crash after call {n}")).await;
    }
}

#[tokio::test]
async fn a_message_that_dies_until_it_is_in_the_dead_letter_queue_leaves_nothing_half_done() {
    let calls = calls_of(async |w| w.round().await, Mode::Automatic).await;
    for n in 1..=calls {
        let world = World::new(Mode::Automatic).await;
        world.raise(alert("al-1")).await;
        world.faults.crash_after(n);
        // Every call fails for a long time: the message fails at every receive.
        for _ in 0..120 {
            world.broken_round().await;
            world.clock.advance(15);
        }
        assert!(world.faults.restart());
        world.respond.resume_open().await.unwrap();
        world.pass(900).await;
        let Some(response) = world.response_of(KEY, 0).await else {
            assert_eq!(world.changes(KEY).await, 0, "nothing is done without a record, crash after call {n}");
            continue;
        };
        let settled = [ResponseState::Contained, ResponseState::AwaitingApproval, ResponseState::Failed];
        assert!(settled.contains(&response.state), "call {n}: {} {:?}", response.state, response.steps);
        assert!(world.changes(KEY).await <= 1, "call {n}");
    }
}

#[tokio::test]
async fn a_crash_after_any_call_of_an_undo_is_resumed_and_nothing_is_done_twice() {
    let mut n = 1;
    loop {
        let world = World::contained().await;
        let id = world.response().await.response_id;
        world.faults.crash_after(n);
        let asked = world.respond.undo(&id, &world.person("ada"), None).await.is_ok();
        world.pass(60).await;
        if !world.faults.restart() {
            assert!(n > 8 && asked);
            return;
        }
        world.pass(600).await;
        // The answer may have been lost with the process; then the decision was written or it was not.
        if world.response().await.state == ResponseState::Contained {
            world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
            world.pass(300).await;
        }
        let response = world.response().await;
        assert_eq!(response.state, ResponseState::Undone, "call {n}: {:?}", response.steps);
        assert_eq!((world.status(KEY).await, world.changes(KEY).await), (KeyStatus::Active, 2), "call {n}");
        assert_eq!(world.changes(OTHER_KEY).await, 0);
        let kind = response.kind;
        let track = world.respond.responses().track(ACCOUNT, KEY, kind).await.unwrap();
        assert_eq!(track.undo_count, 1, "counted once, call {n}");
        n += 1;
    }
}

#[tokio::test]
async fn an_approval_that_is_cut_anywhere_is_carried_out_once() {
    let mut n = 1;
    loop {
        let world = World::new(Mode::Approve).await;
        world.raise(alert("al-1")).await;
        world.pass(30).await;
        let id = world.response().await.response_id;
        world.faults.crash_after(n);
        let asked = world.respond.approve(&id, &world.person("ada"), None).await.is_ok();
        world.pass(60).await;
        if !world.faults.restart() {
            assert!(n > 8 && asked);
            return;
        }
        world.pass(600).await;
        if world.response().await.state == ResponseState::AwaitingApproval {
            world.respond.approve(&id, &world.person("ada"), None).await.unwrap();
            world.pass(300).await;
        }
        assert_eq!(world.response().await.state, ResponseState::Contained, "call {n}");
        assert_eq!(world.changes(KEY).await, 1, "call {n}");
        n += 1;
    }
}
