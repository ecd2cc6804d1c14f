//! What needs no server: words, names of indices, requests, broken answers.

use sentinel_model::time::plus_seconds;

use super::*;
use document::{is_older, words};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn texts_are_cut_at_what_is_neither_letter_nor_digit() {
    for (text, cut) in [
        ("arn:aws:iam::123456789012:user/Alice", "arn aws iam 123456789012 user alice"),
        ("203.0.113.7", "203 0 113 7"),
        ("Zo\u{cb} NEAR(x) 100% -- \0", "zo\u{eb} near x 100"),
        ("::", ""),
    ] {
        assert_eq!(words(text), cut);
    }
}

#[test]
fn made_up_times_make_no_indices() {
    let now = at("2026-03-01T12:00:00Z");
    let index = |kind, time: &str| day_index("s", kind, at(time), now);
    assert_eq!(index(DocumentKind::Event, "2026-03-01T23:59:59.999Z"), "s-event-2026-03-01");
    assert_eq!(index(DocumentKind::Event, "2025-02-01T00:00:00Z"), "s-event-2025-02-01");
    for far in ["2024-01-01T00:00:00Z", "2026-03-04T00:00:00Z", "-000300-01-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
        assert_eq!(index(DocumentKind::Event, far), "s-event-other");
    }
    assert_eq!(index(DocumentKind::Alert, "2026-03-01T00:00:00Z"), "s-alert-other");
}

#[test]
fn an_index_is_older_when_its_whole_day_is() {
    let midnight = at("2026-03-02T00:00:00Z");
    assert!(is_older("s-event-2026-03-01", midnight));
    assert!(!is_older("s-event-2026-03-01", plus_seconds(midnight, -1)));
    for other in ["s-event-other", "s-event-2026-13-01", "x", "s-event-\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}x"] {
        assert!(!is_older(other, midnight), "{other}");
    }
}

#[test]
fn long_ids_have_keys_of_their_own() {
    let stored = |id: String| {
        Stored::new(Document {
            kind: DocumentKind::Alert,
            id,
            time: at("2026-03-01T00:00:00Z"),
            account: String::new(),
            principal: String::new(),
            text: String::new(),
            body: String::new(),
        })
    };
    assert_eq!(stored("a".into()).key(), "alert:a");
    let long = "x".repeat(600);
    let key = stored(long.clone()).key().to_owned();
    assert!(key.starts_with("alert#") && key.len() < 512, "{key}");
    assert_ne!(key, stored(format!("{long}y")).key());
}

#[test]
fn an_answer_of_a_part_of_the_index_is_an_error() {
    for answer in [
        json!({"timed_out": true, "_shards": {"failed": 0}, "hits": {"hits": []}}),
        json!({"timed_out": false, "_shards": {"failed": 1}, "hits": {"hits": []}}),
        json!({"error": "x"}),
        json!({"hits": {"hits": [{"_source": {}}]}}),
    ] {
        assert!(query::page(&answer, 10).is_err(), "{answer}");
    }
    let empty = json!({"timed_out": false, "_shards": {"failed": 0}, "hits": {"hits": []}});
    assert_eq!(query::page(&empty, 10).unwrap(), SearchPage { documents: Vec::new(), next: None });
}

#[test]
fn what_cannot_be_searched_for_is_left_out_beside_other_words() {
    let request = |words: &str| {
        let query = SearchQuery { words: words.into(), limit: 1, ..SearchQuery::default() };
        query::request(&query, 1).unwrap().map(|r| r["query"]["bool"]["filter"].clone())
    };
    assert_eq!(request("- \""), None);
    let phrase = |text| json!({"match_phrase_prefix": {"words": {"query": text, "max_expansions": 1_000}}});
    assert_eq!(request("alpha - user/Al\0Beta"), Some(json!([phrase("alpha"), phrase("user al"), phrase("beta")])));
    assert_eq!(request(" "), Some(json!([])));
}

#[tokio::test]
async fn no_request_is_begun_without_time_to_end_it() {
    let budget = Budget::unlimited();
    let index = OpenSearch::new("http://127.0.0.1:1", Access::Open, "s", budget.clone()).unwrap();
    budget.set_deadline_ms(1);
    let error = index.count(DocumentKind::Event).await.unwrap_err().to_string();
    assert!(error.contains("0 ms left"), "{error}");
    assert!(OpenSearch::new("no endpoint", Access::Open, "s", budget).is_err());
}
