//! What every search index must do; adapters run it in their tests.
//!
//! In goes a way to make an empty index; a promise that is not kept is a panic that says which.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a suite of tests: a panic is its way to report"
)]

use std::sync::Arc;

use sentinel_model::Timestamp;

use crate::{Document, DocumentKind, SearchError, SearchIndex, SearchQuery};

/// Runs the whole suite; `make` gives an empty index each time.
pub async fn suite(make: impl AsyncFn() -> Arc<dyn SearchIndex>) {
    finds_what_is_written(&*make().await).await;
    words_are_literal(&*make().await).await;
    filters(&*make().await).await;
    newest_first_in_pages(&*make().await).await;
    indexing_again_replaces(&*make().await).await;
    forgets(&*make().await).await;
}

/// Seconds after the start of 2024.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_704_067_200 + seconds).unwrap()
}

fn event(id: &str, seconds: i64, text: &str) -> Document {
    Document {
        kind: DocumentKind::Event,
        id: id.into(),
        time: at(seconds),
        account: "123456789012".into(),
        principal: "arn:aws:iam::123456789012:user/alice".into(),
        text: text.into(),
        body: format!("{{\"id\":\"{id}\"}}"),
    }
}

fn query(words: &str) -> SearchQuery {
    SearchQuery { words: words.into(), limit: 100, ..SearchQuery::default() }
}

async fn ids(index: &dyn SearchIndex, query: SearchQuery) -> Vec<String> {
    index.search(query).await.unwrap().documents.into_iter().map(|d| d.id).collect()
}

/// The text that ingest would write for a call of `CreateAccessKey`.
const CREATE_KEY: &str = "iam.amazonaws.com CreateAccessKey us-east-1 AKIAIOSFODNN7EXAMPLE 203.0.113.7 \
     arn:aws:iam::123456789012:user/alice arn:aws:sts::123456789012:assumed-role/Admin_Role/bob@example.org \
     aws-cli/2.15.0 Python/3.11 2001:db8::1 i-0abc123def456 my-bucket.with.dots";

async fn finds_what_is_written(index: &dyn SearchIndex) {
    let document = event("1", 0, CREATE_KEY);
    let other = "s3.amazonaws.com GetObject eu-west-1 AKIAI44QH8DHBEXAMPLE 203.0.113.8 \
                 arn:aws:iam::123456789012:user/alina Boto3/1.34 Zoë";
    index.index(vec![document.clone(), event("2", 1, other)]).await.unwrap();
    assert_eq!(index.search(query("CreateAccessKey")).await.unwrap().documents, [document], "as it was given");
    for words in [
        "AKIAIOSFODNN7EXAMPLE",
        "akiaiosfodnn7example",
        "AKIAIOS",
        "203.0.113.7",
        "CreateAccessKey",
        "createaccess",
        "alice",
        "user/alice",
        "arn:aws:iam::123456789012:user/alice",
        "123456789012:user/alice",
        "assumed-role/Admin_Role",
        "bob@example.org",
        "2001:db8::1",
        "i-0abc123def456",
        "my-bucket.with.dots",
        "alice CreateAccessKey",
        "us-east-1 203.0.113 Create",
    ] {
        assert_eq!(ids(index, query(words)).await, ["1"], "{words}");
    }
    for words in ["ali", "203.0.113", "EXAMPLE amazonaws", "", "   ", "user"] {
        let expected: &[&str] = if words.contains("EXAMPLE") { &["1"] } else { &["2", "1"] };
        assert_eq!(ids(index, query(words)).await, expected, "{words:?}");
    }
    for words in ["alice GetObject", "203.0.113.9", "carol", "113.0.203", "user.alice.x", "03.0.113.7"] {
        assert!(ids(index, query(words)).await.is_empty(), "{words}");
    }
    assert_eq!(ids(index, query("ZOË")).await, ["2"], "letter case does not matter in any script");
}

async fn words_are_literal(index: &dyn SearchIndex) {
    index.index(vec![event("1", 0, "alpha AND beta \"quoted\" it's 100% NEAR(x)")]).await.unwrap();
    for words in ["AND", "\"quoted\"", "it's", "100%", "NEAR(x)", "alpha AND", "alpha - beta", "alpha\0beta", "alpha*"]
    {
        assert_eq!(ids(index, query(words)).await, ["1"], "{words:?}");
    }
    for words in ["alpha NOT gamma", "gamma OR alpha", "text:alpha", "^beta", "-", "\"", "*", "()", "'; DROP TABLE x"] {
        let result = index.search(query(words)).await;
        assert!(result.is_ok(), "{words:?} is no syntax error: {result:?}");
    }
    for words in ["gamma OR alpha", "alpha NOT gamma", "text:alpha", "\"", "::"] {
        assert!(ids(index, query(words)).await.is_empty(), "{words:?} has no meaning but its words");
    }
}

async fn filters(index: &dyn SearchIndex) {
    let mut documents: Vec<Document> = (0..6).map(|i| event(&i.to_string(), i, "same words")).collect();
    documents[1].account = "210987654321".into();
    documents[2].principal = "unknown".into();
    documents[3].kind = DocumentKind::Alert;
    index.index(documents).await.unwrap();
    let all = || query("words");
    let cases: [(SearchQuery, &[&str]); 8] = [
        (SearchQuery { kind: Some(DocumentKind::Alert), ..all() }, &["3"]),
        (SearchQuery { account: Some("210987654321".into()), ..all() }, &["1"]),
        (SearchQuery { principal: Some("unknown".into()), ..all() }, &["2"]),
        (SearchQuery { from: Some(at(4)), ..all() }, &["5", "4"]),
        (SearchQuery { to: Some(at(1)), ..all() }, &["1", "0"]),
        (SearchQuery { from: Some(at(2)), to: Some(at(2)), ..all() }, &["2"]),
        (SearchQuery { ids: vec!["5".into(), "0".into(), "none".into()], ..all() }, &["5", "0"]),
        (SearchQuery { ids: vec!["1".into()], from: Some(at(2)), ..query("") }, &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(index, query.clone()).await, expected, "{query:?}");
    }
    let many = SearchQuery { ids: (0..101).map(|i| i.to_string()).collect(), ..all() };
    assert!(matches!(index.search(many).await, Err(SearchError::TooManyIds(101))));
}

async fn newest_first_in_pages(index: &dyn SearchIndex) {
    // Several documents of one time, indexed in no order of time.
    let documents: Vec<Document> = (0..25).map(|i| event(&format!("{i:02}"), (i * 7) % 25 / 5, "x")).collect();
    index.index(documents).await.unwrap();
    for (limit, words) in [(1, "x"), (4, ""), (25, "x"), (26, "x")] {
        let mut found = Vec::new();
        let mut page = SearchQuery { limit, ..query(words) };
        loop {
            let result = index.search(page.clone()).await.unwrap();
            assert!(result.documents.len() <= limit);
            found.extend(result.documents);
            page.after = result.next;
            if page.after.is_none() {
                break;
            }
            // What comes newer meanwhile does not move the pages.
            index.index(vec![event("new", 1_000, "x")]).await.unwrap();
        }
        let found: Vec<_> = found.into_iter().filter(|d| d.id != "new").collect();
        assert!(found.is_sorted_by_key(|d| std::cmp::Reverse(d.time)), "limit {limit}: newest first");
        let mut distinct: Vec<_> = found.iter().map(|d| d.id.as_str()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((distinct.len(), found.len()), (25, 25), "limit {limit}: each once");
    }
    for cursor in ["", "nonsense", "1.", ".1"] {
        let result = index.search(SearchQuery { after: Some(cursor.into()), ..query("") }).await;
        assert!(matches!(result, Err(SearchError::BadCursor)), "{cursor:?}: {result:?}");
    }
}

async fn indexing_again_replaces(index: &dyn SearchIndex) {
    let mut alert = event("1", 0, "same id");
    alert.kind = DocumentKind::Alert;
    index.index(vec![event("1", 0, "old words"), alert]).await.unwrap();
    let new = event("1", 5, "new words");
    index.index(vec![new.clone(), new.clone()]).await.unwrap();
    assert!(ids(index, query("old")).await.is_empty());
    assert_eq!(index.search(query("new")).await.unwrap().documents, [new]);
    assert_eq!(index.count(DocumentKind::Event).await.unwrap(), 1);
    assert_eq!(index.count(DocumentKind::Alert).await.unwrap(), 1, "ids of one kind are not those of another");
    index.index(Vec::new()).await.unwrap();
}

async fn forgets(index: &dyn SearchIndex) {
    let documents: Vec<Document> = (0..1_200).map(|i| event(&i.to_string(), i, "x")).collect();
    for part in documents.chunks(300) {
        index.index(part.to_vec()).await.unwrap();
    }
    let mut alert = event("alert", 0, "x");
    alert.kind = DocumentKind::Alert;
    index.index(vec![alert]).await.unwrap();
    assert_eq!(index.forget_before(DocumentKind::Event, at(1_199)).await.unwrap(), 1_199);
    assert_eq!(ids(index, query("x")).await, ["1199", "alert"], "neither the newer nor the other kind");
    assert_eq!(index.count(DocumentKind::Event).await.unwrap(), 1);
    assert_eq!(index.forget_before(DocumentKind::Event, at(1_199)).await.unwrap(), 0);
}
