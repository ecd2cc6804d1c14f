//! Notices: once, by every channel, whatever happens to one of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentinel_durable::worker::Handler;
use sentinel_durable::{Clock, ManualClock, Outcome, Stage};
use sentinel_model::Level;
use sentinel_model::response::{Mode, ResponseState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::notify::{NoticeKind, Notification, Notifier, NotifyError};
use crate::webhook::{WebhookNotifier, signature};
use crate::{Playbooks, Respond};

fn alerts_told(world: &World) -> Vec<Option<Level>> {
    let told = world.recorder.told.lock().unwrap();
    told.iter().filter(|n| n.kind == NoticeKind::Alert).map(|n| n.level).collect()
}

#[tokio::test]
async fn an_alert_is_told_once_for_each_level() {
    let world = World::new(Mode::Observe).await;
    let raised = world.raise(alert("al-1")).await;
    world.send(&raised).await;
    world.pass(60).await;
    world.send(&raised).await;
    world.pass(60).await;
    assert_eq!(alerts_told(&world), [Some(Level::High)]);
    let mut risen = alert("al-1");
    risen.alert.level = Level::Critical;
    let raised = world.raise(risen).await;
    world.send(&raised).await;
    world.pass(60).await;
    assert_eq!(alerts_told(&world), [Some(Level::High), Some(Level::Critical)]);
}

#[tokio::test]
async fn an_informational_alert_is_never_told() {
    let world = World::new(Mode::Automatic).await;
    let mut found = alert("al-1");
    found.alert.level = Level::Informational;
    world.raise(found).await;
    world.pass(60).await;
    assert!(world.titles().is_empty());
    assert!(world.response_of(KEY, 0).await.is_none());
}

#[tokio::test]
async fn a_notifier_that_is_down_stops_neither_containment_nor_the_others_and_is_told_later() {
    let world = World::new(Mode::Automatic).await;
    world.recorder.fails.store(true, Ordering::SeqCst);
    world.raise(alert("al-1")).await;
    world.pass(120).await;
    assert_eq!(world.response().await.state, ResponseState::Contained);
    assert_eq!(world.second.told.lock().unwrap().len(), 2);
    assert!(world.recorder.told.lock().unwrap().is_empty());
    world.pass(1800).await;
    world.recorder.fails.store(false, Ordering::SeqCst);
    world.pass(1800).await;
    let ids = world.distinct_notices();
    assert_eq!((ids.len(), world.recorder.told.lock().unwrap().len()), (2, 2), "each once");
    assert_eq!(world.second.told.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_notifier_that_stays_down_is_given_up_in_the_end() {
    let world = World::new(Mode::Observe).await;
    world.recorder.fails.store(true, Ordering::SeqCst);
    world.raise(alert("al-1")).await;
    for _ in 0..60 {
        world.clock.advance(900);
        world.round().await;
    }
    let id = Notification::of_alert(&alert("al-1").alert, world.now()).unwrap().id;
    let notice = world.respond.responses().notice(ACCOUNT, &id, "first").await.unwrap().unwrap().notice;
    assert_eq!((notice.attempts, notice.given_up.as_deref()), (24, Some("the receiver is down")));
}

/// Returns only when another delivery is under way too; notes how many calls IAM had had by then.
struct Meeting {
    barrier: tokio::sync::Barrier,
    faults: Arc<Faults>,
    sets: std::sync::Mutex<Vec<usize>>,
}

#[async_trait::async_trait]
impl Notifier for Meeting {
    fn name(&self) -> &'static str {
        "meeting"
    }
    async fn notify(&self, _: &Notification) -> Result<(), NotifyError> {
        self.sets.lock().unwrap().push(self.faults.sets.load(Ordering::SeqCst));
        self.barrier.wait().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_neither_containment_nor_other_deliveries() {
    let world = World::new(Mode::Automatic).await;
    let (barrier, faults) = (tokio::sync::Barrier::new(2), world.faults.clone());
    let meeting = Arc::new(Meeting { barrier, faults, sets: std::sync::Mutex::default() });
    let mut ports = world.respond.ports.clone();
    ports.notifiers = vec![meeting.clone()];
    let respond = Respond::new(ports, config(Mode::Automatic), Playbooks::shipped().unwrap()).unwrap();
    let world = World { respond: Arc::new(respond), ..world };
    // Two notices lie in the queue before the alert that calls for containment.
    for id in ["low-1", "low-2"] {
        let mut found = alert(id);
        found.alert.level = Level::Low;
        world.raise(found).await;
    }
    let raised = world.db.queue().receive(Stage::Respond, 10, 60).await.unwrap();
    for message in &raised {
        world.db.queue().delete(Stage::Respond, &message.receipt).await.unwrap();
    }
    assert_eq!(world.respond.handle(raised).await.len(), 2);
    world.raise(alert("al-1")).await;
    let batch = world.db.queue().receive(Stage::Respond, 10, 60).await.unwrap();
    assert_eq!(batch.len(), 3);
    let handled = tokio::time::timeout(std::time::Duration::from_secs(20), world.respond.handle(batch)).await;
    assert!(handled.expect("deliveries run side by side").iter().all(|o| matches!(o, Outcome::Done)));
    assert_eq!(*meeting.sets.lock().unwrap(), [1, 1], "the key was deactivated before anybody was told");
}

/// Answers one request with a status line and returns what came.
async fn receive(listener: tokio::net::TcpListener, status: &'static str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        got.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&got).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if body.len() >= length.unwrap().parse::<usize>().unwrap() {
            break;
        }
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(got).unwrap()
}

async fn post(status: &'static str, secret: Option<&str>) -> (String, Result<(), String>, Notification) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=secret-token", listener.local_addr().unwrap());
    let server = tokio::spawn(receive(listener, status));
    let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
    let hook = WebhookNotifier::new("webhook", &url, secret.map(str::to_owned), clock.clone()).unwrap();
    let notification = Notification::of_alert(&alert("al-1").alert, clock.now()).unwrap();
    let sent = hook.notify(&notification).await.map_err(|e| e.to_string());
    (server.await.unwrap(), sent, notification)
}

#[tokio::test]
async fn the_webhook_posts_signed_json_with_an_idempotency_key() {
    let (got, sent, notification) = post("200 OK", Some("s3cret")).await;
    assert_eq!(sent, Ok(()));
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let found = head.lines().find_map(|l| l.split_once(": ").filter(|(k, _)| k.eq_ignore_ascii_case(name)));
        found.map(|(_, v)| v.to_owned())
    };
    assert!(head.starts_with("POST /hook"));
    assert_eq!(header("idempotency-key"), Some(notification.id.clone()));
    let timestamp = header("x-cloudsentinel-timestamp").unwrap();
    let expected = signature("s3cret", &timestamp, body.as_bytes()).unwrap();
    assert_eq!(header("x-cloudsentinel-signature"), Some(expected));
    assert_eq!(serde_json::from_str::<Notification>(body).unwrap(), notification);
}

#[tokio::test]
async fn the_webhook_signs_nothing_without_a_secret_and_reports_refusals_without_its_address() {
    let (got, sent, _) = post("503 Service Unavailable", None).await;
    assert!(!got.to_ascii_lowercase().contains("x-cloudsentinel-signature"));
    assert!(sent.unwrap_err().contains("503"));
    // Nobody listens any more.
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(START.parse().unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=secret-token", listener.local_addr().unwrap());
    drop(listener);
    let hook = WebhookNotifier::new("webhook", &url, None, clock.clone()).unwrap();
    let notification = Notification::of_alert(&alert("al-1").alert, clock.now()).unwrap();
    let error = hook.notify(&notification).await.unwrap_err().to_string();
    assert!(!error.contains("secret-token"), "{error}");
}

#[test]
fn the_signature_is_hmac_sha256() {
    // Computed with Python's hmac module over b'1772625600.{"a":1}'.
    let expected = "sha256=27a3f8ce03266c69e71a2e73dcedc1694ad40b00a668f8437f5dda4f955a0a10";
    assert_eq!(signature("s3cret", "1772625600", br#"{"a":1}"#).unwrap(), expected);
}

#[test]
fn a_webhook_needs_an_http_address_and_a_secret_that_is_one() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(START.parse().unwrap()));
    assert!(WebhookNotifier::new("w", "ftp://example.com", None, clock.clone()).is_err());
    assert!(WebhookNotifier::new("w", "not an address", None, clock.clone()).is_err());
    assert!(WebhookNotifier::new("w", "https://example.com", Some(String::new()), clock).is_err());
}
