//! Turns that find something, nothing, or another turn; what they take for the rules in force; and how long they may take.

use std::sync::Mutex;

use async_trait::async_trait;
use sentinel_archive::FileArchive;
use sentinel_detect::{RuleKeeper, RuleObject, RuleSource, RuleSourceError, SharedRules, keeper::record::Records};
use sentinel_durable::ManualClock;
use sentinel_embedded::Database;
use sentinel_ingest::{Found, Limits as ReadLimits, normalise};
use sentinel_model::{Channel, Event, Provenance, Timestamp};
use sentinel_state::backtests::{Backtest, BacktestState, Baseline, Progress, RuleText};
use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rule(id: &str, action: &str) -> String {
    format!(
        "title: Rule {id}\nid: {id}\nlevel: low\nlogsource: {{product: aws, service: cloudtrail}}\ndetection: {{s: {{eventName: {action}}}, condition: s}}\n"
    )
}

fn event(id: &str, name: &str) -> Event {
    let time = "2026-03-09T09:30:00Z";
    let record = json!({
        "eventID": id, "eventTime": time, "eventName": name, "eventSource": "iam.amazonaws.com",
        "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.45", "recipientAccountId": "111122223333",
        "eventVersion": "1.11", "eventType": "AwsApiCall", "userIdentity": {
            "type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/dana", "accountId": "111122223333",
            "userName": "dana", "principalId": "AIDACKCEVSQ6C2EXAMPLE",
        },
    });
    let mut made = None;
    let mut sink = |found: Found<'_>| {
        let Found::Record(record) = found else { panic!("{found:?}") };
        let provenance = Provenance { channel: Channel::Folder { path: "f".into() }, received_at: at(time) };
        made = Some(normalise::normalise(&record, provenance).unwrap());
    };
    sentinel_ingest::read(record.to_string().as_bytes(), "f", None, &ReadLimits::generous(), &mut sink).unwrap();
    made.unwrap()
}

/// A versioned store of rule files that counts how often it is asked.
#[derive(Default)]
struct Bucket {
    /// Names, texts, and whether they are listed; the version is the place.
    files: Mutex<Vec<(String, String, bool)>>,
    asked: Mutex<usize>,
}

impl Bucket {
    fn put(&self, name: &str, text: &str) {
        let mut files = self.files.lock().unwrap();
        files.iter_mut().filter(|(n, ..)| n == name).for_each(|file| file.2 = false);
        files.push((name.into(), text.into(), true));
    }

    fn empty(&self) {
        self.files.lock().unwrap().iter_mut().for_each(|file| file.2 = false);
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

#[async_trait]
impl RuleSource for Bucket {
    async fn list(&self) -> Result<Vec<RuleObject>, RuleSourceError> {
        *self.asked.lock().unwrap() += 1;
        let files = self.files.lock().unwrap();
        let object = |(number, (name, text, _)): (usize, &(String, String, bool))| RuleObject {
            name: name.clone(),
            version_id: number.to_string(),
            etag: format!("e{number}"),
            size: text.len() as u64,
        };
        Ok(files.iter().enumerate().filter(|(_, file)| file.2).map(object).collect())
    }

    async fn read(&self, object: &RuleObject) -> Result<String, RuleSourceError> {
        *self.asked.lock().unwrap() += 1;
        Ok(self.files.lock().unwrap()[object.version_id.parse::<usize>().unwrap()].1.clone())
    }
}

struct World {
    clock: Arc<ManualClock>,
    database: Database,
    archive: Arc<FileArchive>,
    bucket: Arc<Bucket>,
    _files: tempfile::TempDir,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(at("2026-03-10T10:00:00Z")));
    let database = Database::in_memory(clock.clone()).unwrap();
    let files = tempfile::tempdir().unwrap();
    let archive = Arc::new(FileArchive::open(files.path()).unwrap());
    archive.put(&[event("c", "CreateUser"), event("d", "DeleteUser")]).await.unwrap();
    World { clock, database, archive, bucket: Arc::default(), _files: files }
}

impl World {
    fn store(&self) -> Backtests {
        Backtests::new(self.database.table())
    }

    async fn ask(&self, id: &str, on_top: bool, text: String) {
        let backtest = Backtest {
            id: id.into(),
            state: BacktestState::Queued,
            from: at("2026-03-09T00:00:00Z"),
            to: at("2026-03-09T23:59:59Z"),
            accounts: Vec::new(),
            baseline: Baseline::InForce,
            on_top,
            files: vec!["new.yml".into()],
            requested_by: "root".into(),
            requested_at: self.clock.now(),
            started_at: None,
            finished_at: None,
            progress: Progress::default(),
            attempts: 0,
            error: None,
        };
        assert!(self.store().add(&backtest, vec![RuleText { name: "new.yml".into(), text }]).await.unwrap());
        self.clock.advance(1);
    }

    /// What detect does at a batch: it takes over what operators have stored.
    async fn detect_looks(&self) {
        self.clock.advance(60);
        let (table, clock) = (self.database.table(), self.clock.clone());
        let rules = Arc::new(SharedRules::default());
        RuleKeeper::new(self.bucket.clone(), table, clock, rules).look().await;
    }

    fn worker(&self) -> Worker {
        let (table, source) = (self.database.table(), self.bucket.clone());
        let in_force = Arc::new(StoredRules::new(table.clone(), Some(source), false));
        Worker::new(table, self.archive.clone(), self.clock.clone(), in_force)
    }

    async fn turn(&self) -> bool {
        self.worker().turn(Duration::from_mins(15)).await.unwrap()
    }

    async fn result(&self, id: &str) -> Value {
        let backtest = self.store().find(id).await.unwrap().unwrap().backtest;
        assert_eq!(backtest.state, BacktestState::Done, "{backtest:?}");
        self.store().result(id).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_rules_in_force_are_those_that_detect_took_over() {
    let world = world().await;
    world.bucket.put("team.yml", &rule("team", "CreateUser"));
    world.ask("early", true, rule("new", "DeleteUser")).await;
    assert!(world.turn().await);
    let early = world.result("early").await;
    assert_eq!((&early["baseline"]["rules"], &early["gained"]), (&0.into(), &1.into()), "detect has not looked yet");

    world.detect_looks().await;
    world.ask("on-top", true, rule("new", "DeleteUser")).await;
    world.ask("instead", false, rule("new", "DeleteUser")).await;
    assert!(world.turn().await && world.turn().await);
    let on_top = world.result("on-top").await;
    assert_eq!(
        (&on_top["baseline"]["rules"], &on_top["candidate"]["rules"], &on_top["gained"], &on_top["lost"]),
        (&1.into(), &2.into(), &1.into(), &0.into())
    );
    let instead = world.result("instead").await;
    assert_eq!((&instead["gained"], &instead["lost"]), (&1.into(), &1.into()));

    // What is suddenly gone stays in force, and so does what was overwritten and not taken over yet.
    world.bucket.empty();
    world.detect_looks().await;
    world.bucket.put("team.yml", &rule("team", "DeleteUser"));
    world.ask("late", false, rule("team", "CreateUser")).await;
    assert!(world.turn().await);
    let late = world.result("late").await;
    assert_eq!((&late["gained"], &late["lost"], &late["rules_unchanged"]), (&0.into(), &0.into(), &1.into()), "{late}");
}

#[tokio::test]
async fn without_a_source_the_shipped_rules_alone_can_be_in_force() {
    let world = world().await;
    let rules = |shipped| StoredRules::new(world.database.table(), None, shipped);
    for shipped in [true, false] {
        let in_force = rules(shipped).rules().await.unwrap();
        assert_eq!((in_force.options.default_rules, in_force.texts), (shipped, Vec::new()));
    }
}

#[tokio::test]
async fn a_turn_without_work_reads_no_rules() {
    let world = world().await;
    world.bucket.put("team.yml", &rule("team", "CreateUser"));
    world.detect_looks().await;
    assert_eq!(Records::new(world.database.table()).recent(9).await.unwrap().len(), 1);
    let before = world.bucket.asked();
    assert!(!world.turn().await, "nothing waits");
    world.ask("one", true, rule("new", "DeleteUser")).await;
    let (table, clock) = (world.database.table(), world.clock.as_ref());
    let held = sentinel_durable::lease::acquire(table.as_ref(), "BACKTESTS", "another turn", clock, 300).await.unwrap();
    assert!(!world.turn().await, "another turn is at work");
    assert_eq!(world.bucket.asked(), before);
    sentinel_durable::lease::release(table.as_ref(), &held.unwrap(), clock).await.unwrap();
    assert!(world.turn().await);
    assert_eq!(world.bucket.asked(), before + 1, "the one file of the record is read");
}

#[tokio::test]
async fn one_that_does_not_end_in_a_turns_time_fails_and_is_not_begun_again() {
    let world = world().await;
    world.ask("one", true, rule("new", "DeleteUser")).await;
    assert!(world.worker().turn(KEPT_BACK).await.unwrap());
    let failed = world.store().find("one").await.unwrap().unwrap().backtest;
    assert_eq!((failed.state, failed.attempts), (BacktestState::Failed, 1));
    assert!(failed.error.unwrap().ends_with("ask for fewer days"));
    assert!(!world.turn().await);
}

#[test]
fn a_backtest_gets_what_a_turn_has_less_what_ending_it_takes() {
    let seconds = |time| limits(time).seconds;
    assert_eq!(seconds(Duration::from_mins(15)), 14 * 60);
    assert_eq!((seconds(Duration::from_secs(61)), seconds(Duration::ZERO)), (1, 0));
    assert_eq!(seconds(Duration::MAX), Limits::default().seconds, "no time is told outside Lambda");
}
