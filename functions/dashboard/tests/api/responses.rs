//! Deciding about responses, through to what happens in the account.

use sentinel_model::Level;
use sentinel_respond::{Iam, iam::KeyStatus};
use sentinel_state::{Condition, users::Role};
use serde_json::{Value, json};

use crate::world::{ACCOUNT, KEY, MALLORY, World, alert};

/// A response that waits for approval, and an administrator.
pub(crate) async fn waiting() -> (World, String, String) {
    let world = World::new().await;
    let alert = alert(1, Level::High, "2026-03-01T11:59:00Z");
    world.store(&alert).await;
    let id = world.respond_to(&alert).await;
    let admin = world.session("root", Role::Admin).await;
    (world, id, admin)
}

pub(crate) async fn key(world: &World) -> KeyStatus {
    world.iam.key_status(ACCOUNT, "mallory", KEY).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_approved_response_contains_the_key_and_can_be_undone() {
    let (world, id, admin) = waiting().await;
    let path = format!("/api/v1/responses/{id}");
    let listed = world.get("/api/v1/responses?state=awaiting_approval", &admin).await.is(200).json();
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["response_id"]), (1, &json!(id)));
    assert_eq!(world.get("/api/v1/responses?state=contained", &admin).await.is(200).json()["items"], json!([]));
    let detail = world.get(&path, &admin).await.is(200).json();
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!("response_detail", detail) });

    let approved = world.post(&format!("{path}/approve"), &admin, json!({ "note": "go" })).await.is(202).json();
    assert_eq!((&approved["state"], &approved["decided_by"]), (&json!("approved"), &json!("root")));
    world.post(&format!("{path}/approve"), &admin, json!({})).await.is(409);
    world.post(&format!("{path}/deny"), &admin, json!({})).await.is(409);
    world.post(&format!("{path}/undo"), &admin, json!({})).await.is(409);
    assert_eq!(key(&world).await, KeyStatus::Active);
    world.work().await;
    assert_eq!(world.get(&path, &admin).await.json()["state"], "contained");
    assert_eq!(key(&world).await, KeyStatus::Inactive);

    // The note may be left out, with the body.
    let undone = world.ask(axum::http::Method::POST, &format!("{path}/undo"), Some(&admin)).await.is(202).json();
    assert_eq!(undone["state"], "undoing");
    world.work().await;
    let shown = world.get(&path, &admin).await.json();
    assert_eq!(shown["state"], "undone");
    assert_eq!(key(&world).await, KeyStatus::Active);
    let said: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|s| s["detail"].as_str().unwrap()).collect();
    assert!(said.contains(&"Approved by root. Note: go"), "{said:?}");
}

#[tokio::test]
async fn a_denied_response_touches_nothing() {
    let (world, id, admin) = waiting().await;
    let path = format!("/api/v1/responses/{id}");
    let denied = world.post(&format!("{path}/deny"), &admin, json!({ "note": "a drill" })).await.is(200).json();
    assert_eq!((&denied["state"], &denied["decided_by"]), (&json!("denied"), &json!("root")));
    world.work().await;
    assert_eq!(key(&world).await, KeyStatus::Active);
    world.post(&format!("{path}/approve"), &admin, json!({})).await.is(409);
}

#[tokio::test]
async fn nobody_decides_about_their_own_principal() {
    let (world, id, _) = waiting().await;
    let mut boss = world.user("boss", Role::Admin).await;
    boss.principals = vec![MALLORY.into()];
    world.users.put(&boss, Condition::Version(1)).await.unwrap();
    let by_arn = world.token_of(&boss).await;
    let by_name = world.session("mallory", Role::Admin).await;
    for own in [&by_arn, &by_name] {
        for decision in ["approve", "deny", "undo"] {
            let answer = world.post(&format!("/api/v1/responses/{id}/{decision}"), own, json!({})).await.is(403);
            assert_eq!(answer.problem(), "forbidden");
        }
        // Nor do they say that it is not theirs.
        let name = if own == &by_arn { "boss" } else { "mallory" };
        world.patch(&format!("/api/v1/users/{name}"), own, json!({ "principals": [] })).await.is(403);
    }
    assert_eq!(world.app.responses.find(&id).await.unwrap().unwrap().response.decided_by, None);
}

#[tokio::test]
async fn decisions_are_refused_when_they_are_not_of_the_form_asked() {
    let (world, id, admin) = waiting().await;
    let path = format!("/api/v1/responses/{id}");
    for bad in [json!({ "note": 1 }), json!({ "why": "x" }), json!("x"), json!({ "note": "x".repeat(2_001) })] {
        world.post(&format!("{path}/approve"), &admin, bad).await.is(400);
    }
    for decision in ["approve", "deny", "undo"] {
        world.post(&format!("/api/v1/responses/rs-none/{decision}"), &admin, json!({})).await.is(404);
    }
    world.get("/api/v1/responses/rs-none", &admin).await.is(404);
    // The time to approve ends.
    world.clock.advance(24 * 3600);
    let admin = world.token_of(&world.users.get("root").await.unwrap().unwrap().value).await;
    world.post(&format!("{path}/approve"), &admin, json!({})).await.is(409);
    world.work().await;
    let shown: Value = world.get(&path, &admin).await.json();
    assert_eq!(shown["state"], "expired");
}
