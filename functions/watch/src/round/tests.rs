//! Rounds over a real one-machine store, through weeks of its clock.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use sentinel_durable::{ManualClock, Message, Outgoing, QueueDepth, QueueError, Stage};
use sentinel_embedded::Database;
use sentinel_model::Timestamp;
use sentinel_state::{
    Key, Put, Write,
    polls::PollCursor,
    sources::{Delivery, Heartbeats, Source},
};
use serde_json::json;

use super::*;

struct Bench {
    clock: Arc<ManualClock>,
    table: Arc<dyn Table>,
    queue: Arc<dyn Queue>,
    operators: Arc<Told>,
    sources: Sources,
}

/// Operators who remember what they were told, while they can be reached.
#[derive(Default)]
pub(crate) struct Told {
    titles: Mutex<Vec<String>>,
    away: AtomicBool,
}

#[async_trait]
impl Operators for Told {
    async fn tell(&self, notice: &Notice) -> Result<(), TellError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(TellError("away".into()));
        }
        self.titles.lock().unwrap().push(notice.title.clone());
        Ok(())
    }
}

impl Told {
    /// What was told since the last look.
    fn since(&self) -> Vec<String> {
        std::mem::take(&mut *self.titles.lock().unwrap())
    }
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new("2024-05-06T08:00:00Z".parse().unwrap()));
    let database = Database::in_memory(clock.clone()).unwrap();
    let (table, queue) = (database.table(), database.queue());
    Bench { clock, sources: Sources::new(table.clone()), table, queue, operators: Arc::default() }
}

fn source(region: &str) -> Source {
    Source { account: "111122223333".into(), region: region.into(), delivery: Delivery::Bus }
}

impl Bench {
    fn watch(&self, polls: Vec<Poll>) -> Watch {
        let settings = Settings { silence_minutes: 60, polls };
        Watch::new(self.table.clone(), self.queue.clone(), self.operators.clone(), self.clock.clone(), settings)
    }

    async fn round(&self) -> Round {
        self.watch(Vec::new()).round().await.unwrap()
    }

    /// Delivers every `minutes` for `hours`.
    async fn deliver(&self, source: &Source, minutes: i64, hours: i64) {
        for _ in 0..=hours * 60 / minutes {
            self.sources.beat(source, self.clock.now()).await.unwrap();
            self.clock.advance(minutes * 60);
        }
    }

    async fn silent_since(&self) -> Vec<bool> {
        self.sources.list().await.unwrap().iter().map(|s| s.heartbeat.silent_since.is_some()).collect()
    }
}

#[tokio::test]
async fn a_source_that_stops_is_silent_until_it_delivers_again() {
    let b = bench();
    let source = source("eu-west-1");
    b.deliver(&source, 10, 2).await;
    assert_eq!(b.round().await, Round { sources: 1, ..Round::default() });
    b.clock.advance(61 * 60);
    assert_eq!(b.round().await.silent, 1);
    assert_eq!(b.silent_since().await, [true]);
    let told = b.sources.list().await.unwrap();
    assert_eq!(b.round().await.silent, 1);
    assert_eq!(b.sources.list().await.unwrap(), told, "told once, written once");
    b.sources.beat(&source, b.clock.now()).await.unwrap();
    assert_eq!(b.round().await.silent, 0);
    assert_eq!(b.silent_since().await, [false]);
    // That pause is no habit: the next one is noticed as soon.
    b.clock.advance(61 * 60);
    assert_eq!(b.round().await.silent, 1);
}

#[tokio::test]
async fn each_source_is_judged_by_its_own_pauses_and_new_ones_not_at_all() {
    let b = bench();
    let (quiet, busy) = (source("eu-west-1"), source("us-east-1"));
    b.deliver(&quiet, 240, 24).await;
    b.deliver(&busy, 10, 2).await;
    b.sources.beat(&source("ap-south-1"), b.clock.now()).await.unwrap();
    b.clock.advance(2 * 3_600);
    assert_eq!(b.round().await, Round { sources: 3, silent: 1, ..Round::default() });
    assert_eq!(b.silent_since().await, [false, false, true], "by Region: ap-south-1, eu-west-1, us-east-1");
}

#[tokio::test]
async fn each_source_is_told_once_also_while_another_is_silent() {
    let b = bench();
    let (west, east) = (source("eu-west-1"), source("us-east-1"));
    for _ in 0..20 {
        b.sources.beat(&west, b.clock.now()).await.unwrap();
        b.sources.beat(&east, b.clock.now()).await.unwrap();
        b.clock.advance(600);
    }
    let none: [String; 0] = [];
    b.round().await;
    assert_eq!(b.operators.since(), none);
    for _ in 0..12 {
        b.sources.beat(&east, b.clock.now()).await.unwrap();
        b.clock.advance(600);
    }
    b.operators.away.store(true, Ordering::Relaxed);
    let failed = b.watch(Vec::new()).round().await.unwrap_err();
    assert_eq!(failed.to_string(), "operators could not be told: away");
    b.operators.away.store(false, Ordering::Relaxed);
    b.round().await;
    b.round().await;
    assert_eq!(b.operators.since(), ["Logs of 111122223333 in eu-west-1 stopped"]);
    b.clock.advance(2 * 3_600);
    assert_eq!(b.round().await.silent, 2);
    assert_eq!(b.operators.since(), ["Logs of 111122223333 in us-east-1 stopped"], "though one was silent before");
    b.sources.beat(&west, b.clock.now()).await.unwrap();
    b.round().await;
    b.round().await;
    assert_eq!(b.operators.since(), ["Logs of 111122223333 in eu-west-1 come again"]);
}

#[tokio::test]
async fn many_sources_that_stop_at_once_are_one_notice() {
    let b = bench();
    let regions = ["eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1", "us-east-1", "us-east-2", "us-west-2"];
    for _ in 0..20 {
        for region in regions {
            b.sources.beat(&source(region), b.clock.now()).await.unwrap();
        }
        b.clock.advance(600);
    }
    b.clock.advance(2 * 3_600);
    for _ in 0..2 {
        assert_eq!(b.round().await.silent, 7);
    }
    assert_eq!(b.operators.since(), ["7 sources of logs or polls changed at once"]);
    assert_eq!(b.silent_since().await, [true; 7]);
}

/// A source that is found silent, and what happens to it before that is remembered.
async fn found_silent(meanwhile: impl AsyncFnOnce(&Bench, &StoredHeartbeat)) -> Vec<String> {
    let b = bench();
    b.deliver(&source("eu-west-1"), 10, 2).await;
    b.clock.advance(2 * 3_600);
    let stored = b.sources.list().await.unwrap().remove(0);
    meanwhile(&b, &stored).await;
    let of = Of::Source(Box::new(stored), Some(b.clock.now()));
    b.watch(Vec::new()).remember(&of).await.unwrap();
    b.operators.since()
}

#[tokio::test]
async fn only_a_source_that_delivered_meanwhile_is_said_to_be_back() {
    let told = found_silent(async |b, stored| {
        b.sources.beat(&stored.heartbeat.source, b.clock.now()).await.unwrap();
    });
    assert_eq!(told.await, ["Logs of 111122223333 in eu-west-1 come again"]);
    let told = found_silent(async |b, stored| {
        assert!(b.sources.mark(stored, Some(b.clock.now())).await.unwrap(), "another round was faster");
    });
    let none: [String; 0] = [];
    assert_eq!(told.await, none, "it is still silent");
}

#[tokio::test]
async fn one_outage_does_not_make_the_next_one_expected() {
    let b = bench();
    let source = source("eu-west-1");
    b.deliver(&source, 10, 2).await;
    let mut longest = Vec::new();
    for outage in ["one", "another on the next day"] {
        b.clock.advance(8 * 3_600);
        b.round().await;
        assert_eq!(b.silent_since().await, [true], "{outage}");
        b.sources.beat(&source, b.clock.now()).await.unwrap();
        b.round().await;
        longest.push(b.sources.list().await.unwrap()[0].heartbeat.longest_pause());
        b.deliver(&source, 10, 6).await;
    }
    assert_eq!(longest, [600, 8 * 3_600 + 600], "only what comes again is how a source is");
}

#[tokio::test]
async fn each_stalled_poll_is_told_once_and_again_when_it_goes_on() {
    let b = bench();
    let poll = |region: &str| Poll { account: "111122223333".into(), region: region.into() };
    let watch = b.watch(vec![poll("eu-west-1"), poll("us-east-1")]);
    let none: [String; 0] = [];
    watch.round().await.unwrap();
    assert_eq!(b.operators.since(), none, "they may just have been configured");
    let polls = Polls::new(b.table.clone());
    let first = polls.put(&cursor("eu-west-1", b.clock.now()), None).await.unwrap();
    b.clock.advance(STALLED_SECONDS + 1);
    for _ in 0..2 {
        assert_eq!(watch.round().await.unwrap().stalled, 2);
    }
    let stalled = ["The poll of 111122223333 in eu-west-1 stalled", "The poll of 111122223333 in us-east-1 stalled"];
    assert_eq!(b.operators.since(), stalled);
    polls.put(&cursor("eu-west-1", b.clock.now()), Some(first)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(watch.round().await.unwrap().stalled, 1);
    }
    assert_eq!(b.operators.since(), ["The poll of 111122223333 in eu-west-1 goes on"]);
}

fn cursor(region: &str, now: Timestamp) -> PollCursor {
    PollCursor {
        account: "111122223333".into(),
        region: region.into(),
        through: now,
        settled: now,
        slice_seconds: 60,
        last_success: now,
        error: None,
        seen: Vec::new(),
        complete: false,
    }
}

#[tokio::test]
async fn a_source_that_is_gone_for_good_is_forgotten() {
    let b = bench();
    b.deliver(&source("eu-west-1"), 10, 2).await;
    b.clock.advance(13 * 86_400);
    assert_eq!(b.round().await, Round { sources: 1, silent: 1, ..Round::default() });
    b.clock.advance(86_400);
    assert_eq!(b.round().await, Round::default());
}

#[tokio::test]
async fn old_pauses_are_forgotten() {
    let b = bench();
    let source = source("eu-west-1");
    b.deliver(&source, 600, 20).await;
    assert_eq!(b.sources.list().await.unwrap()[0].heartbeat.longest_pause(), 36_000);
    b.deliver(&source, 60, 24 * 16).await;
    let heartbeat = b.sources.list().await.unwrap().remove(0).heartbeat;
    assert_eq!(heartbeat.longest_pause(), 3_600);
    assert!(heartbeat.pauses.len() <= 15, "{:?}", heartbeat.pauses);
}

#[tokio::test]
async fn heartbeats_are_written_every_five_minutes_at_most() {
    let b = bench();
    let (one, other) = (Heartbeats::new(b.table.clone()), Heartbeats::new(b.table.clone()));
    let written =
        async || b.table.get(&Key::new("111122223333#SOURCE#eu-west-1#bus", "SOURCE")).await.unwrap().unwrap();
    for second in 0..900 {
        one.note(source("eu-west-1"), b.clock.now()).await.unwrap();
        other.note(source("eu-west-1"), b.clock.now()).await.unwrap();
        assert_eq!(written().await.version, 1 + second / 300);
        b.clock.advance(1);
    }
    let heartbeat = b.sources.list().await.unwrap().remove(0).heartbeat;
    assert_eq!((heartbeat.history(), heartbeat.longest_pause()), (600, 300));
}

#[tokio::test]
async fn heartbeats_written_at_one_moment_are_all_right() {
    let b = bench();
    b.sources.beat(&source("eu-west-1"), b.clock.now()).await.unwrap();
    b.clock.advance(600);
    let now = b.clock.now();
    let beats = (0..8).map(|_| {
        let sources = b.sources.clone();
        tokio::spawn(async move { sources.beat(&source("eu-west-1"), now).await })
    });
    for beat in beats.collect::<Vec<_>>() {
        assert_eq!(beat.await.unwrap().unwrap(), now);
    }
    assert_eq!(b.sources.list().await.unwrap()[0].heartbeat.longest_pause(), 600);
}

#[tokio::test]
async fn a_poll_stalls_a_quarter_of_an_hour_after_its_last_success() {
    let b = bench();
    let poll = |region: &str| Poll { account: "111122223333".into(), region: region.into() };
    let watch = b.watch(vec![poll("eu-west-1"), poll("us-east-1")]);
    assert_eq!(watch.round().await.unwrap().stalled, 2, "a poll that never succeeded has stalled");
    Polls::new(b.table.clone()).put(&cursor("eu-west-1", b.clock.now()), None).await.unwrap();
    b.clock.advance(STALLED_SECONDS);
    assert_eq!(watch.round().await.unwrap().stalled, 1);
    b.clock.advance(1);
    assert_eq!(watch.round().await.unwrap().stalled, 2);
    assert_eq!(b.round().await.stalled, 0, "only what is configured");
}

async fn leave(b: &Bench, id: &str) {
    b.table.write(vec![outbox::put(id, Stage::Respond, id).unwrap()]).await.unwrap();
}

#[tokio::test]
async fn what_a_crash_left_in_the_outbox_is_sent_once() {
    let b = bench();
    leave(&b, "one").await;
    leave(&b, "two").await;
    assert_eq!(b.round().await.relayed, 2);
    assert_eq!(b.round().await.relayed, 0);
    let sent: Vec<String> =
        b.queue.receive(Stage::Respond, 10, 30).await.unwrap().into_iter().map(|m| m.body).collect();
    assert_eq!(sent, ["one", "two"]);
}

struct Down;

#[async_trait]
impl Queue for Down {
    async fn send(&self, _: Stage, _: Vec<Outgoing>) -> Result<(), QueueError> {
        Err(QueueError::Store("down".into()))
    }
    async fn receive(&self, _: Stage, _: usize, _: u32) -> Result<Vec<Message>, QueueError> {
        Ok(Vec::new())
    }
    async fn delete(&self, _: Stage, _: &str) -> Result<(), QueueError> {
        Ok(())
    }
    async fn release(&self, _: Stage, _: &str, _: u32) -> Result<(), QueueError> {
        Ok(())
    }
    async fn depth(&self, _: Stage) -> Result<QueueDepth, QueueError> {
        Ok(QueueDepth::default())
    }
    async fn dead(&self, _: Stage, _: usize) -> Result<Vec<Message>, QueueError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_part_that_fails_is_told_and_stops_no_other() {
    let mut b = bench();
    b.deliver(&source("eu-west-1"), 10, 2).await;
    b.clock.advance(2 * 3_600);
    leave(&b, "one").await;
    b.queue = Arc::new(Down);
    let error = b.watch(Vec::new()).round().await.unwrap_err();
    assert_eq!(error.to_string(), "the outbox could not be sent: the queue failed: down");
    assert_eq!(b.silent_since().await, [true], "silence was looked for all the same");
    let broken = Put::new(Key::new("POLL#111122223333#eu-west-1", "CURSOR"), &json!({"no": "cursor"})).unwrap();
    b.table.write(vec![Write::Put(broken)]).await.unwrap();
    let polls = vec![Poll { account: "111122223333".into(), region: "eu-west-1".into() }];
    let error = b.watch(polls).round().await.unwrap_err();
    assert_eq!(error.0.len(), 2, "{error}");
}
