//! The kill switch, set and seen through the API, through to what it stops.

use axum::http::Method;
use sentinel_respond::iam::KeyStatus;
use sentinel_state::users::Role;
use serde_json::{Value, json};

use crate::responses::{key, waiting};
use crate::world::World;

const PATH: &str = "/api/v1/kill-switch";

async fn in_health(world: &World) -> Value {
    world.ask(Method::GET, "/api/v1/health", None).await.is(200).json()["kill_switch"].clone()
}

#[tokio::test]
async fn an_administrator_sets_it_and_everybody_with_an_account_sees_who_and_why() {
    let world = World::new().await;
    let (admin, viewer) = (world.session("root", Role::Admin).await, world.session("vera", Role::Viewer).await);
    let never = json!({ "on": false, "by": null, "at": null, "reason": null, "earlier": [] });
    assert_eq!(world.get(PATH, &viewer).await.is(200).json(), never);
    assert_eq!(in_health(&world).await, false);

    let set = world.put(PATH, &admin, json!({ "on": true, "reason": " a drill\n" })).await.is(200).json();
    let on = json!({ "on": true, "by": "root", "at": "2026-03-01T12:00:00Z", "reason": "a drill" });
    assert_eq!(set, with_earlier(&on, json!([])));
    assert_eq!(world.get(PATH, &viewer).await.is(200).json(), set);
    assert_eq!(in_health(&world).await, true);

    // Set again as it is: no conflict, and both settings are kept.
    world.clock.advance(60);
    let other = world.session("anna", Role::Admin).await;
    let again = world.put(PATH, &other, json!({ "on": true, "reason": "  " })).await.is(200).json();
    let still = json!({ "on": true, "by": "anna", "at": "2026-03-01T12:01:00Z", "reason": null });
    assert_eq!(again, with_earlier(&still, json!([on])));

    world.clock.advance(60);
    world.put(PATH, &admin, json!({ "on": false })).await.is(200);
    let off = json!({ "on": false, "by": "root", "at": "2026-03-01T12:02:00Z", "reason": null });
    assert_eq!(world.get(PATH, &viewer).await.is(200).json(), with_earlier(&off, json!([still, on])));
    assert_eq!(in_health(&world).await, false);
}

fn with_earlier(setting: &Value, earlier: Value) -> Value {
    let mut whole = setting.clone();
    whole["earlier"] = earlier;
    whole
}

#[tokio::test]
async fn what_was_approved_is_not_carried_out_while_it_is_on_and_waits_for_a_person_after() {
    let (world, id, admin) = waiting().await;
    let approve = format!("/api/v1/responses/{id}/approve");
    world.post(&approve, &admin, json!({})).await.is(202);
    world.put(PATH, &admin, json!({ "on": true, "reason": "the wrong key" })).await.is(200);
    world.work().await;
    assert_eq!(key(&world).await, KeyStatus::Active);
    world.post(&approve, &admin, json!({})).await.is(409);

    world.put(PATH, &admin, json!({ "on": false })).await.is(200);
    world.work().await;
    assert_eq!(key(&world).await, KeyStatus::Active, "turning it off starts nothing");
    world.post(&approve, &admin, json!({})).await.is(202);
    world.work().await;
    assert_eq!(key(&world).await, KeyStatus::Inactive);
}

#[tokio::test]
async fn others_may_not_set_it_and_what_is_not_of_the_form_asked_sets_nothing() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let on = || json!({ "on": true });
    for other in [world.session("vera", Role::Viewer).await, world.session("ann", Role::Analyst).await] {
        assert_eq!(world.put(PATH, &other, on()).await.is(403).problem(), "forbidden");
    }
    world.put(PATH, &world.api_token(&["logs:write"]).await, on()).await.is(403);
    world.json(Method::PUT, PATH, None, on()).await.is(401);
    for bad in [
        json!({}),
        json!({ "on": "true" }),
        json!({ "on": true, "reason": 1 }),
        json!({ "on": true, "by": "somebody else" }),
        json!({ "on": true, "reason": "x".repeat(2_001) }),
    ] {
        world.put(PATH, &admin, bad).await.is(400);
    }
    world.ask(Method::PUT, PATH, Some(&admin)).await.is(415);
    assert_eq!(world.get(PATH, &admin).await.is(200).json()["at"], Value::Null);
    assert_eq!(in_health(&world).await, false);
    world.put(PATH, &admin, json!({ "on": true, "reason": "x".repeat(2_000) })).await.is(200);
}
