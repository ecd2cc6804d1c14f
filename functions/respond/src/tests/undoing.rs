//! Undo: exactly what the snapshot says, never over somebody else's change.

use std::sync::atomic::Ordering;

use sentinel_model::Level;
use sentinel_model::message::AlertRaised;
use sentinel_model::response::{Mode, ResponseState};

use super::world::*;
use crate::decide::DecideError;
use crate::iam::{Iam, KeyStatus};

#[tokio::test]
async fn an_undo_restores_the_snapshot_and_is_read_back() {
    let world = World::contained().await;
    let id = world.response().await.response_id;
    let asked = world.respond.undo(&id, &world.person("ada"), Some("was ours")).await.unwrap();
    assert_eq!(asked.response.state, ResponseState::Undoing);
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!((response.state, response.undo_by.as_deref()), (ResponseState::Undone, Some("ada")));
    assert_eq!(response.verification.unwrap()["status"], "Active");
    assert_eq!((world.status(KEY).await, world.changes(OTHER_KEY).await), (KeyStatus::Active, 0));
}

#[tokio::test]
async fn after_an_undo_the_key_is_only_touched_with_approval() {
    let world = World::contained().await;
    let id = world.response().await.response_id;
    world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
    world.pass(60).await;
    // The alert that was answered, delivered again, asks nothing.
    let again = AlertRaised {
        correlation_id: "c".into(),
        alert_id: "al-1".into(),
        account: ACCOUNT.into(),
        level: Level::High,
    };
    world.send(&again).await;
    world.pass(60).await;
    assert!(world.response_of(KEY, 1).await.is_none());
    // Another alert asks.
    world.raise(alert("al-2")).await;
    world.pass(60).await;
    let second = world.response_of(KEY, 1).await.unwrap();
    assert_eq!((second.state, second.undo_count), (ResponseState::AwaitingApproval, 1));
    assert_ne!(second.response_id, id);
    assert_eq!(world.status(KEY).await, KeyStatus::Active);
    world.respond.approve(&second.response_id, &world.person("ada"), None).await.unwrap();
    world.pass(60).await;
    assert_eq!(world.response_of(KEY, 1).await.unwrap().state, ResponseState::Contained);
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);
}

#[tokio::test]
async fn an_undo_stops_and_asks_when_somebody_changed_the_key_since() {
    for deleted in [true, false] {
        let world = World::contained().await;
        let id = world.response().await.response_id;
        if deleted {
            world.iam.delete_key(ACCOUNT, KEY).await.unwrap();
        } else {
            world.iam.set_key_status(ACCOUNT, USER, KEY, KeyStatus::Active).await.unwrap();
        }
        let sets = world.faults.sets.load(Ordering::SeqCst);
        world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
        world.pass(120).await;
        let response = world.response().await;
        assert_eq!(response.state, ResponseState::UndoBlocked, "deleted: {deleted}");
        assert!(response.steps.last().unwrap().detail.contains("a person must decide"));
        assert_eq!(world.faults.sets.load(Ordering::SeqCst), sets, "nothing is overwritten");
        assert!(world.titles().iter().any(|t| t.starts_with("Undo stopped")));
    }
}

#[tokio::test]
async fn only_what_is_contained_can_be_undone() {
    let world = World::new(Mode::Approve).await;
    world.raise(alert("al-1")).await;
    world.pass(30).await;
    let id = world.response().await.response_id;
    let error = world.respond.undo(&id, &world.person("ada"), None).await.unwrap_err();
    assert!(matches!(error, DecideError::Conflict(_)), "{error}");
}

#[tokio::test]
async fn the_kill_switch_stops_an_undo_and_what_is_contained_stays_contained() {
    let world = World::contained().await;
    let id = world.response().await.response_id;
    world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
    world.respond.set_kill_switch(true, "ada", None).await.unwrap();
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Contained);
    assert!(response.steps.last().unwrap().detail.contains("kill switch"));
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);
    let error = world.respond.undo(&id, &world.person("ada"), None).await.unwrap_err();
    assert!(error.to_string().contains("kill switch"));
}

#[tokio::test]
async fn throttling_in_the_middle_of_an_undo_is_waited_out() {
    for throttles in 1..=4 {
        let world = World::contained().await;
        let id = world.response().await.response_id;
        world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
        world.faults.throttles.store(throttles, Ordering::SeqCst);
        world.pass(900).await;
        assert_eq!(world.response().await.state, ResponseState::Undone, "{throttles}");
        assert_eq!(world.changes(KEY).await, 2);
    }
}

#[tokio::test]
async fn an_undo_whose_asker_lost_the_right_is_not_carried_out() {
    let world = World::contained().await;
    let id = world.response().await.response_id;
    world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
    world.people.0.lock().unwrap().remove("ada");
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);
}

#[tokio::test]
async fn an_undo_is_not_tried_again_when_its_asker_lost_the_right_meanwhile() {
    let world = World::contained().await;
    let id = world.response().await.response_id;
    world.faults.throttle_sets.store(true, Ordering::SeqCst);
    world.respond.undo(&id, &world.person("ada"), None).await.unwrap();
    world.pass(30).await;
    let tried = world.response().await;
    assert!(tried.state == ResponseState::Undoing && tried.progress.attempts > 0, "{tried:?}");
    world.people.0.lock().unwrap().remove("ada");
    world.faults.throttle_sets.store(false, Ordering::SeqCst);
    world.pass(900).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);
}
