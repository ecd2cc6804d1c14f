//! What every answer has whoever asks: methods, paths that lead nowhere, the page, health and metrics.

use axum::{
    body::Body,
    http::{Method, header},
};
use sentinel_dashboard::operations;
use sentinel_state::users::Role;
use serde_json::json;

use crate::world::{World, request};

#[tokio::test]
async fn a_wrong_method_is_told_which_ones_there_are() {
    let world = World::new().await;
    for operation in operations() {
        let path = operation.path.replace("{id}", "nothing").replace("{username}", "nothing");
        let taken = |method: &Method| operations().iter().any(|o| o.path == operation.path && o.method == *method);
        for wrong in [Method::PUT, Method::OPTIONS, Method::TRACE].into_iter().filter(|wrong| !taken(wrong)) {
            let answer = world.ask(wrong.clone(), &path, None).await.is(405);
            let allowed: Vec<_> = answer.header("allow").unwrap().split(',').collect();
            assert!(allowed.contains(&operation.method.as_str()), "{operation:?}: {allowed:?}");
            assert!(!allowed.contains(&wrong.as_str()), "{operation:?}: {allowed:?}");
        }
    }
    let page = world.ask(Method::POST, "/", None).await.is(405);
    assert_eq!(page.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn head_answers_as_get_does_without_a_body() {
    let world = World::new().await;
    let token = world.session("ann", Role::Analyst).await;
    for (path, token, status) in [
        ("/api/v1/health", None, 200),
        ("/api/v1/alerts", Some(token.as_str()), 200),
        ("/api/v1/alerts", None, 401),
        ("/metrics", None, 200),
    ] {
        let head = world.ask(Method::HEAD, path, token).await.is(status);
        assert!(head.body.is_empty(), "{path}");
        let get = world.ask(Method::GET, path, token).await.is(status);
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn paths_of_the_api_that_lead_nowhere_are_problems_and_not_the_page() {
    let world = World::new().await;
    for path in
        ["/api", "/api/", "/api/v1", "/api/v1/nothing", "/api/v2/alerts", "/api/v1/alerts/", "/api/v1/alerts/a/b"]
    {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            world.ask(method, path, None).await.is(404);
        }
    }
    let token = world.session("ann", Role::Analyst).await;
    world.get("/api/v1/alerts/%ff", &token).await.is(400);
    world.get(&format!("/api/v1/alerts/{}", "x".repeat(3000)), &token).await.is(404);
    world.get("/api/v1/alerts/a%23b%2Fc", &token).await.is(404);
}

#[tokio::test]
async fn bodies_must_be_json_of_the_form_asked() {
    let world = World::new().await;
    let login = |kind: &'static str, body: &'static str| {
        let request = request(Method::POST, "/api/v1/auth/login", None).header(header::CONTENT_TYPE, kind);
        world.send(request.body(Body::from(body)).unwrap())
    };
    let good = r#"{"username":"a","password":"b"}"#;
    login("application/json; charset=utf-8", good).await.is(401);
    login("text/plain", good).await.is(415);
    login("application/x-www-form-urlencoded", "username=a&password=b").await.is(415);
    for bad in ["", "{", "null", r#"{"username":"a"}"#, r#"{"username":"a","password":"b","role":"admin"}"#] {
        login("application/json", bad).await.is(400);
    }
    let deep = "[".repeat(10_000);
    let request = request(Method::POST, "/api/v1/auth/login", None).header(header::CONTENT_TYPE, "application/json");
    world.send(request.body(Body::from(deep)).unwrap()).await.is(400);
}

#[tokio::test]
async fn health_and_metrics_are_there_for_everybody() {
    let world = World::new().await;
    let health = world.ask(Method::GET, "/api/v1/health", None).await.is(200).json();
    let empty = json!({ "ready": 0, "in_flight": 0, "dead": 0 });
    assert_eq!(
        health,
        json!({
            "status": "ok", "version": env!("CARGO_PKG_VERSION"), "response_mode": "approve",
            "simulated_account": true, "kill_switch": false,
            "queues": { "detect": empty, "enrich": empty, "respond": empty },
        })
    );
    let metrics = world.ask(Method::GET, "/metrics", None).await.is(200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(metrics.text(), "sentinel_events_total 7\n");
}

/// The page may not have been built when only the crate's tests run.
#[tokio::test]
async fn the_page_answers_every_other_path() {
    let world = World::new().await;
    let built = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/web/dist/index.html")).exists();
    for path in ["/", "/index.html", "/alerts/al-1", "/../etc/passwd", "/%2e%2e/Cargo.toml"] {
        let page = world.ask(Method::GET, path, None).await.is(if built { 200 } else { 404 });
        if !built {
            assert!(page.json()["detail"].as_str().unwrap().contains("without the web page"), "{page:?}");
            continue;
        }
        assert!(page.text().contains("<!doctype html>"), "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-cache"), "{path}");
    }
    world.ask(Method::GET, "/assets/none.js", None).await.is(404);
    if !built {
        println!("web/dist is not built: its files are not looked at");
        return;
    }
    let page = world.ask(Method::GET, "/", None).await;
    let start = page.text().find("/assets/").unwrap();
    let asset: String = page.text()[start..].chars().take_while(|c| *c != '"').collect();
    let asset = world.ask(Method::GET, &asset, None).await.is(200);
    assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert!(asset.header("content-type").unwrap().starts_with("text/javascript"), "{:?}", asset.headers);
}
