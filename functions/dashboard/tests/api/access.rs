//! Who may do what: every operation that the router has, asked by everybody.

use std::collections::BTreeMap;

use axum::http::Method;
use sentinel_dashboard::operations;
use sentinel_state::{Condition, users::Role};

use crate::world::World;

/// Who asks.
const CALLERS: [&str; 8] =
    ["nobody", "disabled", "must change", "viewer", "analyst", "admin", "logs token", "bare token"];

/// Which of [`CALLERS`] get through to each operation. Anything that the router has must stand here.
const MAY: [(&str, &[&str]); 30] = [
    ("POST /api/v1/auth/login", &CALLERS),
    ("POST /api/v1/auth/password", &["must change", "viewer", "analyst", "admin"]),
    ("GET /api/v1/auth/me", &["must change", "viewer", "analyst", "admin"]),
    ("GET /api/v1/users", &["admin"]),
    ("POST /api/v1/users", &["admin"]),
    ("PATCH /api/v1/users/{username}", &["admin"]),
    ("GET /api/v1/tokens", &["admin"]),
    ("POST /api/v1/tokens", &["admin"]),
    ("DELETE /api/v1/tokens/{id}", &["admin"]),
    ("GET /api/v1/alerts", &["viewer", "analyst", "admin"]),
    ("GET /api/v1/alerts/{id}", &["viewer", "analyst", "admin"]),
    ("PATCH /api/v1/alerts/{id}", &["analyst", "admin"]),
    ("GET /api/v1/incidents", &["viewer", "analyst", "admin"]),
    ("GET /api/v1/incidents/{id}", &["viewer", "analyst", "admin"]),
    ("GET /api/v1/responses", &["viewer", "analyst", "admin"]),
    ("GET /api/v1/responses/{id}", &["viewer", "analyst", "admin"]),
    ("POST /api/v1/responses/{id}/approve", &["admin"]),
    ("POST /api/v1/responses/{id}/deny", &["admin"]),
    ("POST /api/v1/responses/{id}/undo", &["admin"]),
    ("GET /api/v1/kill-switch", &["viewer", "analyst", "admin"]),
    ("PUT /api/v1/kill-switch", &["admin"]),
    ("GET /api/v1/backtests", &["viewer", "analyst", "admin"]),
    ("POST /api/v1/backtests", &["admin"]),
    ("GET /api/v1/backtests/{id}", &["viewer", "analyst", "admin"]),
    ("POST /api/v1/backtests/{id}/cancel", &["admin"]),
    ("GET /api/v1/stats", &["viewer", "analyst", "admin"]),
    ("GET /api/v1/events", &["viewer", "analyst", "admin"]),
    ("GET /api/v1/health", &CALLERS),
    ("POST /api/v1/logs", &["admin", "logs token"]),
    ("GET /metrics", &CALLERS),
];

#[tokio::test]
async fn everybody_may_do_what_they_may_and_nothing_else() {
    let world = World::new().await;
    let mut tokens: BTreeMap<&str, Option<String>> = BTreeMap::new();
    tokens.insert("nobody", None);
    for role in Role::ALL {
        tokens.insert(role.as_str(), Some(world.session(role.as_str(), role).await));
    }
    for (name, must_change, disabled) in [("must change", true, false), ("disabled", false, true)] {
        let mut user = world.user(name, Role::Admin).await;
        user.must_change_password = must_change;
        user.disabled = disabled;
        world.users.put(&user, Condition::Version(1)).await.unwrap();
        tokens.insert(name, Some(world.token_of(&user).await));
    }
    tokens.insert("logs token", Some(world.api_token(&["logs:write"]).await));
    tokens.insert("bare token", Some(world.api_token(&[]).await));

    let mut expected: BTreeMap<&str, &[&str]> = MAY.into_iter().collect();
    for operation in operations() {
        let name = format!("{} {}", operation.method, operation.path);
        let may = expected.remove(name.as_str()).unwrap_or_else(|| panic!("{name} must say who may do it"));
        let path = operation.path.replace("{id}", "nothing").replace("{username}", "nothing");
        for caller in CALLERS {
            let answer = world.ask(operation.method.clone(), &path, tokens[caller].as_deref()).await;
            let status = answer.status.as_u16();
            if may.contains(&caller) {
                // Through to the operation, which then misses a body or finds nothing.
                assert!(!matches!(status, 401 | 403 | 405 | 500..), "{caller}: {name} is {status}: {}", answer.text());
                continue;
            }
            let wanted = if matches!(caller, "nobody" | "disabled") { 401 } else { 403 };
            assert_eq!(status, wanted, "{caller}: {name}: {}", answer.text());
            if caller == "must change" {
                assert_eq!(answer.problem(), "password-change-required", "{name}");
            }
            if status == 401 {
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{name}");
            }
        }
    }
    assert!(expected.is_empty(), "the router has no {expected:?}");
}

#[tokio::test]
async fn query_parameters_that_an_operation_does_not_know_are_refused() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    for operation in operations() {
        let path = operation.path.replace("{id}", "nothing").replace("{username}", "nothing");
        let answer = world.ask(operation.method.clone(), &format!("{path}?surprise=1"), Some(&admin)).await;
        assert_eq!(answer.status.as_u16(), 400, "{operation:?}: {}", answer.text());
    }
    for bad in [
        "alerts?level=severe",
        "alerts?limit=0",
        "alerts?limit=201",
        "alerts?limit=-1",
        "alerts?from=yesterday",
        "alerts?cursor=nonsense",
        "alerts?q=x&cursor=nonsense",
        "alerts?level=high&level=low",
        "incidents?limit=many",
        "incidents?cursor=nonsense",
        "responses?state=lost",
        "responses?cursor=nonsense",
        "events?cursor=nonsense",
        "backtests?limit=0",
        "backtests?cursor=nonsense",
    ] {
        let answer = world.get(&format!("/api/v1/{bad}"), &admin).await;
        assert_eq!(answer.status.as_u16(), 400, "{bad}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_at_once() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let analyst = world.session("ann", Role::Analyst).await;
    let shipper = world.api_token(&["logs:write"]).await;
    world.get("/api/v1/alerts", &analyst).await.is(200);
    world.patch("/api/v1/users/ann", &admin, serde_json::json!({ "role": "viewer" })).await.is(200);
    world.patch("/api/v1/alerts/nothing", &analyst, serde_json::json!({ "version": 0 })).await.is(403);
    world.patch("/api/v1/users/ann", &admin, serde_json::json!({ "disabled": true })).await.is(200);
    world.get("/api/v1/alerts", &analyst).await.is(401);
    // Enabled again, the old session stays ended.
    world.patch("/api/v1/users/ann", &admin, serde_json::json!({ "disabled": false })).await.is(200);
    world.get("/api/v1/alerts", &analyst).await.is(401);
    world.ask(Method::DELETE, "/api/v1/tokens/t-logs:write", Some(&admin)).await.is(204);
    world.ask(Method::POST, "/api/v1/logs", Some(&shipper)).await.is(401);
    world.ask(Method::DELETE, "/api/v1/tokens/t-logs:write", Some(&admin)).await.is(404);
}
