//! Backtests through the API: asked for, done by the runner, cancelled, and bounded.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, header},
};
use sentinel_detect::LoadOptions;
use sentinel_replay::Runner;
use sentinel_state::{backtests::Backtests, users::Role};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::{ACCOUNT, MALLORY, World, record, request};

const PATH: &str = "/api/v1/backtests";
const RULE: &str = "title: Users listed\nid: listed\nlevel: low\nlogsource: {product: aws, service: cloudtrail}\ndetection: {s: {eventName: ListUsers}, condition: s}\n";

fn asked(more: &Value) -> Value {
    let mut body = json!({
        "rules": [{ "name": "mine.yml", "text": RULE }], "from": "2026-03-01T00:00:00Z", "to": "2026-03-01T23:59:59Z",
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Does what waits, as the process that serves does.
async fn run(world: &World) {
    let store = Backtests::new(world.table.clone());
    let options = LoadOptions::default();
    let runner = Runner::new(store, world.archive.clone(), world.clock.clone(), Arc::new(options), "test");
    let (_going, stop) = watch::channel(false);
    while runner.run_once(&stop).await.unwrap() {}
}

#[tokio::test]
async fn rules_are_tried_on_the_archive_and_the_result_is_there_for_everybody() {
    let world = World::new().await;
    let (admin, viewer) = (world.session("root", Role::Admin).await, world.session("vera", Role::Viewer).await);
    let logs = json!({ "Records": [record("e-1"), record("e-2")] });
    let posted = request(Method::POST, "/api/v1/logs", Some(&admin)).body(Body::from(logs.to_string())).unwrap();
    world.send(posted).await.is(202);

    let made = world.post(PATH, &admin, asked(&json!({}))).await.is(202).json();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["state"], &made["requested_by"]), (&json!("queued"), &json!("root")));
    assert_eq!(
        (&made["on_top"], &made["baseline"], &made["files"]),
        (&json!(true), &json!("in_force"), &json!(["mine.yml"]))
    );
    let waiting = world.get(&format!("{PATH}/{id}"), &viewer).await.is(200).json();
    assert_eq!((&waiting["state"], &waiting["result"]), (&json!("queued"), &Value::Null));

    world.clock.advance(5);
    run(&world).await;
    let done = world.get(&format!("{PATH}/{id}"), &viewer).await.is(200).json();
    assert_eq!(done["state"], "done");
    assert_eq!(done["progress"], json!({ "days_done": 1, "days_total": 1, "events": 2 }));
    assert_eq!(done["finished_at"], "2026-03-01T12:00:05Z");
    let result = &done["result"];
    assert_eq!((&result["gained"], &result["lost"], &result["events"]), (&json!(1), &json!(0), &json!(2)));
    let rule = &result["rules"][0];
    assert_eq!((&rule["id"], &rule["change"], &rule["alerts_per_day"]), (&json!("listed"), &json!("new"), &json!(1.0)));
    assert_eq!(rule["principals"], json!([{ "principal": MALLORY, "account": ACCOUNT, "gained": 1, "lost": 0 }]));
    assert_eq!(rule["gained_samples"][0]["event_ids"], json!(["e-1", "e-2"]));

    let list = world.get(&format!("{PATH}?limit=1"), &viewer).await.is(200).json();
    assert_eq!(list["items"][0]["id"], id.as_str());
    assert!(list["items"][0].get("result").is_none(), "results are asked for one by one");
    world.post(&format!("{PATH}/{id}/cancel"), &admin, json!({})).await.is(409);
}

#[tokio::test]
async fn one_that_waits_is_cancelled_and_only_so_many_wait() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let made = world.post(PATH, &admin, asked(&json!({ "on_top": false, "baseline": "shipped" }))).await.is(202);
        ids.push(made.json()["id"].as_str().unwrap().to_owned());
        world.clock.advance(1);
    }
    assert_eq!(world.post(PATH, &admin, asked(&json!({}))).await.is(409).problem(), "conflict");
    let cancelled = world.post(&format!("{PATH}/{}/cancel", ids[3]), &admin, json!({})).await.is(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    world.post(PATH, &admin, asked(&json!({}))).await.is(202);
    world.get(&format!("{PATH}/bt-none"), &admin).await.is(404);
    world.post(&format!("{PATH}/bt-none/cancel"), &admin, json!({})).await.is(404);
    let first = world.get(&format!("{PATH}?limit=6"), &admin).await.is(200).json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{PATH}?limit=6&cursor={}", encoded(cursor)), &admin).await.is(200).json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (5, &Value::Null));
}

fn encoded(text: &str) -> String {
    text.bytes().flat_map(|b| ['%', digit(b >> 4), digit(b & 15)]).collect()
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap()
}

#[tokio::test]
async fn what_is_asked_for_is_bounded() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let text = |name: &str| json!({ "name": name, "text": RULE });
    for (more, named) in [
        (json!({ "rules": [] }), "rules: 1 to 200"),
        (json!({ "rules": vec![text("a"); 201] }), "rules: 1 to 200"),
        (json!({ "rules": [text("a"), text("a")] }), "two texts"),
        (json!({ "rules": [text("")] }), "a name has"),
        (json!({ "rules": [text("a\nb")] }), "a name has"),
        (json!({ "to": "2026-02-01T00:00:00Z" }), "the later one last"),
        (json!({ "from": "2024-03-01T00:00:00Z" }), "at most 366 days"),
        (json!({ "from": "yesterday" }), "the body is not as expected"),
        (json!({ "baseline": "best" }), "the body is not as expected"),
        (json!({ "accounts": ["../x"] }), "accounts"),
        (json!({ "account": "1" }), "the body is not as expected"),
    ] {
        let refused = world.post(PATH, &admin, asked(&more)).await.is(400).json();
        assert!(refused["detail"].as_str().unwrap().contains(named), "{more}: {refused}");
    }
    let large = |bytes: usize| asked(&json!({ "rules": [{ "name": "a", "text": "#".repeat(bytes) }] }));
    world.post(PATH, &admin, large(256 * 1024)).await.is(202);
    world.post(PATH, &admin, large(256 * 1024 + 1)).await.is(413);
    world.post(PATH, &admin, large(600 * 1024)).await.is(413);
    let untyped = request(Method::POST, PATH, Some(&admin)).header(header::CONTENT_TYPE, "text/plain");
    world.send(untyped.body(Body::from(asked(&json!({})).to_string())).unwrap()).await.is(415);
}
