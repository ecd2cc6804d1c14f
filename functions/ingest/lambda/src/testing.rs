//! One-machine stores under the handlers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use sentinel_archive::{Archive, ArchiveError, Day, FileArchive};
use sentinel_durable::{Clock as _, ManualClock, Message, Outcome, Queue, Stage, codec};
use sentinel_embedded::Database;
use sentinel_ingest::Ingest;
use sentinel_model::{Event, Timestamp, message::EventBatch};
use sentinel_state::{
    Table,
    sources::{Source, Sources},
};
use serde_json::{Value, json};

use crate::heartbeat::Beats;

pub(crate) const ACCOUNT: &str = "111122223333";

/// An archive that can be made to fail.
struct Failing {
    archive: FileArchive,
    fails: AtomicBool,
}

#[async_trait]
impl Archive for Failing {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(ArchiveError::Store("down".into()));
        }
        self.archive.put(events).await
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

pub(crate) struct Bench {
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) table: Arc<dyn Table>,
    pub(crate) clock: Arc<ManualClock>,
    queue: Arc<dyn Queue>,
    archive: Arc<Failing>,
    messages: AtomicU64,
    _folder: tempfile::TempDir,
}

pub(crate) fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new("2024-05-06T08:00:00Z".parse().unwrap()));
    let database = Database::in_memory(clock.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive =
        Arc::new(Failing { archive: FileArchive::open(folder.path()).unwrap(), fails: AtomicBool::new(false) });
    let queue = database.queue();
    let ingest = Ingest::new(archive.clone(), database.search(), queue.clone(), clock.clone()).batch_events(10);
    Bench {
        ingest: Arc::new(ingest),
        table: database.table(),
        clock,
        queue,
        archive,
        messages: AtomicU64::new(0),
        _folder: folder,
    }
}

/// A record of [`ACCOUNT`].
pub(crate) fn record(id: &str) -> Value {
    json!({"eventID": id, "eventName": "GetUser", "eventSource": "iam.amazonaws.com",
        "eventTime": "2024-05-06T07:00:00Z", "recipientAccountId": ACCOUNT, "sourceIPAddress": "192.0.2.7",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/alice"}})
}

pub(crate) fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done)
}

/// Why each message is to come again; all must.
pub(crate) fn reasons(outcomes: &[Outcome]) -> Vec<String> {
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Retry(reason) => reason.clone(),
        Outcome::Done => panic!("{outcomes:?}"),
    };
    outcomes.iter().map(reason).collect()
}

impl Bench {
    pub(crate) fn beats(&self) -> Beats {
        Beats::new(self.table.clone(), self.clock.clone())
    }

    pub(crate) fn message(&self, body: &str) -> Message {
        let id = format!("message-{}", self.messages.fetch_add(1, Ordering::SeqCst));
        Message { receipt: id.clone(), id, body: body.to_owned(), receives: 1, sent_at: self.clock.now() }
    }

    pub(crate) fn fail_archive(&self, fails: bool) {
        self.archive.fails.store(fails, Ordering::SeqCst);
    }

    /// Batches queued for detection, taken off the queue.
    pub(crate) async fn queued(&self) -> Vec<EventBatch> {
        let mut batches = Vec::new();
        loop {
            let messages = self.queue.receive(Stage::Detect, 10, 30).await.unwrap();
            if messages.is_empty() {
                return batches;
            }
            for message in messages {
                batches.push(codec::decode(&message.body).unwrap());
                self.queue.delete(Stage::Detect, &message.receipt).await.unwrap();
            }
        }
    }

    pub(crate) async fn queued_ids(&self) -> Vec<String> {
        self.queued().await.into_iter().flat_map(|b| b.events).map(|e| e.id).collect()
    }

    pub(crate) async fn sources(&self) -> Vec<Source> {
        let listed = Sources::new(self.table.clone()).list().await.unwrap();
        listed.into_iter().map(|stored| stored.heartbeat.source).collect()
    }
}
