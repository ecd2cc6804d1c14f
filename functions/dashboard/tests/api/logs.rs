//! Posting logs: wrappings, gzip, limits, counts, and who is named as their sender.

use std::io::Write;

use axum::{
    body::{Body, Bytes},
    http::{Method, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use sentinel_durable::Stage;
use sentinel_model::{Channel, message::EventBatch};
use sentinel_state::users::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{ACCOUNT, Answer, World, record, request};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn post(world: &World, token: &str, encoding: Option<&str>, body: impl Into<Body>) -> Answer {
    let mut request = request(Method::POST, "/api/v1/logs", Some(token));
    if let Some(encoding) = encoding {
        request = request.header(header::CONTENT_ENCODING, encoding);
    }
    world.send(request.body(body.into()).unwrap()).await
}

/// The same record in everything that may be around it.
fn wrappings() -> Vec<(&'static str, String)> {
    let one = record("wrapped");
    let text = one.to_string();
    let subscription = json!({
        "messageType": "DATA_MESSAGE", "owner": ACCOUNT, "logGroup": "trail", "logStream": "s",
        "subscriptionFilters": ["f"], "logEvents": [{ "id": "1", "timestamp": 1_772_366_280_000_u64, "message": text }],
    });
    let packed = BASE64_STANDARD.encode(gzip(subscription.to_string().as_bytes()));
    let bus = json!({
        "version": "0", "id": "e", "detail-type": "AWS API Call via CloudTrail", "source": "aws.iam",
        "account": ACCOUNT, "time": "2026-03-01T11:58:00Z", "region": "us-east-1", "resources": [], "detail": one,
    });
    let lookup = json!({ "Events": [{ "EventId": "wrapped", "EventName": "ListUsers", "CloudTrailEvent": text }] });
    let sns = json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": bus.to_string() } }] });
    let sqs = json!({ "Records": [{ "messageId": "m", "eventSource": "aws:sqs", "body": bus.to_string() }] });
    vec![
        ("record", text.clone()),
        ("file", json!({ "Records": [one] }).to_string()),
        ("array", json!([one]).to_string()),
        ("lines", format!("{text}\n\n{text}\n")),
        ("bus", bus.to_string()),
        ("subscription", json!({ "awslogs": { "data": packed } }).to_string()),
        ("subscription's text", subscription.to_string()),
        ("lookup", lookup.to_string()),
        ("index dump", json!({ "_index": "i", "_source": one }).to_string()),
        ("sns", sns.to_string()),
        ("sqs", sqs.to_string()),
    ]
}

#[tokio::test]
async fn every_wrapping_is_read_plain_and_gzipped() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    for (name, text) in wrappings() {
        let plain = Bytes::from(text.clone());
        let packed = Bytes::from(gzip(text.as_bytes()));
        for (encoding, body) in [
            (None, plain.clone()),
            (Some("identity"), plain),
            (Some("gzip"), packed.clone()),
            (Some("X-Gzip"), packed.clone()),
            (None, packed),
        ] {
            let report = post(&world, &token, encoding, body).await.is(202).json();
            assert_eq!(report["accepted"], 1, "{name} as {encoding:?}: {report}");
            assert_eq!(report["malformed"], json!([]), "{name} as {encoding:?}");
            assert_eq!(report["duplicates"], u64::from(name == "lines"), "{name} as {encoding:?}");
        }
    }
    // What a gzipped file is when it is sent gzipped.
    let twice = gzip(&gzip(record("wrapped").to_string().as_bytes()));
    assert_eq!(post(&world, &token, Some("gzip, gzip"), twice).await.is(202).json()["accepted"], 1);
}

#[tokio::test]
async fn what_came_of_a_body_is_told() {
    let world = World::new().await;
    let token = world.api_token(&["logs:write"]).await;
    let mut conflicting = record("a");
    conflicting["eventName"] = json!("CreateUser");
    let mut foreign = record("foreign");
    foreign["recipientAccountId"] = json!("999999999999");
    let bus = json!({ "detail-type": "AWS API Call via CloudTrail", "account": ACCOUNT, "detail": foreign });
    let finding = json!({ "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "detail": {} });
    let lines: Vec<String> = [&record("a"), &record("a"), &conflicting, &bus, &finding].map(Value::to_string).into();
    let body = format!("{}\n{{\"broken\": \n{}\n", lines.join("\n"), record("b"));
    let report = post(&world, &token, None, body).await.is(202).json();
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!("logs_report", report) });

    // Everything that was accepted is on its way, and says who sent it.
    let mut senders = Vec::new();
    for message in world.queue.receive(Stage::Detect, 10, 60).await.unwrap() {
        let batch: EventBatch = sentinel_durable::codec::decode(&message.body).unwrap();
        for event in batch.events {
            senders.extend(event.provenance.into_iter().map(|p| (event.id.clone(), p.channel)));
        }
    }
    let sender = Channel::Api { user: "token:shipper (t-logs:write)".into() };
    let expected: Vec<_> = ["a", "a", "b"].map(|id| (id.to_owned(), sender.clone())).into();
    assert_eq!(senders, expected);
}

#[tokio::test]
async fn a_body_with_nothing_readable_is_told_and_an_empty_one_refused() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    let report = post(&world, &token, None, "no JSON at all").await.is(202).json();
    assert_eq!((&report["accepted"], &report["malformed_count"]), (&json!(0), &json!(1)));
    assert_eq!(report["malformed"][0]["file"], "body");
    let report = post(&world, &token, Some("gzip"), gzip(b"")).await.is(202).json();
    assert_eq!(report["records"], 0);
    post(&world, &token, None, "").await.is(400);
    post(&world, &token, Some("gzip"), "").await.is(400);
}

#[tokio::test]
async fn other_encodings_and_damaged_gzip_are_refused() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    let text = record("a").to_string();
    for encoding in ["br", "deflate", "gzip, br", "zstd", "compress"] {
        let refused = post(&world, &token, Some(encoding), text.clone()).await.is(415);
        assert_eq!(refused.header("accept-encoding"), Some("gzip"));
    }
    post(&world, &token, Some("gzip"), text.clone()).await.is(400);
    let packed = gzip(format!("{}\n{}\n", record("a"), record("b")).as_bytes());
    let cut = post(&world, &token, Some("gzip"), packed[..packed.len() - 12].to_vec()).await.is(400);
    assert!(cut.json()["detail"].as_str().unwrap().contains("could not be decompressed"), "{}", cut.text());
}

#[tokio::test]
async fn bodies_up_to_five_megabytes_are_taken() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    let mut text = record("a").to_string();
    text.push_str(&" ".repeat(5_000_000 - text.len()));
    assert_eq!(post(&world, &token, None, text.clone()).await.is(202).json()["accepted"], 1);
    text.push(' ');
    let refused = post(&world, &token, None, text.clone()).await.is(413);
    assert_eq!(refused.json()["detail"], "the body has more than 5000000 bytes");
    // Asked before anything is sent.
    let asking = request(Method::POST, "/api/v1/logs", Some(&token))
        .header(header::CONTENT_LENGTH, "5000001")
        .header(header::EXPECT, "100-continue");
    world.send(asking.body(Body::empty()).unwrap()).await.is(413);
    // All other operations take less.
    let large = json!({ "username": "x".repeat(70_000), "password": "y" });
    world.json(Method::POST, "/api/v1/auth/login", None, large).await.is(413);
}

#[tokio::test]
async fn a_bomb_ends_at_the_bound_on_what_comes_out_of_it() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    writeln!(encoder, "{}", record("first")).unwrap();
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..129 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 5_000_000);
    let refused = post(&world, &token, Some("gzip"), bomb).await.is(413);
    let detail = "the body is larger than 134217728 bytes when decompressed; the rest of it was not read; 1 events before that were accepted";
    assert_eq!(refused.json()["detail"], detail);
}

/// A client that sends everything before it reads still gets its 413, however it sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_much_over_a_real_connection_sees_the_answer() {
    let world = World::new().await;
    let token = world.session("root", Role::Admin).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, sentinel_dashboard::router(world.app.clone())).into_future());
    let start = format!("POST /api/v1/logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let piece = vec![b' '; 100_000];
    for chunked in [false, true] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let how = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 8000000" };
        stream.write_all(format!("{start}{how}\r\n\r\n").as_bytes()).await.unwrap();
        for _ in 0..80 {
            if chunked {
                stream.write_all(b"186a0\r\n").await.unwrap();
            }
            stream.write_all(&piece).await.unwrap();
            if chunked {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut line = vec![0; 12];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&line), "HTTP/1.1 413", "chunked: {chunked}");
    }
    server.abort();
}
