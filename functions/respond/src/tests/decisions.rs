//! Approvals and denials.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentinel_model::response::{Mode, ResponseState};
use sentinel_model::{OwnRoles, time};
use sentinel_state::users::Role;
use sentinel_state::{Key, Put, Write};
use serde_json::json;

use super::world::*;
use crate::decide::DecideError;
use crate::iam::{ElsewhereIam, KeyStatus};
use crate::ports::Approver;
use crate::{Config, Playbooks, Respond};

async fn waiting() -> (World, String) {
    let world = World::new(Mode::Approve).await;
    world.raise(alert("al-1")).await;
    world.pass(30).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::AwaitingApproval);
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    (world, response.response_id)
}

#[tokio::test]
async fn approve_mode_waits_and_an_administrator_s_approval_carries_it_out() {
    let (world, id) = waiting().await;
    assert!(world.titles().iter().any(|t| t.starts_with("Approval needed")));
    let stored = world.respond.approve(&id, &world.person("ada"), Some("seen it")).await.unwrap();
    assert_eq!(stored.response.state, ResponseState::Approved);
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!((response.state, response.decided_by.as_deref()), (ResponseState::Contained, Some("ada")));
    assert!(response.steps.iter().any(|s| s.detail.contains("seen it")));
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);
}

#[tokio::test]
async fn only_an_administrator_who_is_not_the_principal_concerned_decides() {
    let (world, id) = waiting().await;
    let ada = |principals: Vec<String>| Approver { username: "ada".into(), role: Role::Admin, principals };
    let named = Approver { username: USER.to_ascii_uppercase(), role: Role::Admin, principals: vec![] };
    for (approver, reason) in [
        (world.person("ann"), "only an administrator"),
        (ada(vec![user_arn()]), "own principal"),
        (ada(vec![user_arn().to_ascii_uppercase()]), "own principal"),
        (named, "own principal"),
    ] {
        for denied in [
            world.respond.approve(&id, &approver, None).await,
            world.respond.deny(&id, &approver, None).await,
            world.respond.undo(&id, &approver, None).await,
        ] {
            let error = denied.unwrap_err();
            assert!(matches!(&error, DecideError::Forbidden(r) if r.contains(reason)), "{approver:?}: {error}");
        }
    }
    assert_eq!(world.response().await.state, ResponseState::AwaitingApproval);
}

#[tokio::test]
async fn an_approval_expires_after_24_hours() {
    let (world, id) = waiting().await;
    world.clock.advance(24 * 3600 - 120);
    world.round().await;
    assert_eq!(world.response().await.state, ResponseState::AwaitingApproval);
    world.clock.advance(120);
    let late = world.respond.approve(&id, &world.person("ada"), None).await.unwrap_err();
    assert!(late.to_string().contains("time to approve is over"), "{late}");
    world.pass(15).await;
    assert_eq!(world.response().await.state, ResponseState::Expired);
    let error = world.respond.approve(&id, &world.person("ada"), None).await.unwrap_err();
    assert!(matches!(error, DecideError::Conflict(_)), "{error}");
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn rights_are_checked_again_at_run_time() {
    for demoted in [true, false] {
        let (world, id) = waiting().await;
        world.respond.approve(&id, &world.person("ada"), None).await.unwrap();
        if demoted {
            world.people.0.lock().unwrap().get_mut("ada").unwrap().role = Role::Analyst;
        } else {
            world.people.0.lock().unwrap().remove("ada");
        }
        world.pass(60).await;
        let response = world.response().await;
        assert_eq!(response.state, ResponseState::AwaitingApproval, "demoted: {demoted}");
        assert!(response.reasons[0].contains("ada"), "{:?}", response.reasons);
        assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn guardrails_are_checked_again_after_the_approval() {
    let (world, id) = waiting().await;
    world.respond.approve(&id, &world.person("ada"), None).await.unwrap();
    let mut closed = alert("al-1");
    closed.false_positive = true;
    world.store(closed);
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Refused);
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_denial_holds_for_its_alert_and_a_later_alert_asks_again() {
    let (world, id) = waiting().await;
    world.respond.deny(&id, &world.person("ada"), Some("a test of ours")).await.unwrap();
    let raised = sentinel_model::message::AlertRaised {
        correlation_id: "c".into(),
        alert_id: "al-1".into(),
        account: ACCOUNT.into(),
        level: sentinel_model::Level::High,
    };
    world.send(&raised).await;
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Denied);
    world.raise(alert("al-2")).await;
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::AwaitingApproval);
    assert!(response.steps.iter().any(|s| s.detail.contains("a test of ours")), "the past stays with it");
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_denied_key_is_not_acted_on_by_itself_for_a_later_alert() {
    let world = World::new(Mode::Automatic).await;
    let mut by_api = alert("al-1");
    by_api.alert.key_uses = vec![key_use(KEY, sentinel_model::Channel::Api { user: "u".into() }, 5)];
    world.raise(by_api).await;
    world.pass(30).await;
    let id = world.response().await.response_id;
    world.respond.deny(&id, &world.person("ada"), None).await.unwrap();
    // Nor for the next one, which finds the question that the first one asked.
    for later in ["al-2", "al-3"] {
        world.raise(alert(later)).await;
        world.pass(60).await;
        assert_eq!(world.response().await.state, ResponseState::AwaitingApproval, "{later}");
        assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_waiting_question_is_answered_by_the_account_s_own_copy_of_a_later_alert() {
    let world = World::new(Mode::Automatic).await;
    let mut by_api = alert("al-1");
    by_api.alert.key_uses = vec![key_use(KEY, sentinel_model::Channel::Api { user: "u".into() }, 5)];
    world.raise(by_api).await;
    world.pass(30).await;
    assert_eq!(world.response().await.state, ResponseState::AwaitingApproval);
    world.raise(alert("al-2")).await;
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
}

#[tokio::test]
async fn two_approvals_at_once_count_once() {
    let (world, id) = waiting().await;
    let ada = world.person("ada");
    let (a, b) = tokio::join!(world.respond.approve(&id, &ada, None), world.respond.approve(&id, &ada, None));
    assert!(a.is_ok() != b.is_ok(), "one is told that it was decided already");
    world.pass(60).await;
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_unknown_response_is_not_found() {
    let world = World::new(Mode::Approve).await;
    let error = world.respond.approve("rs-none", &world.person("ada"), None).await.unwrap_err();
    assert!(matches!(error, DecideError::NotFound(_)));
}

/// A process over the same state that may not call IAM.
fn recorder(world: &World) -> Respond {
    let mut ports = world.respond.ports.clone();
    ports.iam = Arc::new(ElsewhereIam);
    let config = Config { own_roles: OwnRoles::default(), ..world.respond.config().clone() };
    Respond::new(ports, config, Playbooks::shipped().unwrap()).unwrap()
}

#[tokio::test]
async fn decisions_call_no_iam_and_are_carried_out_where_iam_is() {
    let (world, id) = waiting().await;
    let (elsewhere, ada) = (recorder(&world), world.person("ada"));
    let calls = world.faults.iam.load(Ordering::SeqCst);
    let approved = elsewhere.approve(&id, &ada, None).await.unwrap();
    assert_eq!(approved.response.state, ResponseState::Approved);
    elsewhere.set_kill_switch(true, "ada", Some("a drill")).await.unwrap();
    elsewhere.set_kill_switch(false, "ada", None).await.unwrap();
    assert_eq!(world.faults.iam.load(Ordering::SeqCst), calls, "only decisions were recorded");
    world.pass(60).await;
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);

    let undoing = elsewhere.undo(&id, &ada, None).await.unwrap();
    assert_eq!(undoing.response.state, ResponseState::Undoing);
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Undone);

    let (world, id) = waiting().await;
    let denied = recorder(&world).deny(&id, &ada, None).await.unwrap();
    assert_eq!(denied.response.state, ResponseState::Denied);
}

#[tokio::test]
async fn the_kill_switch_is_set_even_where_earlier_settings_cannot_be_read() {
    let (world, id) = waiting().await;
    let broken = Put::new(Key::new("CONTROL", "KILL_SWITCH"), &json!({ "on": "perhaps" })).unwrap();
    world.db.table().write(vec![Write::Put(broken)]).await.unwrap();
    let set = world.respond.set_kill_switch(true, "ada", Some("a fire")).await.unwrap();
    assert_eq!(world.respond.kill_switch().await.unwrap(), set);
    assert_eq!((set.on, set.reason.as_deref(), set.earlier.len()), (true, Some("a fire"), 0));
    let error = world.respond.approve(&id, &world.person("ada"), None).await.unwrap_err();
    assert!(error.to_string().contains("kill switch"), "{error}");
}

#[tokio::test]
async fn a_look_at_what_waits_sets_no_timer_that_is_set() {
    let (world, _) = waiting().await;
    let calls = async |respond: &Respond| {
        let before = world.faults.calls.load(Ordering::SeqCst);
        respond.resume_open().await.unwrap();
        world.faults.calls.load(Ordering::SeqCst) - before
    };
    assert_eq!(calls(&world.respond).await, 0);
    let restarted =
        Respond::new(world.respond.ports.clone(), world.respond.config().clone(), Playbooks::shipped().unwrap())
            .unwrap();
    assert_eq!(calls(&restarted).await, 2, "set once, and the other timer forgotten");
    assert_eq!(calls(&restarted).await, 0);
    // A timer that should have fired is set again, whatever became of it.
    let left = time::seconds_between(world.now(), world.response().await.expires_at.unwrap());
    world.clock.advance(left + 1);
    assert_eq!(calls(&restarted).await, 2);
}
