//! The handler over objects in memory and one-machine stores.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use sentinel_ingest::objects::ObjectError;
use serde_json::json;

use super::*;
use crate::testing::{ACCOUNT, Bench, bench, is_done, reasons, record};

const KEY: &str =
    "AWSLogs/111122223333/CloudTrail/eu-west-1/2024/05/06/111122223333_CloudTrail_eu-west-1_20240506T0710Z_a.json.gz";

/// Objects by key, their entity tag the length of their text.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl Objects for Memory {
    async fn open(&self, slice: &Slice) -> Result<OpenObject, ObjectError> {
        let (bucket, key) = (slice.bucket.clone(), slice.key.clone());
        let Some(text) = self.0.lock().unwrap().get(&key).cloned() else {
            return Err(ObjectError::Gone { bucket, key });
        };
        let etag = text.len().to_string();
        if slice.etag.as_ref().is_some_and(|wanted| *wanted != etag) {
            return Err(ObjectError::Replaced { bucket, key });
        }
        Ok(OpenObject { reader: Box::new(Cursor::new(text)), modified: None, version: None, etag: Some(etag) })
    }
}

/// The function's own queue.
#[derive(Default)]
struct OwnQueue {
    messages: Mutex<VecDeque<String>>,
    down: AtomicBool,
}

#[async_trait]
impl Continuations for OwnQueue {
    async fn send(&self, body: String) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            bail!("the queue is down");
        }
        self.messages.lock().unwrap().push_back(body);
        Ok(())
    }
}

struct Stage {
    bench: Bench,
    objects: Arc<Memory>,
    queue: Arc<OwnQueue>,
}

fn stage() -> Stage {
    Stage { bench: bench(), objects: Arc::default(), queue: Arc::default() }
}

impl Stage {
    fn handler(&self, stop: Stop) -> ObjectHandler {
        let trail_buckets = ["trail".to_owned()].into();
        let (ingest, beats) = (self.bench.ingest.clone(), self.bench.beats());
        ObjectHandler::new(ingest, self.objects.clone(), self.queue.clone(), beats, trail_buckets, stop)
    }

    fn put(&self, key: &str, text: impl Into<String>) {
        self.objects.0.lock().unwrap().insert(key.into(), text.into());
    }

    async fn handle(&self, bodies: &[String], stop: Stop) -> Vec<Outcome> {
        self.handler(stop).handle(bodies.iter().map(|body| self.bench.message(body)).collect()).await
    }

    fn own(&self) -> Option<String> {
        self.queue.messages.lock().unwrap().pop_front()
    }
}

fn never() -> Stop {
    Arc::new(|| false)
}

fn always() -> Stop {
    Arc::new(|| true)
}

fn notice(bucket: &str, keys: &[&str]) -> String {
    let records = keys.iter().map(|key| {
        json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 7}}})
    });
    json!({"Records": records.collect::<Vec<_>>()}).to_string()
}

fn file(ids: std::ops::Range<u32>) -> String {
    json!({"Records": ids.map(|id| record(&format!("{id:03}"))).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn an_object_is_taken_in_and_its_source_noted() {
    let s = stage();
    s.put(KEY, file(0..3));
    assert!(s.handle(&[notice("trail", &[KEY])], never()).await.iter().all(is_done));
    let batches = s.bench.queued().await;
    assert_eq!(batches.len(), 1);
    let channel = |bucket: &str| Channel::Object {
        bucket: bucket.into(),
        key: KEY.into(),
        only_cloudtrail_writes: bucket == "trail",
    };
    assert_eq!(batches[0].events[0].provenance[0].channel, channel("trail"));
    let source = Source { account: ACCOUNT.into(), region: "eu-west-1".into(), delivery: Delivery::Objects };
    assert_eq!(s.bench.sources().await, [source]);
    assert_eq!(s.own(), None);
    s.handle(&[notice("shared", &[KEY])], never()).await;
    assert_eq!(s.bench.queued().await[0].events[0].provenance[0].channel, channel("shared"));
}

#[tokio::test]
async fn a_long_object_is_continued_until_its_end() {
    let s = stage();
    s.put(KEY, file(0..45));
    let (mut body, mut invocations, mut ids) = (Some(notice("trail", &[KEY])), 0, Vec::new());
    while let Some(this) = body {
        assert!(s.handle(&[this], always()).await.iter().all(is_done));
        invocations += 1;
        ids.extend(s.bench.queued_ids().await);
        body = s.own();
    }
    assert_eq!(invocations, 5);
    assert_eq!(ids, (0..45).map(|id| format!("{id:03}")).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn objects_that_there_is_no_time_for_are_put_off_without_losing_a_receive() {
    let s = stage();
    let other = KEY.replace("_a.", "_b.");
    s.put(KEY, file(0..5));
    s.put(&other, file(5..8));
    let outcomes = s.handle(&[notice("trail", &[KEY]), notice("trail", &[&other])], always()).await;
    assert!(outcomes.iter().all(is_done), "{outcomes:?}");
    assert_eq!(s.bench.queued_ids().await.len(), 5);
    let later = s.own().unwrap();
    assert!(s.handle(&[later], always()).await.iter().all(is_done));
    assert_eq!(s.bench.queued_ids().await, ["005", "006", "007"]);
}

#[tokio::test]
async fn a_continuation_that_cannot_be_sent_keeps_the_message() {
    let s = stage();
    s.put(KEY, file(0..15));
    s.queue.down.store(true, Ordering::SeqCst);
    let outcomes = s.handle(&[notice("trail", &[KEY])], always()).await;
    assert_eq!(reasons(&outcomes), ["the rest could not be put off: the queue is down"]);
    s.queue.down.store(false, Ordering::SeqCst);
    assert!(s.handle(&[notice("trail", &[KEY])], never()).await.iter().all(is_done));
}

#[tokio::test]
async fn an_object_that_was_replaced_after_it_was_begun_is_not_mixed_up() {
    let s = stage();
    s.put(KEY, file(0..15));
    s.handle(&[notice("trail", &[KEY])], always()).await;
    s.put(KEY, file(100..130));
    let outcomes = s.handle(&[s.own().unwrap()], never()).await;
    assert!(reasons(&outcomes)[0].contains("was replaced"), "{outcomes:?}");
    assert_eq!(s.bench.queued_ids().await.len(), 10);
}

#[tokio::test]
async fn what_fails_fails_alone() {
    let s = stage();
    s.put(KEY, file(0..2));
    let (junk, torn) = (KEY.replace("_a.", "_junk."), KEY.replace("_a.", "_torn."));
    s.put(&junk, "no json at all");
    s.put(&torn, format!("{}\n{{broken", record("torn")));
    let bodies = [
        "no notification".to_owned(),
        notice("trail", &["AWSLogs/111122223333/CloudTrail/eu-west-1/gone.json.gz"]),
        notice("trail", &[&junk]),
        notice("trail", &[&torn]),
        json!({"Event": "s3:TestEvent"}).to_string(),
        notice("trail", &["AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/x.json.gz"]),
        notice("trail", &[KEY]),
    ];
    let outcomes = s.handle(&bodies, never()).await;
    let done: Vec<bool> = outcomes.iter().map(is_done).collect();
    assert_eq!(done, [false, false, false, true, true, true, true], "{outcomes:?}");
    let told = reasons(&outcomes[..3]);
    assert!(told[1].contains("is gone") && told[2].contains("nothing in"), "{told:?}");
    assert_eq!(s.bench.queued_ids().await, ["torn", "000", "001"]);
}

#[tokio::test]
async fn one_object_of_a_message_that_fails_brings_the_message_back_and_stops_no_other() {
    let s = stage();
    s.put(KEY, file(0..2));
    let gone = KEY.replace("_a.", "_gone.");
    let outcomes = s.handle(&[notice("trail", &[&gone, KEY])], never()).await;
    assert!(reasons(&outcomes)[0].contains("is gone"));
    assert_eq!(s.bench.queued_ids().await, ["000", "001"]);
}

#[tokio::test]
async fn a_store_that_fails_brings_the_message_back() {
    let s = stage();
    s.put(KEY, file(0..2));
    s.bench.fail_archive(true);
    let outcomes = s.handle(&[notice("trail", &[KEY])], never()).await;
    assert!(reasons(&outcomes)[0].contains("archive failed"), "{outcomes:?}");
    assert!(s.bench.sources().await.is_empty());
}

#[tokio::test]
async fn reading_ends_soon_after_nobody_waits_for_it() {
    let s = stage();
    s.put(KEY, file(0..400));
    let looks = Arc::new(AtomicUsize::new(0));
    let count = looks.clone();
    let slow: Stop = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        false
    });
    let bodies = [notice("trail", &[KEY])];
    let handled = tokio::time::timeout(Duration::from_millis(120), s.handle(&bodies, slow)).await;
    assert!(handled.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = looks.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(looks.load(Ordering::SeqCst), seen, "it goes on");
    assert!(seen < 40, "{seen}");
}

#[test]
fn the_end_of_the_budget_stops_and_a_long_one_does_not() {
    let budget = Budget::unlimited();
    let stop = stop_before_the_end_of(budget.clone());
    assert!(!stop());
    budget.set_deadline_ms(1);
    assert!(stop());
}
