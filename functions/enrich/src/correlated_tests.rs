//! Detections of correlations over a real embedded store: newer versions replace older ones, in any order.

use std::sync::Arc;

use proptest::prelude::*;
use sentinel_durable::{Clock, ManualClock, Stage, codec};
use sentinel_embedded::Database;
use sentinel_model::{
    Correlated, Detection, Level, Member,
    alert::SHOWN_EVENTS,
    message::{AlertRaised, DetectionBatch},
};
use sentinel_state::{
    alerts::{Alerts, StoredAlert},
    incidents::{Incidents, ListIncidents},
};

use crate::{
    Accumulator, Enrich, NoOwnActions, Ports, Settings,
    testing::{at, detection, member},
};

struct World {
    db: Database,
    enrich: Enrich,
}

fn world() -> World {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at("2024-05-04T00:00:00Z")));
    let db = Database::in_memory(Arc::clone(&clock)).unwrap();
    let ports = Ports { table: db.table(), queue: db.queue(), search: db.search(), clock, own: Arc::new(NoOwnActions) };
    World { enrich: Enrich::new(ports, Settings::default()), db }
}

impl World {
    async fn take(&self, detection: &Detection) {
        let batch =
            DetectionBatch { correlation_id: "c".into(), detections: vec![detection.clone()], lineage: Vec::new() };
        self.enrich.handle_batch(batch, false).await.unwrap();
    }

    async fn alert(&self) -> Option<StoredAlert> {
        Alerts::new(self.db.table()).get("111122223333", "al-1").await.unwrap()
    }

    /// How often respond was told.
    async fn told(&self) -> usize {
        let messages = self.db.queue().receive(Stage::Respond, 10, 60).await.unwrap();
        for message in &messages {
            codec::decode::<AlertRaised>(&message.body).unwrap();
        }
        messages.len()
    }
}

fn members(from: u32, to: u32) -> Vec<Member> {
    (from..to).map(|n| member(&format!("e{n:05}"), &format!("2024-05-01T10:{:02}:00Z", n % 60))).collect()
}

fn version(revision: u64, members: Vec<Member>) -> Detection {
    let mut detection = detection("r", Level::High, "alice", members);
    detection.alert_id = "al-1".into();
    detection.window = sentinel_model::Window::around(at("2024-05-01T10:00:00Z"), 60);
    detection.reasons = vec![format!("Version {revision}.")];
    detection.correlated = Some(Correlated { revision, at_least: false, superseded_by: None });
    detection
}

fn withdrawn(revision: u64, by: &str) -> Detection {
    let mut detection = version(revision, Vec::new());
    detection.correlated.as_mut().unwrap().superseded_by = Some(by.into());
    detection
}

#[tokio::test]
async fn a_newer_version_replaces_an_older_one_and_never_the_other_way() {
    let w = world();
    w.take(&version(2, members(0, 5))).await;
    w.take(&version(1, members(7, 9))).await;
    assert_eq!(w.alert().await.unwrap().alert.event_count, 5);
    w.take(&version(3, members(3, 6))).await;
    let alert = w.alert().await.unwrap().alert;
    let ids: Vec<_> = alert.first_events.iter().map(|e| e.id.as_str()).collect();
    assert_eq!((alert.event_count, ids), (3, vec!["e00003", "e00004", "e00005"]));
    assert!(alert.reasons.contains(&"Version 3.".to_owned()) && !alert.reasons.contains(&"Version 2.".to_owned()));
    assert_eq!(w.told().await, 1, "its level is the same");
}

#[tokio::test]
async fn parts_of_one_version_add_up_and_leave_nothing_of_an_older_one() {
    let w = world();
    let shown = u32::try_from(SHOWN_EVENTS).unwrap();
    w.take(&version(1, members(0, 3 * shown))).await;
    w.take(&version(2, members(10, 20))).await;
    w.take(&version(2, members(15, 10 + 2 * shown))).await;
    w.take(&version(2, members(10, 20))).await;
    let stored = w.alert().await.unwrap();
    assert_eq!(stored.alert.event_count, u64::from(2 * shown));
    assert_eq!(Alerts::new(w.db.table()).members(&stored).await.unwrap().len(), 2 * SHOWN_EVENTS);
}

#[tokio::test]
async fn a_withdrawn_alert_is_kept_as_it_was_and_respond_is_told() {
    let w = world();
    w.take(&withdrawn(1, "")).await;
    assert!(w.alert().await.is_none(), "what was never raised is not raised by its end");
    w.take(&version(2, members(0, 3))).await;
    assert_eq!(w.told().await, 1);
    w.take(&withdrawn(3, "al-2")).await;
    let stored = w.alert().await.unwrap();
    assert_eq!(stored.alert.superseded_by.as_deref(), Some("al-2"));
    assert_eq!((stored.alert.event_count, stored.raised), (3, None));
    assert_eq!(w.told().await, 1);
    w.take(&withdrawn(3, "al-2")).await;
    w.take(&version(2, members(0, 3))).await;
    assert_eq!(w.told().await, 0);
    w.take(&version(4, members(0, 2))).await;
    let stored = w.alert().await.unwrap();
    assert_eq!((stored.alert.superseded_by, stored.alert.event_count), (None, 2));
    assert_eq!(w.told().await, 1, "it is an alert again");
}

#[tokio::test]
async fn a_withdrawn_alert_stays_in_its_incident_and_counts_for_nothing() {
    let w = world();
    let incidents = Incidents::new(w.db.table());
    let only = || async {
        let (mut all, _) = incidents.list(&ListIncidents { limit: 10, ..ListIncidents::default() }).await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0).incident
    };
    w.take(&version(1, members(0, 3))).await;
    let alone = only().await;
    w.take(&withdrawn(2, "")).await;
    let none = only().await;
    assert_eq!((none.level, none.score, none.alert_count, none.event_count), (Level::Informational, 0.0, 0, 0));
    assert_eq!((&none.incident_id, &none.alert_ids), (&alone.incident_id, &alone.alert_ids));
    assert_eq!((none.summary.len(), none.principals), (2, alone.principals.clone()), "{:?}", none.summary);

    // What is no alert draws no other into its incident.
    let mut other = detection("other", Level::Low, "alice", vec![member("o1", "2024-05-01T11:30:00Z")]);
    other.alert_id = "al-2".into();
    w.take(&other).await;
    let (both, _) = incidents.list(&ListIncidents { limit: 10, ..ListIncidents::default() }).await.unwrap();
    assert_eq!(both.len(), 2);

    // An alert again, it does.
    w.take(&version(3, members(0, 3))).await;
    let joined = only().await;
    assert_eq!((joined.level, joined.alert_count, joined.event_count), (alone.level, 2, 4));
    w.take(&withdrawn(4, "al-2")).await;
    let left = only().await;
    assert_eq!((&left.incident_id, &left.alert_ids), (&joined.incident_id, &joined.alert_ids));
    assert_eq!((left.alert_count, left.event_count), (1, 1));
    assert!(left.level < joined.level && left.score < joined.score, "{left:?}");
    assert_eq!(left.summary.last().unwrap(), "One more alert is listed that later events showed to be none.");
    w.take(&withdrawn(4, "al-2")).await;
    assert_eq!(only().await, left);
}

/// A version as numbers: how many members, or none for a withdrawal.
fn any_version() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), (1..150_u32).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_version_stands_whatever_the_order(
        versions in prop::collection::vec(any_version(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let versions: Vec<Detection> = (1..)
            .zip(&versions)
            .map(|(revision, many)| match many {
                Some(many) => version(revision, members(u32::try_from(revision).unwrap(), *many + 5)),
                None => withdrawn(revision, ""),
            })
            .collect();
        let order: Vec<usize> = order.iter().map(|o| o.index(versions.len())).chain([versions.len() - 1]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let w = world();
        for at in &order {
            runtime.block_on(w.take(&versions[*at]));
        }
        let newest = versions.last().unwrap();
        let stored = runtime.block_on(w.alert());
        if newest.members.is_empty() {
            prop_assert!(stored.is_none_or(|s| s.alert.superseded_by.is_some()));
        } else {
            let mut all = Accumulator::new(Arc::default());
            all.add(newest);
            let mut stored = stored.unwrap().alert;
            stored.correlation_id.clear();
            prop_assert_eq!(stored, all.finish().remove(0));
        }
    }
}
