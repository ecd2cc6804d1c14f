//! The stage over a real embedded store: the same result as the pure parts in any order, after any crash, under
//! concurrent workers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use async_trait::async_trait;
use proptest::prelude::*;
use sentinel_durable::{Clock, ManualClock, Stage, codec, worker::Handler};
use sentinel_embedded::Database;
use sentinel_model::{
    Alert, Detection, Identity, Incident, Level, LineageEdge, Member, Timestamp, Window, alert,
    lineage::LineageKind,
    message::{AlertRaised, DetectionBatch},
    time,
};
use sentinel_search::{DocumentKind, SearchQuery};
use sentinel_state::{
    alerts::{Alerts, ListAlerts},
    incidents::{Incidents, ListIncidents},
};

use crate::{
    Accumulator, Enrich, IndicatorList, IntelError, Intelligence, NoOwnActions, OwnActions, OwnActionsError, Ports,
    Settings, Sources, incident,
    intel::Indicator,
    own::OWN_ROLE_RULE,
    testing::{Failing, at, detection, member, user},
};

const NOW: &str = "2024-05-04T00:00:00Z";

struct World {
    db: Database,
    table: Arc<Failing>,
    enrich: Enrich,
}

fn list() -> IndicatorList {
    let mut list = IndicatorList::default();
    assert!(list.add("203.0.113.9,suspicious\nAKIAMALLORY0000001,known_bad", "f", "list").is_empty());
    list
}

fn world_with(own: Arc<dyn OwnActions>, sources: Sources) -> World {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at(NOW)));
    let db = Database::in_memory(Arc::clone(&clock)).unwrap();
    let table =
        Arc::new(Failing { inner: db.table(), left: AtomicI64::new(i64::MAX), after_write: AtomicBool::new(false) });
    let ports = Ports { table: table.clone(), queue: db.queue(), search: db.search(), clock, own };
    let settings = Settings { own_roles: [OWN_ROLE].into_iter().collect(), sources };
    World { enrich: Enrich::new(ports, settings), db, table }
}

fn world() -> World {
    world_with(Arc::new(NoOwnActions), Sources(vec![Arc::new(list())]))
}

impl World {
    async fn alerts(&self) -> Vec<Alert> {
        let all = ListAlerts { limit: 1000, ..ListAlerts::default() };
        let (found, next) = Alerts::new(self.db.table()).list(&all).await.unwrap();
        assert_eq!(next, None);
        let mut alerts: Vec<Alert> = found.into_iter().map(|(s, _)| s.alert).collect();
        alerts.sort_by(|a, b| (a.time, &a.alert_id).cmp(&(b.time, &b.alert_id)));
        for alert in &mut alerts {
            alert.correlation_id.clear();
        }
        alerts
    }

    async fn incidents(&self) -> Vec<Incident> {
        let all = ListIncidents { limit: 1000, ..ListIncidents::default() };
        let (found, next) = Incidents::new(self.db.table()).list(&all).await.unwrap();
        assert_eq!(next, None);
        let mut incidents: Vec<Incident> = found.into_iter().map(|s| s.incident).collect();
        incidents.sort_by(|a, b| (a.time_first, &a.incident_id).cmp(&(b.time_first, &b.incident_id)));
        incidents
    }

    /// What respond was told, each message once.
    async fn raised(&self) -> Vec<(String, Level)> {
        let mut raised = Vec::new();
        loop {
            let messages = self.db.queue().receive(Stage::Respond, 10, 600).await.unwrap();
            if messages.is_empty() {
                raised.sort();
                return raised;
            }
            for message in messages {
                let body: AlertRaised = codec::decode(&message.body).unwrap();
                raised.push((body.alert_id, body.level));
            }
        }
    }

    /// Every alert with an incident names one that lists it.
    async fn check_pointers(&self) {
        let (alerts, incidents) = (Alerts::new(self.db.table()), Incidents::new(self.db.table()));
        for alert in self.alerts().await {
            let stored = alerts.get(&alert.account, &alert.alert_id).await.unwrap().unwrap();
            assert_eq!(stored.incident_id.is_some(), alert.level >= Level::Low, "{}", alert.alert_id);
            if let Some(id) = stored.incident_id {
                let incident = incidents.find(&id).await.unwrap().unwrap().incident;
                assert!(incident.alert_ids.contains(&alert.alert_id));
            }
        }
    }
}

fn batch(detections: Vec<Detection>, lineage: Vec<LineageEdge>) -> DetectionBatch {
    DetectionBatch { correlation_id: "c".into(), detections, lineage }
}

fn pure(batches: &[DetectionBatch]) -> (Vec<Alert>, Vec<Incident>) {
    let mut all = Accumulator::new(Arc::new(list()));
    batches.iter().flat_map(|b| &b.detections).for_each(|d| all.add(d));
    let alerts = all.finish();
    let edges: Vec<LineageEdge> = batches.iter().flat_map(|b| b.lineage.clone()).collect();
    let incidents = incident::group(&alerts, &edges);
    (alerts, incidents)
}

fn edge(maker: &str, key: Option<&str>, made: Identity, time: Timestamp) -> LineageEdge {
    LineageEdge {
        maker: Identity::Principal(user(maker).id),
        maker_key: key.map(Into::into),
        event_id: format!("{maker}-{made:?}-{time}"),
        made,
        how: LineageKind::Made,
        time,
    }
}

fn principal(name: &str) -> Identity {
    Identity::Principal(user(name).id)
}

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
const LEVELS: [Level; 5] = [Level::Low, Level::Critical, Level::Informational, Level::Medium, Level::High];

/// A batch of a random world: events of a few rules by a few users over three days, and steps among them.
fn any_batch() -> impl Strategy<Value = DetectionBatch> {
    let event = (0..5_usize, 0..5_usize, 0..6_i64, 0..6_u32, proptest::option::of(0..3_u32));
    let step = (0..5_usize, 0..5_usize, 0..12_i64, any::<bool>());
    let parts = (proptest::collection::vec(event, 0..9), proptest::collection::vec(step, 0..3));
    parts.prop_map(|(events, steps)| {
        let detections = events.into_iter().map(|(rule, who, slot, n, key)| {
            let start = time::plus_seconds(at("2024-05-01T00:00:00Z"), slot * 11 * 3600);
            let mut m = member(&format!("e{slot}-{n}-{key:?}"), "2024-05-01T00:00:00Z");
            m.event.time = time::plus_seconds(start, i64::from(n) * 120);
            m.access_key_id = key.map(|k| format!("AKIAMALLORY000000{k}"));
            m.source_ip = Some(format!("203.0.113.{}", n + 6));
            let mut d = detection(&format!("rule{rule}"), LEVELS[rule], NAMES[who], vec![m]);
            d.window = Window::around(start, 60);
            d.alert_id = alert::alert_id(&d.rule.id, &d.principal.id, &d.account, d.window);
            d
        });
        let steps = steps.into_iter().map(|(maker, made, slot, key)| {
            let t = time::plus_seconds(at("2024-05-01T00:00:00Z"), slot * 11 * 1800);
            let made = if key {
                Identity::AccessKey(format!("AKIAMALLORY000000{}", made % 3))
            } else {
                principal(NAMES[made])
            };
            edge(NAMES[maker], None, made, t)
        });
        batch(detections.collect(), steps.collect())
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_pipeline_ends_where_the_pure_parts_do(
        batches in proptest::collection::vec(any_batch(), 1..12),
        turn in any::<prop::sample::Index>(),
        repeat in any::<prop::sample::Index>(),
        reverse: bool,
    ) {
        let (alerts, incidents) = pure(&batches);
        let mut order = batches.clone();
        order.rotate_left(turn.index(batches.len()));
        if reverse {
            order.reverse();
        }
        order.push(batches[repeat.index(batches.len())].clone());
        block_on(async {
            let world = world();
            for batch in order {
                world.enrich.handle_batch(batch, false).await.unwrap();
            }
            assert_eq!(world.alerts().await, alerts);
            assert_eq!(world.incidents().await, incidents);
            world.check_pointers().await;
            let want: Vec<_> = alerts.iter().filter(|a| a.level >= Level::Low).map(|a| &a.alert_id).collect();
            let raised = world.raised().await;
            for id in &want {
                assert!(raised.iter().any(|(r, _)| r == *id), "nobody was told of {id}");
            }
            // Once for each level, and again for each key that joined: respond decides about keys one by one.
            for told in &raised {
                let times = raised.iter().filter(|other| *other == told).count();
                let keys = alerts.iter().find(|a| a.alert_id == told.0).map_or(0, |a| a.key_uses.len());
                assert!(times <= keys + 1, "told {times} times of one alert, level and {keys} keys");
            }
            assert!(raised.iter().all(|(r, _)| want.contains(&r)), "told of what is informational");
        });
    }
}

/// Three users, one intruder: alice makes bob's key, bob takes on carol; informational context beside it.
fn story() -> Vec<DetectionBatch> {
    let t = |h: &str| at(&format!("2024-05-01T{h}:00Z"));
    let event = |id: &str, h: &str, key: Option<&str>| {
        let mut m = member(id, &format!("2024-05-01T{h}:00Z"));
        m.access_key_id = key.map(Into::into);
        m
    };
    let many: Vec<Member> = (0..130).map(|n| event(&format!("m{n}"), "12:05", Some("AKIABOB00000000001"))).collect();
    vec![
        batch(vec![detection("low", Level::Low, "alice", vec![event("e1", "10:00", None)])], vec![]),
        batch(
            vec![
                detection("high", Level::High, "bob", many[..60].to_vec()),
                detection("info", Level::Informational, "bob", many[..2].to_vec()),
            ],
            vec![edge("bob", Some("AKIABOB00000000001"), principal("carol"), t("12:30"))],
        ),
        batch(vec![detection("high", Level::High, "bob", many[40..].to_vec())], vec![]),
        batch(vec![detection("medium", Level::Medium, "carol", vec![event("e3", "13:00", None)])], vec![]),
        batch(vec![], vec![edge("alice", None, Identity::AccessKey("AKIABOB00000000001".into()), t("11:00"))]),
    ]
}

#[test]
fn a_hop_over_three_identities_is_one_incident_told_in_sentences() {
    block_on(async {
        let world = world();
        for batch in story() {
            world.enrich.handle_batch(batch, false).await.unwrap();
        }
        let incidents = world.incidents().await;
        assert_eq!(incidents.len(), 1);
        assert_eq!(incidents, pure(&story()).1);
        assert_eq!(incidents[0].title, "user alice and 2 other identities: Rule high and 2 more alerts");
        assert_eq!(
            incidents[0].summary,
            [
                "User alice, user bob and user carol acted in account 111122223333 from 198.51.100.1, between 2024-05-01 10:00 UTC and 2024-05-01 13:00 UTC.",
                "Persistence: Rule low (1 event), Rule high (130 events) and Rule medium (1 event).",
                "User alice created access key AKIABOB00000000001 at 2024-05-01 11:00 UTC.",
                "User bob created user carol at 2024-05-01 12:30 UTC.",
                "3 alerts over 132 events; the gravest is Rule high (high).",
            ]
        );
        let found = world
            .db
            .search()
            .search(SearchQuery {
                kind: Some(DocumentKind::Alert),
                words: "m129 AKIABOB00000000001".into(),
                limit: 10,
                ..SearchQuery::default()
            })
            .await
            .unwrap();
        assert_eq!(found.documents.len(), 1, "the alert as it grew is what search finds");
        assert!(found.documents[0].body.contains("\"event_count\":130"), "{}", found.documents[0].body);
    });
}

#[test]
fn alerts_of_one_batch_get_and_change_their_incident_by_one_write() {
    let alerts = |id: &str| -> Vec<Detection> {
        let one =
            |n| detection(&format!("rule{n}"), Level::Medium, "mallory", vec![member(id, "2024-05-01T10:00:00Z")]);
        (0..30).map(one).collect()
    };
    block_on(async {
        let world = world();
        let written = || i64::MAX - world.table.left.load(Ordering::SeqCst);
        world.enrich.handle_batch(batch(alerts("e1"), Vec::new()), false).await.unwrap();
        let new = written();
        world.enrich.handle_batch(batch(alerts("e2"), Vec::new()), false).await.unwrap();
        let grown = written() - new;
        let incidents = world.incidents().await;
        assert_eq!((incidents.len(), incidents[0].alert_count, incidents[0].event_count), (1, 30, 60));
        // The outbox deletes what was sent one by one.
        assert!(new <= 30 + 1 + 30, "{new} writes");
        assert_eq!(grown, 30 + 1);
    });
}

#[test]
fn a_cut_at_any_write_and_another_delivery_end_in_the_same() {
    let (alerts, incidents) = pure(&story());
    let levels: Vec<(String, Level)> = {
        let mut told: Vec<_> =
            alerts.iter().filter(|a| a.level >= Level::Low).map(|a| (a.alert_id.clone(), a.level)).collect();
        told.sort();
        told
    };
    block_on(async {
        for after_write in [false, true] {
            for n in 0..1000 {
                let world = world();
                world.table.after_write.store(after_write, Ordering::SeqCst);
                world.table.left.store(n, Ordering::SeqCst);
                let mut cut = false;
                for batch in story() {
                    if world.enrich.handle_batch(batch.clone(), false).await.is_err() {
                        cut = true;
                        world.table.left.store(i64::MAX, Ordering::SeqCst);
                        world.enrich.handle_batch(batch, true).await.unwrap();
                    }
                }
                assert_eq!(world.alerts().await, alerts, "cut at write {n}, after: {after_write}");
                assert_eq!(world.incidents().await, incidents, "cut at write {n}, after: {after_write}");
                world.check_pointers().await;
                let mut raised = world.raised().await;
                raised.dedup();
                assert_eq!(raised, levels, "cut at write {n}, after: {after_write}");
                assert!(cut || n > 11, "the story takes many writes");
                if !cut {
                    break;
                }
            }
        }
    });
}

#[test]
fn workers_at_once_lose_nothing() {
    let mut batches = Vec::new();
    for n in 0..24 {
        let mut m = member(&format!("e{n}"), "2024-05-01T10:00:00Z");
        m.event.time = time::plus_seconds(m.event.time, n);
        let who = NAMES[usize::try_from(n).unwrap() % 3];
        let rule = ["low", "medium"][usize::try_from(n).unwrap() / 3 % 2];
        let level = if rule == "low" { Level::Low } else { Level::Medium };
        let made = principal(NAMES[usize::try_from(n + 1).unwrap() % 3]);
        let steps = if n < 3 { vec![edge(who, None, made, m.event.time)] } else { vec![] };
        batches.push(batch(vec![detection(rule, level, who, vec![m])], steps));
    }
    let (alerts, incidents) = pure(&batches);
    assert_eq!((alerts.len(), incidents.len()), (6, 1));
    block_on(async {
        let world = world();
        let tasks: Vec<_> = batches
            .into_iter()
            .map(|batch| {
                let enrich = world.enrich.clone();
                tokio::spawn(async move {
                    let mut redelivered = false;
                    while enrich.handle_batch(batch.clone(), redelivered).await.is_err() {
                        redelivered = true;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(world.alerts().await, alerts);
        assert_eq!(world.incidents().await, incidents);
        world.check_pointers().await;
    });
}

const OWN_ROLE: &str = "arn:aws:iam::111122223333:role/CloudSentinelRespond";

/// Knows one recorded action: the event `ours`.
#[derive(Default)]
struct Recorded(std::sync::Mutex<Vec<String>>);

#[async_trait]
impl OwnActions for Recorded {
    async fn is_ours(&self, _account: &str, event: &Member) -> Result<bool, OwnActionsError> {
        Ok(event.event.id == "ours")
    }

    async fn note_ours(&self, _account: &str, event: &Member) -> Result<bool, OwnActionsError> {
        // What was noted while this was asked belongs to whoever noted it.
        if event.source_ip.as_deref() == Some("taken") {
            return Ok(false);
        }
        self.0.lock().unwrap().push(event.event.id.clone());
        Ok(true)
    }
}

#[test]
fn our_own_actions_raise_nothing_and_what_only_claims_to_be_ours_is_critical() {
    let issued = |id: &str, issuer: &str| {
        let mut m = member(id, "2024-05-01T10:00:00Z");
        m.issuer = Some(issuer.into());
        m
    };
    let members = vec![issued("ours", OWN_ROLE), issued("forged", OWN_ROLE)];
    let both = batch(
        vec![
            detection("keys", Level::High, "alice", members.clone()),
            detection("only-ours", Level::High, "alice", members[..1].to_vec()),
            detection("other-role", Level::High, "alice", vec![issued("ours", "arn:aws:iam::111122223333:role/Other")]),
            detection(OWN_ROLE_RULE, Level::Critical, "alice", members),
        ],
        vec![],
    );
    block_on(async {
        let own = Arc::new(Recorded::default());
        let world = world_with(own.clone(), Sources::default());
        world.enrich.handle_batch(both, false).await.unwrap();
        let alerts = world.alerts().await;
        let mut seen: Vec<_> =
            alerts.iter().map(|a| (a.rule.id.as_str(), a.level, a.first_events.first().unwrap().id.as_str())).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("keys", Level::High, "forged"),
                ("other-role", Level::High, "ours"),
                (OWN_ROLE_RULE, Level::Critical, "forged"),
            ]
        );
        assert_eq!(*own.0.lock().unwrap(), ["ours"]);
    });
}

#[test]
fn an_event_in_whose_place_another_was_noted_is_somebody_else_s() {
    block_on(async {
        let mut taken = member("ours", "2024-05-01T10:00:00Z");
        taken.issuer = Some(OWN_ROLE.into());
        taken.source_ip = Some("taken".into());
        let world = world_with(Arc::new(Recorded::default()), Sources::default());
        let detections = vec![detection("keys", Level::High, "alice", vec![taken])];
        world.enrich.handle_batch(batch(detections, vec![]), false).await.unwrap();
        assert_eq!(world.alerts().await.len(), 1);
    });
}

/// Fails until it is told to answer.
#[derive(Default)]
struct Moody(AtomicBool);

#[async_trait]
impl Intelligence for Moody {
    async fn lookup(&self, indicators: &[Indicator], at: Timestamp) -> Result<Vec<alert::IntelFinding>, IntelError> {
        if self.0.load(Ordering::SeqCst) {
            let mut list = IndicatorList::default();
            list.add("198.51.100.1,known_bad", "f", "feed");
            return Ok(list.check_all(indicators, at));
        }
        Err(IntelError { source_name: "feed".into(), reason: "timeout".into() })
    }
}

#[test]
fn a_failed_lookup_loses_no_alert_and_is_made_good_by_the_next() {
    block_on(async {
        let moody = Arc::new(Moody::default());
        let world = world_with(Arc::new(NoOwnActions), Sources(vec![moody.clone()]));
        let first = detection("r", Level::Medium, "alice", vec![member("e1", "2024-05-01T10:00:00Z")]);
        world.enrich.handle_batch(batch(vec![first.clone()], vec![]), false).await.unwrap();
        let alert = world.alerts().await.remove(0);
        assert_eq!((alert.score, alert.level), (0.48, Level::Medium));
        assert!(alert.reasons.iter().any(|r| r.contains("lookup failed")), "{:?}", alert.reasons);

        moody.0.store(true, Ordering::SeqCst);
        world.enrich.handle_batch(batch(vec![first], vec![]), false).await.unwrap();
        let alert = world.alerts().await.remove(0);
        assert_eq!((alert.score, alert.level, alert.event_count), (0.72, Level::High, 1));
        assert!(!alert.reasons.iter().any(|r| r.contains("lookup failed")));
        let levels: Vec<Level> = world.raised().await.into_iter().map(|(_, l)| l).collect();
        assert_eq!(levels, [Level::Medium, Level::High], "told again because it rose");
    });
}

#[test]
fn members_beyond_the_shown_are_counted_once_up_to_the_cap() {
    block_on(async {
        let world = world();
        let members: Vec<Member> = (0..10_020).map(|n| member(&format!("e{n}"), "2024-05-01T10:00:00Z")).collect();
        for (delivery, chunk) in members.chunks(2000).chain(members.chunks(1500)).enumerate() {
            let d = detection("r", Level::Low, "alice", chunk.to_vec());
            world.enrich.handle_batch(batch(vec![d], vec![]), false).await.unwrap();
            let alert = world.alerts().await.remove(0);
            assert_eq!(alert.event_count, (2000 * (delivery as u64 + 1)).min(10_000));
            assert_eq!(alert.at_least, delivery >= 5);
        }
    });
}

#[test]
fn an_unreadable_message_costs_no_other() {
    block_on(async {
        let world = world();
        let queue = world.db.queue();
        let good = codec::encode(&story()[0]).unwrap();
        let bodies = ["{".to_owned(), good].map(sentinel_durable::Outgoing::now).to_vec();
        queue.send(Stage::Enrich, bodies).await.unwrap();
        let messages = queue.receive(Stage::Enrich, 10, 60).await.unwrap();
        let outcomes = world.enrich.handle(messages).await;
        assert_eq!(outcomes.iter().filter(|o| matches!(o, sentinel_durable::Outcome::Retry(_))).count(), 1);
        assert_eq!(world.alerts().await.len(), 1);
    });
}
