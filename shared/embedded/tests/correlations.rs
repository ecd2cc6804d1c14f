//! The store of correlations over the embedded table: which buckets share an item, and who may write.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{collections::HashMap, sync::Arc};

use sentinel_correlation::{Bucket, Group};
use sentinel_durable::ManualClock;
use sentinel_embedded::Database;
use sentinel_model::{Timestamp, hash, time};
use sentinel_state::{
    Query, Table,
    correlations::{Correlations, ShelfKey, StoredBucket},
    sort_time,
};

/// More bytes than a bucket may have among others.
const LARGE: usize = 12 * 1024;
/// Fewer than that, of which a handful are too many for one item.
const MEDIUM: usize = 3 * 1024;
const PARTITION: &str = "111122223333#CORRELATION#60#00000000000000000000000000000007";

fn start(hour: i64) -> Timestamp {
    time::plus_seconds("2026-03-02T08:00:00Z".parse().unwrap(), hour * 3_600)
}

fn shelf_key() -> ShelfKey {
    ShelfKey { account: "111122223333".into(), minutes: 60, values: 7 }
}

/// A bucket that takes about so many bytes, hard to compress.
fn bucket(bytes: usize, version: u64) -> StoredBucket {
    let text = |n: usize| format!("{:032x}", hash::hash_128(&n.to_le_bytes()));
    let group = Group((0..bytes.div_ceil(32)).map(|n| Some(text(n))).collect());
    let mut bucket = Bucket::default();
    bucket.mark_raised();
    StoredBucket { group, bucket, version }
}

fn store() -> (Correlations, Arc<dyn Table>, Database, Timestamp) {
    let now = start(2);
    let database = Database::in_memory(Arc::new(ManualClock::new(now))).unwrap();
    (Correlations::new(database.table()), database.table(), database, now)
}

async fn items(table: &Arc<dyn Table>) -> Vec<String> {
    let page = table.query(Query::partition(PARTITION, 100)).await.unwrap();
    page.items.into_iter().map(|item| item.key.sk).collect()
}

#[tokio::test]
async fn buckets_of_one_shelf_share_an_item_until_one_is_large() {
    let (store, table, _database, now) = store();
    let load = || async { store.load(&shelf_key(), start(0), start(1)).await.unwrap() };
    let mut shelf = load().await;
    assert_eq!(shelf.bucket(1, start(0)), None);
    shelf.put(1, start(0), &bucket(100, 0));
    shelf.put(2, start(0), &bucket(200, 0));
    shelf.put(2, start(1), &bucket(200, 0));
    store.save(shelf, now).await.unwrap();
    assert_eq!(items(&table).await.len(), 2, "one a window");

    let mut shelf = load().await;
    assert_eq!(shelf.bucket(2, start(0)), Some(bucket(200, 1)));
    shelf.put(2, start(0), &bucket(LARGE, 1));
    store.save(shelf, now).await.unwrap();
    assert_eq!(items(&table).await.len(), 3, "the large one moved");

    let mut shelf = load().await;
    assert_eq!(shelf.bucket(2, start(0)), Some(bucket(LARGE, 2)));
    assert_eq!(shelf.bucket(1, start(0)), Some(bucket(100, 1)));
    shelf.put(2, start(0), &bucket(2 * LARGE, 2));
    store.save(shelf, now).await.unwrap();
    assert_eq!(load().await.bucket(2, start(0)), Some(bucket(2 * LARGE, 3)));
    let page = table.query(Query::partition(PARTITION, 100)).await.unwrap();
    let versions: Vec<u64> = page.items.iter().map(|item| item.version).collect();
    assert_eq!(versions, [2, 2, 1], "what did not change was not written");
}

#[tokio::test]
async fn many_small_buckets_make_room_too() {
    let (store, table, _database, now) = store();
    let mut shelf = store.load(&shelf_key(), start(0), start(0)).await.unwrap();
    for name in 0..20 {
        shelf.put(name, start(0), &bucket(MEDIUM, 0));
    }
    store.save(shelf, now).await.unwrap();
    let moved = items(&table).await.len() - 1;
    assert!((10..19).contains(&moved), "{moved}");
    let shelf = store.load(&shelf_key(), start(0), start(0)).await.unwrap();
    for name in 0..20 {
        assert_eq!(shelf.bucket(name, start(0)), Some(bucket(MEDIUM, 1)));
    }
}

#[tokio::test]
async fn of_two_that_read_the_same_only_one_writes() {
    let (store, _table, _database, now) = store();
    for size in [100, LARGE] {
        let mut first = store.load(&shelf_key(), start(0), start(0)).await.unwrap();
        let mut second = store.load(&shelf_key(), start(0), start(0)).await.unwrap();
        for (shelf, name) in [(&mut first, 1), (&mut second, 2)] {
            let version = shelf.bucket(name, start(0)).map_or(0, |stored| stored.version);
            shelf.put(name, start(0), &bucket(size, version));
        }
        store.save(first, now).await.unwrap();
        assert!(store.save(second, now).await.unwrap_err().is_condition(), "{size}");
    }
}

#[tokio::test]
async fn a_bucket_alone_stays_however_large_and_is_found_by_its_name() {
    let (store, table, _database, now) = store();
    let mut shelf = store.load(&shelf_key(), start(0), start(0)).await.unwrap();
    shelf.put(1, start(0), &bucket(4 * LARGE, 0));
    store.save(shelf, now).await.unwrap();
    assert_eq!(items(&table).await, [sort_time(start(0))]);
    let wanted = [(shelf_key(), 1, start(0)), (shelf_key(), 1, start(1))];
    let found = store.load_alone(&wanted).await.unwrap();
    assert_eq!(found, HashMap::from([((1, start(0)), bucket(4 * LARGE, 1))]));
}
