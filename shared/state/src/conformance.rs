//! What every table must do; adapters run it in their tests.
//!
//! In goes a way to make an empty table with a clock that can be moved; a promise that is not kept is a
//! panic that says which.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    reason = "a suite of tests: a panic is its way to report"
)]

pub mod signing;

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_model::{Timestamp, time::plus_seconds};
use serde_json::{Value, json};

use crate::table::{MAX_BODY_BYTES, MAX_KEYS, MAX_PK_BYTES, MAX_SK_BYTES, MAX_WRITE_BYTES, MAX_WRITES};
use crate::{Condition, Index, IndexKey, Key, Put, Query, SkRange, Table, TableError, Write};

/// A table under test.
#[async_trait]
pub trait Setup: Send + Sync {
    /// The table.
    fn table(&self) -> Arc<dyn Table>;
    /// What its clock shows.
    fn now(&self) -> Timestamp;
    /// Lets time pass: moves the clock, or waits.
    async fn pass(&self, seconds: u32);
    /// Closes and opens the store, as a restart of the process does; nothing where that means nothing.
    async fn restart(&self);
}

/// Runs the whole suite; `make` gives an empty table each time.
pub async fn table<S: Setup>(make: impl AsyncFn() -> S) {
    reads_what_was_written(&make().await).await;
    conditions(&make().await).await;
    expired_items_are_absent(&make().await).await;
    transactions_are_all_or_nothing(&make().await).await;
    limits(&make().await).await;
    keys_order_by_their_bytes(&make().await).await;
    ranges(&make().await).await;
    pages(&make().await).await;
    indexes(&make().await).await;
    index_pages(&make().await).await;
    cursors(&make().await).await;
    many_keys(&make().await).await;
    concurrent_increments_lose_nothing(&make().await).await;
    concurrent_creation_has_one_winner(&make().await).await;
}

fn put(pk: &str, sk: &str, n: i64) -> Put {
    Put::new(Key::new(pk, sk), &json!({ "n": n })).unwrap()
}

async fn write(table: &dyn Table, puts: impl IntoIterator<Item = Put>) {
    for put in puts {
        table.write(vec![Write::Put(put)]).await.unwrap();
    }
}

async fn number(table: &dyn Table, pk: &str, sk: &str) -> Option<i64> {
    table.get(&Key::new(pk, sk)).await.unwrap().map(|item| item.body["n"].as_i64().unwrap())
}

/// Sort keys of a query's items, over all its pages.
async fn keys(table: &dyn Table, query: Query) -> Vec<String> {
    let mut found = Vec::new();
    let mut query = query;
    loop {
        let page = table.query(query.clone()).await.unwrap();
        assert!(page.items.len() <= query.limit, "a page is over its limit");
        found.extend(page.items.into_iter().map(|item| item.key.sk));
        if page.next.is_none() {
            return found;
        }
        query.after = page.next;
        assert!(found.len() < 10_000, "pages do not end");
    }
}

fn failed(result: Result<(), TableError>) -> Vec<usize> {
    match result {
        Err(TableError::ConditionFailed(positions)) => positions,
        other => panic!("expected failed conditions, not {other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, TableError>) {
    assert!(matches!(result, Err(TableError::BadRequest(_))), "expected a refusal, not {result:?}");
}

async fn reads_what_was_written(setup: &impl Setup) {
    let body = json!({"text": "Zoë \u{1F600} \u{0} \"\\", "list": [1, -2, 1.5, null, true], "deep": {"a": {"b": []}},
                      "big": u64::MAX, "small": i64::MIN});
    let key = Key::new("pk", "sk");
    let expires_at = Some(plus_seconds(setup.now(), 3600));
    let table = setup.table();
    assert_eq!(table.get(&key).await.unwrap(), None);
    table.write(vec![Write::Put(Put::new(key.clone(), &body).unwrap().expiring(expires_at))]).await.unwrap();
    drop(table);
    setup.restart().await;
    let table = setup.table();
    let item = table.get(&key).await.unwrap().expect("an item outlives a restart");
    assert_eq!((&item.key, &item.body, item.version), (&key, &body, 1));
    assert_eq!(item.expires_at.map(Timestamp::as_millisecond), expires_at.map(Timestamp::as_millisecond));

    let other = json!({"n": 2});
    table.write(vec![Write::Put(Put::new(key.clone(), &other).unwrap())]).await.unwrap();
    let item = table.get(&key).await.unwrap().unwrap();
    assert_eq!((item.body, item.version, item.expires_at), (other, 2, None), "a put replaces all of an item");

    table.write(vec![Write::Delete(key.clone(), Condition::None)]).await.unwrap();
    assert_eq!(table.get(&key).await.unwrap(), None);
    table.write(vec![Write::Delete(key, Condition::None)]).await.expect("deleting what is absent is no error");
    table.write(Vec::new()).await.expect("no writes are no error");
}

async fn conditions(setup: &impl Setup) {
    let table = setup.table();
    let key = Key::new("pk", "sk");
    let puts = |condition| vec![Write::Put(put("pk", "sk", 1).when(condition))];
    assert_eq!(failed(table.write(puts(Condition::Version(1))).await), [0], "there is nothing of version 1");
    table.write(puts(Condition::Absent)).await.unwrap();
    assert_eq!(failed(table.write(puts(Condition::Absent)).await), [0], "it is no longer absent");
    table.write(puts(Condition::Version(1))).await.unwrap();
    assert_eq!(failed(table.write(puts(Condition::Version(1))).await), [0], "it has version 2 now");
    table.write(puts(Condition::None)).await.unwrap();
    assert_eq!(table.get(&key).await.unwrap().unwrap().version, 3);

    let check = |condition| vec![Write::Check(key.clone(), condition)];
    table.write(check(Condition::Version(3))).await.unwrap();
    assert_eq!(failed(table.write(check(Condition::Absent)).await), [0]);
    assert_eq!(table.get(&key).await.unwrap().unwrap().version, 3, "a check writes nothing");

    let delete = |condition| vec![Write::Delete(key.clone(), condition)];
    assert_eq!(failed(table.write(delete(Condition::Version(2))).await), [0]);
    assert_eq!(failed(table.write(delete(Condition::Absent)).await), [0]);
    table.write(delete(Condition::Version(3))).await.unwrap();
    assert_eq!(failed(table.write(delete(Condition::Version(3))).await), [0]);
    table.write(check(Condition::Absent)).await.unwrap();
    table.write(puts(Condition::Absent)).await.expect("what was deleted can be made anew");
    assert_eq!(table.get(&key).await.unwrap().unwrap().version, 1);
}

async fn expired_items_are_absent(setup: &impl Setup) {
    let table = setup.table();
    let soon = Some(plus_seconds(setup.now(), 2));
    let listed =
        |put: Put| put.listed(Index::One, IndexKey::new("LIST", "1")).listed(Index::Two, IndexKey::new("OTHER", "1"));
    let key = Key::new("pk", "short");
    write(&*table, [listed(put("pk", "short", 1).expiring(soon)), put("pk", "long", 2)]).await;
    assert_eq!(number(&*table, "pk", "short").await, Some(1));
    setup.pass(3).await;

    assert_eq!(number(&*table, "pk", "short").await, None, "get");
    let both = table.get_many(&[key.clone(), Key::new("pk", "long")]).await.unwrap();
    assert_eq!(both.len(), 1, "get_many");
    assert_eq!(keys(&*table, Query::partition("pk", 10)).await, ["long"], "query");
    assert_eq!(keys(&*table, Query::partition("pk", 1)).await, ["long"], "query of pages of one");
    assert!(keys(&*table, Query::listing(Index::One, "LIST", 10)).await.is_empty(), "index one");
    assert!(keys(&*table, Query::listing(Index::Two, "OTHER", 10)).await.is_empty(), "index two");
    let checks = vec![Write::Check(key.clone(), Condition::Version(1))];
    assert_eq!(failed(table.write(checks).await), [0], "an expired item has no version");
    table.write(vec![Write::Check(key.clone(), Condition::Absent)]).await.expect("an expired item is absent");

    write(&*table, [put("pk", "short", 3).when(Condition::Absent)]).await;
    let item = table.get(&key).await.unwrap().unwrap();
    assert_eq!((item.body["n"].as_i64(), item.expires_at), (Some(3), None));
    table.write(vec![Write::Put(put("pk", "short", 4).when(Condition::Version(item.version)))]).await.unwrap();

    write(&*table, [put("pk", "past", 5).expiring(Some(plus_seconds(setup.now(), -1)))]).await;
    assert_eq!(number(&*table, "pk", "past").await, None, "written with an expiry in the past");
}

async fn transactions_are_all_or_nothing(setup: &impl Setup) {
    let table = setup.table();
    write(&*table, [put("pk", "a", 1), put("pk", "b", 1)]).await;
    let result = table
        .write(vec![
            Write::Put(put("pk", "a", 2)),
            Write::Put(put("pk", "new", 2).when(Condition::Version(7))),
            Write::Delete(Key::new("pk", "b"), Condition::None),
            Write::Check(Key::new("other", "c"), Condition::Version(1)),
            Write::Put(put("pk", "x", 2).when(Condition::Absent)),
        ])
        .await;
    assert_eq!(failed(result), [1, 3], "positions of the conditions that failed, and of no other");
    assert_eq!(keys(&*table, Query::partition("pk", 10)).await, ["a", "b"], "nothing was written");
    assert_eq!(number(&*table, "pk", "a").await, Some(1));

    let whole = vec![
        Write::Put(put("pk", "a", 2).when(Condition::Version(1))),
        Write::Delete(Key::new("pk", "b"), Condition::Version(1)),
        Write::Check(Key::new("other", "c"), Condition::Absent),
        Write::Put(put("third", "x", 2).when(Condition::Absent)),
    ];
    table.write(whole).await.unwrap();
    assert_eq!(keys(&*table, Query::partition("pk", 10)).await, ["a"]);
    assert_eq!(number(&*table, "third", "x").await, Some(2));
}

async fn limits(setup: &impl Setup) {
    let table = setup.table();
    let puts = |count: usize| (0..count).map(|i| Write::Put(put("many", &format!("{i:03}"), 1))).collect::<Vec<_>>();
    table.write(puts(MAX_WRITES)).await.unwrap();
    assert_eq!(keys(&*table, Query::partition("many", 7)).await.len(), MAX_WRITES);
    refused(table.write(puts(MAX_WRITES + 1)).await);

    let twice = vec![Write::Put(put("pk", "a", 1)), Write::Check(Key::new("pk", "a"), Condition::None)];
    refused(table.write(twice).await);
    for body in [json!([1]), json!("text"), Value::Null] {
        refused(table.write(vec![Write::Put(Put::new(Key::new("pk", "a"), &body).unwrap())]).await);
    }
    assert_eq!(number(&*table, "pk", "a").await, None);

    let filled = |bytes: usize| json!({ "t": "x".repeat(bytes - r#"{"t":""}"#.len()) });
    let large = |sk: &str, bytes| Write::Put(Put::new(Key::new("pk", sk), &filled(bytes)).unwrap());
    table.write(vec![large("large", MAX_BODY_BYTES)]).await.unwrap();
    let item = table.get(&Key::new("pk", "large")).await.unwrap().unwrap();
    assert_eq!(item.body, filled(MAX_BODY_BYTES));
    refused(table.write(vec![large("larger", MAX_BODY_BYTES + 1)]).await);
    let count = MAX_WRITE_BYTES / MAX_BODY_BYTES + 1;
    refused(table.write((0..count).map(|i| large(&i.to_string(), MAX_BODY_BYTES)).collect()).await);

    let (pk, sk) = ("p".repeat(MAX_PK_BYTES), "s".repeat(MAX_SK_BYTES));
    write(&*table, [put(&pk, &sk, 1)]).await;
    assert_eq!(keys(&*table, Query::partition(&pk, 10)).await, [sk.as_str()]);
    for (pk, sk) in [("", "a"), ("a", ""), (&format!("{pk}p"), "a"), ("a", &format!("{sk}s"))] {
        refused(table.write(vec![Write::Put(put(pk, sk, 1))]).await);
        refused(table.write(vec![Write::Put(put("a", "a", 1).listed(Index::One, IndexKey::new(pk, sk)))]).await);
    }
    refused(table.query(Query::partition("pk", 0)).await);
}

async fn keys_order_by_their_bytes(setup: &impl Setup) {
    let table = setup.table();
    // In the order of UTF-8 bytes, which that of UTF-16 units or of a dictionary is not.
    let long = "a".repeat(1000);
    let ordered =
        ["A", "B", "a", &long, &format!("{long}b"), "a\u{0}", "aa", "b", "é", "ﬁ", "\u{FFFD}", "\u{10000}", "😀"];
    let mut ordered: Vec<&str> = ordered.to_vec();
    ordered.sort_by_key(|key| key.as_bytes());
    for sk in ordered.iter().rev() {
        write(&*table, [put("pk", sk, 1).listed(Index::One, IndexKey::new("LIST", *sk))]).await;
    }
    assert_eq!(keys(&*table, Query::partition("pk", 3)).await, ordered);
    let mut descending = Query::partition("pk", 3);
    descending.descending = true;
    ordered.reverse();
    assert_eq!(keys(&*table, descending).await, ordered);
    assert_eq!(keys(&*table, Query::listing(Index::One, "LIST", 3)).await, ordered);
    for partition in ["PK", "p", "pk ", "pk\u{0}"] {
        assert!(keys(&*table, Query::partition(partition, 3)).await.is_empty(), "{partition:?} is another partition");
    }
}

async fn ranges(setup: &impl Setup) {
    let table = setup.table();
    for sk in ["M#00", "M#01", "M#ff", "M$", "M", "N#00", "M#\u{10FFFF}", "m#00"] {
        write(&*table, [put("pk", sk, 1).listed(Index::Two, IndexKey::new("LIST", sk))]).await;
    }
    let prefix = |text: &str| SkRange::Prefix(text.into());
    let between = |from: &str, to: &str| SkRange::Between(from.into(), to.into());
    let cases: [(SkRange, &[&str]); 8] = [
        (prefix("M#"), &["M#00", "M#01", "M#ff", "M#\u{10FFFF}"]),
        (prefix("M#0"), &["M#00", "M#01"]),
        (prefix("M#\u{10FFFF}"), &["M#\u{10FFFF}"]),
        (prefix("X"), &[]),
        (between("M#00", "M#ff"), &["M#00", "M#01", "M#ff"]),
        (between("M#001", "M#fe"), &["M#01"]),
        (between("N", "M"), &[]),
        (between("M#01", "M#01"), &["M#01"]),
    ];
    for (range, expected) in cases {
        for index in [None, Some(Index::Two)] {
            let pk = if index.is_some() { "LIST" } else { "pk" };
            let mut query = Query::partition(pk, 2).range(range.clone());
            query.index = index;
            assert_eq!(keys(&*table, query.clone()).await, expected, "{range:?} {index:?}");
            query.descending = true;
            let reversed: Vec<&str> = expected.iter().rev().copied().collect();
            assert_eq!(keys(&*table, query).await, reversed, "{range:?} {index:?} descending");
        }
    }
}

async fn pages(setup: &impl Setup) {
    let table = setup.table();
    let names: Vec<String> = (0..23).map(|i| format!("{i:02}")).collect();
    write(&*table, names.iter().map(|sk| put("pk", sk, 1))).await;
    for limit in [1, 2, 5, 22, 23, 24, 1000] {
        assert_eq!(keys(&*table, Query::partition("pk", limit)).await, names, "limit {limit}");
    }
    // A cursor stands at a place, not at an offset: what is deleted or added before it changes nothing.
    let first = table.query(Query::partition("pk", 5)).await.unwrap();
    assert_eq!(first.items.len(), 5);
    table.write(vec![Write::Delete(Key::new("pk", "04"), Condition::None)]).await.unwrap();
    write(&*table, [put("pk", "00a", 1), put("pk", "05a", 1)]).await;
    let second = table.query(Query::partition("pk", 2).after(first.next)).await.unwrap();
    let found: Vec<_> = second.items.iter().map(|item| item.key.sk.as_str()).collect();
    assert_eq!(found, ["05", "05a"]);
}

async fn indexes(setup: &impl Setup) {
    let table = setup.table();
    let one = |pk: &str, sk: &str| IndexKey::new(pk, sk);
    write(
        &*table,
        [
            put("a", "1", 1).listed(Index::One, one("ALL", "2024")).listed(Index::Two, one("BY", "x")),
            put("b", "2", 2).listed(Index::One, one("ALL", "2023")),
            put("c", "3", 3),
        ],
    )
    .await;
    let listing = || Query::listing(Index::One, "ALL", 10);
    assert_eq!(keys(&*table, listing()).await, ["1", "2"], "newest first");
    assert_eq!(keys(&*table, Query::listing(Index::Two, "BY", 10)).await, ["1"]);
    assert!(keys(&*table, Query::listing(Index::Two, "ALL", 10)).await.is_empty(), "the indexes are apart");
    let page = table.query(Query::listing(Index::Two, "BY", 10)).await.unwrap();
    assert_eq!(page.items[0].key, Key::new("a", "1"), "an index gives the item itself");
    assert_eq!((&page.items[0].body, page.items[0].version), (&json!({"n": 1}), 1));

    write(&*table, [put("a", "1", 1).listed(Index::One, one("ALL", "2022"))]).await;
    assert_eq!(keys(&*table, listing()).await, ["2", "1"], "a replaced item has moved");
    assert!(keys(&*table, Query::listing(Index::Two, "BY", 10)).await.is_empty(), "and left the other index");
    table.write(vec![Write::Delete(Key::new("b", "2"), Condition::None)]).await.unwrap();
    assert_eq!(keys(&*table, listing()).await, ["1"], "a deleted item has left its indexes");
}

async fn index_pages(setup: &impl Setup) {
    let table = setup.table();
    for i in 0..9 {
        // Several items at one place of the index: none may be lost between pages.
        let place = IndexKey::new("ALL", format!("{}", i / 4));
        write(&*table, [put(&format!("p{}", i % 2), &i.to_string(), i).listed(Index::One, place)]).await;
    }
    for limit in 1..=10 {
        let found = keys(&*table, Query::listing(Index::One, "ALL", limit)).await;
        let places: Vec<i64> = found.iter().map(|sk| sk.parse::<i64>().unwrap() / 4).collect();
        assert_eq!(places, [2, 1, 1, 1, 1, 0, 0, 0, 0], "limit {limit}");
        let mut distinct = found.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 9, "limit {limit}: {found:?}");
    }
}

async fn cursors(setup: &impl Setup) {
    let table = setup.table();
    for sk in ["1", "2", "3"] {
        write(&*table, [put("pk", sk, 1).listed(Index::One, IndexKey::new("pk", sk))]).await;
    }
    let cursor = table.query(Query::partition("pk", 1)).await.unwrap().next.expect("there are more");
    for bad in ["", "nonsense", "00", "5b5d"] {
        refused(table.query(Query::partition("pk", 1).after(Some(bad.into()))).await);
    }
    refused(table.query(Query::partition("other", 1).after(Some(cursor.clone()))).await);
    refused(table.query(Query::listing(Index::One, "pk", 1).after(Some(cursor))).await);
}

async fn many_keys(setup: &impl Setup) {
    let table = setup.table();
    write(&*table, (0..MAX_KEYS).map(|i| put("pk", &format!("{i}"), 1))).await;
    let all: Vec<Key> = (0..MAX_KEYS).map(|i| Key::new("pk", i.to_string())).collect();
    assert_eq!(table.get_many(&all).await.unwrap().len(), MAX_KEYS);
    let mut some = vec![all[3].clone(), Key::new("pk", "absent"), all[3].clone(), all[5].clone()];
    let mut found: Vec<String> = table.get_many(&some).await.unwrap().into_iter().map(|i| i.key.sk).collect();
    found.sort_unstable();
    assert_eq!(found, ["3", "5"], "absent ones are left out, one asked for twice comes once");
    assert!(table.get_many(&[]).await.unwrap().is_empty());
    some = all;
    some.push(Key::new("pk", "one more"));
    refused(table.get_many(&some).await);
}

async fn concurrent_increments_lose_nothing(setup: &impl Setup) {
    const TASKS: i64 = 8;
    const EACH: i64 = 10;
    let table = setup.table();
    write(&*table, [put("pk", "counter", 0)]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let table = Arc::clone(&table);
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&*table).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let item = table.get(&Key::new("pk", "counter")).await.unwrap().unwrap();
    assert_eq!(item.body["n"], TASKS * EACH);
    assert_eq!(item.version, u64::try_from(TASKS * EACH + 1).unwrap());
}

async fn increment(table: &dyn Table) {
    loop {
        let item = table.get(&Key::new("pk", "counter")).await.unwrap().unwrap();
        let next = put("pk", "counter", item.body["n"].as_i64().unwrap() + 1).when(Condition::Version(item.version));
        match table.write(vec![Write::Put(next)]).await {
            Ok(()) => return,
            Err(TableError::ConditionFailed(_)) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    }
}

async fn concurrent_creation_has_one_winner(setup: &impl Setup) {
    let table = setup.table();
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let table = Arc::clone(&table);
            let claim = vec![
                Write::Put(put("pk", "claim", n).when(Condition::Absent)),
                Write::Put(put("winners", &n.to_string(), n)),
            ];
            tokio::spawn(async move { table.write(claim).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(e) => assert_eq!(failed(Err(e)), [0]),
        }
    }
    assert_eq!(won, 1);
    let winners = keys(&*table, Query::partition("winners", 10)).await;
    let claim = number(&*table, "pk", "claim").await.unwrap();
    assert_eq!(winners, [claim.to_string()], "a loser's transaction left nothing");
}
