//! Forgetting over a real one-machine store and index, through days of its clock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use sentinel_durable::{Clock, ManualClock};
use sentinel_embedded::Database;
use sentinel_search::{Document, SearchPage, SearchQuery};

use super::*;
use crate::{Settings, Watch, round::tests::Told};

/// An index that counts how often it was asked to forget, and fails when told to.
struct Counted {
    index: Arc<dyn SearchIndex>,
    asked: AtomicUsize,
    down: AtomicBool,
}

#[async_trait]
impl SearchIndex for Counted {
    async fn index(&self, documents: Vec<Document>) -> Result<(), SearchError> {
        self.index.index(documents).await
    }
    async fn search(&self, query: SearchQuery) -> Result<SearchPage, SearchError> {
        self.index.search(query).await
    }
    async fn forget_before(&self, kind: DocumentKind, time: Timestamp) -> Result<u64, SearchError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(SearchError::Store("down".into()));
        }
        self.index.forget_before(kind, time).await
    }
    async fn count(&self, kind: DocumentKind) -> Result<u64, SearchError> {
        self.index.count(kind).await
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    database: Database,
    search: Arc<Counted>,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new("2024-05-06T08:00:00Z".parse().unwrap()));
    let database = Database::in_memory(clock.clone()).unwrap();
    let index = database.search();
    let search = Arc::new(Counted { index, asked: AtomicUsize::new(0), down: AtomicBool::new(false) });
    Bench { clock, database, search }
}

fn document(kind: DocumentKind, time: &str) -> Document {
    Document {
        kind,
        id: time.into(),
        time: time.parse().unwrap(),
        account: "111122223333".into(),
        principal: String::new(),
        text: "GetObject".into(),
        body: "{}".into(),
    }
}

impl Bench {
    /// Another warm instance each time: what it knows lies in the table.
    fn watch(&self) -> Watch {
        let settings = Settings { silence_minutes: 60, polls: Vec::new() };
        Watch::new(self.database.table(), self.database.queue(), Arc::<Told>::default(), self.clock.clone(), settings)
    }

    async fn round(&self) -> u64 {
        self.watch().forgetting(self.search.clone(), 30).round().await.unwrap().forgotten
    }

    async fn left(&self, kind: DocumentKind) -> Vec<String> {
        let query = SearchQuery { kind: Some(kind), limit: 100, ..SearchQuery::default() };
        self.search.search(query).await.unwrap().documents.into_iter().map(|d| d.id).collect()
    }

    fn asked(&self) -> usize {
        self.search.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn whole_days_of_events_go_once_they_are_older_than_the_setting_and_alerts_stay() {
    let b = bench();
    let times = ["2024-01-01T00:00:00Z", "2024-04-05T23:59:59Z", "2024-04-06T00:00:00Z", "2024-05-06T07:00:00Z"];
    for kind in [DocumentKind::Event, DocumentKind::Alert] {
        b.search.index(times.iter().map(|time| document(kind, time)).collect()).await.unwrap();
    }
    assert_eq!(b.watch().round().await.unwrap().forgotten, 0);
    assert_eq!(b.left(DocumentKind::Event).await.len(), 4, "without an index nothing is forgotten");
    assert_eq!(b.round().await, 2);
    assert_eq!(b.left(DocumentKind::Event).await, [times[3], times[2]]);
    assert_eq!(b.left(DocumentKind::Alert).await.len(), 4);
    b.clock.advance(PAUSE_SECONDS);
    assert_eq!(b.round().await, 1, "another day is over");
    assert_eq!(b.left(DocumentKind::Event).await, [times[3]]);
}

#[tokio::test]
async fn a_round_a_day_forgets() {
    let b = bench();
    for minute in 0..3 * 24 * 60 {
        b.round().await;
        assert_eq!(b.asked(), 1 + minute / (24 * 60), "in minute {minute}");
        b.clock.advance(60);
    }
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_in_an_hour() {
    let b = bench();
    b.search.index(vec![document(DocumentKind::Event, "2024-01-01T00:00:00Z")]).await.unwrap();
    b.search.down.store(true, Ordering::SeqCst);
    let error = b.watch().forgetting(b.search.clone(), 30).round().await.unwrap_err();
    assert_eq!(error.to_string(), "old events could not be forgotten: the search index failed: down");
    b.search.down.store(false, Ordering::SeqCst);
    b.clock.advance(RETRY_SECONDS - 1);
    assert_eq!((b.round().await, b.asked()), (0, 1));
    b.clock.advance(1);
    assert_eq!((b.round().await, b.asked()), (1, 2));
    b.clock.advance(RETRY_SECONDS);
    assert_eq!((b.round().await, b.asked()), (0, 2), "done for today");
}

#[tokio::test]
async fn of_two_at_one_moment_one_forgets() {
    let b = bench();
    let table = b.database.table();
    let now = b.clock.now();
    let (one, other) = tokio::join!(
        once_a_day(table.as_ref(), b.search.as_ref(), 30, now),
        once_a_day(table.as_ref(), b.search.as_ref(), 30, now),
    );
    one.unwrap();
    other.unwrap();
    assert_eq!(b.asked(), 1);
}
