//! Own-action suppression: ours only when the issuer is our role and a recorded call vouches for the event.

use sentinel_model::response::{Mode, ResponseState};
use sentinel_model::{EventRef, Member, Timestamp, time};
use sentinel_state::responses::OwnActivity;

use super::world::*;

type Change = fn(&mut Member);

fn event(id: &str, at: Timestamp) -> Member {
    Member {
        event: EventRef { time: at, id: id.into(), content: 1 },
        region: None,
        source_ip: None,
        user_agent: None,
        access_key_id: Some("ASIAOURS".into()),
        service: "iam.amazonaws.com".into(),
        action: "UpdateAccessKey".into(),
        read_only: Some(false),
        success: true,
        issuer: Some(OUR_ROLE.into()),
        model_score: None,
        provenance: vec![],
    }
}

fn activity(world: &World) -> OwnActivity {
    OwnActivity::new(world.respond.responses().clone(), [OUR_ROLE].into_iter().collect())
}

#[tokio::test]
async fn the_event_of_our_own_call_is_ours_and_shown_on_the_response() {
    let world = World::contained().await;
    let own = activity(&world);
    let at = time::plus_seconds(START.parse().unwrap(), 2);
    let ours = event("own-1", at);
    assert!(own.is_ours(ACCOUNT, &ours).await.unwrap());
    assert!(own.note_ours(ACCOUNT, &ours).await.unwrap());
    assert!(own.note_ours(ACCOUNT, &ours).await.unwrap(), "the same event again is still ours");
    let response = world.response().await;
    assert_eq!(response.own_events, ["own-1"]);
    assert_eq!(response.state, ResponseState::Contained);
}

#[tokio::test]
async fn one_call_vouches_for_one_event_only() {
    let world = World::contained().await;
    let own = activity(&world);
    let at: Timestamp = START.parse().unwrap();
    assert!(own.note_ours(ACCOUNT, &event("own-1", at)).await.unwrap());
    assert!(!own.is_ours(ACCOUNT, &event("hidden", at)).await.unwrap());
    assert!(!own.note_ours(ACCOUNT, &event("hidden", at)).await.unwrap());
    assert!(own.is_ours(ACCOUNT, &event("own-1", at)).await.unwrap());
}

#[tokio::test]
async fn our_role_without_a_recorded_call_is_not_ours() {
    let world = World::contained().await;
    let own = activity(&world);
    let at: Timestamp = START.parse().unwrap();
    let cases: [(&str, Change); 6] = [
        ("another operation", |m| m.action = "CreateAccessKey".into()),
        ("another service", |m| m.service = "sts.amazonaws.com".into()),
        ("another issuer", |m| m.issuer = Some("arn:aws:iam::111122223333:role/other".into())),
        ("no issuer", |m| m.issuer = None),
        ("much later", |m| m.event.time = time::plus_seconds(m.event.time, 3600)),
        ("much earlier", |m| m.event.time = time::plus_seconds(m.event.time, -3600)),
    ];
    for (name, change) in cases {
        let mut member = event("x", at);
        change(&mut member);
        assert!(!own.is_ours(ACCOUNT, &member).await.unwrap(), "{name}");
    }
    assert!(!own.is_ours("999988887777", &event("x", at)).await.unwrap(), "another account");
    assert!(own.is_ours(ACCOUNT, &event("x", at)).await.unwrap(), "and unchanged it is");
}

#[tokio::test]
async fn reads_that_planning_makes_are_ours_too() {
    let world = World::contained().await;
    let own = activity(&world);
    for (i, action) in ["GetAccessKeyLastUsed", "GetUser", "ListUserTags", "ListAccessKeys"].into_iter().enumerate() {
        let mut member = event(&format!("read-{i}"), START.parse().unwrap());
        member.action = action.into();
        assert!(own.is_ours(ACCOUNT, &member).await.unwrap(), "{action}");
    }
}

#[tokio::test]
async fn a_reading_back_long_after_planning_is_ours_too() {
    let world = World::new(Mode::Automatic).await;
    world.raise(alert("al-1")).await;
    world.round().await;
    // As when the process stood still between the call and its verification.
    world.clock.advance(3600);
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
    let mut member = event("read-late", time::plus_seconds(START.parse().unwrap(), 3600));
    member.action = "ListAccessKeys".into();
    assert!(activity(&world).is_ours(ACCOUNT, &member).await.unwrap());
}
