//! The real stages, wired as `serve` wires them, over a clock that tests move: what becomes of events from
//! their arrival to the key's state.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use sentinel_durable::{
    ManualClock,
    worker::{self, Settings},
};
use sentinel_ingest::Input;
use sentinel_model::{
    Channel, Level,
    response::{Mode, Response, ResponseState},
    time,
};
use sentinel_respond::iam::{KeyStatus, SimulatedUser};
use sentinel_search::{DocumentKind, SearchQuery};
use sentinel_state::{
    alerts::{ListAlerts, StoredAlert},
    responses::ListResponses,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{IngestConfig, RespondConfig, WebhookConfig};

const ACCOUNT: &str = "111122223333";
const OWN_ROLE: &str = "arn:aws:iam::111122223333:role/CloudSentinelRespond";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const OTHER_KEY: &str = "AKIAI44QH8DHBEXAMPLE";
const START: &str = "2026-03-02T09:15:00Z";

struct World {
    pipeline: Pipeline,
    clock: Arc<ManualClock>,
    config: Config,
    _data: TempDir,
}

impl World {
    async fn new(mode: Mode) -> Self {
        Self::with(mode, None).await
    }

    async fn with(mode: Mode, receiver: Option<&Receiver>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let config = Config {
            ingest: IngestConfig { archive_days: 60, search_days: 30 },
            respond: RespondConfig {
                mode,
                own_role: Some(OWN_ROLE.into()),
                webhook: receiver.map(|r| WebhookConfig { url: r.1.clone(), secret_file: None }),
                ..RespondConfig::default()
            },
            ..Config::default()
        };
        let pipeline = Pipeline::open(data.path(), &config, Account::Simulated, clock.clone()).unwrap();
        let user = SimulatedUser {
            name: "mallory".into(),
            keys: vec![KEY.into(), OTHER_KEY.into()],
            ..SimulatedUser::default()
        };
        pipeline.simulated.as_ref().unwrap().add_user(ACCOUNT, &user).await.unwrap();
        Self { pipeline, clock, config, _data: data }
    }

    /// Takes in records that come now and lets a minute pass.
    async fn take(&self, channel: Channel, records: &[Value]) {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        let text = lines.join("\n");
        let report = self.pipeline.ingest.accept(Input::new("test", text.as_bytes(), channel)).await.unwrap();
        assert_eq!(report.accepted, records.len() as u64, "{:?}", report.malformed);
        self.pass(60).await;
    }

    async fn pass(&self, seconds: i64) {
        let database = &self.pipeline.database;
        for _ in 0..seconds / 5 {
            worker::chores(database.table().as_ref(), database.queue().as_ref(), database.timer().as_ref()).await;
            worker::drain_all(database.queue().as_ref(), &self.pipeline.handlers(), &Settings::default())
                .await
                .unwrap();
            self.clock.advance(5);
        }
    }

    async fn alerts(&self) -> Vec<StoredAlert> {
        let wanted = ListAlerts { min_level: Some(Level::Informational), limit: 200, ..ListAlerts::default() };
        self.pipeline.alerts.list(&wanted).await.unwrap().0.into_iter().map(|(stored, _)| stored).collect()
    }

    /// Alerts about our own role: rule and level.
    async fn alerts_of_our_role(&self) -> Vec<(String, Level)> {
        let about = |a: &StoredAlert| a.alert.principal.role.as_deref() == Some(OWN_ROLE);
        let found = self.alerts().await;
        found.into_iter().filter(about).map(|a| (a.alert.rule.id, a.alert.level)).collect()
    }

    async fn responses(&self) -> Vec<Response> {
        let wanted = ListResponses { limit: 100, ..ListResponses::default() };
        self.pipeline.responses.list(&wanted).await.unwrap().0.into_iter().map(|s| s.response).collect()
    }

    async fn status(&self, key: &str) -> KeyStatus {
        let iam = self.pipeline.simulated.as_ref().unwrap();
        iam.key_status(ACCOUNT, "mallory", key).await.unwrap().unwrap()
    }

    async fn changes(&self, key: &str) -> u32 {
        self.pipeline.simulated.as_ref().unwrap().status_changes(ACCOUNT, key).await.unwrap()
    }

    fn seconds_ago(&self, seconds: i64) -> String {
        time::plus_seconds(self.clock.now(), -seconds).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The trail stopped with the first key, so many seconds ago.
    fn attack(&self, id: &str, seconds: i64) -> Value {
        json!({
            "eventVersion": "1.11", "eventID": id, "eventTime": self.seconds_ago(seconds),
            "userIdentity": {
                "type": "IAMUser", "principalId": "AIDACKCEVSQ6C2EXAMPLE", "accountId": ACCOUNT,
                "arn": "arn:aws:iam::111122223333:user/mallory", "accessKeyId": KEY, "userName": "mallory"
            },
            "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging", "awsRegion": "us-east-1",
            "sourceIPAddress": "203.0.113.7", "userAgent": "aws-cli/2.15.0",
            "requestParameters": {"name": "arn:aws:cloudtrail:us-east-1:111122223333:trail/main"},
            "responseElements": null, "readOnly": false, "eventType": "AwsApiCall", "managementEvent": true,
            "recipientAccountId": ACCOUNT, "eventCategory": "Management"
        })
    }

    /// A call that our role made so many seconds ago.
    fn by_our_role(&self, id: &str, name: &str, read_only: bool, seconds: i64, parameters: &Value) -> Value {
        json!({
            "eventVersion": "1.11", "eventID": id, "eventTime": self.seconds_ago(seconds),
            "userIdentity": {
                "type": "AssumedRole", "principalId": "AROACKCEVSQ6C2EXAMPLE:respond", "accountId": ACCOUNT,
                "arn": "arn:aws:sts::111122223333:assumed-role/CloudSentinelRespond/respond",
                "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
                "sessionContext": {"sessionIssuer": {
                    "type": "Role", "principalId": "AROACKCEVSQ6C2EXAMPLE", "arn": OWN_ROLE,
                    "accountId": ACCOUNT, "userName": "CloudSentinelRespond"
                }}
            },
            "eventSource": "iam.amazonaws.com", "eventName": name, "awsRegion": "us-east-1",
            "sourceIPAddress": "198.51.100.20", "userAgent": "aws-sdk-rust/1.3.3",
            "requestParameters": parameters, "responseElements": null, "readOnly": read_only,
            "eventType": "AwsApiCall", "managementEvent": true, "recipientAccountId": ACCOUNT,
            "eventCategory": "Management"
        })
    }
}

/// A notice as a receiver was sent it, and what the receiver answered.
#[derive(Debug, Clone)]
struct Told {
    id: String,
    title: String,
    status: u16,
}

#[derive(Default)]
struct Received {
    told: Mutex<Vec<Told>>,
    failures: Mutex<VecDeque<u16>>,
}

/// A webhook's receiver on this machine, and its address.
struct Receiver(Arc<Received>, String);

impl Receiver {
    /// One that answers the first notices with these.
    async fn start(failures: &[u16]) -> Self {
        let received =
            Arc::new(Received { failures: Mutex::new(failures.iter().copied().collect()), ..Received::default() });
        let kept = Arc::clone(&received);
        let take = async move |headers: HeaderMap, Json(body): Json<Value>| {
            let status = kept.failures.lock().unwrap().pop_front().unwrap_or(200);
            kept.told.lock().unwrap().push(Told {
                id: headers["idempotency-key"].to_str().unwrap().into(),
                title: body["title"].as_str().unwrap().into(),
                status,
            });
            StatusCode::from_u16(status).unwrap()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, Router::new().route("/", post(take))).await });
        Self(received, url)
    }

    fn titles(&self) -> Vec<String> {
        self.0.told.lock().unwrap().iter().map(|t| t.title.clone()).collect()
    }
}

fn simulated() -> Channel {
    Channel::Simulated { account: ACCOUNT.into() }
}

fn bus() -> Channel {
    Channel::Bus { bus: "default".into(), account: ACCOUNT.into() }
}

fn deactivation(key: &str) -> Value {
    json!({"userName": "mallory", "accessKeyId": key, "status": "Inactive"})
}

#[tokio::test]
async fn our_own_action_raises_nothing_and_anything_else_by_our_role_is_critical() {
    let world = World::new(Mode::Automatic).await;
    world.take(simulated(), &[world.attack("attack", 5)]).await;
    let response = world.responses().await.remove(0);
    assert_eq!(response.state, ResponseState::Contained, "{:?}", response.steps);
    assert_eq!((world.status(KEY).await, world.status(OTHER_KEY).await), (KeyStatus::Inactive, KeyStatus::Active));
    let alerts = world.alerts().await.len();

    // The events that the containment itself causes, as CloudTrail delivers them a minute later; twice.
    let caused = [
        world.by_our_role("own-read", "GetAccessKeyLastUsed", true, 60, &json!({"accessKeyId": KEY})),
        world.by_our_role("own-list", "ListAccessKeys", true, 48, &json!({"userName": "mallory"})),
        world.by_our_role("own-write", "UpdateAccessKey", false, 60, &deactivation(KEY)),
    ];
    world.take(simulated(), &caused).await;
    world.take(bus(), &caused).await;
    assert_eq!(world.alerts_of_our_role().await, []);
    assert_eq!(world.alerts().await.len(), alerts, "nothing new about anybody");
    let response = world.responses().await.remove(0);
    assert!(response.own_events.contains(&"own-write".to_owned()), "{:?}", response.own_events);
    assert!(response.own_events.contains(&"own-list".to_owned()), "{:?}", response.own_events);

    // Somebody who holds our role: the same operation again, another one, and a mere look around.
    for (hour, (name, read_only, parameters)) in [
        ("UpdateAccessKey", false, deactivation(OTHER_KEY)),
        ("CreateUser", false, json!({"userName": "backdoor"})),
        ("ListUsers", true, json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let before = world.alerts_of_our_role().await;
        let seconds = if hour == 0 { 100 } else { 5 };
        world
            .take(simulated(), &[world.by_our_role(&format!("foreign-{hour}"), name, read_only, seconds, &parameters)])
            .await;
        let after = world.alerts_of_our_role().await;
        let critical = after.iter().filter(|(_, level)| *level == Level::Critical).count();
        assert_eq!(critical, hour + 1, "{name}: {before:?} {after:?}");
        // The next one falls into another window, so that it is an alert of its own.
        world.pass(3600).await;
    }
    // Our own role is told of, never acted on.
    assert_eq!((world.changes(KEY).await, world.changes(OTHER_KEY).await), (1, 0));
    assert!(world.responses().await.iter().all(|r| r.access_key_id == KEY || r.state == ResponseState::Refused));
}

#[tokio::test]
async fn only_a_fresh_copy_from_the_account_itself_is_acted_on_without_asking() {
    let api = || Channel::Api { user: "admin".into() };
    let folder = || Channel::Folder { path: "inbox/a.json".into() };
    let bucket = |only_cloudtrail_writes| {
        Channel::Object {
        bucket: "trail".into(),
        key: "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T0915Z_x.json"
            .into(),
        only_cloudtrail_writes,
    }
    };
    let contained = ResponseState::Contained;
    let asks = ResponseState::AwaitingApproval;
    for (channel, age, state) in [
        (simulated(), 5, contained),
        (simulated(), 3600, contained),
        (simulated(), 3601, asks),
        (bus(), 5, contained),
        (bucket(true), 900, contained),
        (bucket(false), 5, asks),
        (api(), 5, asks),
        (folder(), 5, asks),
    ] {
        let world = World::new(Mode::Automatic).await;
        world.take(channel.clone(), &[world.attack("attack", age)]).await;
        let responses = world.responses().await;
        assert_eq!(responses.len(), 1);
        assert_eq!(responses[0].state, state, "{channel:?} {age} s: {:?}", responses[0].reasons);
        assert_eq!(world.changes(KEY).await, u32::from(state == contained), "{channel:?}");
        assert_eq!(world.changes(OTHER_KEY).await, 0);
    }
}

#[tokio::test]
async fn copies_of_an_event_by_every_way_in_make_one_alert_and_one_action() {
    let world = World::new(Mode::Automatic).await;
    let attack = world.attack("attack", 5);
    for channel in [simulated(), bus(), Channel::Api { user: "admin".into() }, simulated()] {
        world.take(channel, std::slice::from_ref(&attack)).await;
    }
    let stopped: Vec<_> = world.alerts().await.into_iter().filter(|a| !a.alert.rule.id.starts_with("model:")).collect();
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].alert.event_count, 1);
    assert_eq!(stopped[0].alert.provenance.len(), 3, "{:?}", stopped[0].alert.provenance);
    assert_eq!((world.responses().await.len(), world.changes(KEY).await), (1, 1));
    // One id from the batch of events to the action.
    assert_eq!(world.responses().await[0].correlation_id, stopped[0].alert.correlation_id);
    assert!(stopped[0].alert.correlation_id.starts_with("co-"));
}

#[tokio::test]
async fn a_second_key_that_joins_an_alert_is_contained_too_and_the_alert_is_told_once() {
    let receiver = Receiver::start(&[]).await;
    let world = World::with(Mode::Automatic, Some(&receiver)).await;
    world.take(simulated(), &[world.attack("attack-1", 5)]).await;
    assert_eq!((world.changes(KEY).await, world.changes(OTHER_KEY).await), (1, 0));
    let mut second = world.attack("attack-2", 5);
    second["userIdentity"]["accessKeyId"] = json!(OTHER_KEY);
    world.take(simulated(), std::slice::from_ref(&second)).await;
    world.take(bus(), &[second]).await;
    let stopped: Vec<_> = world.alerts().await.into_iter().filter(|a| !a.alert.rule.id.starts_with("model:")).collect();
    assert_eq!((stopped.len(), stopped[0].alert.event_count), (1, 2));
    assert_eq!((world.changes(KEY).await, world.changes(OTHER_KEY).await), (1, 1));
    assert_eq!(world.responses().await.len(), 2);
    let titles = receiver.titles();
    assert_eq!(titles.iter().filter(|t| t.starts_with("high alert")).count(), 1, "{titles:?}");
    assert_eq!(titles.iter().filter(|t| t.starts_with("Contained")).count(), 2, "{titles:?}");
}

#[tokio::test]
async fn a_webhook_that_fails_gets_each_notice_again_until_it_took_it_once() {
    let receiver = Receiver::start(&[500, 503, 429]).await;
    let world = World::with(Mode::Observe, Some(&receiver)).await;
    let attack = world.attack("attack", 5);
    for channel in [simulated(), bus(), simulated()] {
        world.take(channel, std::slice::from_ref(&attack)).await;
    }
    world.pass(1800).await;
    let told = receiver.0.told.lock().unwrap().clone();
    let alerts: Vec<_> = told.iter().filter(|t| t.title.starts_with("high alert")).collect();
    assert_eq!(alerts.iter().filter(|t| t.status == 200).count(), 1, "{told:?}");
    assert!(alerts.len() > 1 && alerts.iter().all(|t| t.id == alerts[0].id), "{told:?}");
    assert_eq!(alerts.last().unwrap().status, 200, "and not again after that");
}

#[tokio::test]
async fn what_is_older_than_the_settings_say_is_forgotten() {
    let world = World::new(Mode::Observe).await;
    world.take(simulated(), &[world.attack("attack", 5)]).await;
    let count = async || {
        let search = world.pipeline.database.search();
        let wanted = SearchQuery { kind: Some(DocumentKind::Event), limit: 10, ..SearchQuery::default() };
        let found = search.search(wanted).await.unwrap().documents.len();
        (world.pipeline.archive.days(ACCOUNT).await.unwrap().len(), found)
    };
    let clean = async || crate::serve::clean_once(&world.pipeline, &world.config).await.unwrap();
    clean().await;
    assert_eq!(count().await, (1, 1));
    world.clock.advance(31 * 86_400);
    clean().await;
    assert_eq!(count().await, (1, 0), "the archive is kept for 60 days, the index for 30");
    world.clock.advance(31 * 86_400);
    clean().await;
    assert_eq!(count().await, (0, 0));
}
