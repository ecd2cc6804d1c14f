//! The handler over real one-machine stores, and what a crash at any of its effects leaves behind.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use sentinel_archive::{Day, FileArchive};
use sentinel_durable::{ManualClock, Message, QueueDepth};
use sentinel_embedded::Database;
use sentinel_search::{SearchPage, SearchQuery};
use serde_json::json;

use super::*;
use crate::BATCH_EVENTS;

mod resume;
mod together;

/// Ports that fail when their turn comes, once; the effects that count are on the real stores behind them.
struct Flaky {
    archive: Arc<dyn Archive>,
    search: Arc<dyn SearchIndex>,
    queue: Arc<dyn Queue>,
    /// Effects until one fails; far away when none shall.
    effects_left: AtomicUsize,
    /// Whether the failing effect is carried out before it fails, as when an answer is lost.
    after: AtomicBool,
}

impl Flaky {
    async fn effect<T, E>(
        &self,
        effect: impl Future<Output = Result<T, E>> + Send,
        broken: impl Fn() -> E + Send,
    ) -> Result<T, E> {
        if self.effects_left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return effect.await;
        }
        if self.after.load(Ordering::SeqCst) {
            effect.await?;
        }
        Err(broken())
    }
}

fn lost() -> Box<dyn std::error::Error + Send + Sync> {
    "connection lost".into()
}

#[async_trait]
impl Archive for Flaky {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        self.effect(self.archive.put(events), || ArchiveError::Store(lost())).await
    }
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        self.archive.days(account).await
    }
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        self.archive.accounts().await
    }
    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        self.archive.read(account, day).await
    }
    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        self.archive.forget_before(time).await
    }
}

#[async_trait]
impl SearchIndex for Flaky {
    async fn index(&self, documents: Vec<Document>) -> Result<(), SearchError> {
        self.effect(self.search.index(documents), || SearchError::Store(lost())).await
    }
    async fn search(&self, query: SearchQuery) -> Result<SearchPage, SearchError> {
        self.search.search(query).await
    }
    async fn forget_before(&self, kind: DocumentKind, time: Timestamp) -> Result<u64, SearchError> {
        self.search.forget_before(kind, time).await
    }
    async fn count(&self, kind: DocumentKind) -> Result<u64, SearchError> {
        self.search.count(kind).await
    }
}

#[async_trait]
impl Queue for Flaky {
    async fn send(&self, stage: Stage, batch: Vec<Outgoing>) -> Result<(), QueueError> {
        self.effect(self.queue.send(stage, batch), || QueueError::Store(lost())).await
    }
    async fn receive(&self, stage: Stage, max: usize, visibility_seconds: u32) -> Result<Vec<Message>, QueueError> {
        self.queue.receive(stage, max, visibility_seconds).await
    }
    async fn delete(&self, stage: Stage, receipt: &str) -> Result<(), QueueError> {
        self.queue.delete(stage, receipt).await
    }
    async fn release(&self, stage: Stage, receipt: &str, delay_seconds: u32) -> Result<(), QueueError> {
        self.queue.release(stage, receipt, delay_seconds).await
    }
    async fn depth(&self, stage: Stage) -> Result<QueueDepth, QueueError> {
        self.queue.depth(stage).await
    }
    async fn dead(&self, stage: Stage, max: usize) -> Result<Vec<Message>, QueueError> {
        self.queue.dead(stage, max).await
    }
}

struct Bench {
    ingest: Ingest,
    ports: Arc<Flaky>,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let archive = Arc::new(FileArchive::open(folder.path()).unwrap());
    bench_over(folder, archive)
}

fn bench_over(folder: tempfile::TempDir, archive: Arc<dyn Archive>) -> Bench {
    let clock = Arc::new(ManualClock::new("2024-05-06T08:00:00Z".parse().unwrap()));
    let database = Database::in_memory(clock.clone()).unwrap();
    let ports = Arc::new(Flaky {
        archive,
        search: database.search(),
        queue: database.queue(),
        effects_left: AtomicUsize::new(usize::MAX / 2),
        after: AtomicBool::new(false),
    });
    let ingest = Ingest::new(ports.clone(), ports.clone(), ports.clone(), clock.clone());
    Bench { ingest, ports, clock, folder }
}

fn record(id: &str, name: &str) -> String {
    json!({"eventID": id, "eventName": name, "eventSource": "iam.amazonaws.com", "eventTime": "2024-05-06T07:00:00Z",
        "recipientAccountId": "111122223333", "sourceIPAddress": "192.0.2.7",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/alice"}})
    .to_string()
}

fn folder() -> Channel {
    Channel::Folder { path: "logs".into() }
}

impl Bench {
    async fn accept(&self, text: &str) -> Result<Report, IngestError> {
        self.ingest.accept(Input::new("x.json", text.as_bytes(), folder())).await
    }

    /// All events queued for detection, batch by batch, each taken off the queue.
    async fn queued(&self) -> Vec<EventBatch> {
        let mut batches = Vec::new();
        loop {
            let messages = self.ports.queue.receive(Stage::Detect, 10, 30).await.unwrap();
            if messages.is_empty() {
                return batches;
            }
            for message in messages {
                batches.push(codec::decode(&message.body).unwrap());
                self.ports.queue.delete(Stage::Detect, &message.receipt).await.unwrap();
            }
        }
    }

    /// Names of all objects in the archive.
    fn objects(&self) -> BTreeSet<PathBuf> {
        let mut names = BTreeSet::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.insert(path.strip_prefix(self.folder.path()).unwrap().to_owned());
                }
            }
        }
        names
    }

    async fn archived(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for account in self.ports.archive.accounts().await.unwrap() {
            for day in self.ports.archive.days(&account).await.unwrap() {
                ids.extend(self.ports.archive.read(&account, &day).await.unwrap().events.into_iter().map(|e| e.id));
            }
        }
        ids.sort();
        ids
    }
}

fn ids(batches: &[EventBatch]) -> Vec<&str> {
    batches.iter().flat_map(|b| b.events.iter().map(|e| e.id.as_str())).collect()
}

#[tokio::test]
async fn events_are_archived_indexed_and_queued() {
    let b = bench();
    let report =
        b.accept(&format!(r#"{{"Records":[{},{}]}}"#, record("1", "GetUser"), record("2", "ListUsers"))).await.unwrap();
    assert_eq!((report.records, report.accepted), (2, 2));
    assert_eq!(b.archived().await, ["1", "2"]);
    let batches = b.queued().await;
    assert_eq!(ids(&batches), ["1", "2"]);
    assert!(batches[0].correlation_id.starts_with("co-"));
    assert_eq!(batches[0].events[0].provenance[0].received_at, b.clock.now());
    let query = SearchQuery { words: "ListUsers 192.0.2.7".into(), limit: 10, ..SearchQuery::default() };
    let found = b.ports.search.search(query).await.unwrap().documents;
    assert_eq!(found.len(), 1);
    let shown: Event = serde_json::from_str(&found[0].body).unwrap();
    assert_eq!(shown.id, "2");
    assert_eq!(shown.raw.text(), record("2", "ListUsers"));
}

#[tokio::test]
async fn copies_count_once_and_conflicts_are_kept_beside_the_first() {
    let b = bench();
    let same = record("1", "GetUser");
    let spaced = same.replace("\":", "\" : ");
    let other = record("1", "DeleteUser");
    let report = b.accept(&[&same, &spaced, &other, &other, &same].map(String::as_str).join("\n")).await.unwrap();
    assert_eq!((report.records, report.accepted, report.duplicates, report.conflicting), (5, 2, 3, 1));
    let batches = b.queued().await;
    assert_eq!(ids(&batches), ["1", "1"]);
    assert_eq!(batches[0].events[0].provenance.len(), 1, "one channel is one provenance");
    assert_eq!(b.archived().await, ["1", "1"]);
    assert_eq!(b.ports.search.count(DocumentKind::Event).await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_no_record_is_reported_under_the_apis_names() {
    let b = bench();
    let text = format!(
        "{}\n{{broken\n[1, 2]\n{}",
        record("1", "GetUser"),
        r#"{"detail-type":"GuardDuty Finding","detail":{}}"#
    );
    let report = b.accept(&text).await.unwrap();
    let shown = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&shown["accepted"], &shown["duplicates"], &shown["conflicting"], &shown["set_aside"]),
        (&json!(1), &json!(0), &json!(0), &json!(0))
    );
    assert_eq!(shown["unknown"], json!({"eventbridge:GuardDuty Finding": 1}));
    assert_eq!(shown["malformed"].as_array().unwrap().len(), 2);
    assert_eq!(shown["malformed"][0]["file"], "x.json");
    assert!(shown["malformed"][0]["position"].as_str().unwrap().starts_with("line 2, byte "));
    assert!(shown["malformed"][0]["reason"].is_string());
}

#[tokio::test]
async fn lists_of_a_report_are_bounded_and_counts_are_not() {
    let b = bench();
    let others = (0..300).map(|i| format!("broken\n{{\"detail-type\":\"Kind {i}\",\"detail\":{{}}}}"));
    let lines: Vec<String> = std::iter::once(record("1", "GetUser")).chain(others).collect();
    let report = b.accept(&lines.join("\n")).await.unwrap();
    assert_eq!((report.malformed.len(), report.malformed_count), (crate::MALFORMED_CAP, 300));
    assert_eq!(report.unknown.len(), 51);
    assert_eq!(report.unknown["other"], 250);
}

#[tokio::test]
async fn a_record_of_another_account_than_its_sender_is_set_aside() {
    let b = bench();
    let envelope = |account: &str, record: String| {
        format!(r#"{{"detail-type":"AWS API Call via CloudTrail","account":"{account}","detail":{record}}}"#)
    };
    let text =
        [envelope("444455556666", record("1", "GetUser")), envelope("111122223333", record("2", "GetUser"))].join("\n");
    let report = b.accept(&text).await.unwrap();
    assert_eq!((report.records, report.accepted, report.set_aside), (2, 1, 1));
    assert_eq!(report.set_aside_events[0].event_id, "1");
    assert_eq!(ids(&b.queued().await), ["2"]);
}

#[tokio::test]
async fn a_crash_at_any_effect_is_healed_by_accepting_again() {
    let wanted: Vec<String> = (0..25).map(|i| format!("{i:02}")).collect();
    let text: Vec<String> = wanted.iter().map(|id| record(id, "GetUser")).collect();
    let text = text.join("\n");
    // Three batches of three effects each.
    for failing in 1..=9 {
        for after in [false, true] {
            let mut b = bench();
            b.ingest = b.ingest.batch_events(10);
            b.ports.after.store(after, Ordering::SeqCst);
            b.ports.effects_left.store(failing, Ordering::SeqCst);
            b.accept(&text).await.unwrap_err();
            let before = b.queued().await;
            let archived = b.archived().await;
            assert!(ids(&before).iter().all(|id| archived.iter().any(|a| a == id)), "queued means archived");
            b.ports.effects_left.store(usize::MAX / 2, Ordering::SeqCst);
            b.clock.advance(60);
            assert_eq!(b.accept(&text).await.unwrap().accepted, 25);
            let again = b.queued().await;
            assert_eq!(b.archived().await, wanted, "failing {failing}, after {after}");
            assert_eq!(b.ports.search.count(DocumentKind::Event).await.unwrap(), 25);
            assert_eq!(ids(&again), wanted.iter().map(String::as_str).collect::<Vec<_>>());
            for (first, second) in before.iter().zip(&again) {
                assert_eq!(first.correlation_id, second.correlation_id, "the batch keeps its name");
            }
        }
    }
}

#[tokio::test]
async fn batches_are_bounded() {
    let b = bench();
    let text: Vec<String> = (0..2_500).map(|i| record(&i.to_string(), "GetUser")).collect();
    b.accept(&text.join("\n")).await.unwrap();
    let sizes: Vec<usize> = b.queued().await.iter().map(|batch| batch.events.len()).collect();
    assert_eq!(sizes, [BATCH_EVENTS, BATCH_EVENTS, 500]);
}

#[tokio::test]
async fn large_events_go_on_before_they_are_many() {
    let b = bench();
    let text: Vec<String> =
        (0..10).map(|i| record(&i.to_string(), "GetUser").replace("192.0.2.7", &"a".repeat(2 << 20))).collect();
    assert_eq!(b.accept(&text.join("\n")).await.unwrap().accepted, 10);
    let sizes: Vec<usize> = b.queued().await.iter().map(|batch| batch.events.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 10);
    assert!(sizes.iter().all(|s| *s <= 4), "{sizes:?}");
}

#[tokio::test]
async fn an_event_that_fits_no_message_is_kept_and_told() {
    let b = bench();
    // Text that does not compress: digits of a simple generator.
    let mut state = 1_u64;
    let noise: String = (0..3 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'#' + u8::try_from((state >> 33) % 56).unwrap())
        })
        .collect();
    let large = record("large", "GetUser").replace("192.0.2.7", &noise);
    let report = b.accept(&format!("{}\n{large}", record("1", "GetUser"))).await.unwrap();
    assert_eq!((report.accepted, report.malformed_count), (1, 1));
    assert!(report.malformed[0].reason.contains("too large to be passed on"), "{}", report.malformed[0].reason);
    assert_eq!(b.archived().await, ["1", "large"]);
    assert_eq!(ids(&b.queued().await), ["1"]);
}

#[tokio::test]
async fn what_was_read_before_an_input_broke_off_counts() {
    let b = bench();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for i in 0..3_000 {
        writeln!(gz, "{}", record(&format!("{i}-{}", i * 7_919 % 1_000), "GetUser")).unwrap();
    }
    let zipped = gz.finish().unwrap();
    let input = Input::new("cut.gz", &zipped[..zipped.len() / 2], folder());
    match b.ingest.accept(input).await {
        Err(IngestError::Read { name, error: ReadError::Decompress(_), report }) => {
            assert_eq!(name, "cut.gz");
            assert!(report.accepted > 100);
            assert_eq!(b.archived().await.len() as u64, report.accepted);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bomb_is_refused_with_its_limit() {
    let b = bench();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&vec![b'\n'; 4 << 20]).unwrap();
    let bomb = gz.finish().unwrap();
    let limits = Limits { input_bytes: 1 << 20, ..Limits::request() };
    let result = b.ingest.accept(Input::new("bomb", &bomb[..], folder()).limits(limits)).await;
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "bomb is larger than 1048576 bytes when decompressed; the rest of it was not read");
}

#[tokio::test]
async fn an_empty_input_has_no_effect() {
    let b = bench();
    assert_eq!(b.accept("").await.unwrap(), Report::default());
    assert_eq!(b.queued().await.len(), 0);
    assert!(b.archived().await.is_empty());
}
