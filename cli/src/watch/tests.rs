//! The watched folder over a real archive, store and queue.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use sentinel_archive::{Archive, ArchiveError, Day, FileArchive};
use sentinel_durable::SystemClock;
use sentinel_embedded::Database;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;

struct World {
    watch: Watch,
    archive: Arc<dyn Archive>,
    folder: TempDir,
    stopper: watch::Sender<bool>,
    stop: Receiver<bool>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let database = Database::in_memory(clock.clone()).unwrap();
        let archive: Arc<dyn Archive> = Arc::new(FileArchive::open(folder.path().join(".archive")).unwrap());
        let ingest = Arc::new(Ingest::new(archive.clone(), database.search(), database.queue(), clock.clone()));
        let watch = Watch::new(folder.path().join("in box"), ingest, database.table(), clock).unwrap();
        let (stopper, stop) = watch::channel(false);
        Self { watch, archive, folder, stopper, stop }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join("in box").join(name), bytes).unwrap();
    }

    /// Two looks: one that sees, one that finds it settled.
    async fn look(&mut self) {
        self.watch.look(&self.stop).await;
        self.watch.look(&self.stop).await;
    }

    async fn archived(&self) -> Vec<String> {
        let day = self.archive.read("111122223333", "2026-03-02").await.unwrap();
        let mut ids: Vec<String> = day.events.into_iter().map(|e| e.id).collect();
        ids.sort();
        ids
    }

    async fn outcome(&self, name: &str) -> Option<String> {
        let path = self.folder.path().join("in box").join(name).display().to_string();
        let key = Key::new(format!("WATCH#{}", hash::derived_id("", &[&path])), "FILE");
        self.watch.table.get(&key).await.unwrap().map(|item| item.decode::<Taken>().unwrap().outcome)
    }
}

fn record(id: &str) -> String {
    json!({
        "eventID": id, "eventTime": "2026-03-02T09:15:00Z", "eventName": "ListBuckets", "eventSource": "s3.amazonaws.com",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/bob", "accountId": "111122223333"},
        "recipientAccountId": "111122223333"
    })
    .to_string()
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_damaged_file_stops_no_other_and_is_read_again_only_when_it_changed() {
    let mut world = World::new();
    let good = gzipped(&record("a"));
    world.write("1 damaged.json.gz", &good[..good.len() / 2]);
    world.write("2.json", record("b"));
    world.look().await;
    assert_eq!(world.archived().await, ["b"]);
    let outcome = world.outcome("1 damaged.json.gz").await.expect("it is remembered");
    assert!(!outcome.contains("accepted,"), "{outcome}");
    world.look().await;
    assert!(world.watch.postponed.is_empty(), "it is not tried again and again");

    world.write("1 damaged.json.gz", &good);
    world.look().await;
    assert_eq!(world.archived().await, ["a", "b"]);
}

#[tokio::test]
async fn a_file_that_grows_is_left_until_it_rests() {
    let mut world = World::new();
    world.write("log", record("a"));
    world.watch.look(&world.stop).await;
    world.write("log", format!("{}\n{}", record("a"), record("b")));
    world.watch.look(&world.stop).await;
    assert!(world.archived().await.is_empty());
    world.watch.look(&world.stop).await;
    assert_eq!(world.archived().await, ["a", "b"]);
    world.write("log", format!("{}\n{}\n{}", record("a"), record("b"), record("c")));
    world.look().await;
    assert_eq!(world.archived().await, ["a", "b", "c"], "what was taken in before comes back once");
}

#[tokio::test]
async fn a_file_that_is_removed_or_cannot_be_opened_stops_no_other() {
    let mut world = World::new();
    world.write("1", record("a"));
    world.write("2", record("b"));
    world.watch.look(&world.stop).await;
    std::fs::remove_file(world.folder.path().join("in box/1")).unwrap();
    world.watch.look(&world.stop).await;
    assert_eq!(world.archived().await, ["b"]);
    assert_eq!(world.outcome("1").await, None);
    assert!(
        world.watch.take(Path::new("/nowhere/at all"), Stamp { bytes: 1, modified_ms: 1 }, &world.stop).await.is_ok()
    );
}

/// A store that is down for a while.
struct Moody(Arc<dyn Archive>, AtomicBool);

#[async_trait]
impl Archive for Moody {
    async fn put(&self, events: &[sentinel_model::Event]) -> Result<(), ArchiveError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(ArchiveError::Store("the disk is full".into()));
        }
        self.0.put(events).await
    }
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        self.0.days(account).await
    }
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        self.0.accounts().await
    }
    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        self.0.read(account, day).await
    }
    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        self.0.forget_before(time).await
    }
}

#[tokio::test]
async fn what_fails_on_our_side_is_tried_again_after_a_while() {
    let mut world = World::new();
    let moody = Arc::new(Moody(world.archive.clone(), AtomicBool::new(true)));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let database = Database::in_memory(clock.clone()).unwrap();
    world.watch.ingest = Arc::new(Ingest::new(moody.clone(), database.search(), database.queue(), clock));
    world.write("1", record("a"));
    world.look().await;
    assert_eq!(world.outcome("1").await, None);
    let postponed: Vec<_> = world.watch.postponed.values().map(|p| p.tries).collect();
    assert_eq!(postponed, [1]);
    moody.1.store(false, Ordering::SeqCst);
    world.look().await;
    assert!(world.archived().await.is_empty(), "not at once");
    for postponed in world.watch.postponed.values_mut() {
        postponed.until = Instant::now();
    }
    world.look().await;
    assert_eq!(world.archived().await, ["a"]);
    assert!(world.watch.postponed.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_looked_at_stops_no_other() {
    let mut world = World::new();
    // A link that leads nowhere and a loop are passed over; so is what walking fails on.
    std::os::unix::fs::symlink("nowhere", world.folder.path().join("in box/0-broken")).unwrap();
    world.write("1", record("a"));
    world.look().await;
    assert_eq!(world.archived().await, ["a"]);

    std::fs::rename(world.folder.path().join("in box"), world.folder.path().join("away")).unwrap();
    world.look().await;
    assert_eq!(world.watch.unreadable.len(), 1, "the folder itself is missed, and told of once");
    std::fs::rename(world.folder.path().join("away"), world.folder.path().join("in box")).unwrap();
    world.write("2", record("b"));
    world.look().await;
    assert_eq!(world.archived().await, ["a", "b"]);
    assert!(world.watch.unreadable.is_empty());
}

#[tokio::test]
async fn reading_breaks_off_when_the_process_ends_and_is_not_remembered() {
    let mut world = World::new();
    world.write("1", record("a"));
    world.watch.look(&world.stop).await;
    let stamp = world.watch.seen.values().next().copied().unwrap();
    let path = world.folder.path().join("in box/1");
    world.stopper.send_replace(true);
    assert!(world.watch.take(&path, stamp, &world.stop).await.is_err());
    assert_eq!(world.outcome("1").await, None);
    assert!(world.archived().await.is_empty());
}
