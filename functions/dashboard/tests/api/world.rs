//! A deployment of its own for each test, and a client of it.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use sentinel_archive::FileArchive;
use sentinel_dashboard::{
    Dashboard, Info,
    auth::{password, token},
};
use sentinel_durable::{ManualClock, Outgoing, Queue, Stage, codec, worker};
use sentinel_embedded::Database;
use sentinel_ingest::Ingest;
use sentinel_model::{
    Alert, Attack, Channel, EventRef, Incident, Level, Principal, PrincipalKind, Provenance, Timestamp,
    alert::{AttestedUse, Indicators, KeyUse, RuleRef, ScoreBasis, Window, alert_id},
    incident::incident_id,
    message::AlertRaised,
    response::Mode,
    time,
};
use sentinel_respond::{Config, Playbooks, Ports, Respond, SimulatedIam, SimulatedUser};
use sentinel_search::{Document, DocumentKind, KeySearch, SearchIndex};
use sentinel_state::{
    Condition, Table,
    alerts::{Alerts, IncidentPointer, Members, StoredAlert},
    backtests::Backtests,
    incidents::{Incidents, StoredIncident},
    responses::Responses,
    signing::TableSigningKeys,
    users::{ApiToken, Role, User, Users},
};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::ServiceExt;

/// Everybody's password.
pub(crate) const PASSWORD: &str = "a horse on a staple";
pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const MALLORY: &str = "arn:aws:iam::123456789012:user/mallory";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// The last part of the problem's type.
    pub(crate) fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap().to_owned();
        kind.trim_start_matches("/problems/").to_owned()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) table: Arc<dyn Table>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) search: Arc<dyn SearchIndex>,
    pub(crate) users: Users,
    pub(crate) app: Arc<Dashboard>,
    pub(crate) archive: Arc<FileArchive>,
    pub(crate) iam: SimulatedIam,
    respond: Arc<Respond>,
    database: Database,
    router: Router,
    _files: tempfile::TempDir,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    /// In mode approve.
    pub(crate) async fn new() -> Self {
        Self::searched_by(Database::search).await
    }

    /// Where there is no index of events.
    pub(crate) async fn without_index() -> Self {
        Self::searched_by(|database| Arc::new(KeySearch::new(Alerts::new(database.table())))).await
    }

    async fn searched_by(search: impl Fn(&Database) -> Arc<dyn SearchIndex>) -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-03-01T12:00:00Z")));
        let database = Database::in_memory(clock.clone()).unwrap();
        let (table, queue, search) = (database.table(), database.queue(), search(&database));
        let files = tempfile::tempdir().unwrap();
        let archive = Arc::new(FileArchive::open(files.path()).unwrap());
        let users = Users::new(table.clone());
        let iam = SimulatedIam::new(table.clone(), clock.clone());
        let mallory = SimulatedUser { name: "mallory".into(), keys: vec![KEY.into()], ..SimulatedUser::default() };
        iam.add_user(ACCOUNT, &mallory).await.unwrap();
        let ports = Ports {
            iam: Arc::new(iam.clone()),
            responses: Responses::new(table.clone()),
            alerts: Arc::new(Alerts::new(table.clone())),
            approvers: Arc::new(users.clone()),
            notifiers: Vec::new(),
            queue: queue.clone(),
            timer: database.timer(),
            clock: clock.clone(),
        };
        let config = Config { mode: Mode::Approve, ..Config::default() };
        let respond = Arc::new(Respond::new(ports, config, Playbooks::shipped().unwrap()).unwrap());
        let app = Arc::new(Dashboard {
            users: users.clone(),
            signing: Arc::new(TableSigningKeys::new(table.clone())),
            alerts: Alerts::new(table.clone()),
            incidents: Incidents::new(table.clone()),
            responses: Responses::new(table.clone()),
            backtests: Backtests::new(table.clone()),
            search: search.clone(),
            queue: queue.clone(),
            ingest: Arc::new(Ingest::new(archive.clone(), search.clone(), queue.clone(), clock.clone())),
            respond: respond.clone(),
            clock: clock.clone(),
            metrics: Box::new(|| "sentinel_events_total 7\n".into()),
            info: Info { mode: Mode::Approve, simulated_account: true },
        });
        let router = sentinel_dashboard::router(app.clone());
        Self { clock, table, queue, search, users, app, archive, iam, respond, database, router, _files: files }
    }

    /// Sends a request; every answer is looked at for what all answers must have.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let answer =
            Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() };
        check_headers(&what, &answer);
        answer
    }

    /// A request without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        self.send(request(method, path, token).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::GET, path, Some(token)).await
    }

    /// A request with a JSON body.
    pub(crate) async fn json(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> Answer {
        let request = request(method, path, token).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.json(Method::POST, path, Some(token), body).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.json(Method::PUT, path, Some(token), body).await
    }

    pub(crate) async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.json(Method::PATCH, path, Some(token), body).await
    }

    pub(crate) async fn log_in(&self, username: &str, password: &str) -> Answer {
        let body = serde_json::json!({ "username": username, "password": password });
        self.json(Method::POST, "/api/v1/auth/login", None, body).await
    }

    /// Makes a user with [`PASSWORD`].
    pub(crate) async fn user(&self, username: &str, role: Role) -> User {
        let user = User {
            username: username.into(),
            password_hash: hashed().await,
            role,
            must_change_password: false,
            created_at: self.app.clock.now(),
            disabled: false,
            principals: Vec::new(),
            session_epoch: 1,
        };
        self.users.put(&user, Condition::Absent).await.unwrap();
        user
    }

    /// Makes a user who is logged in; returns the token.
    pub(crate) async fn session(&self, username: &str, role: Role) -> String {
        let user = self.user(username, role).await;
        self.token_of(&user).await
    }

    pub(crate) async fn token_of(&self, user: &User) -> String {
        let now = self.app.clock.now();
        let ends = time::plus_seconds(now, token::SESSION_SECONDS);
        token::issue(self.app.signing.as_ref(), token::Kind::Session, &user.username, user.session_epoch, now, ends)
            .await
            .unwrap()
    }

    /// An API token with these scopes, as the store could hold it.
    pub(crate) async fn api_token(&self, scopes: &[&str]) -> String {
        let now = self.app.clock.now();
        let about = ApiToken {
            id: format!("t-{}", scopes.join("-")),
            name: "shipper".into(),
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            created_by: "root".into(),
            created_at: now,
            expires_at: time::plus_seconds(now, 86_400),
        };
        self.users.put_token(&about).await.unwrap();
        token::issue(self.app.signing.as_ref(), token::Kind::Api, &about.id, 0, now, about.expires_at).await.unwrap()
    }

    /// Stores an alert, as enrich does; its document as well.
    pub(crate) async fn store(&self, alert: &Alert) {
        let stored = StoredAlert {
            alert: alert.clone(),
            basis: ScoreBasis::default(),
            raised: Some(alert.level),
            incident_id: None,
            version: 0,
        };
        self.table.write(self.app.alerts.writes(&stored, &Members::default()).unwrap()).await.unwrap();
        let document = Document {
            kind: DocumentKind::Alert,
            id: alert.alert_id.clone(),
            time: alert.time,
            account: alert.account.clone(),
            principal: alert.principal.id.clone(),
            text: format!("{} {}", alert.title, alert.principal.id),
            body: serde_json::to_string(alert).unwrap(),
        };
        self.search.index(vec![document]).await.unwrap();
    }

    /// Stores an incident of these alerts of one account.
    pub(crate) async fn incident(&self, alerts: &[&Alert]) -> StoredIncident {
        let first = alerts[0];
        let ids: Vec<String> = alerts.iter().map(|a| a.alert_id.clone()).collect();
        let stored = StoredIncident {
            incident: Incident {
                incident_id: incident_id(&first.alert_id),
                time_first: first.time,
                time_last: alerts[alerts.len() - 1].time_last,
                level: alerts.iter().map(|a| a.level).max().unwrap(),
                score: first.score,
                title: "Mallory's story".into(),
                principals: vec![first.principal.id.clone()],
                accounts: [first.account.clone()].into(),
                source_ips: ["203.0.113.9".to_owned()].into(),
                alert_ids: ids.clone(),
                alert_count: alerts.len() as u64,
                event_count: alerts.iter().map(|a| a.event_count).sum(),
                attack: first.attack.clone(),
                summary: vec!["Something happened.".into()],
            },
            account: first.account.clone(),
            members: [(first.account.clone(), ids.iter().cloned().collect())].into(),
            version: 0,
        };
        let mut writes = vec![self.app.incidents.put(&stored, Condition::Absent).unwrap()];
        for id in &ids {
            writes.push(self.app.alerts.point(&first.account, id, &stored.pointer()).unwrap());
        }
        self.table.write(writes).await.unwrap();
        self.app.incidents.find(&stored.incident.incident_id).await.unwrap().unwrap()
    }

    /// Turns `merged` into a part of `into`, as grouping does.
    pub(crate) async fn merge(&self, merged: &StoredIncident, into: &IncidentPointer) {
        self.table.write(vec![self.app.incidents.bury(merged, into).unwrap()]).await.unwrap();
    }

    /// Hands an alert to respond and lets it plan; returns the response's id.
    pub(crate) async fn respond_to(&self, alert: &Alert) -> String {
        let raised = AlertRaised {
            correlation_id: alert.correlation_id.clone(),
            alert_id: alert.alert_id.clone(),
            account: alert.account.clone(),
            level: alert.level,
        };
        let message = Outgoing::now(codec::encode(&raised).unwrap());
        self.queue.send(Stage::Respond, vec![message]).await.unwrap();
        self.work().await;
        let found = self.app.responses.of_alert(&alert.account, &alert.alert_id).await.unwrap();
        found[0].response.response_id.clone()
    }

    /// Lets respond's worker do all there is to do, in steps of the clock.
    pub(crate) async fn work(&self) {
        let handler: Arc<dyn worker::Handler> = self.respond.clone();
        let timer = self.database.timer();
        for _ in 0..6 {
            worker::chores(self.table.as_ref(), self.queue.as_ref(), timer.as_ref()).await;
            worker::drain(self.queue.as_ref(), Stage::Respond, &handler, &worker::Settings::default()).await.unwrap();
            self.clock.advance(30);
        }
    }
}

/// Hashing costs, so it is done once.
async fn hashed() -> String {
    static HASH: OnceCell<String> = OnceCell::const_new();
    HASH.get_or_init(|| async { password::hash(PASSWORD.into()).await.unwrap() }).await.clone()
}

pub(crate) fn request(method: Method, path: &str, token: Option<&str>) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}

fn check_headers(what: &str, answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name} of {what}");
    }
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    assert!(answer.header("access-control-allow-origin").is_none(), "{what}");
    if what.contains("/api/") {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    }
    if answer.status.as_u16() >= 400 && !what.starts_with("HEAD") {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status.as_u16(), "{what}");
        for key in ["type", "title", "detail"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {what}: {problem}");
        }
    }
}

/// An alert of mallory's, one for each number.
pub(crate) fn alert(n: u32, level: Level, event_time: &str) -> Alert {
    let time = at(event_time);
    let window = Window::around(time, 60);
    let provenance = vec![Provenance { channel: Channel::Simulated { account: ACCOUNT.into() }, received_at: time }];
    let rule = RuleRef { id: format!("rule-{n}"), title: format!("Rule {n}"), level, author: Some("us".into()) };
    Alert {
        alert_id: alert_id(&rule.id, MALLORY, ACCOUNT, window),
        time,
        time_last: time,
        title: format!("Alert number {n}"),
        rule,
        category: "credential-access".into(),
        level,
        score: 0.7,
        principal: Principal {
            id: MALLORY.into(),
            kind: PrincipalKind::IamUser,
            account: Some(ACCOUNT.into()),
            role: None,
            name: Some("mallory".into()),
            actor: MALLORY.into(),
            inferred: false,
        },
        account: ACCOUNT.into(),
        region: Some("eu-central-1".into()),
        source_ip: Some("203.0.113.9".into()),
        event_count: 1,
        at_least: false,
        first_events: [EventRef { time, id: format!("event-{n}"), content: u64::from(n) }].into(),
        indicators: Indicators {
            addresses: ["203.0.113.9".to_owned()].into(),
            keys: [KEY.to_owned()].into(),
            agents: ["aws-cli/2".to_owned()].into(),
        },
        attack: Attack { tactics: vec!["credential-access".into()], techniques: vec!["T1552.005".into()] },
        reasons: vec!["Because.".into()],
        window,
        key_uses: vec![KeyUse {
            access_key_id: KEY.into(),
            uses: vec![AttestedUse { event_id: format!("event-{n}"), time, provenance: provenance.clone() }],
        }],
        provenance,
        correlation_id: format!("co-{n}"),
        superseded_by: None,
    }
}

/// A CloudTrail record.
pub(crate) fn record(id: &str) -> Value {
    serde_json::json!({
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "IAMUser", "arn": MALLORY, "accountId": ACCOUNT, "accessKeyId": KEY, "userName": "mallory",
            "principalId": "AIDAEXAMPLE",
        },
        "eventTime": "2026-03-01T11:58:00Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "ListUsers",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.9",
        "userAgent": "aws-cli/2",
        "eventID": id,
        "eventType": "AwsApiCall",
        "recipientAccountId": ACCOUNT,
    })
}
