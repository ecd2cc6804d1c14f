//! What every archive must do; adapters run it in their tests.
//!
//! In goes a way to make an empty archive and a way to count its objects; a promise that is not kept is a
//! panic that says which. What only an adapter can break (objects, temporary files) it tests itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a suite of tests: a panic is its way to report"
)]

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_model::{
    Action, Channel, Event, Network, Outcome, Principal, Provenance, RawRecord, SourceKind, Timestamp, hash,
    time::parse_event_time,
};

use crate::{Archive, ArchiveError};

/// An archive under test.
#[async_trait]
pub trait Setup: Send + Sync {
    /// The archive.
    fn archive(&self) -> Arc<dyn Archive>;
    /// How many objects it holds.
    async fn objects(&self) -> usize;
}

/// Runs the whole suite; `make` gives an empty archive each time.
pub async fn suite<S: Setup>(make: impl AsyncFn() -> S) {
    gives_back_what_was_put(&make().await).await;
    the_same_batch_is_one_object(&make().await).await;
    each_event_comes_back_once(&make().await).await;
    two_contents_of_one_id_are_both_kept(&make().await).await;
    partitions(&make().await).await;
    names_are_checked(&make().await).await;
    forgets_days(&make().await).await;
    takes_batches_at_once(&make().await).await;
}

/// An event for tests: its id, time, account and raw record; it came by a folder.
pub fn event(id: &str, time: &str, account: &str, raw: &str) -> Event {
    let raw = RawRecord::new(raw.to_owned()).unwrap();
    let time = parse_event_time(time).unwrap();
    Event {
        id: id.into(),
        content: hash::content_hash(&raw.parse().unwrap()),
        time,
        time_text: Some(time.to_string()),
        source: SourceKind::CloudTrail,
        account: account.into(),
        region: Some("us-east-1".into()),
        action: Action { service: "iam.amazonaws.com".into(), name: "CreateUser".into(), read_only: Some(false) },
        principal: Principal::unknown(),
        access_key_id: None,
        invoked_by: None,
        targets: Vec::new(),
        network: Network::default(),
        outcome: Outcome::Success,
        lineage: Vec::new(),
        provenance: vec![copy("/logs", "2024-01-05T00:00:00Z")],
        raw,
    }
}

fn copy(path: &str, received_at: &str) -> Provenance {
    Provenance { channel: Channel::Folder { path: path.into() }, received_at: received_at.parse().unwrap() }
}

const ACCOUNT: &str = "123456789012";
const DAY: &str = "2024-01-05";

fn at(id: &str, hour: u32) -> Event {
    event(id, &format!("{DAY}T{hour:02}:00:00Z"), ACCOUNT, &format!(r#"{{"eventID":"{id}"}}"#))
}

/// Reads a day that has nothing wrong with it.
async fn read(archive: &dyn Archive, account: &str, day: &str) -> Vec<Event> {
    let read = archive.read(account, day).await.unwrap();
    assert!(read.unreadable.is_empty(), "{:?}", read.unreadable);
    read.events
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| e.id.as_str()).collect()
}

async fn gives_back_what_was_put(setup: &impl Setup) {
    let archive = setup.archive();
    let raw =
        "{ \"eventName\" : \"Create\\nUser\",\r\n \"n\":1.50,\n\t\"text\":\"Zo\u{eb} \u{1F600} \u{2028}\", \"a\":[ ] }";
    let mut rich = event("sha256:00ff", "2024-01-05T23:59:59.999999999Z", ACCOUNT, raw);
    rich.outcome = Outcome::Failure { code: "AccessDenied".into(), message: Some("line\nbreak".into()) };
    rich.network.source_ip = Some("2001:db8::1".parse().unwrap());
    rich.content = u64::MAX;
    archive.put(std::slice::from_ref(&rich)).await.unwrap();
    let back = read(&*archive, ACCOUNT, DAY).await;
    assert_eq!(back.len(), 1);
    let (given, got) = (serde_json::to_value(&rich).unwrap(), serde_json::to_value(&back[0]).unwrap());
    assert_eq!(given, got);
    // Only line breaks between tokens may have become spaces: digits and escapes are as they came.
    assert_eq!(back[0].raw.text(), raw.replace(['\n', '\r'], " "));
    archive.put(&[]).await.expect("no events are no error");
}

async fn the_same_batch_is_one_object(setup: &impl Setup) {
    let archive = setup.archive();
    let batch = [at("a", 1), at("b", 2)];
    archive.put(&batch).await.unwrap();
    let mut later = [batch[1].clone(), batch[0].clone()];
    for event in &mut later {
        event.provenance[0].received_at = "2024-01-06T00:00:00Z".parse().unwrap();
    }
    archive.put(&batch).await.unwrap();
    archive.put(&later).await.unwrap();
    assert_eq!(setup.objects().await, 1, "in another order, received again later: the same object");
    let events = read(&*archive, ACCOUNT, DAY).await;
    assert_eq!(ids(&events), ["a", "b"]);
    assert_eq!(events[0].provenance, batch[0].provenance, "the first arrival counts");
    archive.put(&batch[..1]).await.unwrap();
    assert_eq!(setup.objects().await, 2, "another batch is another object");
}

async fn each_event_comes_back_once(setup: &impl Setup) {
    let archive = setup.archive();
    archive.put(&[at("b", 2), at("a", 1), at("a", 1)]).await.unwrap();
    let mut again = at("a", 1);
    again.provenance = vec![copy("/other", "2024-01-04T00:00:00Z"), copy("/logs", "2024-01-03T00:00:00Z")];
    archive.put(&[at("c", 0), again]).await.unwrap();
    let events = read(&*archive, ACCOUNT, DAY).await;
    assert_eq!(ids(&events), ["c", "a", "b"], "in order of time, each once");
    let expected = [copy("/logs", "2024-01-03T00:00:00Z"), copy("/other", "2024-01-04T00:00:00Z")];
    assert_eq!(events[1].provenance, expected, "both copies, each with its earliest arrival");
}

async fn two_contents_of_one_id_are_both_kept(setup: &impl Setup) {
    let archive = setup.archive();
    let one = event("a", "2024-01-05T01:00:00Z", ACCOUNT, r#"{"n":1}"#);
    let other = event("a", "2024-01-05T01:00:00Z", ACCOUNT, r#"{"n":2}"#);
    archive.put(&[one.clone(), other.clone()]).await.unwrap();
    archive.put(&[other]).await.unwrap();
    archive.put(&[one]).await.unwrap();
    let mut raws: Vec<_> = read(&*archive, ACCOUNT, DAY).await.iter().map(|e| e.raw.text().to_owned()).collect();
    raws.sort_unstable();
    assert_eq!(raws, [r#"{"n":1}"#, r#"{"n":2}"#]);
}

async fn partitions(setup: &impl Setup) {
    let archive = setup.archive();
    assert!(archive.accounts().await.unwrap().is_empty());
    assert!(archive.days(ACCOUNT).await.unwrap().is_empty());
    assert!(read(&*archive, ACCOUNT, DAY).await.is_empty(), "a day without events is empty, not an error");
    let batch = [
        event("1", "2024-01-05T23:59:59Z", ACCOUNT, "{}"),
        event("2", "2024-01-06T01:00:00+02:00", ACCOUNT, "{}"),
        event("3", "2024-01-06T00:00:00Z", ACCOUNT, "{}"),
        event("4", "2023-12-31T00:00:00Z", "unknown", "{}"),
        event("5", "-000300-12-31T00:00:00Z", "unknown", "{}"),
        event("6", "9999-12-30T00:00:00Z", "unknown", "{}"),
    ];
    archive.put(&batch).await.unwrap();
    assert_eq!(archive.accounts().await.unwrap(), [ACCOUNT, "unknown"]);
    assert_eq!(archive.days(ACCOUNT).await.unwrap(), [DAY, "2024-01-06"]);
    assert_eq!(ids(&read(&*archive, ACCOUNT, DAY).await), ["2", "1"], "days are those of UTC");
    assert_eq!(ids(&read(&*archive, ACCOUNT, "2024-01-06").await), ["3"]);
    assert_eq!(archive.days("unknown").await.unwrap(), ["1970-01-01", "2023-12-31", "9999-12-30"]);
    assert_eq!(ids(&read(&*archive, "unknown", "1970-01-01").await), ["5"]);
    assert!(read(&*archive, "unknown", DAY).await.is_empty());
}

async fn names_are_checked(setup: &impl Setup) {
    let archive = setup.archive();
    let long = "1".repeat(65);
    for account in ["", "..", "../x", "a/b", "a\\b", ".tmp", "a\0", "é", long.as_str()] {
        let bad = |e: ArchiveError| assert!(matches!(e, ArchiveError::Name { what: "account", .. }), "{e}");
        let batch = [at("good", 1), event("bad", "2024-01-05T00:00:00Z", account, "{}")];
        bad(archive.put(&batch).await.unwrap_err());
        bad(archive.days(account).await.unwrap_err());
        bad(archive.read(account, DAY).await.unwrap_err());
    }
    assert_eq!(setup.objects().await, 0, "a batch with a bad account is refused before anything is written");
    for day in ["", "2024-1-5", "2024-13-01", "../2024-01-05", "2024-01-05/", "20240105", "2024-01-05T00"] {
        let result = archive.read(ACCOUNT, day).await;
        assert!(matches!(result, Err(ArchiveError::Name { what: "day", .. })), "{day:?}");
    }
}

async fn forgets_days(setup: &impl Setup) {
    let archive = setup.archive();
    for day in 1..=5 {
        for account in [ACCOUNT, "210987654321"] {
            archive.put(&[event("a", &format!("2024-01-{day:02}T12:00:00Z"), account, "{}")]).await.unwrap();
        }
    }
    archive.put(&[event("a", "2024-01-01T12:00:00Z", "unknown", "{}")]).await.unwrap();
    let time: Timestamp = "2024-01-03T18:00:00Z".parse().unwrap();
    assert_eq!(archive.forget_before(time).await.unwrap(), 5, "two days each, and the one of the third account");
    assert_eq!(archive.days(ACCOUNT).await.unwrap(), ["2024-01-03", "2024-01-04", "2024-01-05"]);
    assert_eq!(archive.accounts().await.unwrap(), [ACCOUNT, "210987654321"]);
    assert!(read(&*archive, ACCOUNT, "2024-01-02").await.is_empty());
    assert_eq!(archive.forget_before(time).await.unwrap(), 0);
    archive.put(&[event("a", "2024-01-02T12:00:00Z", ACCOUNT, "{}")]).await.expect("a forgotten day can come again");
    assert_eq!(read(&*archive, ACCOUNT, "2024-01-02").await.len(), 1);
}

async fn takes_batches_at_once(setup: &impl Setup) {
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let archive = setup.archive();
            // Every batch twice, at the same moment.
            tokio::spawn(async move { archive.put(&[at(&format!("{:02}", i / 2), i / 2)]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(setup.objects().await, 10);
    assert_eq!(read(&*setup.archive(), ACCOUNT, DAY).await.len(), 10);
}
