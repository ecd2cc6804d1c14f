//! `sentinel serve` as its users run it: logs in by API and folder, alerts out, everything still there after a
//! restart, decisions by the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "common/attacks.rs"]
mod attacks;
#[path = "common/aws.rs"]
mod aws;
mod common;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use attacks::Chance;
use aws::Aws;
use common::{run, scan, sentinel, stop_logging, write};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

const PASSWORD: &str = "a long enough password";

/// A running server, ended by its own process id.
struct Server {
    child: Child,
    base: String,
    first_password: Option<String>,
}

impl Server {
    fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_with(data, more, sentinel())
    }

    fn start_with(data: &Path, more: &[&str], mut binary: std::process::Command) -> Self {
        let mut child = binary
            .args(["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut base, mut first_password) = (None, None);
        while base.is_none() {
            let line = lines.next().expect("the server ended early").unwrap();
            if let Some(address) = line.strip_prefix("Dashboard on ") {
                base = Some(address.to_owned());
            } else if line.starts_with("    ") {
                first_password = Some(line.trim().to_owned());
            }
        }
        // Whatever else it prints must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, base: base.unwrap(), first_password }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    /// Asks it to end, as a service manager does, and waits.
    fn stop(mut self) {
        let asked = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn log_in(http: &Client, server: &Server, password: &str) -> Value {
    let answer = http
        .post(server.url("/auth/login"))
        .json(&json!({"username": "admin", "password": password}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

/// A token of the administrator, whose first password has been changed.
async fn administrator(http: &Client, server: &Server) -> String {
    let Some(first) = &server.first_password else {
        return log_in(http, server, PASSWORD).await["token"].as_str().unwrap().to_owned();
    };
    let session = log_in(http, server, first).await;
    assert_eq!(session["user"]["must_change_password"], true);
    let answer = http
        .post(server.url("/auth/password"))
        .bearer_auth(session["token"].as_str().unwrap())
        .json(&json!({"current_password": first, "new_password": PASSWORD}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

async fn get(http: &Client, server: &Server, token: &str, path: &str) -> Value {
    let answer = http.get(server.url(path)).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.json().await.unwrap()
}

/// Asks again and again until there are so many alerts.
async fn wait_for_alerts(http: &Client, server: &Server, token: &str, wanted: usize) -> Vec<Value> {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let page = get(http, server, token, "/alerts?level=medium").await;
        let items = page["items"].as_array().unwrap().clone();
        if items.len() >= wanted {
            return items;
        }
        assert!(Instant::now() < end, "{} of {wanted} alerts after a minute", items.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[tokio::test]
async fn posted_logs_become_alerts_that_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let http = Client::new();
    let server = Server::start(data.path(), &[]);
    assert_eq!(http.get(server.url("/alerts")).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let token = administrator(&http, &server).await;

    let event = stop_logging("a0000000-0000-4000-8000-000000000001", &now_text());
    let body = format!("{event}\n{event}\n{{broken\n");
    let answer = http.post(server.url("/logs")).bearer_auth(&token).body(body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let counts: Value = answer.json().await.unwrap();
    assert_eq!((&counts["accepted"], &counts["duplicates"]), (&json!(1), &json!(1)));
    assert_eq!(counts["malformed"].as_array().unwrap().len(), 1);

    let alerts = wait_for_alerts(&http, &server, &token, 1).await;
    let id = alerts[0]["alert_id"].as_str().unwrap().to_owned();
    let found = get(&http, &server, &token, "/events?q=StopLogging").await;
    assert_eq!(found["items"][0]["event_id"], "a0000000-0000-4000-8000-000000000001");
    server.stop();

    let server = Server::start(data.path(), &[]);
    assert_eq!(server.first_password, None, "the first password is printed once");
    let token = administrator(&http, &server).await;
    let alert = get(&http, &server, &token, &format!("/alerts/{id}")).await;
    assert_eq!(alert["event_count"], 1);
    assert_eq!(alert["provenance"][0]["channel"], "api");

    // The same event again finds the same alert and raises none.
    let again = http.post(server.url("/logs")).bearer_auth(&token).body(event.to_string()).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let alerts = get(&http, &server, &token, "/alerts?level=medium").await;
    assert_eq!(alerts["items"].as_array().unwrap().len(), 1);
    assert_eq!(alerts["items"][0]["event_count"], 1);
    let text = http.get(format!("{}/metrics", server.base)).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("sentinel_events_total"), "{text}");
    server.stop();
}

#[tokio::test]
async fn files_in_the_watched_folder_are_taken_in() {
    let data = tempfile::tempdir().unwrap();
    let inbox = tempfile::tempdir().unwrap();
    let http = Client::new();
    let server = Server::start(data.path(), &["--watch", inbox.path().to_str().unwrap()]);
    let token = administrator(&http, &server).await;
    let event = stop_logging("b0000000-0000-4000-8000-000000000001", &now_text());
    write(inbox.path(), "trail.json", json!({"Records": [event]}).to_string());
    let alerts = wait_for_alerts(&http, &server, &token, 1).await;
    let id = alerts[0]["alert_id"].as_str().unwrap();
    let alert = get(&http, &server, &token, &format!("/alerts/{id}")).await;
    assert_eq!(alert["provenance"][0]["channel"], "folder");
    server.stop();
}

#[tokio::test]
async fn a_killed_server_loses_nothing_that_it_accepted() {
    let data = tempfile::tempdir().unwrap();
    let http = Client::new();
    let mut server = Server::start(data.path(), &[]);
    let token = administrator(&http, &server).await;
    let events: Vec<String> = (0..50)
        .map(|n| {
            let mut event = stop_logging(&format!("c0000000-0000-4000-8000-{n:012}"), &now_text());
            event["userIdentity"]["arn"] = json!(format!("arn:aws:iam::111122223333:user/mallory{n}"));
            event["userIdentity"]["userName"] = json!(format!("mallory{n}"));
            event.to_string()
        })
        .collect();
    let answer = http.post(server.url("/logs")).bearer_auth(&token).body(events.join("\n")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    server.child.kill().unwrap();
    drop(server);

    let server = Server::start(data.path(), &[]);
    let token = administrator(&http, &server).await;
    let alerts = wait_for_alerts(&http, &server, &token, 50).await;
    assert_eq!(alerts.len(), 50, "each alert once");
    server.stop();
}

/// All alerts of a level or above, page after page.
async fn all_alerts(http: &Client, server: &Server, token: &str) -> Vec<Value> {
    let (mut alerts, mut cursor) = (Vec::new(), None);
    loop {
        let mut query = vec![("level", String::from("informational")), ("limit", String::from("100"))];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let answer = http.get(server.url("/alerts")).query(&query).bearer_auth(token).send().await.unwrap();
        let mut page: Value = answer.json().await.unwrap();
        alerts.append(page["items"].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return alerts,
        }
    }
}

/// Alerts that stand, by their ids, without what only one of scan and server tells.
fn standing(alerts: &[Value]) -> BTreeMap<String, String> {
    let stand = alerts.iter().filter(|a| a["superseded_by"].is_null());
    let told = ["title", "principal", "level", "event_count", "at_least", "time"];
    let told = |a: &Value| told.map(|name| a[name].to_string()).join(" ");
    stand.map(|a| (a["alert_id"].as_str().unwrap().to_owned(), told(a))).collect()
}

#[tokio::test]
async fn a_server_finds_what_a_scan_finds_in_whatever_order_and_however_often_records_come() {
    let (mut chance, first) = (Chance::new(1), "2026-03-02T08:00:00Z".parse().unwrap());
    let records = attacks::records(&mut chance, first, 250);
    let text = |records: &[Value]| records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "all.ndjson", text(&records));
    let wanted = standing(&scan(&[folder.path().to_str().unwrap()]).0);
    assert!(wanted.len() > 100, "{}", wanted.len());

    let data = tempfile::tempdir().unwrap();
    // What models say depends on what came before.
    write(data.path(), "sentinel.toml", "[detect]\nmodels = false\n");
    let http = Client::new();
    let server = Server::start(data.path(), &[]);
    let token = administrator(&http, &server).await;
    let mut copies: Vec<Value> = records.iter().chain(records.iter().step_by(3)).cloned().collect();
    chance.shuffle(&mut copies);
    for some in copies.chunks(30) {
        let answer = http.post(server.url("/logs")).bearer_auth(&token).body(text(some)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    let end = Instant::now() + Duration::from_mins(2);
    let mut found = BTreeMap::new();
    while found != wanted && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(500)).await;
        found = standing(&all_alerts(&http, &server, &token).await);
    }
    let missed: Vec<_> = wanted.iter().filter(|(id, told)| found.get(*id) != Some(told)).collect();
    let more: Vec<_> = found.iter().filter(|(id, told)| wanted.get(*id) != Some(told)).collect();
    assert!(missed.is_empty() && more.is_empty(), "scan: {missed:#?}\nserver: {more:#?}\nrecords: {}", text(&records));
    server.stop();
}

#[tokio::test]
async fn a_containment_is_undone_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(run(&["demo", "--once", "--data", data.to_str().unwrap()], b"").status.success());
    let http = Client::new();
    let server = Server::start(&data, &["--account", "simulated"]);
    let token = administrator(&http, &server).await;
    let health: Value = http.get(server.url("/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["simulated_account"], true);
    let responses = get(&http, &server, &token, "/responses?state=contained").await;
    let id = responses["items"][0]["response_id"].as_str().unwrap().to_owned();
    server.stop();

    let with = |password: &str| {
        let args = ["respond", "undo", &id, "--as", "admin", "--password-file", "-", "--data", data.to_str().unwrap()];
        run(&args, password.as_bytes())
    };
    assert_eq!(with("wrong").status.code(), Some(1));
    let output = with(PASSWORD);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("undone"), "{told}");
    let second = with(PASSWORD);
    assert_eq!(second.status.code(), Some(1), "what is undone cannot be undone again");
}

#[tokio::test]
async fn a_lost_password_is_reset_by_who_may_write_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("with a space");
    let http = Client::new();
    let server = Server::start(&data, &[]);
    let token = administrator(&http, &server).await;
    // Locked out as well, which a reset ends.
    for _ in 0..5 {
        let wrong = json!({"username": "admin", "password": "not the password at all"});
        let answer = http.post(server.url("/auth/login")).json(&wrong).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let reset = |name: &str| run(&["user", "reset-password", name, "--data", data.to_str().unwrap()], b"");
    let unknown = reset("nobody");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody"));
    let output = reset("admin");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let fresh = told.lines().last().unwrap().trim();

    let old = http.get(server.url("/alerts")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(old.status(), StatusCode::UNAUTHORIZED, "sessions have ended");
    let session = log_in(&http, &server, fresh).await;
    assert_eq!(session["user"]["must_change_password"], true);
    let early = http.get(server.url("/alerts")).bearer_auth(session["token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(early.status(), StatusCode::FORBIDDEN);
    server.stop();

    let nowhere = folder.path().join("nothing here");
    let output = run(&["user", "reset-password", "admin", "--data", nowhere.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(!nowhere.exists(), "nothing is made by it");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("held"), &[]);
    let address = server.base.trim_start_matches("http://").to_owned();
    std::fs::write(folder.path().join("a-file"), "").unwrap();
    let refused = |data: &str, listen: &str, settings: &str| {
        let data = folder.path().join(data);
        let config = folder.path().join("settings.toml");
        std::fs::write(&config, settings).unwrap();
        let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
        let output = run(&["serve", "--data", data, "--listen", listen, "--config", config], b"");
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty(), "no password is made for nothing");
        String::from_utf8(output.stderr).unwrap()
    };
    let any = "127.0.0.1:0";
    for (data, listen, settings, reason) in [
        ("held", any, "", "another process serves"),
        ("new", address.as_str(), "", address.as_str()),
        ("a-file", any, "", "a-file"),
        ("new", any, "[respond]\nmode = \"automatic\"", "needs a connected account"),
        ("new", any, "[respond]\nmode = \"approve\"", "needs a connected account"),
        ("new", any, "[detect]\nrules = [\"/no/such/rules\"]", "/no/such/rules"),
        ("new", any, "[respond.webhook]\nurl = \"http://localhost/\"\nsecret_file = \"/no/secret\"", "/no/secret"),
        ("new", any, "[respond\n", "line 1"),
        ("new", any, "[ingest]\narchive_days = 0", "archive_days"),
    ] {
        let told = refused(data, listen, settings);
        assert!(told.contains(reason), "{settings:?}: {told}");
        assert!(!folder.path().join(data).join("last-start.json").exists() || data == "held");
    }
    server.stop();
}

#[tokio::test]
async fn a_command_holds_to_the_guardrails_that_the_server_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(run(&["demo", "--once", "--mode", "approve", "--data", data.to_str().unwrap()], b"").status.success());
    let listed = run(
        &["respond", "list", "--state", "awaiting_approval", "--format", "ndjson", "--data", data.to_str().unwrap()],
        b"",
    );
    let text = String::from_utf8(listed.stdout).unwrap();
    let response: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let (id, owner) = (response["response_id"].as_str().unwrap(), response["user_name"].as_str().unwrap());
    // The settings lie elsewhere than the data.
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, format!("[respond]\nmode = \"approve\"\nbreak_glass = [\"{owner}\"]\n")).unwrap();
    let http = Client::new();
    let server = Server::start(&data, &["--account", "simulated", "--config", settings.to_str().unwrap()]);
    administrator(&http, &server).await;
    server.stop();

    let args = ["respond", "approve", id, "--as", "admin", "--password-file", "-", "--data", data.to_str().unwrap()];
    let output = run(&args, PASSWORD.as_bytes());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("refused") && told.contains("break-glass"), "{told}");
}

/// The binary with credentials for that AWS and no other.
fn at_aws(endpoint: &str) -> std::process::Command {
    let mut binary = sentinel();
    binary
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/no/such/file")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN");
    binary
}

const OWN_ROLE: &str = "arn:aws:iam::111122223333:role/security/CloudSentinelRespond";
const OWN_SESSION: &str = "arn:aws:sts::111122223333:assumed-role/CloudSentinelRespond/sentinel";

/// Waits until a Region's events have been read to the end so many times.
async fn wait_until_told(aws: &Aws, region: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(150);
    while aws.told(region) < times {
        assert!(Instant::now() < end, "{region} was read {} of {times} times", aws.told(region));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Events that a server's ingest accepted.
async fn accepted(http: &Client, server: &Server) -> f64 {
    let text = http.get(format!("{}/metrics", server.base)).send().await.unwrap().text().await.unwrap();
    let counts = text.lines().filter(|line| line.starts_with("sentinel_events_total"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

// The server that stands for AWS must answer while this test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_account_is_watched_by_its_cloudtrail_and_a_restart_reads_on() {
    let data = tempfile::tempdir().unwrap();
    let settings = data.path().join("sentinel.toml");
    std::fs::write(&settings, format!("[respond]\nmode = \"approve\"\nown_role = \"{OWN_ROLE}\"\n")).unwrap();
    // Not of this very second: a poll reads up to the second in which it begins, and leaves that to the next, a minute on.
    let time = (jiff::Timestamp::now() - Duration::from_secs(30)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let records = (1..=3).map(|n| {
        let mut event = stop_logging(&format!("d0000000-0000-4000-8000-{n:012}"), &time);
        event["userIdentity"]["arn"] = json!(format!("arn:aws:iam::111122223333:user/mallory{n}"));
        event["userIdentity"]["userName"] = json!(format!("mallory{n}"));
        event
    });
    let aws = Aws::new(OWN_SESSION, records.collect(), 2);
    let endpoint = aws.listen().await;
    let http = Client::new();
    let more = ["--poll", "us-east-1,eu-central-1", "--account", "aws"];
    let server = Server::start_with(data.path(), &more, at_aws(&endpoint));
    let token = administrator(&http, &server).await;
    let alerts = wait_for_alerts(&http, &server, &token, 3).await;
    assert_eq!(alerts.len(), 3);
    let alert = get(&http, &server, &token, &format!("/alerts/{}", alerts[0]["alert_id"].as_str().unwrap())).await;
    assert_eq!(alert["provenance"][0]["channel"], "cloud_trail_api");
    assert_eq!(alert["provenance"][0]["account"], "111122223333");
    let health: Value = http.get(server.url("/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&health["simulated_account"], &health["response_mode"]), (&json!(false), &json!("approve")));
    assert!((accepted(&http, &server).await - 3.0).abs() < f64::EPSILON);
    wait_until_told(&aws, "eu-central-1", 1).await;
    server.stop();

    // Started again it reads the same minutes, and takes in nothing of them.
    let (here, there) = (aws.told("us-east-1"), aws.told("eu-central-1"));
    let server = Server::start_with(data.path(), &more, at_aws(&endpoint));
    let token = administrator(&http, &server).await;
    wait_until_told(&aws, "us-east-1", here + 1).await;
    wait_until_told(&aws, "eu-central-1", there + 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(accepted(&http, &server).await.abs() < f64::EPSILON);
    let again = wait_for_alerts(&http, &server, &token, 3).await;
    let of_events = |alerts: &[Value]| -> BTreeMap<String, Value> {
        alerts.iter().map(|a| (a["alert_id"].as_str().unwrap().to_owned(), a["event_ids"].clone())).collect()
    };
    assert_eq!(of_events(&again), of_events(&alerts));
    server.stop();
}

// The server that stands for AWS must answer while this test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_only_acted_on_under_the_role_that_own_calls_are_known_by() {
    let folder = tempfile::tempdir().unwrap();
    let user = "arn:aws:iam::111122223333:user/ada";
    let other = "arn:aws:sts::111122223333:assumed-role/Admin/ada";
    let with_role = format!("mode = \"automatic\"\nown_role = \"{OWN_ROLE}\"");
    for (arn, settings, told) in [
        (user, with_role.as_str(), "long-term key"),
        (other, with_role.as_str(), "assumed-role/Admin/ada"),
        (OWN_SESSION, "mode = \"automatic\"", "needs own_role"),
    ] {
        let endpoint = Aws::new(arn, Vec::new(), 0).listen().await;
        let config = folder.path().join("settings.toml");
        std::fs::write(&config, format!("[respond]\n{settings}\n")).unwrap();
        let data = folder.path().join("data");
        let output = tokio::task::spawn_blocking(move || {
            at_aws(&endpoint)
                .args(["serve", "--listen", "127.0.0.1:0", "--account", "aws"])
                .args(["--data", data.to_str().unwrap(), "--config", config.to_str().unwrap()])
                .output()
                .unwrap()
        });
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(told), "{error}");
    }
    let odd = run(&["serve", "--poll", "everywhere"], b"");
    assert_eq!(odd.status.code(), Some(2));
}
