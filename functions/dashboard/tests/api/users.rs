//! Users and API tokens, as administrators keep them.

use axum::http::Method;
use sentinel_state::users::Role;
use serde_json::json;

use crate::world::{MALLORY, PASSWORD, World, record};

#[tokio::test]
async fn a_new_user_logs_in_and_must_change_the_password() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let new = json!({ "username": "ann", "role": "analyst", "password": PASSWORD, "principals": [MALLORY] });
    let made = world.post("/api/v1/users", &admin, new.clone()).await.is(201).json();
    let shown = json!({
        "username": "ann", "role": "analyst", "created_at": "2026-03-01T12:00:00Z", "disabled": false,
        "principals": [MALLORY],
    });
    assert_eq!(made, shown);
    world.post("/api/v1/users", &admin, new).await.is(409);
    let listed = world.get("/api/v1/users", &admin).await.is(200).json();
    assert_eq!((&listed["items"][0], listed["items"].as_array().unwrap().len()), (&shown, 2));
    assert!(!listed.to_string().contains("argon2"));
    let session = world.log_in("ann", PASSWORD).await.is(200).json();
    assert_eq!(session["user"]["must_change_password"], true);
}

#[tokio::test]
async fn a_long_list_of_users_is_whole() {
    let world = World::new().await;
    for n in 0..450 {
        world.user(&format!("user-{n:03}"), Role::Viewer).await;
    }
    let admin = world.session("root", Role::Admin).await;
    let listed = world.get("/api/v1/users", &admin).await.is(200).json();
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|u| u["username"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[1], names[450]), (451, "user-000", "user-449"));
}

#[tokio::test]
async fn users_that_cannot_be_are_refused() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    for bad in [
        json!({ "username": "", "role": "viewer", "password": PASSWORD }),
        json!({ "username": "a b", "role": "viewer", "password": PASSWORD }),
        json!({ "username": "a#b", "role": "viewer", "password": PASSWORD }),
        json!({ "username": "x".repeat(65), "role": "viewer", "password": PASSWORD }),
        json!({ "username": "ann", "role": "owner", "password": PASSWORD }),
        json!({ "username": "ann", "role": "viewer", "password": "too short" }),
        json!({ "username": "ann", "role": "viewer" }),
        json!({ "username": "ann", "role": "viewer", "password": PASSWORD, "must_change_password": false }),
        json!({ "username": "ann", "role": "viewer", "password": PASSWORD, "principals": ["mallory"] }),
    ] {
        world.post("/api/v1/users", &admin, bad.clone()).await.is(400);
    }
    world.patch("/api/v1/users/ann", &admin, json!({ "role": "viewer" })).await.is(404);
    assert_eq!(world.get("/api/v1/users", &admin).await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn administrators_cannot_lock_themselves_out_nor_say_which_principals_they_are() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    world.patch("/api/v1/users/root", &admin, json!({ "disabled": true })).await.is(409);
    world.patch("/api/v1/users/root", &admin, json!({ "role": "viewer" })).await.is(409);
    world.patch("/api/v1/users/root", &admin, json!({ "principals": [] })).await.is(403);
    world.patch("/api/v1/users/root", &admin, json!({ "role": "admin", "disabled": false })).await.is(200);
    world.user("boss", Role::Admin).await;
    let changed = world.patch("/api/v1/users/boss", &admin, json!({ "principals": [MALLORY] })).await.is(200).json();
    assert_eq!(changed["principals"], json!([MALLORY]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_administrators_who_demote_each_other_leave_one() {
    for _ in 0..10 {
        let world = World::new().await;
        let (a, b) = (world.session("a", Role::Admin).await, world.session("b", Role::Admin).await);
        let (to_b, to_a) = tokio::join!(
            world.patch("/api/v1/users/b", &a, json!({ "role": "viewer" })),
            world.patch("/api/v1/users/a", &b, json!({ "disabled": true })),
        );
        let left = world.users.list().await.unwrap();
        let left = left.iter().filter(|u| u.role == Role::Admin && !u.disabled).count();
        assert_eq!(left, 1, "{} {}", to_b.status, to_a.status);
    }
}

#[tokio::test]
async fn an_api_token_is_shown_once_works_and_ends() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let new = json!({ "name": "shipper", "scopes": ["logs:write"], "expires_in_days": 2 });
    let made = world.post("/api/v1/tokens", &admin, new).await.is(201).json();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let about = json!({
        "id": id, "name": "shipper", "scopes": ["logs:write"], "created_by": "root",
        "created_at": "2026-03-01T12:00:00Z", "expires_at": "2026-03-03T12:00:00Z",
    });
    assert_eq!(world.get("/api/v1/tokens", &admin).await.is(200).json()["items"], json!([about]));
    world.post("/api/v1/logs", token, record("a")).await.is(202);
    world.get("/api/v1/alerts", token).await.is(403);
    world.post("/api/v1/tokens", token, json!({})).await.is(403);
    world.clock.advance(2 * 86_400);
    world.post("/api/v1/logs", token, record("a")).await.is(401);
    let again = world.token_of(&world.users.get("root").await.unwrap().unwrap().value).await;
    assert_eq!(world.get("/api/v1/tokens", &again).await.is(200).json()["items"], json!([]));
    world.ask(Method::DELETE, &format!("/api/v1/tokens/{id}"), Some(&again)).await.is(404);
}

#[tokio::test]
async fn api_tokens_that_cannot_be_are_refused() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    for bad in [
        json!({ "name": " ", "scopes": ["logs:write"], "expires_in_days": 2 }),
        json!({ "name": "a\nb", "scopes": ["logs:write"], "expires_in_days": 2 }),
        json!({ "name": "x", "scopes": [], "expires_in_days": 2 }),
        json!({ "name": "x", "scopes": ["users:write"], "expires_in_days": 2 }),
        json!({ "name": "x", "scopes": ["logs:write"], "expires_in_days": 0 }),
        json!({ "name": "x", "scopes": ["logs:write"], "expires_in_days": 366 }),
        json!({ "name": "x", "scopes": ["logs:write"] }),
    ] {
        world.post("/api/v1/tokens", &admin, bad.clone()).await.is(400);
    }
}
