//! What is published: subject, text, attributes and sizes.

use std::sync::{Arc, Mutex};

use aws_sdk_sns::operation::publish::{PublishError, PublishInput, PublishOutput};
use aws_smithy_mocks::mock;
use sentinel_model::Level;
use serde_json::{Value, json};

use super::*;
use crate::mocked;

const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:notices";

fn notification(title: &str, text: &[&str]) -> Notification {
    Notification {
        id: "nt-1".into(),
        kind: NoticeKind::Alert,
        at: "2026-03-01T12:00:00Z".parse().unwrap(),
        title: title.into(),
        text: text.iter().map(|&t| t.to_owned()).collect(),
        level: Some(Level::High),
        account: "111122223333".into(),
        alert: Some(json!({ "alert_id": "al-1" })),
        response: None,
        correlation_id: "co-1".into(),
    }
}

/// Publishes by what `send` does with a notifier, and gives back what was asked of SNS.
async fn asked(topic: &str, send: impl AsyncFnOnce(SnsNotifier)) -> PublishInput {
    let seen: Arc<Mutex<Option<PublishInput>>> = Arc::default();
    let keep = Arc::clone(&seen);
    let rule = mock!(Client::publish)
        .match_requests(move |r| {
            *keep.lock().unwrap() = Some(r.clone());
            true
        })
        .then_output(|| PublishOutput::builder().message_id("m").build());
    send(SnsNotifier::over(mocked::sns(&[&rule]), topic)).await;
    let input = seen.lock().unwrap().take();
    input.unwrap()
}

async fn published(topic: &str, notification: &Notification) -> PublishInput {
    asked(topic, async |notifier| notifier.notify(notification).await.unwrap()).await
}

#[tokio::test]
async fn operators_are_told_in_text() {
    let notice = Notice { title: "Logs stopped".into(), text: "Since noon.".into() };
    let sent = asked(TOPIC, async |notifier| notifier.tell(&notice).await.unwrap()).await;
    assert_eq!(
        (sent.topic_arn(), sent.subject(), sent.message()),
        (Some(TOPIC), Some("Logs stopped"), Some("Since noon."))
    );
    let denied = mock!(Client::publish).sequence().http_status(403, None).repeatedly().build();
    let failed = SnsNotifier::over(mocked::sns(&[&denied]), TOPIC).tell(&notice).await.unwrap_err();
    assert!(failed.to_string().contains("sns:Publish"), "{failed}");
}

#[tokio::test]
async fn a_notice_is_text_for_people_and_json_for_programs() {
    let sent = published(TOPIC, &notification("high alert: Key misuse", &["It happened.", "Twice."])).await;
    assert_eq!(sent.subject(), Some("high alert: Key misuse"));
    let (text, json) = sent.message().unwrap().split_once("\n\n").unwrap();
    assert_eq!(
        text,
        "high alert: Key misuse\n- It happened.\n- Twice.\nAccount 111122223333, 2026-03-01T12:00:00Z, notice nt-1."
    );
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&json["id"], &json["alert"]["alert_id"]), (&json!("nt-1"), &json!("al-1")));
    let attributes = sent.message_attributes().unwrap();
    assert_eq!(attributes["level"].string_value(), Some("high"));
    assert_eq!(attributes["kind"].string_value(), Some("alert"));
    assert_eq!(sent.message_group_id(), None);
    let fifo = published(&format!("{TOPIC}.fifo"), &notification("t", &[])).await;
    assert_eq!(fifo.message_deduplication_id(), Some("nt-1"));
}

#[test]
fn subjects_are_what_sns_takes() {
    assert_eq!(subject("Größe\nund \u{7}mehr"), "Gr??e und  mehr");
    assert_eq!(subject("  \u{1F525}"), "CloudSentinel notice");
    assert_eq!(subject("-- x"), "x");
    let long = subject(&"long ".repeat(60));
    assert!(long.len() <= SUBJECT && long.starts_with("long long") && long.ends_with("..."), "{long}");
}

#[tokio::test]
async fn what_is_too_large_is_cut_and_stays_readable() {
    let mut large = notification("high alert", &["first reason", &"ß".repeat(200_000)]);
    large.alert = Some(json!({ "evidence": "x".repeat(300_000) }));
    let sent = published(TOPIC, &large).await;
    let message = sent.message().unwrap();
    assert!(message.len() <= MESSAGE && message.contains("first reason"), "{}", message.len());
    let (_, json) = message.rsplit_once("\n\n").unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["alert"], Value::Null);
    assert!(json["text"][0].as_str().unwrap().contains("the dashboard shows all"));
}

#[tokio::test]
async fn a_refusal_is_told() {
    let rule = mock!(Client::publish).then_error(|| {
        PublishError::generic(aws_sdk_sns::error::ErrorMetadata::builder().code("AuthorizationError").build())
    });
    let notifier = SnsNotifier::over(mocked::sns(&[&rule]), TOPIC);
    let error = notifier.notify(&notification("t", &[])).await.unwrap_err().to_string();
    assert!(error.contains(PUBLISH), "{error}");
    assert_eq!(notifier.name(), "sns");
}
