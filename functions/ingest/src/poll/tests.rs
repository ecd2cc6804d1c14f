//! The poller against a CloudTrail that shows events late, throttles, breaks off and answers page by page,
//! with processes that die at any of their calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use sentinel_archive::FileArchive;
use sentinel_durable::{Message, Outgoing, Queue, QueueDepth, QueueError, Stage};
use sentinel_embedded::Database;
use sentinel_model::message::EventBatch;
use sentinel_state::{Item, Key, Page, Query, Write};

use super::*;

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-central-1";
const START: i64 = 1_772_366_400;

/// The clock of the paused runtime, so that waiting is time that passes.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp::from_millisecond(START * 1000 + passed).unwrap()
    }
}

/// An event: when it happens, and how much later the API shows it, in seconds from [`START`].
#[derive(Debug, Clone, Copy)]
struct Planned {
    at: i64,
    late: i64,
}

fn record(n: usize, at: i64) -> String {
    let time = Timestamp::from_second(START + at).unwrap();
    format!(
        r#"{{"eventVersion":"1.09","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::{ACCOUNT}:user/u","accountId":"{ACCOUNT}"}},
        "eventTime":"{time}","eventSource":"iam.amazonaws.com","eventName":"ListUsers","awsRegion":"{REGION}","eventID":"event-{n}","recipientAccountId":"{ACCOUNT}"}}"#
    )
}

/// The API over planned events.
struct Trail {
    events: Vec<Planned>,
    clock: Arc<dyn Clock>,
    page: usize,
    /// The process dies after this many calls of any port; 0: never.
    faults: Arc<Faults>,
    requests: Mutex<Vec<Instant>>,
    /// Every so many-th request is throttled; 0: none.
    throttle_every: usize,
    restart_once: AtomicBool,
    denied: AtomicBool,
}

#[derive(Default)]
struct Faults {
    calls: AtomicUsize,
    dies_at: AtomicUsize,
    dead: AtomicBool,
}

impl Faults {
    /// `true` when this call's effect is the last thing that happens, or nothing happens any more.
    fn dies(&self) -> (bool, bool) {
        if self.dead.load(Ordering::SeqCst) {
            return (true, true);
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let now = n == self.dies_at.load(Ordering::SeqCst);
        if now {
            self.dead.store(true, Ordering::SeqCst);
        }
        (false, now)
    }

    fn revive(&self, dies_at: usize) {
        self.calls.store(0, Ordering::SeqCst);
        self.dies_at.store(dies_at, Ordering::SeqCst);
        self.dead.store(false, Ordering::SeqCst);
    }
}

#[async_trait]
impl TrailLookup for Trail {
    async fn page(
        &self,
        region: &str,
        start: Timestamp,
        end: Timestamp,
        next: Option<String>,
    ) -> Result<LookupPage, LookupError> {
        assert_eq!(region, REGION);
        assert!(start < end && start.subsec_nanosecond() == 0 && end.subsec_nanosecond() == 0);
        let n = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(Instant::now());
            requests.len()
        };
        tokio::time::sleep(Duration::from_millis(30)).await;
        let (dead, dies) = self.faults.dies();
        if dead || dies {
            return Err(LookupError::Denied("the process is dead".into()));
        }
        if self.denied.load(Ordering::SeqCst) {
            return Err(LookupError::Denied("no".into()));
        }
        if self.throttle_every > 0 && n.is_multiple_of(self.throttle_every) {
            return Err(LookupError::Throttled);
        }
        if next.is_some() && self.restart_once.swap(false, Ordering::SeqCst) {
            return Err(LookupError::Restart);
        }
        // What is shown is fixed when the first page is asked for, as tokens of the API do it.
        let (shown, offset) = match next {
            None => (self.clock.now().as_second() - START, 0),
            Some(token) => {
                let (shown, offset) = token.split_once('/').unwrap();
                (shown.parse().unwrap(), offset.parse::<usize>().unwrap())
            }
        };
        let (from, to) = (start.as_second() - START, end.as_second() - START);
        let visible = |e: &Planned| (from..to).contains(&e.at) && e.at + e.late <= shown;
        let mut found: Vec<_> = self.events.iter().enumerate().filter(|(_, e)| visible(e)).collect();
        found.sort_by_key(|(n, e)| std::cmp::Reverse((e.at, *n)));
        let records: Vec<_> = found.iter().skip(offset).take(self.page).map(|(n, e)| record(*n, e.at)).collect();
        let read = offset + records.len();
        Ok(LookupPage { records, next: (read < found.len()).then(|| format!("{shown}/{read}")) })
    }
}

/// A table whose writes die with the process.
struct Mortal {
    inner: Arc<dyn Table>,
    faults: Arc<Faults>,
}

#[async_trait]
impl Table for Mortal {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.inner.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.inner.get_many(keys).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let died = || TableError::store(std::io::Error::other("the process is dead"));
        match self.faults.dies() {
            (true, _) => Err(died()),
            (false, true) => {
                self.inner.write(writes).await?;
                Err(died())
            }
            _ => self.inner.write(writes).await,
        }
    }
    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.inner.query(query).await
    }
}

/// A queue whose sends die with the process.
struct MortalQueue {
    inner: Arc<dyn Queue>,
    faults: Arc<Faults>,
}

#[async_trait]
impl Queue for MortalQueue {
    async fn send(&self, stage: Stage, batch: Vec<Outgoing>) -> Result<(), QueueError> {
        let (dead, dies) = self.faults.dies();
        if !dead {
            self.inner.send(stage, batch).await?;
        }
        if dead || dies { Err(QueueError::store(std::io::Error::other("the process is dead"))) } else { Ok(()) }
    }
    async fn receive(&self, stage: Stage, max: usize, visibility_seconds: u32) -> Result<Vec<Message>, QueueError> {
        self.inner.receive(stage, max, visibility_seconds).await
    }
    async fn delete(&self, stage: Stage, receipt: &str) -> Result<(), QueueError> {
        self.inner.delete(stage, receipt).await
    }
    async fn release(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        self.inner.release(stage, receipt, delay_seconds).await
    }
    async fn depth(&self, stage: Stage) -> Result<QueueDepth, QueueError> {
        self.inner.depth(stage).await
    }
    async fn dead(&self, stage: Stage, max: usize) -> Result<Vec<Message>, QueueError> {
        self.inner.dead(stage, max).await
    }
}

struct World {
    poller: Poller,
    trail: Arc<Trail>,
    queue: Arc<dyn Queue>,
    polls: Polls,
    faults: Arc<Faults>,
    _files: tempfile::TempDir,
}

impl World {
    fn new(events: Vec<Planned>, page: usize, throttle_every: usize) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock(Instant::now()));
        let database = Database::in_memory(clock.clone()).unwrap();
        let faults = Arc::new(Faults::default());
        let table: Arc<dyn Table> = Arc::new(Mortal { inner: database.table(), faults: faults.clone() });
        let files = tempfile::tempdir().unwrap();
        let archive = Arc::new(FileArchive::open(files.path()).unwrap());
        let queue = Arc::new(MortalQueue { inner: database.queue(), faults: faults.clone() });
        let ingest = Ingest::new(archive, database.search(), queue, clock.clone());
        let trail = Arc::new(Trail {
            events,
            clock: clock.clone(),
            page,
            faults: faults.clone(),
            requests: Mutex::default(),
            throttle_every,
            restart_once: AtomicBool::new(false),
            denied: AtomicBool::new(false),
        });
        let poller = Poller::new(trail.clone(), Arc::new(ingest), table, clock);
        Self { poller, trail, queue: database.queue(), polls: Polls::new(database.table()), faults, _files: files }
    }

    async fn poll(&self, seconds: u64) -> Result<PollReport, PollError> {
        self.poller.poll(ACCOUNT, REGION, Duration::from_secs(seconds)).await
    }

    async fn cursor(&self) -> PollCursor {
        self.polls.get(ACCOUNT, REGION).await.unwrap().unwrap().cursor
    }

    /// How often each event was handed on.
    async fn handed_on(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        loop {
            let messages = self.queue.receive(Stage::Detect, 10, 60).await.unwrap();
            if messages.is_empty() {
                return counts;
            }
            for message in messages {
                let batch: EventBatch = sentinel_durable::codec::decode(&message.body).unwrap();
                for event in batch.events {
                    assert!(matches!(&event.provenance[0].channel, Channel::CloudTrailApi { account, region }
                        if account == ACCOUNT && region == REGION));
                    *counts.entry(event.id).or_default() += 1;
                }
                self.queue.delete(Stage::Detect, &message.receipt).await.unwrap();
            }
        }
    }

    fn no_second_held_more_than_two_requests(&self) {
        let requests = self.trail.requests.lock().unwrap();
        for three in requests.windows(3) {
            assert!(three[2] - three[0] > Duration::from_secs(1), "{three:?}");
        }
    }
}

fn minutes(n: u64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_mins(n))
}

#[tokio::test(start_paused = true)]
async fn the_first_poll_begins_at_the_overlap_and_later_ones_hand_on_what_is_new() {
    let planned = |at| Planned { at, late: 0 };
    let world = World::new([-2000, -900, -10, 30, 45].map(planned).to_vec(), 2, 0);
    let report = world.poll(50).await.unwrap();
    assert_eq!((report.handed_on, report.complete, report.behind_seconds), (2, true, 0));
    minutes(1).await;
    let report = world.poll(50).await.unwrap();
    assert_eq!((report.read, report.handed_on), (4, 2), "the overlap is read again, and only the new handed on");
    let counts = world.handed_on().await;
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4].map(|n| (format!("event-{n}"), 1)));
    let cursor = world.cursor().await;
    assert_eq!(time::seconds_between(cursor.settled, cursor.through), OVERLAP_SECONDS);
    assert!((0..5).contains(&time::seconds_between(cursor.through, cursor.last_success)));
    world.no_second_held_more_than_two_requests();
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_does_not_fit_is_halved_until_it_does() {
    let planned = |n: i64| Planned { at: -900 + n, late: 0 };
    let world = World::new((0..900).map(planned).collect(), 5, 0);
    let report = world.poll(20).await.unwrap();
    assert!(!report.complete && report.behind_seconds > 0, "{report:?}");
    assert!(world.cursor().await.slice_seconds < FIRST_SLICE / 4);
    let behind = world.poll(20).await.unwrap().behind_seconds;
    for _ in 0..9 {
        world.poll(20).await.unwrap();
    }
    let report = world.poll(20).await.unwrap();
    assert!(report.behind_seconds < behind, "{report:?}");
    let counts = world.handed_on().await;
    assert_eq!(counts.len(), 900, "new events come before old ones are looked at again");
    assert!(counts.values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn one_second_of_more_events_than_fit_is_read_all_the_same() {
    let world = World::new(vec![Planned { at: -60, late: 0 }; 300], 3, 0);
    for _ in 0..20 {
        world.poll(20).await.unwrap();
    }
    let counts = world.handed_on().await;
    assert_eq!((counts.len(), counts.values().max()), (300, Some(&1)));
}

#[tokio::test(start_paused = true)]
async fn one_busy_second_is_read_though_requests_are_throttled_and_the_time_is_over() {
    let world = World::new(vec![Planned { at: -60, late: 0 }; 28], 1, 3);
    for _ in 0..40 {
        let done = world.poll(4).await;
        assert!(matches!(done, Ok(_) | Err(PollError::Lookup(LookupError::Throttled))), "{done:?}");
    }
    let counts = world.handed_on().await;
    assert_eq!((counts.len(), counts.values().max()), (28, Some(&1)));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_its_first_steps_leaves_where_the_poll_began() {
    for dies_at in 1..4 {
        let world = World::new([-900, -450, -1].map(|at| Planned { at, late: 0 }).to_vec(), 5, 0);
        world.faults.revive(dies_at);
        assert!(world.poll(50).await.is_err());
        minutes(60).await;
        world.faults.revive(0);
        assert_eq!(world.poll(50).await.unwrap().handed_on, 3, "dead after {dies_at} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_and_the_next_run_goes_on() {
    let world = World::new(vec![Planned { at: -60, late: 0 }; 6], 2, 0);
    world.trail.restart_once.store(true, Ordering::SeqCst);
    assert!(matches!(world.poll(50).await, Err(PollError::Lookup(LookupError::Restart))));
    world.trail.denied.store(true, Ordering::SeqCst);
    minutes(1).await;
    let refused = world.poll(50).await.unwrap_err().to_string();
    let cursor = world.cursor().await;
    assert_eq!(cursor.error, Some(refused));
    let before = cursor.last_success;
    world.trail.denied.store(false, Ordering::SeqCst);
    minutes(1).await;
    assert_eq!(world.poll(50).await.unwrap().handed_on, 6);
    let cursor = world.cursor().await;
    assert_eq!(cursor.error, None);
    assert!(cursor.last_success > before);
}

#[tokio::test(start_paused = true)]
async fn two_pollers_do_not_work_at_once() {
    let world = World::new(vec![Planned { at: -60, late: 0 }; 40], 2, 0);
    let (one, other) = tokio::join!(world.poll(50), world.poll(50));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.held_elsewhere != other.held_elsewhere);
    assert_eq!(one.handed_on + other.handed_on, 40);
}

/// Runs until everything has been shown and read; returns how often each event was handed on.
async fn follow(world: &World, budgets: &[u64], crashes: &[usize]) -> BTreeMap<String, usize> {
    let begun = Instant::now();
    let mut crashes = crashes.iter().copied();
    for round in 0..400 {
        world.faults.revive(crashes.next().unwrap_or(0));
        let done = world.poll(budgets[round % budgets.len()]).await;
        let throttled = matches!(done, Err(PollError::Lookup(LookupError::Throttled)));
        assert!(done.is_ok() || throttled || world.faults.dead.load(Ordering::SeqCst), "{done:?}");
        let complete = done.is_ok_and(|report| report.complete);
        if complete && begun.elapsed() > Duration::from_mins(60 + 15 + 1) {
            break;
        }
        // A lease that a dead process left behind ends after its time.
        tokio::time::sleep(Duration::from_secs(if complete { 60 } else { 30 })).await;
    }
    world.no_second_held_more_than_two_requests();
    world.handed_on().await
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

fn planned() -> impl Strategy<Value = Vec<Planned>> {
    // Bursts and stragglers, of an hour from the start on.
    let one = (-900_i64..3600, 0..=OVERLAP_SECONDS).prop_map(|(at, late)| Planned { at, late });
    let burst = (-900_i64..3600, 0..60_i64)
        .prop_map(|(at, n)| (0..n).map(|i| Planned { at: at + i % 3, late: 5 }).collect::<Vec<_>>());
    (prop::collection::vec(one, 0..40), prop::collection::vec(burst, 0..3))
        .prop_map(|(ones, bursts)| ones.into_iter().chain(bursts.into_iter().flatten()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_handed_on_exactly_once(
        events in planned(),
        page in 1..8_usize,
        throttle_every in prop_oneof![Just(0_usize), 3..9_usize],
        budgets in prop::collection::vec(4..50_u64, 1..4),
    ) {
        let all = events.len();
        let counts = run(async {
            let world = World::new(events, page, throttle_every);
            follow(&world, &budgets, &[]).await
        });
        prop_assert_eq!(counts.len(), all);
        prop_assert!(counts.values().all(|times| *times == 1), "{:?}", counts);
    }

    #[test]
    fn with_crashes_anywhere_every_event_is_handed_on(
        events in planned(),
        page in 1..8_usize,
        budgets in prop::collection::vec(4..50_u64, 1..4),
        crashes in prop::collection::vec(1..25_usize, 1..12),
    ) {
        let all = events.len();
        let counts = run(async {
            let world = World::new(events, page, 0);
            follow(&world, &budgets, &crashes).await
        });
        prop_assert_eq!(counts.len(), all, "{:?}", counts);
    }
}
