//! How often the secret is read, and that nothing of it is told.

use aws_sdk_secretsmanager::error::ErrorMetadata;
use aws_sdk_secretsmanager::operation::{
    get_secret_value::{GetSecretValueError, GetSecretValueOutput},
    put_secret_value::PutSecretValueOutput,
    update_secret_version_stage::{UpdateSecretVersionStageError, UpdateSecretVersionStageOutput},
};
use aws_smithy_mocks::{Rule, mock};
use sentinel_durable::ManualClock;

use super::*;
use crate::mocked;

const NOW: &str = "2026-03-01T12:00:00Z";

fn secret(text: &'static str) -> Rule {
    mock!(Client::get_secret_value)
        .then_output(move || GetSecretValueOutput::builder().secret_string(text).version_id("v-1").build())
}

fn keys(rules: &[&Rule]) -> (SecretSigningKeys, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    (SecretSigningKeys::new(mocked::secrets(rules), "keys", clock.clone()), clock)
}

fn key() -> SigningKey {
    SigningKey { kid: "b".into(), secret: "more hush".into(), created_at: NOW.parse().unwrap() }
}

#[tokio::test]
async fn what_was_read_is_used_for_minutes_and_unknown_ids_ask_again_every_few_seconds() {
    let read = secret(r#"{"keys":[{"kid":"a","secret":"hush","created_at":"2026-02-28T12:00:00Z"}],"other":1}"#);
    let (keys, clock) = keys(&[&read]);
    for (wait, kid, found, reads) in [
        (0, "a", true, 1),
        (0, "x", false, 1),
        (4, "y", false, 1),
        (2, "x", false, 2),
        (200, "a", true, 2),
        (300, "a", true, 3),
    ] {
        clock.advance(wait);
        assert_eq!(keys.find(kid).await.unwrap().is_some(), found, "{kid}");
        assert_eq!(read.num_calls(), reads, "{kid} after {wait} seconds");
    }
}

#[tokio::test]
async fn a_secret_without_a_value_has_no_keys_and_a_broken_one_is_told_without_its_text() {
    let none = mock!(Client::get_secret_value).then_error(|| {
        let message = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT";
        let meta = ErrorMetadata::builder().code("ResourceNotFoundException").message(message).build();
        GetSecretValueError::generic(meta)
    });
    assert!(keys(&[&none]).0.list().await.unwrap().is_empty());
    let broken = secret(r#"{"keys":[{"kid":"a","secret":12345}]}"#);
    let mut told = String::new();
    let error = keys(&[&broken]).0.list().await.unwrap_err();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(e) = cause {
        told = format!("{told}{e} {e:?} ");
        cause = e.source();
    }
    assert!(told.contains("line 1") && !told.contains("12345"), "{told}");
}

#[tokio::test]
async fn a_set_replaces_only_the_one_that_was_read() {
    let read = secret(r#"{"keys":[{"kid":"a","secret":"hush","created_at":"2026-02-28T12:00:00Z"}]}"#);
    let put = mock!(Client::put_secret_value)
        .match_requests(|r| {
            r.secret_string().is_some_and(|s| s.contains("\"a\"") && s.contains("\"b\""))
                && r.version_stages() == [PENDING]
        })
        .then_output(|| PutSecretValueOutput::builder().build());
    let stage = mock!(Client::update_secret_version_stage)
        .match_requests(|r| r.version_stage() == Some(CURRENT) && r.remove_from_version_id() == Some("v-1"))
        .then_output(|| UpdateSecretVersionStageOutput::builder().build());
    let (kept, _) = keys(&[&read, &put, &stage]);
    kept.add(&key()).await.unwrap();
    assert_eq!(kept.list().await.unwrap()[0].kid, "b");
    assert_eq!([&read, &put, &stage].map(Rule::num_calls), [1, 1, 1]);

    let other = mock!(Client::update_secret_version_stage).then_error(|| {
        let meta = ErrorMetadata::builder().code("InvalidParameterException").message("attached elsewhere").build();
        UpdateSecretVersionStageError::generic(meta)
    });
    let (contended, _) = keys(&[&read, &put, &other]);
    assert!(contended.add(&key()).await.is_err(), "who never gets through is told so");
    assert_eq!(other.num_calls() as u64, TRIES);
}
