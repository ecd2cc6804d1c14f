//! A whole function process against a small Lambda Runtime API: batches, schedules, panics, deadlines, metrics.
//!
//! The process is this test binary itself, started again with [`the_function`] as its only test: what Lambda runs
//! is a process that asks for invocations, and only a process can be started with an environment of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::{
    process::{Command, ExitCode, Output, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::{get, post},
};
use sentinel_durable::{Message, Outcome, QueueError, worker::Handler};
use sentinel_lambda::{Intake, exit, serve_queue_and_events, start};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How the child is told what to be.
const ROLE: &str = "SENTINEL_TEST_FUNCTION";

// ---- the function

struct Bodies;

#[async_trait]
impl Handler for Bodies {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for message in batch {
            outcomes.push(match message.body.as_str() {
                "panic" => panic!("poison"),
                "fail" => Outcome::Retry("as asked".into()),
                "slow" => {
                    tokio::time::sleep(Duration::from_hours(1)).await;
                    Outcome::Done
                }
                _ => Outcome::Done,
            });
        }
        outcomes
    }
}

struct Door;

#[async_trait]
impl Intake for Door {
    async fn admit(&self, message: Message) -> Result<Option<Message>, QueueError> {
        Ok(Some(message))
    }

    async fn put_off(&self, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        println!("put off {receipt} for {}", if delay_seconds <= 2 { "little" } else { "long" });
        if receipt == "r-unlucky" { Err(QueueError::BatchSize(0)) } else { Ok(()) }
    }
}

#[test]
#[ignore = "it is the process that the other tests start"]
fn the_function() -> ExitCode {
    let Ok(role) = std::env::var(ROLE) else { return ExitCode::SUCCESS };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    exit(runtime.block_on(async {
        let start = start("respond").await?;
        if role == "strict" {
            start.env.read(|e| (e.text("SENTINEL_TABLE"), e.number("SENTINEL_HOURLY_CAP", 1_u32)))?;
        }
        serve_queue_and_events(start, Arc::new(Door), Arc::new(Bodies), |event| async move {
            match event["ask"].as_str() {
                Some("panic") => panic!("schedule"),
                Some("error") => Err(anyhow::anyhow!("outermost").context("inner").context("told")),
                _ => Ok(json!({ "asked": event["ask"] })),
            }
        })
        .await
    }))
}

// ---- the Runtime API

type Told = (String, String, Value);

struct Api {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, Value, u64)>>,
    told: mpsc::UnboundedSender<Told>,
}

async fn next(State(api): State<Arc<Api>>) -> (HeaderMap, Json<Value>) {
    let Some((id, event, deadline)) = api.events.lock().await.recv().await else { std::future::pending().await };
    let mut headers = HeaderMap::new();
    headers.insert("lambda-runtime-aws-request-id", id.parse().unwrap());
    headers.insert("lambda-runtime-deadline-ms", deadline.into());
    headers.insert("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:1:function:f".parse().unwrap());
    (headers, Json(event))
}

async fn told(State(api): State<Arc<Api>>, Path((id, how)): Path<(String, String)>, body: String) {
    let value = serde_json::from_str(&body).unwrap_or(Value::String(body));
    let _ = api.told.send((id, how, value));
}

/// A running function.
struct Function {
    events: mpsc::UnboundedSender<(String, Value, u64)>,
    told: mpsc::UnboundedReceiver<Told>,
    child: Option<std::process::Child>,
    count: u32,
}

fn child(role: &str, api: &str, more: &[(&str, &str)]) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "the_function", "--nocapture"]);
    command
        .env_clear()
        .env(ROLE, role)
        .env("AWS_LAMBDA_RUNTIME_API", api)
        .env("AWS_REGION", "us-east-1")
        .env("SENTINEL_RETRY_SECONDS", "2");
    for (name, value) in [("NAME", "f"), ("VERSION", "1"), ("MEMORY_SIZE", "128")] {
        command.env(format!("AWS_LAMBDA_FUNCTION_{name}"), value);
    }
    command.envs(more.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Function {
    async fn start() -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let (sender, told_here) = mpsc::unbounded_channel();
        let api = Arc::new(Api { events: tokio::sync::Mutex::new(receiver), told: sender });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{how}", post(told))
            .with_state(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { events, told: told_here, child: Some(child("serve", &address, &[])), count: 0 }
    }

    /// What the function answers to an event: `response` or `error`, and the value.
    async fn invoke_within(&mut self, event: Value, time: Duration) -> (String, Value) {
        self.count += 1;
        let id = format!("request-{}", self.count);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.events.send((id.clone(), event, u64::try_from((now + time).as_millis()).unwrap())).unwrap();
        let answer = tokio::time::timeout(Duration::from_mins(1), self.told.recv()).await.expect("no answer");
        let (answered, how, value) = answer.unwrap();
        assert_eq!(answered, id);
        (how, value)
    }

    async fn invoke(&mut self, event: Value) -> (String, Value) {
        self.invoke_within(event, Duration::from_secs(30)).await
    }

    /// Ends the process; what it wrote.
    fn end(mut self) -> Output {
        let mut child = self.child.take().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "the process ended by itself");
        child.kill().unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A batch of messages: id, how often received, body.
fn batch(messages: &[(&str, u32, &str)]) -> Value {
    let record = |(id, receives, body): &(&str, u32, &str)| {
        json!({
            "messageId": id, "receiptHandle": format!("r-{id}"), "body": body, "eventSource": "aws:sqs",
            "attributes": { "ApproximateReceiveCount": receives.to_string(), "SentTimestamp": "1700000000000" }
        })
    };
    json!({ "Records": messages.iter().map(record).collect::<Vec<_>>() })
}

fn failures(answer: &(String, Value)) -> Vec<&str> {
    assert_eq!(answer.0, "response", "{answer:?}");
    answer.1["batchItemFailures"].as_array().unwrap().iter().map(|f| f["itemIdentifier"].as_str().unwrap()).collect()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(bytes).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn only_what_failed_is_answered_put_off_and_told() {
    let mut function = Function::start().await;
    let event = batch(&[("a", 1, ""), ("b", 1, "fail"), ("c", 1, "panic"), ("d", 4, "fail"), ("unlucky", 1, "fail")]);
    assert_eq!(failures(&function.invoke(event).await), ["b", "c", "d", "unlucky"]);
    assert!(failures(&function.invoke(batch(&[("e", 1, "")])).await).is_empty(), "the same process goes on");
    let output = function.end();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    for put_off in ["r-b for little", "r-c for little", "r-d for long"] {
        assert!(out.contains(&format!("put off {put_off}")), "{put_off}: {out}");
    }
    let metrics = lines(&output.stdout);
    let errors: Vec<&Value> = metrics.iter().filter(|l| l["sentinel_errors_total"].is_number()).collect();
    assert_eq!(errors.len(), 1, "{metrics:?}");
    assert_eq!((&errors[0]["sentinel_errors_total"], &errors[0]["stage"]), (&json!(4), &json!("respond")));
    assert_eq!(errors[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"], "CloudSentinel");
    let log = lines(&output.stderr);
    let failed: Vec<&Value> = log.iter().filter(|l| l["message"] == "message failed").collect();
    assert_eq!(failed.len(), 4, "{log:?}");
    let last = failed.iter().find(|l| l["reason"] == "as asked" && l["receives"] == 4).unwrap();
    assert_eq!((&last["stage"], &last["level"]), (&json!("respond"), &json!("WARN")));
    assert!(log.iter().any(|l| l["message"].as_str().is_some_and(|m| m.contains("not put off"))), "{log:?}");
}

#[tokio::test]
async fn what_is_not_done_shortly_before_the_deadline_comes_again() {
    let mut function = Function::start().await;
    let begun = std::time::Instant::now();
    let event = batch(&[("a", 2, "slow"), ("b", 2, "")]);
    let answer = function.invoke_within(event, Duration::from_secs(3)).await;
    assert_eq!(failures(&answer), ["a"]);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(failures(&function.invoke(batch(&[("c", 1, "")])).await).is_empty());
    function.end();
}

#[tokio::test]
async fn a_schedule_is_answered_and_its_failure_or_panic_reported() {
    let mut function = Function::start().await;
    assert_eq!(function.invoke(json!({ "ask": "this" })).await, ("response".into(), json!({ "asked": "this" })));
    let (how, error) = function.invoke(json!({ "ask": "error" })).await;
    assert_eq!((how.as_str(), &error["errorMessage"]), ("error", &json!("told: inner: outermost")));
    let (how, error) = function.invoke(json!({ "ask": "panic" })).await;
    assert_eq!(how, "error");
    assert!(error["errorMessage"].as_str().unwrap().contains("schedule"), "{error}");
    let mut nameless = batch(&[("a", 1, "")]);
    nameless["Records"][0].as_object_mut().unwrap().remove("messageId");
    let (how, error) = function.invoke(nameless).await;
    assert_eq!((how.as_str(), &error["errorMessage"]), ("error", &json!("a message of the event has no messageId")));
    assert_eq!(function.invoke(json!({ "ask": 1 })).await.0, "response");
    function.end();
}

#[test]
fn a_start_with_mistakes_ends_in_failure_that_names_them_all() {
    let settings = [("SENTINEL_LOG", "sentinel=loud"), ("SENTINEL_HOURLY_CAP", "many")];
    let output = child("strict", "127.0.0.1:9", &settings).wait_with_output().unwrap();
    assert!(!output.status.success());
    let log = lines(&output.stderr);
    let told = log.iter().find(|l| l["level"] == "ERROR").unwrap()["error"].as_str().unwrap().to_owned();
    for part in ["SENTINEL_LOG is no log filter", "SENTINEL_TABLE is missing", "SENTINEL_HOURLY_CAP is not a number"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}
