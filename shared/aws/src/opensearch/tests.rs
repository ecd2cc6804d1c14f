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

/// A server that gives these answers, one a connection, and hands over what was asked.
fn server(answers: Vec<(u16, &'static str)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = move |(status, body): (u16, &str)| {
        let mut stream = listener.accept().unwrap().0;
        let (mut asked, mut part) = (Vec::new(), [0; 4096]);
        while !asked.ends_with(b"{}") {
            let read = stream.read(&mut part).unwrap();
            asked.extend_from_slice(&part[..read]);
        }
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        String::from_utf8(asked).unwrap()
    };
    (url, std::thread::spawn(move || answers.into_iter().map(serve).collect()))
}

#[tokio::test]
async fn requests_are_signed_and_sent_again_while_the_cluster_is_overloaded() {
    use aws_sdk_sqs::config::{Credentials, Region, SharedCredentialsProvider};
    let config = SdkConfig::builder()
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("AKID", "secret", None, None, "test")))
        .build();
    let (url, asked) = server(vec![(429, "busy"), (503, "{}"), (200, r#"{"count":3}"#)]);
    let access = Access::Signed { config: &config, service: "aoss" };
    let index = OpenSearch::new(&url, access, "s", Budget::unlimited()).unwrap();
    assert_eq!(index.count(DocumentKind::Alert).await.unwrap(), 3);
    for request in asked.join().unwrap() {
        assert!(request.starts_with("POST /s-alert-*/_count?"), "{request}");
        assert!(request.contains("AWS4-HMAC-SHA256 Credential=AKID/"), "{request}");
        assert!(request.contains("/eu-west-1/aoss/aws4_request"), "{request}");
    }
}

#[tokio::test]
async fn a_refused_request_is_not_sent_again_and_one_failed_operation_is_an_error() {
    let (url, asked) = server(vec![(403, "not yours")]);
    let index = OpenSearch::new(&url, Access::Open, "s", Budget::unlimited()).unwrap();
    let error = index.count(DocumentKind::Alert).await.unwrap_err().to_string();
    assert!(error.contains("status 403: not yours"), "{error}");
    assert_eq!(asked.join().unwrap().len(), 1);
    let answer = r#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"error":{"reason":"full"}}}]}"#;
    let (url, asked) = server(vec![(200, answer)]);
    let index = OpenSearch::new(&url, Access::Open, "s", Budget::unlimited()).unwrap();
    let error = index.bulk("{}", false).await.unwrap_err().to_string();
    assert!(error.contains("1 operations failed") && error.contains("full"), "{error}");
    drop(asked);
}
