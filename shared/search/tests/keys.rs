//! Search by keys over stored alerts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests: a panic is their way to report")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use sentinel_durable::SystemClock;
use sentinel_embedded::Database;
use sentinel_model::{
    Alert, Attack, EventRef, Level, Principal, PrincipalKind, Timestamp,
    alert::{Indicators, RuleRef, ScoreBasis, Window, alert_id},
    time::plus_seconds,
};
use sentinel_search::{Coverage, DocumentKind, KeySearch, SearchError, SearchIndex, SearchQuery};
use sentinel_state::{
    Item, Key, Page, Query, Table, TableError, Write,
    alerts::{Alerts, Members, StoredAlert},
};

const ACCOUNT: &str = "123456789012";
const ALICE: &str = "arn:aws:iam::123456789012:user/alice";

/// A table that counts its queries.
struct Counting(Arc<dyn Table>, Arc<AtomicUsize>);

#[async_trait]
impl Table for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.0.get(key).await
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.0.get_many(keys).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.0.write(writes).await
    }
    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.query(query).await
    }
}

struct World {
    table: Arc<dyn Table>,
    search: KeySearch,
    queries: Arc<AtomicUsize>,
}

impl World {
    /// So many alerts, a second apart, number 0 the oldest.
    async fn with(count: u32) -> Self {
        let queries = Arc::new(AtomicUsize::new(0));
        let embedded = Database::in_memory(Arc::new(SystemClock)).unwrap().table();
        let table: Arc<dyn Table> = Arc::new(Counting(embedded, queries.clone()));
        let world = Self { search: KeySearch::new(Alerts::new(table.clone())), table, queries };
        for n in 0..count {
            world.store(alert(n)).await;
        }
        world
    }

    async fn store(&self, alert: Alert) {
        let stored = StoredAlert { alert, basis: ScoreBasis::default(), raised: None, incident_id: None, version: 0 };
        let writes = Alerts::new(self.table.clone()).writes(&stored, &Members::default()).unwrap();
        self.table.write(writes).await.unwrap();
    }

    async fn found(&self, query: SearchQuery) -> Vec<String> {
        let page = self.search.search(query).await.unwrap();
        page.documents.into_iter().map(|document| document.id).collect()
    }
}

fn at(seconds: u32) -> Timestamp {
    plus_seconds("2026-03-01T12:00:00Z".parse().unwrap(), i64::from(seconds))
}

fn alert(n: u32) -> Alert {
    let time = at(n);
    let window = Window::around(time, 60);
    let rule = RuleRef { id: format!("rule-{n}"), title: "Rule".into(), level: Level::High, author: None };
    Alert {
        alert_id: alert_id(&rule.id, ALICE, ACCOUNT, window),
        time,
        time_last: time,
        title: format!("Trail stopped in case {n}"),
        rule,
        category: "stealth".into(),
        level: Level::High,
        score: 0.7,
        principal: Principal {
            id: ALICE.into(),
            kind: PrincipalKind::IamUser,
            account: Some(ACCOUNT.into()),
            role: None,
            name: Some("alice".into()),
            actor: ALICE.into(),
            inferred: false,
        },
        account: ACCOUNT.into(),
        region: Some("eu-central-1".into()),
        source_ip: Some("203.0.113.9".into()),
        event_count: 1,
        at_least: false,
        first_events: [EventRef { time, id: format!("event-{n}"), content: u64::from(n) }].into(),
        indicators: Indicators {
            addresses: ["203.0.113.9".to_owned()].into(),
            keys: ["AKIAIOSFODNN7EXAMPLE".to_owned()].into(),
            agents: ["aws-cli/2".to_owned()].into(),
        },
        attack: Attack { tactics: vec!["stealth".into()], techniques: vec!["T1562.008".into()] },
        reasons: vec![if n % 10 == 3 { "A rare reason.".into() } else { "Because.".into() }],
        window,
        key_uses: Vec::new(),
        provenance: Vec::new(),
        correlation_id: format!("co-{n}"),
        superseded_by: None,
    }
}

fn id(n: u32) -> String {
    alert(n).alert_id
}

fn query(words: &str) -> SearchQuery {
    SearchQuery { words: words.into(), limit: 10, ..SearchQuery::default() }
}

#[tokio::test]
async fn alerts_are_found_by_words_id_account_principal_and_time() {
    let world = World::with(5).await;
    let mut other = alert(9);
    other.account = "210987654321".into();
    other.principal.id = "arn:aws:iam::210987654321:user/bob".into();
    world.store(other).await;
    let ids = |wanted: &[u32]| wanted.iter().map(|n| id(*n)).collect::<Vec<_>>();
    let cases = [
        (query(""), ids(&[9, 4, 3, 2, 1, 0])),
        (query("rare"), ids(&[3])),
        (query("RULE-2 trail"), ids(&[2])),
        (query("event-1"), ids(&[1])),
        (query("203.0.113.9 T1562 case 4"), ids(&[4])),
        (query("akiaiosf user/bob"), ids(&[9])),
        (query("nothing"), vec![]),
        (query("*"), vec![]),
        (query(&id(1)), ids(&[1])),
        (query("al-unknown"), vec![]),
        (SearchQuery { account: Some("210987654321".into()), ..query("trail") }, ids(&[9])),
        (SearchQuery { principal: Some(ALICE.into()), limit: 2, ..query("") }, ids(&[4, 3])),
        (SearchQuery { from: Some(at(2)), to: Some(at(3)), ..query("trail") }, ids(&[3, 2])),
        (SearchQuery { ids: vec![id(1), id(4), "none".into(), id(1)], ..query("") }, ids(&[4, 1])),
        (SearchQuery { ids: vec![id(1), id(3)], ..query("rare") }, ids(&[3])),
        (SearchQuery { account: Some("210987654321".into()), ..query(&id(1)) }, vec![]),
        (SearchQuery { kind: Some(DocumentKind::Alert), ..query("rare") }, ids(&[3])),
        (SearchQuery { kind: Some(DocumentKind::Event), ..query("") }, vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(world.found(query.clone()).await, expected, "{query:?}");
    }
    let page = world.search.search(query("rare")).await.unwrap();
    let document = &page.documents[0];
    assert_eq!((document.time, document.account.as_str(), document.principal.as_str()), (at(3), ACCOUNT, ALICE));
    assert!(document.body.contains(&format!("\"alert_id\":\"{}\"", id(3))), "{}", document.body);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let world = World::with(23).await;
    let mut newer = 1_000;
    for (limit, words, expected) in [(1, "", 23), (4, "trail", 23), (1, "rare", 2), (2, "rare", 2), (100, "", 23)] {
        let mut found = Vec::new();
        let mut page = SearchQuery { limit, ..query(words) };
        loop {
            let result = world.search.search(page.clone()).await.unwrap();
            assert!(result.documents.len() <= limit);
            found.extend(result.documents);
            page.after = result.next;
            if page.after.is_none() {
                break;
            }
            // What comes newer meanwhile does not move the pages.
            newer += 1;
            world.store(alert(newer)).await;
        }
        found.retain(|document| document.time < at(1_000));
        assert!(found.is_sorted_by_key(|document| std::cmp::Reverse(document.time)));
        let mut distinct: Vec<_> = found.iter().map(|document| &document.id).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((distinct.len(), found.len()), (expected, expected), "limit {limit} of {words:?}");
    }
    let last = SearchQuery { ids: vec![id(1), id(2), id(3)], limit: 2, ..query("") };
    let first = world.search.search(last.clone()).await.unwrap();
    assert_eq!(world.found(SearchQuery { after: first.next, ..last }).await, [id(1)]);
    for cursor in ["", "nonsense", "1.", ".1"] {
        let result = world.search.search(SearchQuery { after: Some(cursor.into()), ..query("") }).await;
        assert!(matches!(result, Err(SearchError::BadCursor)), "{cursor:?}: {result:?}");
    }
    let many = SearchQuery { ids: (0..101).map(id).collect(), ..query("") };
    assert!(matches!(world.search.search(many).await, Err(SearchError::TooManyIds(101))));
}

#[tokio::test]
async fn a_page_looks_through_a_bounded_number_of_alerts_and_says_that_there_are_more() {
    let world = World::with(1_250).await;
    world.queries.store(0, Ordering::Relaxed);
    let page = world.search.search(query("event-5")).await.unwrap();
    // 50 to 59 and 500 to 599 begin so: the thousand newest hold the hundreds and no other.
    assert_eq!((page.documents.len(), page.documents[0].id.clone()), (10, id(599)));
    let rare = world.search.search(query("rule-7 event-7")).await.unwrap();
    let first = world.queries.swap(0, Ordering::Relaxed);
    assert!(rare.next.is_some(), "there is more to look through");
    assert!(first <= 2 * 20, "{first} queries");
    let none = world.search.search(query("nothing")).await.unwrap();
    assert!(none.documents.is_empty() && none.next.is_some());
    assert!(world.queries.load(Ordering::Relaxed) <= 20);
    let rest = world.search.search(SearchQuery { after: none.next, ..query("nothing") }).await.unwrap();
    assert_eq!((rest.documents.len(), rest.next), (0, None));
    assert_eq!(world.found(query(&id(0))).await, [id(0)], "an id is found however old it is");
}

#[tokio::test]
async fn it_keeps_nothing_and_says_so() {
    let world = World::with(1).await;
    let document = world.search.search(query("")).await.unwrap().documents.remove(0);
    let event = sentinel_search::Document { kind: DocumentKind::Event, id: "event".into(), ..document };
    world.search.index(vec![event]).await.unwrap();
    assert_eq!(world.found(query("")).await, [id(0)]);
    assert_eq!(world.search.count(DocumentKind::Event).await.unwrap(), 0);
    assert_eq!(world.search.forget_before(DocumentKind::Alert, at(9)).await.unwrap(), 0);
    assert_eq!(world.found(query("")).await, [id(0)], "what is forgotten by an index stays in its store");
    let Coverage::KeysOnly(sentence) = world.search.coverage() else { panic!("it finds less than all") };
    assert_eq!(world.search.coverage().limited(), Some(sentence));
    let full = Database::in_memory(Arc::new(SystemClock)).unwrap().search();
    assert_eq!((full.coverage(), full.coverage().limited()), (Coverage::Full, None));
}
