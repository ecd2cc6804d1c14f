//! Search on a real OpenSearch, which `scripts/with-opensearch` starts. Without it these tests print that they did
//! not run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;

use sentinel_aws::budget::Budget;
use sentinel_aws::opensearch::{Access, OpenSearch};
use sentinel_durable::{Clock, ManualClock};
use sentinel_model::{Timestamp, time::plus_seconds};
use sentinel_search::{Document, DocumentKind, SearchIndex, SearchQuery, conformance};

/// The index under test, whose indices nothing else has; `None` when no server is told of.
fn index() -> Option<OpenSearch> {
    let Some(url) = std::env::var("SENTINEL_TEST_OPENSEARCH").ok().filter(|url| !url.is_empty()) else {
        println!("NOT RUN: SENTINEL_TEST_OPENSEARCH is not set; scripts/with-opensearch sets it");
        return None;
    };
    let prefix = format!("test-{}", uuid::Uuid::new_v4().simple());
    // The suite looks for what it has just written.
    Some(OpenSearch::new(&url, Access::Open, &prefix, Budget::unlimited()).unwrap().found_at_once())
}

/// A clock in the days of the suite's documents.
fn then() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new("2024-01-02T00:00:00Z".parse::<Timestamp>().unwrap()))
}

#[tokio::test]
async fn search_suite_with_an_index_a_day() {
    if index().is_none() {
        return;
    }
    conformance::suite(async || Arc::new(index().unwrap().with_clock(then())) as Arc<dyn SearchIndex>).await;
}

#[tokio::test]
async fn search_suite_long_after_the_events() {
    if index().is_none() {
        return;
    }
    conformance::suite(async || Arc::new(index().unwrap()) as Arc<dyn SearchIndex>).await;
}

fn event(id: usize, time: Timestamp, text: &str) -> Document {
    Document {
        kind: DocumentKind::Event,
        id: id.to_string(),
        time,
        account: "123456789012".into(),
        principal: "p".repeat(40_000),
        text: text.into(),
        body: "{}".into(),
    }
}

#[tokio::test]
async fn whole_days_are_forgotten_and_the_rest_of_a_day_stays() {
    let Some(index) = index() else { return };
    let now = then();
    let index = index.with_clock(now.clone());
    let days = |i: usize| plus_seconds(now.now(), -43_200 * i64::try_from(i).unwrap());
    index.index((0..10).map(|i| event(i, days(i), "x")).collect()).await.unwrap();
    assert_eq!(index.forget_before(DocumentKind::Event, days(2)).await.unwrap(), 7);
    assert_eq!(index.count(DocumentKind::Event).await.unwrap(), 3);
    let found = index.search(SearchQuery { limit: 10, ..SearchQuery::default() }).await.unwrap().documents;
    assert_eq!(found.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_prefix_of_many_words_finds_all_of_them() {
    let Some(index) = index() else { return };
    let time = then().now();
    let text = |i: usize| format!("user/AKIA{i:016} a-prefix-that-is-longer-than-what-is-indexed{i:03}");
    index.index((0..300).map(|i| event(i, time, &text(i))).collect()).await.unwrap();
    let long = "x".repeat(1_000);
    index.index(vec![event(300, time, &format!("{long} beside"))]).await.unwrap();
    let count = async |words: &str| {
        let query = SearchQuery { words: words.into(), limit: 1_000, ..SearchQuery::default() };
        index.search(query).await.unwrap().documents.len()
    };
    assert_eq!(count("user/AKIA").await, 300);
    assert_eq!(count("AKIA0000000000000").await, 300);
    assert_eq!(count("AKIA000000000000012").await, 10, "as long as the longest prefix that is indexed");
    assert_eq!(count("AKIA0000000000000012").await, 1);
    assert_eq!(count("a-prefix-that").await, 300);
    assert_eq!(count(&long).await, 1, "longer than a word of the index may be");
}
