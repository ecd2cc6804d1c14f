//! Runs to their end, interruptions, cancellations, second runners, and what bounds a run.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_archive::{Day, FileArchive};
use sentinel_detect::RuleSourceError;
use sentinel_durable::ManualClock;
use sentinel_embedded::Database;
use sentinel_state::backtests::{Baseline, RuleText};
use serde_json::Value;

use super::*;
use crate::RulesInForce;
use crate::testing::{event, no_rules, rule};

struct World {
    store: Backtests,
    archive: Arc<FileArchive>,
    clock: Arc<ManualClock>,
    _database: Database,
    _files: tempfile::TempDir,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(at("2026-03-10T10:00:00Z")));
    let database = Database::in_memory(clock.clone()).unwrap();
    let files = tempfile::tempdir().unwrap();
    let archive = Arc::new(FileArchive::open(files.path()).unwrap());
    let mut events = Vec::new();
    for day in 1..=5 {
        let time = |hour: u32| format!("2026-03-0{day}T{hour:02}:30:00Z");
        events.push(event(&format!("c{day}"), &time(9), "CreateUser", "dana"));
        events.push(event(&format!("d{day}"), &time(10), "DeleteUser", "dana"));
    }
    archive.put(&events).await.unwrap();
    World { store: Backtests::new(database.table()), archive, clock, _database: database, _files: files }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    async fn ask(&self, id: &str, rules: &str) {
        let backtest = Backtest {
            id: id.into(),
            state: BacktestState::Queued,
            from: at("2026-03-02T10:00:00Z"),
            to: at("2026-03-04T09:45:00Z"),
            accounts: Vec::new(),
            baseline: Baseline::InForce,
            on_top: true,
            files: vec!["mine.yml".into()],
            requested_by: "root".into(),
            requested_at: self.clock.now(),
            started_at: None,
            finished_at: None,
            progress: Progress::default(),
            attempts: 0,
            error: None,
        };
        let text = RuleText { name: "mine.yml".into(), text: rules.into() };
        assert!(self.store.add(&backtest, vec![text]).await.unwrap());
        self.clock.advance(1);
    }

    fn runner(&self, owner: &str) -> Runner {
        self.reading(self.archive.clone(), owner)
    }

    fn reading(&self, archive: Arc<dyn Archive>, owner: &str) -> Runner {
        Runner::new(self.store.clone(), archive, self.clock.clone(), Arc::new(no_rules()), owner)
    }

    async fn run(&self) -> bool {
        self.runner("one").run_once(&going()).await.unwrap()
    }

    async fn find(&self, id: &str) -> Backtest {
        self.store.find(id).await.unwrap().unwrap().backtest
    }

    async fn result(&self, id: &str) -> Value {
        self.store.result(id).await.unwrap().unwrap()
    }
}

fn going() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    // It must outlive the test's runs.
    Box::leak(Box::new(sender));
    receiver
}

/// An archive that does something before each day is read.
struct Watched<F>(Arc<FileArchive>, F);

#[async_trait]
impl<F: Fn(&str) + Send + Sync> Archive for Watched<F> {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        self.0.put(events).await
    }
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        self.0.days(account).await
    }
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        self.0.accounts().await
    }
    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        (self.1)(day);
        self.0.read(account, day).await
    }
    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        self.0.forget_before(time).await
    }
}

#[tokio::test]
async fn the_history_asked_for_is_replayed_once_and_the_result_is_there() {
    let world = world().await;
    assert!(!world.run().await, "nothing waits");
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    world.ask("two", &rule("b", "high", "DeleteUser")).await;
    assert!(world.run().await);
    let (one, two) = (world.find("one").await, world.find("two").await);
    assert_eq!((one.state, two.state), (BacktestState::Done, BacktestState::Queued), "the first asked for comes first");
    // From the second day's second event to the fourth day's first, both included.
    assert_eq!(one.progress, Progress { days_done: 3, days_total: 3, events: 4 });
    assert_eq!((one.attempts, one.error.as_deref(), one.finished_at), (1, None, Some(world.clock.now())));
    let result = world.result("one").await;
    assert_eq!(
        (&result["gained"], &result["rules"][0]["gained_samples"][0]["event_ids"]),
        (&2.into(), &vec!["c3"].into())
    );
    assert_eq!(
        (&result["candidate"]["rules"], &result["baseline"]["rules"], &result["days"]),
        (&1.into(), &0.into(), &3.into())
    );
    assert!(world.run().await);
    assert!(!world.run().await);
    assert_eq!(world.result("two").await["gained"], 2);
    assert_eq!(world.store.open(10).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn accounts_are_chosen_and_what_cannot_be_loaded_or_found_is_told() {
    let world = world().await;
    let backtest = |id: &str, accounts: &[&str]| Backtest {
        accounts: accounts.iter().map(|a| (*a).to_owned()).collect(),
        id: id.into(),
        ..template(&world)
    };
    let text = |text: String| vec![RuleText { name: "mine.yml".into(), text }];
    world.store.add(&backtest("other", &["444455556666"]), text(rule("a", "high", "CreateUser"))).await.unwrap();
    world.clock.advance(1);
    let bad = Backtest { on_top: false, requested_at: world.clock.now(), ..backtest("bad", &[]) };
    world.store.add(&bad, text("title: x\ndetection: 5\n".into())).await.unwrap();
    world.clock.advance(1);
    let nameless = Backtest { requested_at: world.clock.now(), ..backtest("nameless", &["../x"]) };
    world.store.add(&nameless, text(rule("a", "high", "CreateUser"))).await.unwrap();
    while world.run().await {}
    assert_eq!(world.result("other").await["events"], 0);
    let bad = world.find("bad").await;
    assert_eq!(bad.state, BacktestState::Failed);
    assert!(bad.error.as_deref().unwrap().starts_with("no rule could be loaded: mine.yml: line "), "{:?}", bad.error);
    assert!(world.find("nameless").await.error.unwrap().contains("bad account"));
}

fn template(world: &World) -> Backtest {
    Backtest {
        id: "x".into(),
        state: BacktestState::Queued,
        from: at("2026-03-01T00:00:00Z"),
        to: at("2026-03-09T00:00:00Z"),
        accounts: Vec::new(),
        baseline: Baseline::InForce,
        on_top: true,
        files: vec!["mine.yml".into()],
        requested_by: "root".into(),
        requested_at: world.clock.now(),
        started_at: None,
        finished_at: None,
        progress: Progress::default(),
        attempts: 0,
        error: None,
    }
}

#[tokio::test]
async fn the_shipped_rules_can_be_the_baseline() {
    let world = world().await;
    let text = vec![RuleText { name: "mine.yml".into(), text: rule("mine", "high", "CreateUser") }];
    let asked = Backtest { baseline: Baseline::Shipped, on_top: false, ..template(&world) };
    world.store.add(&asked, text).await.unwrap();
    assert!(world.run().await);
    let result = world.result("x").await;
    assert!(result["baseline"]["rules"].as_u64().unwrap() > 50, "{}", result["baseline"]);
    assert_eq!((&result["candidate"]["rules"], &result["gained"]), (&1.into(), &5.into()));
}

#[tokio::test]
async fn one_that_is_cancelled_ends_between_two_days_and_leaves_no_result() {
    let world = world().await;
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    let (store, now) = (world.store.clone(), world.clock.now());
    let cancel = move |day: &str| {
        if day == "2026-03-03" {
            let store = store.clone();
            let cancelled = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(store.cancel("one", now)).unwrap()
            });
            assert!(matches!(cancelled.join().unwrap(), Some(sentinel_state::backtests::Cancelled::Done(_))));
        }
    };
    let limits = Limits { progress_seconds: 0, ..Limits::default() };
    let runner = world.reading(Arc::new(Watched(world.archive.clone(), cancel)), "one").with_limits(limits);
    assert!(runner.run_once(&going()).await.unwrap());
    assert_eq!(world.find("one").await.state, BacktestState::Cancelled);
    assert_eq!(world.store.result("one").await.unwrap(), None);
    assert!(!world.run().await, "it is not taken up again");
    let again = world.store.cancel("one", now).await.unwrap();
    assert_eq!(again, Some(sentinel_state::backtests::Cancelled::Ended(BacktestState::Cancelled)));
    assert_eq!(world.store.cancel("none", now).await.unwrap(), None);
}

#[tokio::test]
async fn an_orderly_end_puts_it_back_and_a_crash_begins_it_anew_until_it_is_given_up() {
    let world = world().await;
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    let (stopper, stop) = watch::channel(false);
    let end = move |day: &str| {
        if day == "2026-03-03" {
            stopper.send_replace(true);
        }
    };
    let runner = world.reading(Arc::new(Watched(world.archive.clone(), end)), "one");
    assert!(runner.run_once(&stop).await.unwrap());
    let back = world.find("one").await;
    assert_eq!((back.state, back.attempts, back.progress), (BacktestState::Queued, 0, Progress::default()));

    for attempt in 1..=3 {
        let die = |_: &str| panic!("the process dies");
        let runner = world.reading(Arc::new(Watched(world.archive.clone(), die)), "one");
        assert!(tokio::spawn(async move { runner.run_once(&going()).await.unwrap() }).await.is_err());
        let dead = world.find("one").await;
        assert_eq!((dead.state, dead.attempts), (BacktestState::Running, attempt));
        // Another process waits until the lease of the dead one has ended; the same one, started anew, need not.
        assert!(!world.runner("two").run_once(&going()).await.unwrap());
    }
    assert!(world.run().await);
    let given_up = world.find("one").await;
    assert_eq!(given_up.state, BacktestState::Failed);
    assert!(given_up.error.unwrap().contains("interrupted 3 times"));
}

#[tokio::test]
async fn a_second_runner_waits_for_the_lease_and_an_overtaken_one_writes_nothing() {
    let world = world().await;
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    let (store, archive, clock) = (world.store.clone(), world.archive.clone(), world.clock.clone());
    let overtake = move |day: &str| {
        if day != "2026-03-03" {
            return;
        }
        let (store, archive, clock) = (store.clone(), archive.clone(), clock.clone());
        let other = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let none = Arc::new(no_rules());
                let runner = || Runner::new(store.clone(), archive.clone(), clock.clone(), none.clone(), "two");
                assert!(!runner().run_once(&going()).await.unwrap(), "the lease is held");
                clock.advance(301);
                assert!(runner().run_once(&going()).await.unwrap(), "the lease has ended");
            });
        };
        std::thread::spawn(other).join().unwrap();
    };
    let runner = world.reading(Arc::new(Watched(world.archive.clone(), overtake)), "one");
    assert!(runner.run_once(&going()).await.unwrap());
    let done = world.find("one").await;
    assert_eq!((done.state, done.attempts), (BacktestState::Done, 2), "what the second one wrote stands");
}

#[tokio::test]
async fn one_that_takes_too_long_says_so() {
    let world = world().await;
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    let clock = world.clock.clone();
    let slow = move |_: &str| clock.advance(2000);
    let runner = world.reading(Arc::new(Watched(world.archive.clone(), slow)), "one");
    assert!(runner.run_once(&going()).await.unwrap());
    let failed = world.find("one").await;
    assert_eq!(failed.state, BacktestState::Failed);
    assert_eq!(failed.error.as_deref(), Some("it took longer than 60 minutes: ask for fewer days"));
}

/// An archive that does not answer.
struct Stuck(Arc<FileArchive>);

#[async_trait]
impl Archive for Stuck {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        self.0.put(events).await
    }
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        self.0.days(account).await
    }
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        self.0.accounts().await
    }
    async fn read(&self, _: &str, _: &str) -> Result<Day, ArchiveError> {
        std::future::pending().await
    }
    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        self.0.forget_before(time).await
    }
}

#[tokio::test]
async fn a_day_that_takes_too_long_to_read_is_not_waited_for() {
    let world = world().await;
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    let limits = Limits { seconds: 1, ..Limits::default() };
    let runner = world.reading(Arc::new(Stuck(world.archive.clone())), "one").with_limits(limits);
    assert!(runner.run_once(&going()).await.unwrap());
    let failed = world.find("one").await;
    assert_eq!((failed.state, failed.attempts), (BacktestState::Failed, 1));
    assert_eq!(failed.error.as_deref(), Some("it took longer than 0 minutes: ask for fewer days"));
    assert!(!world.run().await, "it is not begun again");
}

/// Rules that cannot be read.
struct Unreadable;

#[async_trait]
impl InForce for Unreadable {
    async fn rules(&self) -> Result<RulesInForce, InForceError> {
        Err(RuleSourceError::unreadable(io::Error::other("denied")).into())
    }
}

#[tokio::test]
async fn rules_in_force_that_cannot_be_read_are_told_and_asked_for_only_when_they_count() {
    let world = world().await;
    let runner = |owner| {
        let (store, archive, clock) = (world.store.clone(), world.archive.clone(), world.clock.clone());
        Runner::new(store, archive, clock, Arc::new(Unreadable), owner)
    };
    assert!(!runner("one").run_once(&going()).await.unwrap(), "nothing waits");
    world.ask("one", &rule("a", "high", "CreateUser")).await;
    let (table, clock) = (world.store.table(), world.clock.as_ref());
    let held = lease::acquire(table, LEASE, "other", clock, 300).await.unwrap().unwrap();
    assert!(!runner("one").run_once(&going()).await.unwrap(), "another is at work");
    assert_eq!(world.find("one").await.state, BacktestState::Queued);
    lease::release(table, &held, clock).await.unwrap();
    assert!(runner("one").run_once(&going()).await.unwrap());
    let failed = world.find("one").await;
    assert_eq!(failed.state, BacktestState::Failed);
    assert_eq!(failed.error.as_deref(), Some("operators' rules cannot be read: denied"));
}

#[tokio::test]
async fn only_so_many_wait_and_all_expire() {
    let world = world().await;
    let most = sentinel_state::backtests::MOST_OPEN;
    for n in 0..most {
        world.ask(&format!("b{n}"), &rule("a", "high", "CreateUser")).await;
    }
    let one_more = Backtest { id: "more".into(), ..template(&world) };
    assert!(!world.store.add(&one_more, Vec::new()).await.unwrap());
    let (page, next) = world.store.list(4, None).await.unwrap();
    assert_eq!(page.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["b9", "b8", "b7", "b6"]);
    assert_eq!(world.store.list(most, next).await.unwrap().0.len(), most - 4);
    while world.run().await {}
    assert!(world.store.add(&one_more, Vec::new()).await.unwrap());
    world.clock.advance(31 * 86_400);
    assert_eq!(world.store.list(50, None).await.unwrap().0, []);
    assert_eq!((world.store.find("b0").await.unwrap(), world.store.result("b0").await.unwrap()), (None, None));
    assert_eq!(world.store.rules("b0").await.unwrap(), []);
}
