//! The plain course of events, modes, temporary keys, throttling and the kill switch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentinel_durable::worker::Handler;
use sentinel_durable::{Message, Outgoing, Stage};
use sentinel_model::response::{Mode, ResponseState};
use sentinel_model::{Level, PrincipalKind};
use sentinel_state::responses::ListResponses;

use super::world::*;
use crate::iam::{Iam, KeyStatus};
use crate::{Playbooks, Respond};

#[tokio::test]
async fn the_used_key_is_contained_and_read_back_and_the_user_s_other_key_is_not_touched() {
    let world = World::with(config(Mode::Automatic), 8, BTreeMap::new()).await;
    world.raise(alert("al-1")).await;
    world.round().await;
    assert_eq!(world.response().await.state, ResponseState::Verifying, "contained only after it was read back");
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Contained);
    assert_eq!(response.decided_by.as_deref(), Some("automatic"));
    assert_eq!(response.snapshot.unwrap()["status"], "Active");
    assert_eq!(response.verification.unwrap()["status"], "Inactive");
    assert_eq!(response.user_name.as_deref(), Some(USER));
    assert_eq!(response.incident_id.as_deref(), Some("in-1"));
    let steps: Vec<_> = response.steps.iter().map(|s| s.step.as_str()).collect();
    assert_eq!(steps, ["plan", "snapshot", "act", "act", "verify"]);
    assert_eq!((world.status(KEY).await, world.changes(KEY).await), (KeyStatus::Inactive, 1));
    assert_eq!((world.status(OTHER_KEY).await, world.changes(OTHER_KEY).await), (KeyStatus::Active, 0));
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn duplicates_and_later_alerts_on_the_same_key_cause_one_action() {
    let world = World::new(Mode::Automatic).await;
    let raised = world.raise(alert("al-1")).await;
    world.send(&raised).await;
    world.raise(alert("al-2")).await;
    world.pass(60).await;
    world.send(&raised).await;
    world.pass(300).await;
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1);
    let (all, _) = world.respond.responses().list(&ListResponses::default()).await.unwrap();
    assert_eq!(all.len(), 1);
    for id in ["al-1", "al-2"] {
        let found = world.respond.responses().of_alert(ACCOUNT, id).await.unwrap();
        assert_eq!(found.len(), 1, "{id}");
    }
}

#[tokio::test]
async fn observe_records_what_it_would_do_and_does_nothing() {
    let world = World::new(Mode::Observe).await;
    world.raise(alert("al-1")).await;
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Observed);
    assert!(response.reasons[0].contains("would be done without asking"), "{:?}", response.reasons);
    assert_eq!((world.status(KEY).await, world.faults.sets.load(Ordering::SeqCst)), (KeyStatus::Active, 0));
}

#[tokio::test]
async fn an_alert_below_the_playbook_s_level_starts_nothing() {
    let world = World::new(Mode::Automatic).await;
    let mut found = alert("al-1");
    found.alert.level = Level::Medium;
    world.raise(found).await;
    world.pass(60).await;
    assert!(world.response_of(KEY, 0).await.is_none());
    assert_eq!(world.recorder.told.lock().unwrap().len(), 1, "it is notified all the same");
}

#[tokio::test]
async fn the_alert_is_read_again_from_the_store_before_anything_is_done() {
    let world = World::new(Mode::Automatic).await;
    let raised = world.raise(alert("al-1")).await;
    let mut closed = alert("al-1");
    closed.false_positive = true;
    world.store(closed);
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Refused);
    assert!(response.reasons.iter().any(|r| r.contains("false positive")));
    assert_eq!(raised.level, Level::High);
}

#[tokio::test]
async fn what_waits_for_an_alert_that_turns_out_to_be_none_is_refused() {
    let world = World::new(Mode::Approve).await;
    let raised = world.raise(alert("al-1")).await;
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::AwaitingApproval);
    let notices = world.distinct_notices().len();
    let mut superseded = alert("al-1");
    superseded.alert.superseded_by = Some(String::new());
    world.store(superseded);
    world.send(&raised).await;
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!((response.state, response.expires_at), (ResponseState::Refused, None));
    assert!(response.steps.last().is_some_and(|s| s.detail.contains("no alert")), "{:?}", response.steps.last());
    assert!(world.distinct_notices().len() <= notices + 1, "the alert itself is not told again");
    assert!(world.respond.approve(&response.response_id, &world.person("ada"), None).await.is_err());
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_key_that_is_inactive_already_is_recorded_so_and_never_activated_by_an_undo() {
    let world = World::new(Mode::Automatic).await;
    world.iam.set_key_status(ACCOUNT, USER, KEY, KeyStatus::Inactive).await.unwrap();
    world.raise(alert("al-1")).await;
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!((response.state, response.changed), (ResponseState::Contained, false));
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    let error = world.respond.undo(&response.response_id, &world.person("ada"), None).await.unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    world.pass(60).await;
    assert_eq!(world.status(KEY).await, KeyStatus::Inactive);
}

#[tokio::test]
async fn a_temporary_key_is_recorded_and_told_and_nothing_is_pretended() {
    let world = World::new(Mode::Automatic).await;
    let mut found = alert("al-1");
    let key = "ASIASESSIONSESSION01";
    found.alert.key_uses = vec![key_use(key, simulated(), 30)];
    found.alert.principal.kind = PrincipalKind::AssumedRole;
    found.alert.principal.id = format!("arn:aws:sts::{ACCOUNT}:assumed-role/app/i-1");
    found.alert.principal.role = Some(format!("arn:aws:iam::{ACCOUNT}:role/app"));
    world.raise(found).await;
    world.pass(60).await;
    let response = world.response_of(key, 0).await.unwrap();
    assert_eq!(response.state, ResponseState::Recorded);
    assert!(response.reasons.iter().any(|r| r.contains("role/app") && r.contains("TokenIssueTime")));
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    assert!(world.titles().iter().any(|t| t.contains("must be revoked by a person")));
}

#[tokio::test]
async fn a_verification_that_never_shows_it_is_a_failure_that_is_told() {
    // Reads lag behind for longer than respond waits.
    let world = World::with(config(Mode::Automatic), 3600, BTreeMap::new()).await;
    world.raise(alert("al-1")).await;
    world.pass(600).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Failed);
    assert!(world.titles().iter().any(|t| t.starts_with("Containment failed")));
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_intruder_who_reactivates_the_key_meanwhile_is_not_reported_as_contained() {
    let world = World::new(Mode::Automatic).await;
    world.raise(alert("al-1")).await;
    world.round().await;
    world.iam.set_key_status(ACCOUNT, USER, KEY, KeyStatus::Active).await.unwrap();
    world.pass(600).await;
    assert_eq!(world.response().await.state, ResponseState::Failed);
    // Another alert asks a person rather than trying again by itself.
    world.raise(alert("al-2")).await;
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::AwaitingApproval);
    assert!(response.reasons.iter().any(|r| r.contains("earlier try")), "{:?}", response.reasons);
}

#[tokio::test]
async fn throttling_in_the_middle_is_waited_out_with_backoff() {
    for throttles in 1..=4 {
        for skip in 0..4 {
            let world = World::new(Mode::Automatic).await;
            world.raise(alert("al-1")).await;
            if skip > 0 {
                world.round().await;
                world.clock.advance(5 * i64::from(skip));
            }
            world.faults.throttles.store(throttles, Ordering::SeqCst);
            world.pass(900).await;
            let response = world.response().await;
            assert_eq!(response.state, ResponseState::Contained, "{throttles} throttles: {:?}", response.steps);
            assert_eq!(world.changes(KEY).await, 1);
            assert_eq!(world.db.queue().depth(Stage::Respond).await.unwrap().dead, 0);
        }
    }
}

#[tokio::test]
async fn throttling_without_end_is_a_failure_that_is_told() {
    let world = World::new(Mode::Automatic).await;
    world.raise(alert("al-1")).await;
    world.faults.throttles.store(usize::MAX / 2, Ordering::SeqCst);
    world.pass(3600).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Refused);
    assert!(response.reasons.iter().any(|r| r.contains("throttled")), "{:?}", response.reasons);
    assert!(world.titles().iter().any(|t| t.starts_with("Containment refused")));
}

#[tokio::test]
async fn the_kill_switch_stops_planned_approved_and_due_actions_and_keeps_them() {
    let world = World::new(Mode::Automatic).await;
    let ada = world.person("ada");
    world.respond.set_kill_switch(true, "ada", Some("stop")).await.unwrap();
    world.raise(alert("al-1")).await;
    world.pass(120).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::AwaitingApproval);
    assert!(response.reasons[0].contains("kill switch"));
    let error = world.respond.approve(&response.response_id, &ada, None).await.unwrap_err();
    assert!(error.to_string().contains("kill switch"), "{error}");
    // Approved, then stopped before its step came.
    world.respond.set_kill_switch(false, "ada", None).await.unwrap();
    world.respond.approve(&response.response_id, &ada, None).await.unwrap();
    world.respond.set_kill_switch(true, "ada", None).await.unwrap();
    world.pass(120).await;
    assert_eq!(world.response().await.state, ResponseState::AwaitingApproval);
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    // Off again: nothing starts by itself, an approval carries it out.
    world.respond.set_kill_switch(false, "ada", None).await.unwrap();
    world.pass(300).await;
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
    world.respond.approve(&response.response_id, &ada, None).await.unwrap();
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
}

/// Dies at each step on the way, and the change comes before anything is delivered again: no call is made after it, and what
/// had not been done ends `otherwise`.
async fn no_call_is_made_after(change: impl AsyncFn(&World), otherwise: ResponseState) {
    let whole = World::new(Mode::Automatic).await;
    whole.raise(alert("al-1")).await;
    whole.round().await;
    let calls = whole.faults.calls.load(Ordering::SeqCst);
    let mut stopped = BTreeMap::new();
    for n in 1..=calls {
        let world = World::new(Mode::Automatic).await;
        world.raise(alert("al-1")).await;
        world.faults.crash_after(n);
        world.round().await;
        world.faults.restart();
        let sets = world.faults.sets.load(Ordering::SeqCst);
        change(&world).await;
        world.pass(600).await;
        assert_eq!(world.faults.sets.load(Ordering::SeqCst), sets, "no call after the change, crash after call {n}");
        let state = world.response().await.state;
        let expected = if sets == 0 { otherwise } else { ResponseState::Contained };
        assert_eq!(state, expected, "crash after call {n}");
        *stopped.entry(state.as_str()).or_insert(0) += 1;
    }
    assert_eq!(stopped.len(), 2, "both before and after the call: {stopped:?}");
}

#[tokio::test]
async fn no_call_is_made_after_the_kill_switch_wherever_the_action_stood() {
    let switch = async |world: &World| world.respond.set_kill_switch(true, "ada", None).await.map(drop).unwrap();
    no_call_is_made_after(switch, ResponseState::AwaitingApproval).await;
}

#[tokio::test]
async fn no_call_is_made_after_a_false_positive_verdict_wherever_the_action_stood() {
    let judge = async |world: &World| {
        let mut closed = alert("al-1");
        closed.false_positive = true;
        world.store(closed);
    };
    no_call_is_made_after(judge, ResponseState::Refused).await;
}

#[tokio::test]
async fn two_workers_with_the_same_message_make_one_call() {
    for _ in 0..20 {
        let world = World::new(Mode::Automatic).await;
        let raised = world.raise(alert("al-1")).await;
        let body = sentinel_durable::codec::encode(&raised).unwrap();
        let message = |id: &str| Message {
            id: id.into(),
            receipt: id.into(),
            body: body.clone(),
            receives: 1,
            sent_at: world.now(),
        };
        let (a, b) = tokio::join!(world.respond.handle(vec![message("1")]), world.respond.handle(vec![message("2")]));
        assert_eq!((a.len(), b.len()), (1, 1));
        world.pass(300).await;
        assert_eq!(world.response().await.state, ResponseState::Contained);
        assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1);
        assert_eq!(world.distinct_notices().len(), world.titles().len(), "each notice once");
    }
}

#[tokio::test]
async fn a_contained_key_that_is_used_again_is_put_to_a_person() {
    let world = World::contained().await;
    // A late event from before the containment changes nothing.
    world.raise(alert("al-2")).await;
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
    world.iam.set_key_status(ACCOUNT, USER, KEY, KeyStatus::Active).await.unwrap();
    let mut later = alert("al-3");
    later.alert.key_uses[0].uses[0].time = world.now();
    later.alert.key_uses[0].uses[0].provenance[0].received_at = world.now();
    world.raise(later).await;
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::AwaitingApproval);
    assert!(response.reasons.iter().any(|r| r.contains("used again")), "{:?}", response.reasons);
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 1);
    world.respond.approve(&response.response_id, &world.person("ada"), None).await.unwrap();
    world.pass(60).await;
    let response = world.response().await;
    assert_eq!((response.state, world.status(KEY).await), (ResponseState::Contained, KeyStatus::Inactive));
    assert_eq!(response.snapshot.unwrap()["status"], "Active");
}

#[tokio::test]
async fn a_message_that_is_no_message_is_left_for_the_dead_letter_queue_and_costs_no_other() {
    let world = World::new(Mode::Automatic).await;
    let queue = world.db.queue();
    queue.send(Stage::Respond, vec![Outgoing::now("not JSON".into())]).await.unwrap();
    world.raise(alert("al-1")).await;
    world.pass(600).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
    assert_eq!(queue.depth(Stage::Respond).await.unwrap().dead, 1);
}

#[tokio::test]
async fn a_playbook_can_only_be_more_careful_than_the_deployment() {
    for (deployment, playbook, expected) in [
        (Mode::Observe, Mode::Automatic, ResponseState::Observed),
        (Mode::Approve, Mode::Automatic, ResponseState::AwaitingApproval),
        (Mode::Automatic, Mode::Approve, ResponseState::AwaitingApproval),
        (Mode::Automatic, Mode::Observe, ResponseState::Observed),
    ] {
        let world = World::new(deployment).await;
        let mut mine: Vec<_> = Playbooks::shipped().unwrap().iter().cloned().collect();
        mine[0].mode = Some(playbook);
        let ports = world.respond.ports.clone();
        let respond = Arc::new(Respond::new(ports, config(deployment), Playbooks::of(mine)).unwrap());
        let world = World { respond, ..world };
        world.raise(alert("al-1")).await;
        world.pass(60).await;
        assert_eq!(world.response().await.state, expected, "{deployment:?} {playbook:?}");
    }
}
