use std::sync::{
    Mutex as Lock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use sentinel_durable::ManualClock;
use sentinel_embedded::Database;
use sentinel_state::{Item, Page, Query, Write};

use super::*;

/// A versioned store in memory: every version stays readable, as in a versioned bucket.
#[derive(Default)]
struct Stored(Lock<Inner>);

#[derive(Default)]
struct Inner {
    listed: Vec<RuleObject>,
    texts: HashMap<(String, String), String>,
    versions: u32,
    reads: usize,
    lists: usize,
    unreadable: bool,
    hangs: bool,
    no_object: bool,
}

impl Stored {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, name: &str, text: &str) {
        self.with(|s| {
            s.versions += 1;
            let version_id = format!("v{}", s.versions);
            s.listed.retain(|o| o.name != name);
            s.texts.insert((name.into(), version_id.clone()), text.into());
            s.listed.push(RuleObject {
                name: name.into(),
                etag: format!("e{}", s.versions),
                version_id,
                size: text.len() as u64,
            });
        });
    }

    fn delete_all(&self) {
        self.with(|s| s.listed.clear());
    }
}

fn denied() -> RuleSourceError {
    RuleSourceError::unreadable(std::io::Error::from(std::io::ErrorKind::PermissionDenied))
}

#[async_trait]
impl RuleSource for Stored {
    async fn list(&self) -> Result<Vec<RuleObject>, RuleSourceError> {
        if self.with(|s| s.hangs) {
            return std::future::pending().await;
        }
        self.with(|s| {
            s.lists += 1;
            if s.unreadable { Err(denied()) } else { Ok(s.listed.clone()) }
        })
    }

    async fn read(&self, object: &RuleObject) -> Result<String, RuleSourceError> {
        self.with(|s| {
            s.reads += 1;
            if s.no_object {
                return Err(denied());
            }
            let text = s.texts.get(&(object.name.clone(), object.version_id.clone())).cloned();
            text.ok_or_else(|| RuleSourceError::Object { name: object.name.clone(), reason: "is gone".into() })
        })
    }
}

/// What gauges show.
#[derive(Default)]
struct Gauges(Lock<HashMap<String, Arc<AtomicU64>>>);

impl Gauges {
    fn shows(&self, name: &str) -> Option<f64> {
        self.0.lock().unwrap().get(name).map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)))
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(key.name().to_owned()).or_default()))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

struct World {
    stored: Arc<Stored>,
    database: Database,
    clock: Arc<ManualClock>,
    gauges: Gauges,
}

/// One warm process.
struct Instance {
    keeper: RuleKeeper,
    rules: Arc<SharedRules>,
}

fn world() -> World {
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let database = Database::in_memory(clock.clone()).unwrap();
    World { stored: Arc::default(), database, clock, gauges: Gauges::default() }
}

impl World {
    fn instance(&self) -> Instance {
        self.instance_with(false)
    }

    fn instance_with(&self, default_rules: bool) -> Instance {
        let rules = Arc::new(SharedRules::default());
        let (table, clock) = (self.database.table(), self.clock.clone());
        let mut keeper = RuleKeeper::new(self.stored.clone(), table, clock, Arc::clone(&rules));
        if default_rules {
            keeper = keeper.with_pack(PackAhead::start());
        }
        Instance { keeper, rules }
    }

    /// Looks a minute later, and says what the gauges are then: the alarm, and how much was refused.
    async fn look(&self, instance: &Instance) -> (bool, f64) {
        self.clock.advance(LOOK_SECONDS);
        let recording = ::metrics::set_default_local_recorder(&self.gauges);
        instance.keeper.look().await;
        drop(recording);
        let alarm = self.gauges.shows(metrics::RULES_ALARM).expect("it is told at every look");
        (alarm > 0.0, self.gauges.shows(metrics::RULES_REFUSED).unwrap_or_default())
    }

    async fn records(&self) -> Vec<RecordedSet> {
        Records::new(self.database.table()).recent(100).await.unwrap()
    }
}

impl Instance {
    fn titles(&self) -> Vec<String> {
        let mut titles: Vec<_> = self.rules.current().iter().map(|(_, m)| m.reference.title.clone()).collect();
        titles.sort();
        titles
    }
}

fn rule(title: &str) -> String {
    format!(
        "title: {title}\nid: {title}\nlogsource:\n  product: aws\ndetection:\n  s:\n    eventName: {title}\n  condition: s\n"
    )
}

const FINE: (bool, f64) = (false, 0.0);
const ALARM: (bool, f64) = (true, 0.0);
const BAD: &str = "title: Bad\nlogsource:\n  product: aws\ndetection: 5\n";

#[tokio::test]
async fn changes_are_taken_over_and_recorded_once_with_versions_hash_and_refusals() {
    let world = world();
    let (one, two) = (world.instance(), world.instance());
    assert_eq!(world.look(&one).await, FINE);
    assert!(world.records().await.is_empty(), "a prefix that was never used is no change");
    world.stored.put("a.yml", &rule("A"));
    world.stored.put("team/b.yaml", &rule("B"));
    world.stored.put("a.tests.yml", "events: []");
    world.stored.put("README.md", "about");
    for instance in [&one, &two] {
        assert_eq!(world.look(instance).await, FINE);
        assert_eq!(instance.titles(), ["A", "B"]);
    }
    let records = world.records().await;
    assert_eq!(records.len(), 1, "{records:?}");
    let named: Vec<_> = records[0].objects.iter().map(|o| (o.name.as_str(), o.version_id.as_str())).collect();
    assert_eq!(named, [("a.yml", "v1"), ("team/b.yaml", "v2")]);
    assert_eq!((records[0].rules, records[0].hash.len()), (2, 64));

    world.stored.put("a.yml", &rule("A2"));
    world.stored.put("c.yml", BAD);
    for instance in [&one, &two] {
        assert_eq!(world.look(instance).await, (false, 1.0));
        assert_eq!(instance.titles(), ["A2", "B"]);
    }
    let records = world.records().await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].objects[0].version_id, "v5");
    assert_ne!(records[0].hash, records[1].hash);
    assert_eq!((records[0].refused_count, records[0].refused[0].file.as_str()), (1, "c.yml"));
    assert!(records[0].at > records[1].at);

    // Back to what it was is a change as well.
    world.stored.put("a.yml", &rule("A"));
    world.look(&one).await;
    assert_eq!(world.records().await.len(), 3);
}

#[tokio::test]
async fn it_looks_at_most_once_a_minute_and_reads_only_what_is_new() {
    let world = world();
    let one = world.instance();
    world.stored.put("a.yml", &rule("A"));
    world.look(&one).await;
    for _ in 0..59 {
        world.clock.advance(1);
        one.keeper.look().await;
    }
    assert_eq!(world.stored.with(|s| (s.lists, s.reads)), (1, 1));
    world.clock.advance(1);
    one.keeper.look().await;
    world.stored.put("b.yml", &rule("B"));
    world.look(&one).await;
    assert_eq!(world.stored.with(|s| (s.lists, s.reads)), (3, 2));
}

#[tokio::test]
async fn an_emptied_or_unreadable_prefix_raises_the_alarm_and_keeps_the_last_good_set() {
    let world = world();
    let warm = world.instance();
    world.stored.put("a.yml", &rule("A"));
    assert_eq!(world.look(&warm).await, FINE);
    for break_it in [(|s| s.listed.clear()) as fn(&mut Inner), |s| s.unreadable = true] {
        let before = world.stored.with(|s| s.listed.clone());
        world.stored.with(break_it);
        assert_eq!(world.look(&warm).await, ALARM);
        assert_eq!(warm.titles(), ["A"]);
        let cold = world.instance();
        assert_eq!(world.look(&cold).await, ALARM, "a process that starts now knows it by the record");
        assert_eq!(cold.titles(), ["A"]);
        world.stored.with(|s| {
            s.listed = before;
            s.unreadable = false;
        });
        assert_eq!(world.look(&warm).await, FINE);
        assert_eq!(world.look(&cold).await, FINE);
    }
    assert_eq!(world.records().await.len(), 1, "nothing of that was a change of the set in force");
}

#[tokio::test]
async fn emptying_on_purpose_is_said_by_an_object() {
    let world = world();
    let one = world.instance_with(true);
    world.stored.put("a.yml", &rule("A"));
    assert_eq!(world.look(&one).await, FINE);
    world.stored.delete_all();
    world.stored.put(NO_RULES, "");
    assert_eq!(world.look(&one).await, FINE);
    assert_eq!(one.rules.current().len(), RuleSet::default_pack().len());
    assert!(world.records().await[0].objects.is_empty());
    world.stored.delete_all();
    assert_eq!(world.look(&world.instance()).await, FINE, "there was nothing left to be lost");
}

#[tokio::test]
async fn files_that_are_all_bad_are_not_taken_over() {
    let world = world();
    let warm = world.instance_with(true);
    world.stored.put("a.yml", &rule("A"));
    world.look(&warm).await;
    world.stored.put("a.yml", BAD);
    for instance in [&warm, &world.instance_with(true)] {
        assert_eq!(world.look(instance).await, (true, 1.0));
        assert!(instance.titles().contains(&"A".to_owned()));
        assert_eq!(instance.rules.current().len(), RuleSet::default_pack().len() + 1);
    }
}

#[tokio::test]
async fn without_anything_to_go_back_to_our_own_rules_are_in_force_and_it_looks_again_soon() {
    let world = world();
    world.stored.put("a.yml", &rule("A"));
    world.look(&world.instance()).await;
    world.stored.with(|s| (s.unreadable, s.no_object) = (true, true));
    let cold = world.instance_with(true);
    assert_eq!(world.look(&cold).await, ALARM);
    assert_eq!(cold.rules.current().len(), RuleSet::default_pack().len());
    world.stored.with(|s| (s.unreadable, s.no_object) = (false, false));
    world.clock.advance(ANXIOUS_SECONDS);
    cold.keeper.look().await;
    assert!(cold.titles().contains(&"A".to_owned()));
}

#[tokio::test]
async fn a_store_that_never_answers_raises_the_alarm_and_holds_no_batch_up() {
    let world = world();
    world.stored.put("a.yml", &rule("A"));
    let mut warm = world.instance_with(true);
    world.look(&warm).await;
    world.stored.with(|s| s.hangs = true);
    let mut cold = world.instance_with(true);
    for instance in [&mut warm, &mut cold] {
        instance.keeper.longest_look = Duration::from_millis(50);
        assert_eq!(world.look(instance).await, ALARM);
        assert!(instance.titles().contains(&"A".to_owned()), "what was recorded can still be read");
    }
    world.stored.with(|s| s.hangs = false);
    assert_eq!(world.look(&cold).await, FINE);
}

#[tokio::test]
async fn a_change_whose_record_is_cut_is_recorded_at_the_next_look() {
    let world = world();
    world.stored.put("a.yml", &rule("A"));
    let gate = Arc::new(Gated { table: world.database.table(), shut: AtomicBool::new(true) });
    let rules = Arc::new(SharedRules::default());
    let keeper = RuleKeeper::new(world.stored.clone(), gate.clone(), world.clock.clone(), rules);
    let cut = timeout(Duration::from_millis(50), keeper.look()).await;
    assert!(cut.is_err() && world.records().await.is_empty());
    gate.shut.store(false, Ordering::Relaxed);
    keeper.look().await;
    assert_eq!(world.records().await.len(), 1);
}

/// A table that takes no writes for now, and does not say so.
struct Gated {
    table: Arc<dyn Table>,
    shut: AtomicBool,
}

#[async_trait]
impl Table for Gated {
    async fn get(&self, key: &sentinel_state::Key) -> Result<Option<Item>, TableError> {
        self.table.get(key).await
    }
    async fn get_many(&self, keys: &[sentinel_state::Key]) -> Result<Vec<Item>, TableError> {
        self.table.get_many(keys).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        if self.shut.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        self.table.write(writes).await
    }
    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.table.query(query).await
    }
}

#[tokio::test]
async fn one_file_that_cannot_be_used_costs_only_itself() {
    let world = world();
    let one = world.instance();
    world.stored.put("a.yml", &rule("A"));
    world.stored.put("gone.yml", &rule("Gone"));
    world.stored.put("large.yml", &rule("Large"));
    world.stored.put(&format!("{}.yml", "n".repeat(MAX_NAME_BYTES)), &rule("Name"));
    world.stored.with(|s| {
        s.texts.remove(&("gone.yml".into(), "v2".into()));
        s.listed[2].size = MAX_FILE_BYTES as u64 + 1;
    });
    assert_eq!(world.look(&one).await, (false, 3.0));
    assert_eq!(one.titles(), ["A"]);
    let record = &world.records().await[0];
    let refused: Vec<_> = record.refused.iter().map(|r| (&r.file[..5], r.reason.as_str())).collect();
    assert_eq!(
        refused,
        [("gone.", "is gone"), ("large", "larger than 1048576 bytes"), ("nnnnn", "a name longer than 200 bytes"),]
    );
}

#[tokio::test]
async fn the_texts_of_a_record_are_those_in_force_whatever_happened_since() {
    let world = world();
    world.stored.put("b.yml", &rule("B"));
    world.stored.put("a.yml", &rule("A"));
    world.stored.put("gone.yml", &rule("Gone"));
    world.stored.put("large.yml", &rule("Large"));
    world.stored.with(|s| s.listed[3].size = MAX_FILE_BYTES as u64 + 1);
    world.look(&world.instance()).await;
    world.stored.put("a.yml", &rule("A2"));
    world.stored.delete_all();
    world.stored.with(|s| s.texts.remove(&("gone.yml".into(), "v3".into())));
    let source: Arc<dyn RuleSource> = world.stored.clone();
    let record = || async { world.records().await.remove(0) };
    let files = texts(&source, record().await).await.unwrap();
    let named: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_ref())).collect();
    assert_eq!(named, [("a.yml", rule("A").as_str()), ("b.yml", rule("B").as_str())]);
    world.stored.with(|s| s.no_object = true);
    assert!(matches!(texts(&source, record().await).await, Err(RuleSourceError::Unreadable(_))));
}

#[tokio::test]
async fn more_files_than_one_record_can_name_are_refused() {
    let world = world();
    let one = world.instance();
    for i in 0..MAX_OBJECTS + 2 {
        world.stored.put(&format!("{}{i:04}.yml", "n".repeat(MAX_NAME_BYTES - 8)), &rule(&format!("R{i}")));
    }
    assert_eq!(world.look(&one).await, (false, 2.0));
    assert_eq!(one.rules.current().len(), MAX_OBJECTS);
    assert_eq!(world.records().await[0].objects.len(), MAX_OBJECTS);
    let cold = world.instance();
    world.look(&cold).await;
    assert_eq!(world.records().await.len(), 1);
}

struct Counted(Lock<usize>, Arc<SharedRules>);

#[async_trait]
impl Handler for Counted {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        *self.0.lock().unwrap() = self.1.current().len();
        batch.into_iter().map(|_| Outcome::Done).collect()
    }
}

#[tokio::test]
async fn a_batch_is_handled_with_the_rules_as_they_are_then() {
    let world = world();
    world.stored.put("a.yml", &rule("A"));
    let Instance { keeper, rules } = world.instance();
    let handler = Arc::new(Counted(Lock::new(99), rules));
    let kept = Kept::new(Arc::new(keeper), handler.clone());
    assert!(kept.handle(Vec::new()).await.is_empty());
    assert_eq!(*handler.0.lock().unwrap(), 1);
}
