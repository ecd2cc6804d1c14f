//! The world that tests act in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sentinel_durable::worker::{self, Handler, Settings};
use sentinel_durable::{
    Clock, ManualClock, Message, Outgoing, Queue, QueueDepth, QueueError, Stage, Timer, TimerError, codec, outbox,
};
use sentinel_embedded::Database;
use sentinel_model::alert::{AttestedUse, KeyUse};
use sentinel_model::message::AlertRaised;
use sentinel_model::response::{ActionKind, Mode, Response, ResponseState, response_id};
use sentinel_model::*;
use sentinel_state::responses::Responses;
use sentinel_state::users::Role;
use sentinel_state::{Item, Key, Page, Query, Table, TableError, Write};

use crate::iam::{Iam, IamError, KeyOwner, KeyStatus, SimulatedIam, SimulatedUser};
use crate::notify::{Notification, Notifier, NotifyError};
use crate::ports::{AlertReader, Approver, Approvers, FoundAlert, Ports};
use crate::{Config, Playbooks, Respond};

pub(super) const ACCOUNT: &str = "111122223333";
pub(super) const KEY: &str = "AKIAUSEDUSEDUSEDUSED";
pub(super) const OTHER_KEY: &str = "AKIAOTHEROTHEROTHER1";
/// A name with every character IAM allows, at the limit of 64.
pub(super) const USER: &str = "mallory+=,.@_-mallory.mallory.mallory.mallory.mallory.mallory.ma";
pub(super) const START: &str = "2026-03-04T12:00:00Z";
pub(super) const OUR_ROLE: &str = "arn:aws:iam::111122223333:role/CloudSentinelRespond";

pub(super) fn user_arn() -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/division/team/{USER}")
}

/// Faults of the ports under test. One counter runs over all calls that have an effect or reach IAM.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) calls: AtomicUsize,
    /// The call after whose effect the process dies; 0: none.
    crash_at: AtomicUsize,
    dead: AtomicBool,
    /// IAM calls to be throttled, counted down.
    pub(super) throttles: AtomicUsize,
    /// Throttle every so many-th IAM call; 0: none.
    pub(super) throttle_every: AtomicUsize,
    pub(super) sets: AtomicUsize,
    /// Throttle the calls that change a key; reads go on.
    pub(super) throttle_sets: AtomicBool,
    /// Calls of IAM.
    pub(super) iam: AtomicUsize,
}

impl Faults {
    /// Dies after the effect of the n-th call from now.
    pub(super) fn crash_after(&self, n: usize) {
        self.dead.store(false, Ordering::SeqCst);
        self.calls.store(0, Ordering::SeqCst);
        self.crash_at.store(n, Ordering::SeqCst);
    }

    pub(super) fn restart(&self) -> bool {
        self.crash_at.store(0, Ordering::SeqCst);
        self.dead.swap(false, Ordering::SeqCst)
    }

    /// Before a call: `Err` when the process is dead. `Ok(true)`: it dies with this call's effect.
    fn enter(&self) -> Result<bool, std::io::Error> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the process is dead"));
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let dies = n == self.crash_at.load(Ordering::SeqCst);
        if dies {
            self.dead.store(true, Ordering::SeqCst);
        }
        Ok(dies)
    }
}

fn died() -> std::io::Error {
    std::io::Error::other("the process died in this call")
}

pub(super) struct Faulty<T: ?Sized> {
    faults: Arc<Faults>,
    inner: Arc<T>,
}

#[async_trait]
impl Table for Faulty<dyn Table> {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.inner.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.inner.get_many(keys).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let dies = self.faults.enter().map_err(TableError::store)?;
        let done = self.inner.write(writes).await;
        if dies { Err(TableError::store(died())) } else { done }
    }
    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.inner.query(query).await
    }
}

#[async_trait]
impl Timer for Faulty<dyn Timer> {
    async fn set(&self, id: &str, due: Timestamp, stage: Stage, body: &str) -> Result<(), TimerError> {
        let dies = self.faults.enter().map_err(|e| TimerError::Store(Box::new(e)))?;
        let done = self.inner.set(id, due, stage, body).await;
        if dies { Err(TimerError::Store(Box::new(died()))) } else { done }
    }
    async fn cancel(&self, id: &str) -> Result<(), TimerError> {
        let dies = self.faults.enter().map_err(|e| TimerError::Store(Box::new(e)))?;
        let done = self.inner.cancel(id).await;
        if dies { Err(TimerError::Store(Box::new(died()))) } else { done }
    }
    async fn fire_due(&self) -> Result<usize, TimerError> {
        self.inner.fire_due().await
    }
}

#[async_trait]
impl Queue for Faulty<dyn Queue> {
    async fn send(&self, stage: Stage, batch: Vec<Outgoing>) -> Result<(), QueueError> {
        let dies = self.faults.enter().map_err(|e| QueueError::Store(Box::new(e)))?;
        let done = self.inner.send(stage, batch).await;
        if dies { Err(QueueError::Store(Box::new(died()))) } else { done }
    }
    async fn receive(&self, stage: Stage, max: usize, visibility: u32) -> Result<Vec<Message>, QueueError> {
        self.inner.receive(stage, max, visibility).await
    }
    async fn delete(&self, stage: Stage, receipt: &str) -> Result<(), QueueError> {
        self.inner.delete(stage, receipt).await
    }
    async fn release(&self, stage: Stage, receipt: &str, delay: u32) -> Result<(), QueueError> {
        self.inner.release(stage, receipt, delay).await
    }
    async fn depth(&self, stage: Stage) -> Result<QueueDepth, QueueError> {
        self.inner.depth(stage).await
    }
    async fn dead(&self, stage: Stage, max: usize) -> Result<Vec<Message>, QueueError> {
        self.inner.dead(stage, max).await
    }
}

impl Faulty<SimulatedIam> {
    fn enter_iam(&self) -> Result<bool, IamError> {
        self.faults.iam.fetch_add(1, Ordering::SeqCst);
        let dies = self.faults.enter().map_err(|e| IamError::Other(e.to_string()))?;
        let owed = self.faults.throttles.load(Ordering::SeqCst);
        if owed > 0 {
            self.faults.throttles.store(owed - 1, Ordering::SeqCst);
            return Err(IamError::Throttled);
        }
        let every = self.faults.throttle_every.load(Ordering::SeqCst);
        if every > 0 && self.faults.calls.load(Ordering::SeqCst).is_multiple_of(every) {
            return Err(IamError::Throttled);
        }
        Ok(dies)
    }
}

fn lost<T>(dies: bool, done: Result<T, IamError>) -> Result<T, IamError> {
    if dies { Err(IamError::Other(died().to_string())) } else { done }
}

#[async_trait]
impl Iam for Faulty<SimulatedIam> {
    async fn key_owner(&self, account: &str, key: &str) -> Result<Option<KeyOwner>, IamError> {
        let dies = self.enter_iam()?;
        lost(dies, self.inner.key_owner(account, key).await)
    }
    async fn key_status(&self, account: &str, user: &str, key: &str) -> Result<Option<KeyStatus>, IamError> {
        let dies = self.enter_iam()?;
        lost(dies, self.inner.key_status(account, user, key).await)
    }
    async fn set_key_status(&self, account: &str, user: &str, key: &str, to: KeyStatus) -> Result<(), IamError> {
        let dies = self.enter_iam()?;
        if self.faults.throttle_sets.load(Ordering::SeqCst) {
            return Err(IamError::Throttled);
        }
        self.faults.sets.fetch_add(1, Ordering::SeqCst);
        lost(dies, self.inner.set_key_status(account, user, key, to).await)
    }
    fn is_simulated(&self) -> bool {
        true
    }
    fn is_connected(&self) -> bool {
        true
    }
}

#[derive(Default)]
pub(super) struct TestAlerts(Mutex<HashMap<String, FoundAlert>>);

#[async_trait]
impl AlertReader for TestAlerts {
    async fn read(&self, account: &str, alert_id: &str) -> Result<Option<FoundAlert>, TableError> {
        Ok(self.0.lock().unwrap().get(alert_id).filter(|f| f.alert.account == account).cloned())
    }
}

#[derive(Default)]
pub(super) struct People(pub(super) Mutex<BTreeMap<String, Approver>>);

#[async_trait]
impl Approvers for People {
    async fn current(&self, username: &str) -> Result<Option<Approver>, TableError> {
        Ok(self.0.lock().unwrap().get(username).cloned())
    }
}

/// Remembers what it was told, or fails.
pub(super) struct Recorder {
    name: &'static str,
    pub(super) told: Mutex<Vec<Notification>>,
    pub(super) fails: AtomicBool,
}

#[async_trait]
impl Notifier for Recorder {
    fn name(&self) -> &str {
        self.name
    }
    async fn notify(&self, n: &Notification) -> Result<(), NotifyError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(NotifyError("the receiver is down".into()));
        }
        self.told.lock().unwrap().push(n.clone());
        Ok(())
    }
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) db: Database,
    pub(super) iam: SimulatedIam,
    pub(super) faults: Arc<Faults>,
    pub(super) alerts: Arc<TestAlerts>,
    pub(super) people: Arc<People>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) second: Arc<Recorder>,
    pub(super) respond: Arc<Respond>,
}

pub(super) fn config(mode: Mode) -> Config {
    Config { mode, own_roles: [OUR_ROLE].into_iter().collect(), ..Config::default() }
}

impl World {
    pub(super) async fn new(mode: Mode) -> Self {
        Self::with(config(mode), 0, BTreeMap::new()).await
    }

    pub(super) async fn with(config: Config, lag: i64, tags: BTreeMap<String, String>) -> Self {
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let db = Database::in_memory(clock.clone()).unwrap();
        let iam = SimulatedIam::new(db.table(), clock.clone()).with_lag(lag);
        let keys = vec![KEY.to_owned(), OTHER_KEY.to_owned()];
        let user = SimulatedUser { name: USER.into(), path: "/division/team/".into(), tags, keys };
        iam.add_user(ACCOUNT, &user).await.unwrap();
        let recorder = |name| Arc::new(Recorder { name, told: Mutex::default(), fails: AtomicBool::new(false) });
        let (first, second) = (recorder("first"), recorder("second"));
        let faults = Arc::new(Faults::default());
        let (alerts, people) = (Arc::new(TestAlerts::default()), Arc::new(People::default()));
        for (name, role) in [("ada", Role::Admin), ("ann", Role::Analyst)] {
            let approver = Approver { username: name.into(), role, principals: vec![] };
            people.0.lock().unwrap().insert(name.into(), approver);
        }
        let table: Arc<dyn Table> = Arc::new(Faulty { faults: faults.clone(), inner: db.table() });
        let ports = Ports {
            iam: Arc::new(Faulty { faults: faults.clone(), inner: Arc::new(iam.clone()) }),
            responses: Responses::new(table),
            alerts: alerts.clone(),
            approvers: people.clone(),
            notifiers: vec![first.clone(), second.clone()],
            queue: Arc::new(Faulty { faults: faults.clone(), inner: db.queue() }),
            timer: Arc::new(Faulty { faults: faults.clone(), inner: db.timer() }),
            clock: clock.clone(),
        };
        let respond = Arc::new(Respond::new(ports, config, Playbooks::shipped().unwrap()).unwrap());
        Self { clock, db, iam, faults, alerts, people, recorder: first, second, respond }
    }

    pub(super) fn person(&self, name: &str) -> Approver {
        self.people.0.lock().unwrap()[name].clone()
    }

    /// Puts an alert in the store and says that it was raised.
    pub(super) async fn raise(&self, found: FoundAlert) -> AlertRaised {
        let raised = AlertRaised {
            correlation_id: found.alert.correlation_id.clone(),
            alert_id: found.alert.alert_id.clone(),
            account: found.alert.account.clone(),
            level: found.alert.level,
        };
        self.store(found);
        self.send(&raised).await;
        raised
    }

    pub(super) fn store(&self, found: FoundAlert) {
        self.alerts.0.lock().unwrap().insert(found.alert.alert_id.clone(), found);
    }

    pub(super) async fn send(&self, raised: &AlertRaised) {
        let body = codec::encode(raised).unwrap();
        self.db.queue().send(Stage::Respond, vec![Outgoing::now(body)]).await.unwrap();
    }

    /// Handles what can be handled now, once; a dead process handles nothing.
    pub(super) async fn round(&self) {
        if self.faults.dead.load(Ordering::SeqCst) {
            return;
        }
        self.broken_round().await;
    }

    /// As [`round`](Self::round), but messages are received even when every call fails.
    pub(super) async fn broken_round(&self) {
        self.db.timer().fire_due().await.unwrap();
        outbox::relay(self.db.table().as_ref(), self.db.queue().as_ref()).await.unwrap();
        let handler: Arc<dyn Handler> = self.respond.clone();
        let settings = Settings { batch: 10, visibility_seconds: 60, ..Settings::default() };
        worker::drain(self.db.queue().as_ref(), Stage::Respond, &handler, &settings).await.unwrap();
        outbox::relay(self.db.table().as_ref(), self.db.queue().as_ref()).await.unwrap();
    }

    /// Lets so many seconds pass, handling whatever comes due.
    pub(super) async fn pass(&self, seconds: i64) {
        let mut left = seconds;
        self.round().await;
        while left > 0 {
            let step = left.min(15);
            self.clock.advance(step);
            left -= step;
            self.round().await;
        }
    }

    pub(super) async fn response(&self) -> Response {
        self.response_of(KEY, 0).await.expect("there is a response")
    }

    pub(super) async fn response_of(&self, key: &str, undos: u32) -> Option<Response> {
        let kind = if key.starts_with("ASIA") { ActionKind::RevokeSessions } else { ActionKind::DeactivateAccessKey };
        let id = response_id(ACCOUNT, key, kind, undos);
        self.respond.responses().get(ACCOUNT, &id).await.unwrap().map(|s| s.response)
    }

    pub(super) async fn status(&self, key: &str) -> KeyStatus {
        self.iam.key_status(ACCOUNT, USER, key).await.unwrap().expect("the key is there")
    }

    pub(super) async fn changes(&self, key: &str) -> u32 {
        self.iam.status_changes(ACCOUNT, key).await.unwrap()
    }

    /// A world in which the key was contained.
    pub(super) async fn contained() -> Self {
        let world = Self::new(Mode::Automatic).await;
        world.raise(alert("al-1")).await;
        world.pass(60).await;
        assert_eq!(world.response().await.state, ResponseState::Contained);
        world
    }

    pub(super) fn titles(&self) -> Vec<String> {
        self.recorder.told.lock().unwrap().iter().map(|n| n.title.clone()).collect()
    }

    pub(super) fn distinct_notices(&self) -> BTreeSet<String> {
        self.recorder.told.lock().unwrap().iter().map(|n| n.id.clone()).collect()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

pub(super) fn user() -> Principal {
    Principal {
        id: user_arn(),
        kind: PrincipalKind::IamUser,
        account: Some(ACCOUNT.into()),
        role: None,
        name: Some(USER.into()),
        actor: user_arn(),
        inferred: false,
    }
}

pub(super) fn key_use(key: &str, channel: Channel, age_seconds: i64) -> KeyUse {
    let time: Timestamp = START.parse().unwrap();
    let received_at = sentinel_model::time::plus_seconds(time, age_seconds);
    let provenance = vec![Provenance { channel, received_at }];
    let uses = vec![AttestedUse { event_id: format!("event-{key}"), time, provenance }];
    KeyUse { access_key_id: key.into(), uses }
}

pub(super) fn simulated() -> Channel {
    Channel::Simulated { account: ACCOUNT.into() }
}

/// A high alert about the user, with one fresh use of [`KEY`] that the simulated account attests.
pub(super) fn alert(id: &str) -> FoundAlert {
    let time: Timestamp = START.parse().unwrap();
    let alert = Alert {
        alert_id: id.into(),
        time,
        time_last: time,
        rule: RuleRef { id: "rule".into(), title: "Key misuse".into(), level: Level::High, author: None },
        title: "Key misuse".into(),
        category: "credential-access".into(),
        level: Level::High,
        score: 0.7,
        principal: user(),
        account: ACCOUNT.into(),
        region: Some("us-east-1".into()),
        source_ip: Some("203.0.113.7".into()),
        event_count: 1,
        at_least: false,
        first_events: BTreeSet::new(),
        indicators: Indicators::default(),
        attack: Attack::default(),
        reasons: vec!["It happened.".into()],
        window: Window::around(time, 60),
        key_uses: vec![key_use(KEY, simulated(), 30)],
        provenance: vec![],
        correlation_id: "corr-1".into(),
        superseded_by: None,
    };
    FoundAlert { alert, incident_id: Some("in-1".into()), false_positive: false }
}
