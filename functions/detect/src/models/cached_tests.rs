use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use sentinel_behaviour::{Learn, Lesson, Replay};
use sentinel_model::{Event, Timestamp};

use super::*;
use crate::{
    models::{
        MemoryBaselines, Model, ModelScorer, simulated,
        tests::{attack_batch, held},
    },
    scorer::Scorer,
};

const HOUR: i64 = 3_600;

/// Counts what reaches the store behind, and the write units that it takes.
#[derive(Default)]
struct Counted {
    store: MemoryBaselines,
    reads: AtomicUsize,
    writes: AtomicUsize,
    units: AtomicUsize,
    /// Answers are lost: the write is done, and fails.
    loses_answers: AtomicBool,
}

/// Bytes of a state's item in `DynamoDB`: beside the state there are the key, the names of the attributes, the
/// version, when it expires (twice) and a nonce. The adapter's compression is gzip's, with fewer bytes around it.
fn item_bytes(who: &Who, state: &PrincipalState) -> usize {
    let body = format!(r#"{{"state":"{}"}}"#, STANDARD_NO_PAD.encode(state.pack().unwrap()));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    let packed = if body.len() > 512 { encoder.finish().unwrap().len() } else { body.len() };
    packed + who.account.len() + "#BASELINE#".len() + who.actor.len() + 85
}

#[async_trait]
impl BaselineStore for Counted {
    async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.read(who).await
    }

    async fn write(
        &self,
        who: &Who,
        state: PrincipalState,
        version: Option<u64>,
        learned: Lessons,
    ) -> Result<bool, TableError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.units.fetch_add(item_bytes(who, &state).div_ceil(1_024), Ordering::Relaxed);
        // Others have their turn, as with any store.
        tokio::task::yield_now().await;
        let done = self.store.write(who, state, version, learned).await;
        if self.loses_answers.load(Ordering::Relaxed) {
            return Err(TableError::Store("the answer was lost".into()));
        }
        done
    }
}

impl Counted {
    fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }
}

fn batches(events: &[Event], seconds: i64) -> Vec<Vec<Event>> {
    let slot = |e: &Event| e.time.as_second().div_euclid(seconds);
    events.chunk_by(|a, b| slot(a) == slot(b)).map(<[Event]>::to_vec).collect()
}

fn cached(behind: &Arc<Counted>) -> CachedBaselines {
    CachedBaselines::new(Arc::clone(behind) as Arc<dyn BaselineStore>)
}

fn scorer(behind: &Arc<Counted>) -> ModelScorer {
    ModelScorer::new(Model::embedded().unwrap(), Arc::new(cached(behind)))
}

fn who(n: usize) -> Who {
    Who { account: "111122223333".into(), actor: format!("someone {n}") }
}

/// An event like any other, so many seconds into a Monday.
fn event(id: impl std::fmt::Display, second: i64) -> Event {
    static ONE: std::sync::OnceLock<Event> = std::sync::OnceLock::new();
    let one = ONE.get_or_init(|| simulated::events(77_004, 2, 1).remove(0));
    let time = Timestamp::from_second(1_741_564_800 + second).unwrap();
    Event { id: id.to_string(), time, ..one.clone() }
}

const ALERTED: Learn = Learn::Alerted { score: 0.9, reasons: 1 };

/// What the scorer does with a batch; how often it had to read.
async fn learn(store: &CachedBaselines, who: &Who, events: &[Event], learn: Learn) -> Result<usize, TableError> {
    let list: Vec<&Event> = events.iter().collect();
    for reads in 1..10 {
        let (mut state, version) = store.read(who).await?;
        let mut lessons = Lessons::of(&list);
        for event in events {
            let lesson = Lesson::of(event, learn);
            if state.apply(&lesson) {
                lessons.add(lesson);
            }
        }
        state.remember_batch(&list);
        if store.write(who, state, version, lessons).await? {
            return Ok(reads);
        }
    }
    panic!("refused again and again");
}

/// Events learned, of somebody who is not fully known.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 200")]
fn learned(state: &PrincipalState) -> usize {
    (state.maturity() * 200.0).round() as usize
}

#[tokio::test]
async fn few_events_cost_a_write_and_the_scores_stay_the_same() {
    let events = simulated::events(77_002, 14, 14);
    let plain = ModelScorer::in_memory().unwrap();
    let counted = Arc::new(Counted::default());
    let cached = scorer(&counted);
    let later = events.last().unwrap().time.as_second() - 4 * 86_400;
    let (mut writes, mut seen) = (0, 0);
    for batch in batches(&events, 300) {
        let before = counted.writes();
        assert_eq!(cached.score(&batch).await.unwrap(), plain.score(&batch).await.unwrap());
        if batch[0].time.as_second() > later {
            writes += counted.writes() - before;
            seen += batch.len();
        }
    }
    // Of people who are known for ten days. Every principal of every batch would be several times that.
    println!("{writes} writes for {seen} events, {} reads in all", counted.reads.load(Ordering::Relaxed));
    assert!(seen > 1_000 && writes * 32 < seen, "{writes} writes for {seen} events");
}

#[tokio::test]
async fn of_a_company_known_for_four_days_an_event_writes_few_units() {
    let events = simulated::events(1, 100, 6);
    let counted = Arc::new(Counted::default());
    let cached = scorer(&counted);
    for (day, of_day) in batches(&events, 86_400).iter().enumerate() {
        let (writes, units) = (counted.writes(), counted.units.load(Ordering::Relaxed));
        // Trail files, and on the last day, a Saturday, batches of EventBridge.
        for batch in of_day.chunks(if day == 5 { 50 } else { 200 }) {
            cached.score(batch).await.unwrap();
        }
        let (writes, units) = (counted.writes() - writes, counted.units.load(Ordering::Relaxed) - units);
        println!("day {}: {} events, {writes} writes, {units} units", day + 1, of_day.len());
        assert!(day < 4 || units * 1_000 <= of_day.len() * 35, "{units} units for {} events", of_day.len());
    }
}

/// Two processes in turn, each of which ends every two hours and takes with it what waits. One that keeps all
/// alerts for 16 of the victim's events, and for 6 others.
#[tokio::test]
async fn the_model_tells_attacks_as_well_when_processes_take_turns_and_end() {
    let held = held();
    let counted = Arc::new(Counted::default());
    let mut processes = [scorer(&counted), scorer(&counted)];
    let mut began = [i64::MIN; 2];
    let (mut benign, mut attack) = (0, 0);
    for (i, batch) in batches(&held.events, 300).into_iter().enumerate() {
        // A process ends an hour after the other one.
        let now = batch[0].time.as_second() + if i % 2 == 0 { 0 } else { HOUR };
        if began[i % 2] != now.div_euclid(2 * HOUR) {
            began[i % 2] = now.div_euclid(2 * HOUR);
            processes[i % 2] = scorer(&counted);
        }
        for scored in processes[i % 2].score(&batch).await.expect("a conflict is not an error") {
            let event = &batch[scored.index];
            if held.attack.contains(&event.id) {
                attack += usize::from(event.principal.id == held.victim);
            } else {
                benign += 1;
            }
        }
    }
    let of_victim = held.events.iter().filter(|e| held.attack.contains(&e.id) && e.principal.id == held.victim).count();
    let (all, units) = (held.events.len(), counted.units.load(Ordering::Relaxed));
    let reads = counted.reads.load(Ordering::Relaxed);
    println!("{attack} of {of_victim} of the attack, {benign} of {all} others; {units} units written, {reads} reads");
    assert!(attack * 2 > of_victim, "{attack} of {of_victim}");
    assert!(benign * 1_000 <= all, "{benign} of {all}");
}

#[tokio::test]
async fn an_alert_is_stored_at_once_with_all_that_waited() {
    let counted = Arc::new(Counted::default());
    let (cached, who) = (cached(&counted), who(0));
    learn(&cached, &who, &[event(0, 0)], Learn::Habit).await.unwrap();
    assert_eq!(counted.writes(), 1, "a new principal is stored");
    for n in 1..6 {
        learn(&cached, &who, &[event(n, n)], Learn::Habit).await.unwrap();
    }
    assert_eq!(counted.writes(), 1, "more of the same waits");
    assert_eq!(counted.reads.load(Ordering::Relaxed), 1);
    learn(&cached, &who, &[event("alerted", 7)], ALERTED).await.unwrap();
    assert_eq!(counted.writes(), 2, "an alert does not");
    let stored = counted.store.read(&who).await.unwrap().0;
    assert_eq!(
        (learned(&stored), stored.replay(&event("alerted", 7))),
        (6, Replay::Alerted { score: 0.9, reasons: 1 })
    );
    assert_eq!(stored, cached.read(&who).await.unwrap().0);
}

#[tokio::test]
async fn a_state_waits_for_events_and_for_hours_and_for_few_when_it_holds_news() {
    let counted = Arc::new(Counted::default());
    let (cached, who) = (cached(&counted), who(0));
    let (mut writes, mut id) = (0, 0);
    let mut written = async |second: i64, events: usize, change: &(dyn Fn(Event) -> Event + Sync)| {
        id += events;
        let batch: Vec<Event> = (id - events..id).map(|id| change(event(id, second))).collect();
        learn(&cached, &who, &batch, Learn::Habit).await.unwrap();
        let more = counted.writes() - writes;
        writes += more;
        more == 1
    };
    let same = |e| e;
    assert!(written(0, 1, &same).await, "new");
    assert!(!written(NEWS_SECONDS - 1, 1, &same).await);
    assert!(written(NEWS_SECONDS, 1, &same).await, "hardly known, after an hour");
    assert!(!written(NEWS_SECONDS, 1, &same).await && !written(NEWS_SECONDS, MOST_EVENTS - 2, &same).await);
    assert!(written(NEWS_SECONDS, 1, &same).await, "after as many events as may wait");
    for _ in 0..4 {
        assert!(written(NEWS_SECONDS, MOST_EVENTS, &same).await, "more at once than may wait");
    }
    // Fully known: it waits for half of what the process has lived, and never longer than six hours.
    for hours in [2, 4, 8, 14, 20] {
        assert!(!written(hours * HOUR - 2, 1, &same).await && written(hours * HOUR, 1, &same).await, "{hours} hours");
    }
    let start = 20 * HOUR;
    assert!(!written(start, 1, &|e| Event { region: Some("sa-east-1".into()), ..e }).await, "news waits for a while");
    assert!(!written(start + NEWS_SECONDS - 1, 1, &same).await && written(start + NEWS_SECONDS, 1, &same).await);
}

#[tokio::test]
async fn what_two_processes_learn_of_one_principal_comes_together() {
    let counted = Arc::new(Counted::default());
    let (one, other, who) = (cached(&counted), cached(&counted), who(0));
    learn(&one, &who, &[event("first", 0)], Learn::Habit).await.unwrap();
    other.read(&who).await.unwrap();
    for n in 0..20 {
        let store = if n % 2 == 0 { &one } else { &other };
        learn(store, &who, &[event(n, n)], Learn::Habit).await.unwrap();
    }
    assert_eq!(counted.writes(), 1);
    assert_eq!(learn(&one, &who, &[event("loud", 30)], ALERTED).await.unwrap(), 1);
    assert_eq!(learned(&counted.store.read(&who).await.unwrap().0), 11);
    assert_eq!(learn(&other, &who, &[event("louder", 31)], ALERTED).await.unwrap(), 2, "refused once");
    let stored = counted.store.read(&who).await.unwrap().0;
    assert_eq!(learned(&stored), 21);
    assert!((0..20).all(|n| stored.replay(&event(n, n)) == Replay::Quiet));
    assert!(["loud", "louder"].iter().all(|id| matches!(stored.replay(&event(id, 0)), Replay::Alerted { .. })));
}

#[tokio::test]
async fn a_batch_that_alerted_scores_alike_in_every_process() {
    let counted = Arc::new(Counted::default());
    let (one, other) = (scorer(&counted), scorer(&counted));
    let (past, batch) = attack_batch();
    let past = &past[..past.len() - 5];
    one.score(&past[..past.len() - 40]).await.unwrap();
    // The other one knows the victim too, and has learned what it keeps to itself.
    other.score(&past[past.len() - 40..past.len() - 20]).await.unwrap();
    one.score(&past[past.len() - 20..]).await.unwrap();
    // A score is remembered in single precision.
    let told = |s: Vec<crate::Scored>| {
        s.iter().map(|s| format!("{} {:.4} {:?}", s.index, s.score, s.reasons)).collect::<Vec<_>>()
    };
    // As many as a state remembers with their scores.
    let batch = &batch[..20];
    let first = told(one.score(batch).await.unwrap());
    assert!(first.len() > 5 && first.len() <= 16, "{}", first.len());
    assert_eq!(told(other.score(batch).await.unwrap()), first, "a process with a state of its own");
    assert_eq!(told(scorer(&counted).score(batch).await.unwrap()), first, "a new one");
    assert_eq!(told(one.score(batch).await.unwrap()), first);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_learned_twice() {
    let counted = Arc::new(Counted::default());
    let (cached, who) = (cached(&counted), who(0));
    for n in 0..30 {
        learn(&cached, &who, &[event(n, n)], Learn::Habit).await.unwrap();
    }
    counted.loses_answers.store(true, Ordering::Relaxed);
    let loud = [event("loud", 30)];
    learn(&cached, &who, &loud, ALERTED).await.unwrap_err();
    counted.loses_answers.store(false, Ordering::Relaxed);
    let (state, _) = cached.read(&who).await.unwrap();
    assert_eq!((learned(&state), &state), (30, &counted.store.read(&who).await.unwrap().0));
    assert!(matches!(state.replay(&loud[0]), Replay::Alerted { .. }));
}

#[tokio::test]
async fn two_batches_at_once_in_one_process_lose_nothing() {
    let counted = Arc::new(Counted::default());
    let (cached, who) = (cached(&counted), who(0));
    learn(&cached, &who, &[event("first", 0)], Learn::Habit).await.unwrap();
    // Both have read the same.
    let (mut state, version) = cached.read(&who).await.unwrap();
    learn(&cached, &who, &[event("second", 1)], Learn::Habit).await.unwrap();
    let late = event("late", 2);
    let lesson = Lesson::of(&late, Learn::Habit);
    state.apply(&lesson);
    let mut lessons = Lessons::of(&[&late]);
    lessons.add(lesson);
    assert!(!cached.write(&who, state, version, lessons).await.unwrap(), "somebody has learned since");
    assert_eq!(learned(&cached.read(&who).await.unwrap().0), 2);

    // One writes through while the other one only waits.
    let (loud, quiet) = ([event("loud", 3)], [event("quiet", 4)]);
    let (a, b) = tokio::join!(learn(&cached, &who, &loud, ALERTED), learn(&cached, &who, &quiet, Learn::Habit));
    a.unwrap();
    b.unwrap();
    let (state, _) = cached.read(&who).await.unwrap();
    assert_eq!(learned(&state), 3);
    assert!(matches!(state.replay(&loud[0]), Replay::Alerted { .. }) && state.replay(&quiet[0]) == Replay::Quiet);
}

#[tokio::test]
async fn those_used_least_lately_make_room() {
    let counted = Arc::new(Counted::default());
    let cached = cached(&counted);
    for n in 0..MOST_STATES {
        cached.read(&who(n)).await.unwrap();
    }
    cached.read(&who(0)).await.unwrap();
    let reads = || counted.reads.load(Ordering::Relaxed);
    assert_eq!(reads(), MOST_STATES);
    cached.read(&who(MOST_STATES)).await.unwrap();
    for n in [0, MOST_STATES - 1, MOST_STATES] {
        cached.read(&who(n)).await.unwrap();
    }
    assert_eq!(reads(), MOST_STATES + 1, "used of late");
    cached.read(&who(1)).await.unwrap();
    assert_eq!(reads(), MOST_STATES + 2, "made room");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever processes do in turn, a last alert in each brings all together.
    #[test]
    fn nothing_is_lost_or_learned_twice_between_processes_that_live(
        steps in proptest::collection::vec((0_usize..3, 1_usize..5, 0_u8..12), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let counted = Arc::new(Counted::default());
            let (processes, who) = ([cached(&counted), cached(&counted), cached(&counted)], who(0));
            let mut all = 0;
            for (n, (process, events, kind)) in steps.iter().enumerate() {
                let second = i64::try_from(n).unwrap() * 60;
                let batch: Vec<Event> = (0..*events).map(|e| event(format!("{n}-{e}"), second)).collect();
                let alerted = *kind == 0;
                all += if alerted { 0 } else { *events };
                let how = if alerted { ALERTED } else { Learn::Habit };
                learn(&processes[*process], &who, &batch, how).await.unwrap();
            }
            for (n, process) in processes.iter().enumerate() {
                learn(process, &who, &[event(format!("last {n}"), 100)], ALERTED).await.unwrap();
            }
            assert_eq!(learned(&counted.store.read(&who).await.unwrap().0), all);
        });
    }
}
