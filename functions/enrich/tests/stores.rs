//! The stores of alerts, incidents and lineage over the embedded table.
#![allow(clippy::unwrap_used, reason = "tests; the exemption for tests does not reach their helpers")]

use std::{collections::BTreeSet, sync::Arc};

use sentinel_durable::ManualClock;
use sentinel_embedded::Database;
use sentinel_model::{
    Alert, AlertState, Attack, Channel, Detection, EventRef, Identity, Level, LineageEdge, Member, Principal,
    PrincipalKind, Provenance, RuleRef, Timestamp, Verdict, Window, lineage::LineageKind, time,
};
use sentinel_state::{
    Condition, Table, TableError,
    alerts::{Alerts, IncidentPointer, ListAlerts, Members, StoredAlert, TriageUpdate},
    incidents::{Incidents, ListIncidents, StoredIncident},
    lineage::Lineage,
};

/// Which alerts a filter keeps.
type Keep = fn(i64) -> bool;

const START: &str = "2024-05-01T10:00:00Z";

fn table() -> Arc<dyn Table> {
    Database::in_memory(Arc::new(ManualClock::new(at(START)))).unwrap().table()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The n-th alert: one a minute, every third of account 2, levels in turn.
fn alert(n: i64) -> Alert {
    let when = time::plus_seconds(at(START), n * 60);
    let principal = Principal {
        id: format!("arn:aws:iam::111122223333:user/u{}", n % 2),
        kind: PrincipalKind::IamUser,
        ..Principal::unknown()
    };
    let level = Level::ALL[usize::try_from(n % 5).unwrap()];
    let rule = RuleRef { id: format!("rule{}", n % 4), title: "T".into(), level, author: None };
    let member = Member {
        event: EventRef { time: when, id: format!("e{n}"), content: 1 },
        region: None,
        source_ip: None,
        user_agent: None,
        access_key_id: None,
        service: "iam.amazonaws.com".into(),
        action: "ListUsers".into(),
        read_only: Some(true),
        success: true,
        issuer: None,
        model_score: None,
        provenance: vec![Provenance { channel: Channel::Folder { path: "f".into() }, received_at: when }],
    };
    let detection = Detection {
        alert_id: format!("al-{n:03}"),
        rule,
        attack: Attack::default(),
        window: Window::around(when, 60),
        principal,
        account: if n % 3 == 0 { "2".into() } else { "1".into() },
        members: vec![member],
        reasons: Vec::new(),
        correlated: None,
    };
    sentinel_enrich::merge::grow(None, &detection, 1, false, &sentinel_enrich::merge::Intel::default(), "c")
        .unwrap()
        .alert
}

async fn put(alerts: &Alerts, table: &Arc<dyn Table>, alert: Alert) {
    let stored = StoredAlert {
        alert,
        basis: sentinel_model::alert::ScoreBasis::default(),
        raised: None,
        incident_id: None,
        version: 0,
    };
    table.write(alerts.writes(&stored, &Members::default()).unwrap()).await.unwrap();
}

fn ids(page: &[(StoredAlert, sentinel_state::alerts::Triage)]) -> Vec<String> {
    page.iter().map(|(s, _)| s.alert.alert_id.clone()).collect()
}

#[tokio::test]
async fn alerts_are_listed_newest_first_page_by_page_under_every_filter() {
    let table = table();
    let alerts = Alerts::new(Arc::clone(&table));
    for n in 0..250 {
        put(&alerts, &table, alert(n)).await;
    }
    let acknowledge =
        |at| TriageUpdate { state: Some(AlertState::Acknowledged), by: "ann".into(), at, ..TriageUpdate::default() };
    alerts.set_triage("1", "al-100", acknowledge(at(START)), 0).await.unwrap();

    let everything: Vec<i64> = (0..250).rev().collect();
    let cases: [(ListAlerts, Keep); 7] = [
        (ListAlerts::default(), |_| true),
        (ListAlerts { min_level: Some(Level::High), ..ListAlerts::default() }, |n| n % 5 >= 3),
        (ListAlerts { account: Some("2".into()), ..ListAlerts::default() }, |n| n % 3 == 0),
        (ListAlerts { rule: Some("rule1".into()), ..ListAlerts::default() }, |n| n % 4 == 1),
        (ListAlerts { principal: Some("arn:aws:iam::111122223333:user/u1".into()), ..ListAlerts::default() }, |n| {
            n % 2 == 1
        }),
        (ListAlerts { state: Some(AlertState::Acknowledged), ..ListAlerts::default() }, |n| n == 100),
        (
            ListAlerts {
                from: Some(at("2024-05-01T10:10:00Z")),
                to: Some(at("2024-05-01T10:20:00Z")),
                ..ListAlerts::default()
            },
            |n| (10..=20).contains(&n),
        ),
    ];
    for (wanted, keep) in cases {
        let want: Vec<String> = everything.iter().filter(|n| keep(**n)).map(|n| format!("al-{n:03}")).collect();
        for limit in [1, 7, 1000] {
            let mut got = Vec::new();
            let mut cursor = None;
            loop {
                let page = ListAlerts { limit, cursor: cursor.clone(), ..wanted.clone() };
                let (found, next) = alerts.list(&page).await.unwrap();
                assert!(found.len() <= limit);
                got.extend(ids(&found));
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(got, want, "limit {limit}, {wanted:?}");
        }
    }
    let bad = ListAlerts { cursor: Some("nonsense".into()), ..ListAlerts::default() };
    assert!(matches!(alerts.list(&bad).await, Err(TableError::BadRequest(_))));
}

#[tokio::test]
async fn triage_keeps_history_and_refuses_what_is_stale() {
    let table = table();
    let alerts = Alerts::new(Arc::clone(&table));
    put(&alerts, &table, alert(1)).await;
    let update = TriageUpdate {
        state: Some(AlertState::Closed),
        verdict: Some(Some(Verdict::FalsePositive)),
        note: Some(Some("a drill".into())),
        by: "ann".into(),
        at: at(START),
    };
    let triage = alerts.set_triage("1", "al-001", update.clone(), 0).await.unwrap();
    assert_eq!((triage.version, triage.state), (1, AlertState::Closed));
    let said: Vec<&str> = triage.history.iter().map(|h| h.change.as_str()).collect();
    assert_eq!(said, ["State changed from new to closed.", "Judged a false positive.", "Note changed."]);
    assert!(alerts.set_triage("1", "al-001", update.clone(), 0).await.unwrap_err().is_condition(), "stale");
    assert!(alerts.set_triage("1", "nobody", update.clone(), 0).await.unwrap_err().is_condition(), "no alert");
    assert_eq!(alerts.set_triage("1", "al-001", update, 1).await.unwrap().version, 1, "no change, no write");

    let back = TriageUpdate { verdict: Some(None), by: "bob".into(), at: at(START), ..TriageUpdate::default() };
    let triage = alerts.set_triage("1", "al-001", back, 1).await.unwrap();
    assert_eq!((triage.verdict, triage.note.as_deref(), triage.history.len()), (None, Some("a drill"), 4));
    let (stored, found) = alerts.find("al-001").await.unwrap().unwrap();
    assert_eq!((stored.version, found), (1, triage), "triage does not touch the alert");
}

#[tokio::test]
async fn a_stale_alert_is_not_written() {
    let table = table();
    let alerts = Alerts::new(Arc::clone(&table));
    put(&alerts, &table, alert(1)).await;
    let mut stored = alerts.get("1", "al-001").await.unwrap().unwrap();
    table.write(alerts.writes(&stored, &Members::default()).unwrap()).await.unwrap();
    assert!(table.write(alerts.writes(&stored, &Members::default()).unwrap()).await.unwrap_err().is_condition());
    stored.version = 2;
    table.write(alerts.writes(&stored, &Members::default()).unwrap()).await.unwrap();
}

fn incident(n: i64) -> StoredIncident {
    let alert = alert(n);
    let incident = sentinel_enrich::incident::group(&[Alert { level: Level::High, ..alert.clone() }], &[]).remove(0);
    let members = [(alert.account.clone(), BTreeSet::from([alert.alert_id]))].into();
    StoredIncident { incident, account: alert.account, members, version: 0 }
}

#[tokio::test]
async fn merged_incidents_lead_to_the_last_and_are_not_listed() {
    let table = table();
    let incidents = Incidents::new(Arc::clone(&table));
    let all: Vec<StoredIncident> = (0..6).map(incident).collect();
    for one in &all {
        table.write(vec![incidents.put(one, Condition::Absent).unwrap()]).await.unwrap();
    }
    // 5 goes into 4, 4 into 3, 3 into 2.
    for n in [5, 4, 3] {
        let gone = incidents.get(&all[n].account, &all[n].incident.incident_id).await.unwrap().unwrap();
        table.write(vec![incidents.bury(&gone, &all[n - 1].pointer()).unwrap()]).await.unwrap();
    }
    let (listed, next) = incidents.list(&ListIncidents { limit: 2, ..ListIncidents::default() }).await.unwrap();
    let (rest, end) =
        incidents.list(&ListIncidents { limit: 2, cursor: next, ..ListIncidents::default() }).await.unwrap();
    let names: Vec<_> = listed.iter().chain(&rest).map(|s| s.incident.incident_id.clone()).collect();
    assert_eq!(names, [2, 1, 0].map(|n: usize| all[n].incident.incident_id.clone()));
    assert_eq!(end, None);

    let last = all[2].pointer();
    assert_eq!(incidents.find(&all[5].incident.incident_id).await.unwrap().unwrap().pointer(), last);
    let before = incidents.item_of(&all[5].pointer()).await.unwrap().unwrap();
    assert_eq!(incidents.resolve(&all[5].pointer()).await.unwrap().unwrap().pointer(), last);
    let after = incidents.item_of(&all[5].pointer()).await.unwrap().unwrap();
    assert_eq!((before, after), ((2, false), (3, false)), "the way was made short");
    assert_eq!(incidents.resolve(&all[5].pointer()).await.unwrap().unwrap().pointer(), last);
    assert_eq!(incidents.item_of(&all[5].pointer()).await.unwrap(), Some(after), "and needs no further write");
    let nobody = IncidentPointer { account: "1".into(), incident_id: "in-0".into() };
    assert_eq!(incidents.resolve(&nobody).await.unwrap(), None);
}

#[tokio::test]
async fn links_are_found_on_the_days_of_the_window() {
    let table = table();
    let incidents = Incidents::new(table.clone());
    let who = Identity::AccessKey("AKIA1".into());
    let window = Window { start: at("2024-05-01T23:00:00Z"), minutes: 120 };
    let links = incidents.links(std::slice::from_ref(&who), window, "1", "al-1", at(START)).unwrap();
    table.write(links).await.unwrap();
    for (from, to, found) in [
        ("2024-04-29T00:00:00Z", "2024-04-30T23:59:59Z", 0),
        ("2024-04-30T00:00:00Z", "2024-05-01T00:00:00Z", 1),
        ("2024-05-02T23:00:00Z", "2024-05-03T00:00:00Z", 1),
        ("2024-05-03T00:00:00Z", "2024-05-09T00:00:00Z", 0),
    ] {
        assert_eq!(incidents.linked(&who, at(from), at(to), 10).await.unwrap().len(), found, "{from}");
    }
}

fn step(minute: i64, event: &str) -> LineageEdge {
    LineageEdge {
        maker: Identity::Principal("alice".into()),
        maker_key: Some("AKIA1".into()),
        made: Identity::Principal("session".into()),
        how: LineageKind::Assumed,
        time: time::plus_seconds(at(START), minute * 60),
        event_id: event.into(),
    }
}

#[tokio::test]
async fn a_step_is_recorded_once_at_its_earliest_and_read_from_all_sides() {
    let lineage = Lineage::new(table());
    let now = at(START);
    let (late, early, next) = (step(8, "late"), step(2, "early"), step(12, "next"));
    assert_eq!(lineage.record(&[late.clone(), late.clone()], now).await.unwrap(), std::slice::from_ref(&late));
    assert!(lineage.record(&[step(9, "later")], now).await.unwrap().is_empty(), "known, no write");
    assert_eq!(lineage.record(&[early.clone(), next.clone()], now).await.unwrap().len(), 2);
    let (from, to) = (now, time::plus_seconds(now, 3600));
    let want = vec![early.clone(), next.clone()];
    for makers in early.makers() {
        assert_eq!(lineage.steps_by(&makers, from, to).await.unwrap(), want);
    }
    assert_eq!(lineage.steps_into(&early.made, from, to).await.unwrap(), want);
    let (from, to) = (time::plus_seconds(now, 180), time::plus_seconds(now, 719));
    assert!(lineage.steps_into(&early.made, from, to).await.unwrap().is_empty(), "bounds are exact");
}

#[tokio::test]
async fn lineage_expires() {
    let clock = Arc::new(ManualClock::new(at(START)));
    let db = Database::in_memory(clock.clone()).unwrap();
    let lineage = Lineage::new(db.table());
    lineage.record(&[step(1, "e")], at(START)).await.unwrap();
    clock.advance(8 * 86_400);
    let (from, to) = (at(START), time::plus_seconds(at(START), 3600));
    assert!(lineage.steps_into(&step(1, "e").made, from, to).await.unwrap().is_empty());
}
