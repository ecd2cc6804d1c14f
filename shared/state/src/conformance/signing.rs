//! What every keeper of signing keys must do.
//!
//! In go a way to make an empty keeper that several processes share, and a clock that can be moved; a promise
//! that is not kept is a panic that says which.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_model::{Timestamp, time::plus_seconds};

use crate::signing::{SigningKey, SigningKeys};

/// Keepers under test.
#[async_trait]
pub trait Setup: Send + Sync {
    /// A keeper as another process has it, over the same keys.
    fn process(&self) -> Arc<dyn SigningKeys>;
    /// What the clock shows.
    fn now(&self) -> Timestamp;
    /// Lets time pass.
    async fn pass(&self, seconds: i64);
}

/// Runs the suite; `make` gives a keeper without keys each time.
pub async fn check<S: Setup>(make: impl AsyncFn() -> S) {
    starts_empty_and_lists_the_newest_first(&make().await).await;
    another_process_finds_a_new_key_within_seconds(&make().await).await;
    concurrent_additions_lose_nothing(&make().await).await;
    keys_end(&make().await).await;
}

fn key(kid: &str, created_at: Timestamp) -> SigningKey {
    SigningKey { kid: kid.to_owned(), secret: format!("secret of {kid}"), created_at }
}

async fn kids(keys: &dyn SigningKeys) -> Vec<String> {
    keys.list().await.unwrap().into_iter().map(|key| key.kid).collect()
}

async fn starts_empty_and_lists_the_newest_first<S: Setup>(setup: &S) {
    let keys = setup.process();
    assert!(kids(keys.as_ref()).await.is_empty(), "no keys at first");
    assert_eq!(keys.find("a").await.unwrap(), None);
    let first = key("a", setup.now());
    keys.add(&first).await.unwrap();
    setup.pass(60).await;
    keys.add(&key("b", setup.now())).await.unwrap();
    assert_eq!(kids(keys.as_ref()).await, ["b", "a"], "the newest first, in the process that added it at once");
    assert_eq!(keys.find("a").await.unwrap(), Some(first), "an older key still checks, unchanged");
}

async fn another_process_finds_a_new_key_within_seconds<S: Setup>(setup: &S) {
    let (one, other) = (setup.process(), setup.process());
    one.add(&key("a", setup.now())).await.unwrap();
    assert!(other.find("a").await.unwrap().is_some());
    setup.pass(30).await;
    one.add(&key("b", setup.now())).await.unwrap();
    assert!(other.find("b").await.unwrap().is_some(), "a key that another process signs with is found");
    assert!(other.find("none").await.unwrap().is_none());
}

async fn concurrent_additions_lose_nothing<S: Setup>(setup: &S) {
    let now = setup.now();
    let mut adding = tokio::task::JoinSet::new();
    for n in 0..5 {
        let keys = setup.process();
        adding.spawn(async move { keys.add(&key(&format!("k{n}"), plus_seconds(now, n))).await });
    }
    while let Some(added) = adding.join_next().await {
        added.unwrap().expect("every addition goes through");
    }
    let kept = setup.process();
    assert_eq!(kids(kept.as_ref()).await, ["k4", "k3", "k2", "k1", "k0"], "every key that was added is kept");
}

async fn keys_end<S: Setup>(setup: &S) {
    let keys = setup.process();
    let old = key("old", setup.now());
    keys.add(&old).await.unwrap();
    setup.pass(old.ends_at().as_second() - setup.now().as_second() - 60).await;
    assert!(keys.find("old").await.unwrap().is_some(), "it checks until its last token has ended");
    setup.pass(120).await;
    assert!(setup.process().find("old").await.unwrap().is_none(), "and no longer");
    keys.add(&key("new", setup.now())).await.unwrap();
    assert_eq!(kids(setup.process().as_ref()).await, ["new"]);
}
