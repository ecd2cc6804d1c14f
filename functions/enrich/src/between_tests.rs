//! One worker does its work, or a part of it, between two writes of another: what the other read before is old then.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use async_trait::async_trait;
use sentinel_durable::{Clock, ManualClock};
use sentinel_embedded::Database;
use sentinel_model::{
    Detection, Identity, Incident, Level, LineageEdge, Member, lineage::LineageKind, message::DetectionBatch,
};
use sentinel_state::{
    Item, Key, Page, Query, Table, TableError, Write,
    incidents::{Incidents, ListIncidents},
};
use tokio::sync::Mutex;

use crate::{
    Accumulator, Enrich, IndicatorList, NoOwnActions, Ports, Settings, incident,
    testing::{Failing, at, detection, member, user},
};

/// A table that has another worker handle a batch before its n-th write.
struct Between {
    inner: Arc<dyn Table>,
    left: AtomicI64,
    other: Mutex<Option<(Enrich, DetectionBatch)>>,
}

#[async_trait]
impl Table for Between {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.inner.get_many(keys).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0
            && let Some((enrich, batch)) = self.other.lock().await.take()
        {
            // Where it is cut, its message comes again later, or never.
            let _cut = enrich.handle_batch(batch, false).await;
        }
        self.inner.write(writes).await
    }

    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.inner.query(query).await
    }
}

fn enrich(db: &Database, table: Arc<dyn Table>, clock: &Arc<dyn Clock>) -> Enrich {
    let (queue, search, clock) = (db.queue(), db.search(), Arc::clone(clock));
    Enrich::new(Ports { table, queue, search, clock, own: Arc::new(NoOwnActions) }, Settings::default())
}

fn event(id: &str, minute: u32) -> Member {
    let mut event = member(id, &format!("2024-05-01T10:{minute:02}:00Z"));
    event.access_key_id = Some("AKIAALICE000000001".into());
    event
}

fn batch(detections: Vec<Detection>, lineage: Vec<LineageEdge>) -> DetectionBatch {
    DetectionBatch { correlation_id: "c".into(), detections, lineage }
}

fn of_alice(rule: &str, level: Level, id: &str, minute: u32) -> DetectionBatch {
    batch(vec![detection(rule, level, "alice", vec![event(id, minute)])], vec![])
}

fn step() -> DetectionBatch {
    let made = LineageEdge {
        maker: Identity::Principal(user("alice").id),
        maker_key: None,
        made: Identity::Principal(user("bob").id),
        how: LineageKind::Made,
        time: at("2024-05-01T10:01:00Z"),
        event_id: "s1".into(),
    };
    batch(vec![], vec![made])
}

fn pure(batches: &[&DetectionBatch]) -> Vec<Incident> {
    let mut all = Accumulator::new(Arc::new(IndicatorList::default()));
    batches.iter().flat_map(|b| &b.detections).for_each(|d| all.add(d));
    let edges: Vec<LineageEdge> = batches.iter().flat_map(|b| b.lineage.clone()).collect();
    incident::group(&all.finish(), &edges)
}

/// What is stored in the end, when the other worker works before the first one's write of this number and is cut after
/// so many of its own; whether that write came.
async fn incidents(
    first: &DetectionBatch,
    other: &DetectionBatch,
    before: i64,
    cut: i64,
    again: bool,
) -> (Vec<Incident>, bool) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at("2024-05-04T00:00:00Z")));
    let db = Database::in_memory(Arc::clone(&clock)).unwrap();
    let failing = Failing { inner: db.table(), left: AtomicI64::new(cut), after_write: AtomicBool::new(false) };
    let others = enrich(&db, Arc::new(failing), &clock);
    let between = Arc::new(Between {
        inner: db.table(),
        left: AtomicI64::new(before),
        other: Mutex::new(Some((others, other.clone()))),
    });
    enrich(&db, between.clone(), &clock).handle_batch(first.clone(), false).await.unwrap();
    let came = between.other.lock().await.is_none();
    if again {
        enrich(&db, db.table(), &clock).handle_batch(other.clone(), true).await.unwrap();
    }
    let all = ListIncidents { limit: 100, ..ListIncidents::default() };
    let (found, _) = Incidents::new(db.table()).list(&all).await.unwrap();
    (found.into_iter().map(|stored| stored.incident).collect(), came)
}

#[tokio::test]
async fn whatever_another_does_between_two_writes_is_told() {
    let first = of_alice("one", Level::Medium, "e1", 0);
    let others =
        [of_alice("one", Level::Medium, "e2", 5), of_alice("two", Level::High, "e2", 5), step(), first.clone()];
    for (n, other) in others.iter().enumerate() {
        let wanted = pure(&[&first, other]);
        assert_eq!(wanted.len(), 1);
        for before in 0..3 {
            for cut in [0, 1, 2, 3, i64::MAX] {
                let (found, came) = incidents(&first, other, before, cut, true).await;
                assert!(came, "the first worker has write {before}");
                assert_eq!(found, wanted, "other {n} before write {before}, cut after {cut}");
            }
        }
    }
}

#[tokio::test]
async fn an_alert_that_grew_before_its_incident_was_written_is_told_as_it_is() {
    let (first, other) = (of_alice("one", Level::Medium, "e1", 0), of_alice("one", Level::Medium, "e2", 5));
    // The other worker stores the alert and then ends for good.
    let (found, _) = incidents(&first, &other, 1, 1, false).await;
    assert_eq!(found, pure(&[&first, &other]));
}
