//! Alerts, incidents, events and statistics.

use sentinel_model::{EventRef, Level};
use sentinel_state::users::Role;
use serde_json::{Value, json};

use crate::world::{ACCOUNT, MALLORY, World, alert, record};

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|a| a["title"].as_str().unwrap()).collect()
}

/// Five alerts, an hour apart, the levels in order of severity.
async fn filled() -> (World, String) {
    let world = World::new().await;
    for (n, level) in (1..).zip(Level::ALL) {
        world.store(&alert(n, level, &format!("2026-03-01T0{n}:00:00Z"))).await;
    }
    let token = world.session("ann", Role::Analyst).await;
    (world, token)
}

#[tokio::test]
async fn alerts_are_listed_newest_first_filtered_and_in_pages() {
    let (world, token) = filled().await;
    let other = format!("arn:aws:iam::{ACCOUNT}:user/somebody");
    for (query, expected) in [
        (String::new(), vec![5, 4, 3, 2, 1]),
        ("?level=high".into(), vec![5, 4]),
        ("?state=new".into(), vec![5, 4, 3, 2, 1]),
        ("?state=closed".into(), vec![]),
        (format!("?account={ACCOUNT}&level=critical"), vec![5]),
        ("?account=999999999999".into(), vec![]),
        (format!("?principal={MALLORY}"), vec![5, 4, 3, 2, 1]),
        (format!("?principal={other}"), vec![]),
        ("?rule=rule-2".into(), vec![2]),
        ("?from=2026-03-01T02:00:00Z&to=2026-03-01T04:00:00Z".into(), vec![4, 3, 2]),
        ("?limit=1".into(), vec![5]),
        ("?q=number%203".into(), vec![3]),
        ("?q=mallory&level=medium&rule=rule-4".into(), vec![4]),
        ("?q=mallory&state=closed".into(), vec![]),
        ("?q=%22%20OR%20*".into(), vec![]),
        ("?q=%20&limit=2".into(), vec![5, 4]),
    ] {
        let page = world.get(&format!("/api/v1/alerts{query}"), &token).await.is(200).json();
        let expected: Vec<_> = expected.iter().map(|n| format!("Alert number {n}")).collect();
        assert_eq!(ids(&page), expected, "{query}");
    }
    for base in ["/api/v1/alerts?limit=2", "/api/v1/alerts?limit=2&q=mallory"] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let path = cursor.map_or_else(|| base.to_owned(), |c| format!("{base}&cursor={}", c.replace('#', "%23")));
            let page = world.get(&path, &token).await.is(200).json();
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, [5, 4, 3, 2, 1].map(|n| format!("Alert number {n}")), "{base}");
    }
}

#[tokio::test]
async fn an_alert_is_shown_with_all_that_belongs_to_it() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    // Its record came in by the API.
    world.post("/api/v1/logs", &token, record("event-4")).await.is(202);
    let mut four = alert(4, Level::High, "2026-03-01T11:58:00Z");
    let content = sentinel_model::hash::content_hash(&record("event-4"));
    four.first_events = four.first_events.into_iter().map(|e| EventRef { content, ..e }).collect();
    world.store(&four).await;
    world.incident(&[&four]).await;
    world.respond_to(&four).await;
    let shown = world.get(&format!("/api/v1/alerts/{}", four.alert_id), &token).await.is(200).json();
    assert_eq!(shown["events"], json!([record("event-4")]));
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!("alert_detail", shown) });
    let missing = world.get("/api/v1/alerts/al-none", &token).await.is(404);
    assert_eq!(missing.json()["detail"], "alert al-none was not found");
}

#[tokio::test]
async fn triage_is_kept_with_its_history_and_refuses_what_is_stale() {
    let (world, token) = filled().await;
    let four = alert(4, Level::High, "2026-03-01T04:00:00Z");
    let path = format!("/api/v1/alerts/{}", four.alert_id);
    assert_eq!(world.get(&path, &token).await.json()["version"], 0);
    let change = json!({ "state": "acknowledged", "note": "looking", "version": 0 });
    let changed = world.patch(&path, &token, change.clone()).await.is(200).json();
    assert_eq!(
        (&changed["state"], &changed["note"], &changed["version"]),
        (&json!("acknowledged"), &json!("looking"), &json!(1))
    );
    assert_eq!(world.patch(&path, &token, change).await.is(409).problem(), "conflict");
    let verdict = json!({ "verdict": "true_positive", "state": "closed", "version": 1 });
    world.patch(&path, &token, verdict).await.is(200);
    // Absent leaves as it is, null takes away.
    let back = json!({ "verdict": null, "note": null, "version": 2 });
    let shown = world.patch(&path, &token, back).await.is(200).json();
    assert_eq!((&shown["state"], &shown["verdict"], &shown["note"]), (&json!("closed"), &Value::Null, &Value::Null));
    let history: Vec<_> = shown["history"].as_array().unwrap().iter().map(|h| h["change"].as_str().unwrap()).collect();
    assert_eq!(
        history,
        [
            "State changed from new to acknowledged.",
            "Note changed.",
            "State changed from acknowledged to closed.",
            "Judged a true positive.",
            "Verdict taken back.",
            "Note removed.",
        ]
    );
    assert!(shown["history"].as_array().unwrap().iter().all(|h| h["by"] == "ann" && h["at"] == "2026-03-01T12:00:00Z"));
    let listed = world.get("/api/v1/alerts?state=closed", &token).await.json();
    assert_eq!(ids(&listed), ["Alert number 4"]);
    for bad in [
        json!({ "state": "done", "version": 3 }),
        json!({ "verdict": "maybe", "version": 3 }),
        json!({ "state": "new" }),
        json!({ "level": "low", "version": 3 }),
        json!({ "note": "x".repeat(10_001), "version": 3 }),
        json!([]),
    ] {
        world.patch(&path, &token, bad.clone()).await.is(400);
    }
    world.patch("/api/v1/alerts/al-none", &token, json!({ "version": 0 })).await.is(404);
}

#[tokio::test]
async fn incidents_are_listed_shown_and_found_by_their_older_name() {
    let world = World::new().await;
    let token = world.session("vic", Role::Viewer).await;
    let one = alert(1, Level::Medium, "2026-03-01T01:00:00Z");
    let two = alert(2, Level::High, "2026-03-01T02:00:00Z");
    let three = alert(3, Level::Low, "2026-03-01T03:00:00Z");
    for a in [&one, &two, &three] {
        world.store(a).await;
    }
    let older = world.incident(&[&one, &two]).await;
    let younger = world.incident(&[&three]).await;
    let names = |page: Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|i| i["incident_id"].as_str().unwrap().to_owned()).collect()
    };
    let (old, young) = (older.incident.incident_id.clone(), younger.incident.incident_id.clone());
    assert_eq!(names(world.get("/api/v1/incidents", &token).await.is(200).json()), [young.clone(), old.clone()]);
    assert_eq!(names(world.get("/api/v1/incidents?level=high", &token).await.is(200).json()), [old.as_str()]);
    let first = world.get("/api/v1/incidents?limit=1", &token).await.is(200).json();
    let cursor = first["next_cursor"].as_str().unwrap().replace('#', "%23");
    let rest = world.get(&format!("/api/v1/incidents?limit=1&cursor={cursor}"), &token).await.is(200).json();
    assert_eq!((names(first), names(rest)), (vec![young.clone()], vec![old.clone()]));

    let shown = world.get(&format!("/api/v1/incidents/{old}"), &token).await.is(200).json();
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!("incident_detail", shown) });
    world.get("/api/v1/incidents/in-none", &token).await.is(404);
    assert_eq!(world.get("/api/v1/stats", &token).await.json()["incidents_open"], 2);

    world.merge(&younger, &older.pointer()).await;
    let found = world.get(&format!("/api/v1/incidents/{young}"), &token).await.is(200).json();
    assert_eq!(found["incident_id"], json!(old));
    let moved = world.get(&format!("/api/v1/alerts/{}", three.alert_id), &token).await.is(200).json();
    assert_eq!(moved["incident_id"], json!(old), "an alert names its incident as it is called now");
    assert_eq!(world.get("/api/v1/stats", &token).await.json()["incidents_open"], 1);
}

#[tokio::test]
async fn statistics_count_what_there_is() {
    let (world, token) = filled().await;
    let admin = world.session("root", Role::Admin).await;
    world.post("/api/v1/logs", &admin, json!([record("a"), record("b")])).await.is(202);
    let four = alert(4, Level::High, "2026-03-01T04:00:00Z");
    world.respond_to(&four).await;
    let closed = json!({ "state": "closed", "version": 0 });
    world.patch(&format!("/api/v1/alerts/{}", four.alert_id), &token, closed).await.is(200);
    let stats = world.get("/api/v1/stats", &token).await.is(200).json();
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!("stats", stats) });
}

#[tokio::test]
async fn events_are_found_by_their_words() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let mut other = record("other-event");
    other["eventName"] = json!("DeleteTrail");
    other["eventSource"] = json!("cloudtrail.amazonaws.com");
    other["eventTime"] = json!("2026-03-01T11:59:00Z");
    world.post("/api/v1/logs", &admin, json!([record("one-event"), other])).await.is(202);
    let found = |query: &'static str| {
        let (world, admin) = (&world, &admin);
        async move {
            let page = world.get(&format!("/api/v1/events{query}"), admin).await.is(200).json();
            let ids = page["items"].as_array().unwrap().iter().map(|e| e["event_id"].as_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        }
    };
    assert_eq!(found("").await, ["other-event", "one-event"]);
    assert_eq!(found("?q=deletetrail").await, ["other-event"]);
    assert_eq!(found("?q=mallory%20203.0.113.9").await, ["other-event", "one-event"]);
    assert_eq!(found("?q=%22*(").await, Vec::<String>::new());
    assert_eq!(found("?account=999999999999").await, Vec::<String>::new());
    assert_eq!(found("?to=2026-03-01T11:58:30Z").await, ["one-event"]);
    let first = world.get("/api/v1/events?limit=1", &admin).await.json();
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!("event", first["items"][0]) });
    assert!(first["next_cursor"].is_string());
}

#[tokio::test]
async fn without_an_index_searches_find_what_keys_can_and_say_so() {
    let world = World::without_index().await;
    for n in 1..=3 {
        world.store(&alert(n, Level::High, &format!("2026-03-01T0{n}:00:00Z"))).await;
    }
    let token = world.session("ann", Role::Viewer).await;
    let page = world.get("/api/v1/alerts?q=rule-2", &token).await.is(200).json();
    assert_eq!(ids(&page), ["Alert number 2"]);
    let limited = page["limited"].as_str().expect("a sentence").to_owned();
    assert!(limited.contains("events are not searched"), "{limited}");

    let first = world.get("/api/v1/alerts?q=mallory&limit=2", &token).await.is(200).json();
    assert_eq!(ids(&first), ["Alert number 3", "Alert number 2"]);
    let cursor = first["next_cursor"].as_str().expect("there is another").replace('#', "%23");
    let path = format!("/api/v1/alerts?q=mallory&limit=2&cursor={cursor}");
    assert_eq!(ids(&world.get(&path, &token).await.is(200).json()), ["Alert number 1"]);
    world.get("/api/v1/alerts?q=mallory&cursor=nonsense", &token).await.is(400);

    let events = world.get("/api/v1/events?q=mallory", &token).await.is(200).json();
    assert_eq!(events, json!({"items": [], "next_cursor": null, "limited": limited}));
    let id = page["items"][0]["alert_id"].as_str().unwrap();
    let detail = world.get(&format!("/api/v1/alerts/{id}"), &token).await.is(200).json();
    assert_eq!((&detail["events"], &detail["limited"]), (&json!([]), &json!(limited)));
    assert_eq!(world.get("/api/v1/stats", &token).await.is(200).json()["events_total"], Value::Null);

    // What needs no search is not limited, nor is anything where there is an index.
    assert_eq!(world.get("/api/v1/alerts", &token).await.is(200).json().get("limited"), None);
    let (indexed, token) = filled().await;
    for path in ["/api/v1/alerts?q=mallory", "/api/v1/events?q=mallory", &format!("/api/v1/alerts/{id}")] {
        assert_eq!(indexed.get(path, &token).await.is(200).json().get("limited"), None, "{path}");
    }
}
