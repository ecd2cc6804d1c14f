//! Events of EventBridge: each message is one event; those of a delivery are taken in together.
//!
//! What comes by the bus counts as the account's own word, on which automatic actions may rest. So a message
//! must be an event that a service of AWS put there: `PutEvents` refuses everybody else a source that begins
//! with `aws.` (`EventBridge` API Reference, `PutEventsRequestEntry`).

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use sentinel_durable::{Message, Outcome, worker::Handler};
use sentinel_ingest::{Ingest, IngestError, Input, Report, normalise::is_account};
use sentinel_model::Channel;
use sentinel_state::sources::{Delivery, Source};
use serde::Deserialize;

use crate::heartbeat::Beats;

/// What an event says of itself.
#[derive(Deserialize)]
struct Envelope {
    source: String,
    #[serde(rename = "detail-type")]
    kind: String,
    account: String,
    region: String,
}

impl Envelope {
    /// Reads the body of a message; what is no event of CloudTrail is told why.
    fn read(body: &str) -> Result<Self, String> {
        let envelope: Self = serde_json::from_str(body).map_err(|e| format!("not an event of EventBridge: {e}"))?;
        if !envelope.source.starts_with("aws.") || !envelope.kind.ends_with("via CloudTrail") {
            return Err(format!("not an event of CloudTrail but {:?} from {:?}", envelope.kind, envelope.source));
        }
        if !is_account(&envelope.account) {
            return Err(format!("{:?} is no account", envelope.account));
        }
        Ok(envelope)
    }
}

/// Takes in the events of a bus.
pub(crate) struct Bus {
    ingest: Arc<Ingest>,
    beats: Beats,
    name: String,
}

impl Bus {
    /// Takes in the events of the bus of this name.
    pub(crate) fn new(ingest: Arc<Ingest>, beats: Beats, name: String) -> Self {
        Self { ingest, beats, name }
    }
}

#[async_trait]
impl Handler for Bus {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let envelopes: Vec<Result<Envelope, String>> = batch.iter().map(|m| Envelope::read(&m.body)).collect();
        let inputs = batch.iter().zip(&envelopes).filter_map(|(message, envelope)| {
            let account = envelope.as_ref().ok()?.account.clone();
            let channel = Channel::Bus { bus: self.name.clone(), account };
            Some(Input::new(&message.id, message.body.as_bytes(), channel))
        });
        let mut reports = self.ingest.accept_all(inputs.collect()).await.into_iter();
        let mut delivered = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for envelope in envelopes {
            let taken = envelope.and_then(|envelope| {
                let report = reports.next().ok_or("it was not taken in")?;
                judge(report).map(|()| envelope)
            });
            outcomes.push(match taken {
                Ok(Envelope { account, region, .. }) => {
                    delivered.insert(Source { account, region, delivery: Delivery::Bus });
                    Outcome::Done
                }
                Err(reason) => Outcome::Retry(reason),
            });
        }
        self.beats.note(delivered).await;
        outcomes
    }
}

/// The message is the only copy of what it holds, so whatever in it cannot be read keeps it.
fn judge(report: Result<Report, IngestError>) -> Result<(), String> {
    let report = report.map_err(|e| e.to_string())?;
    if let Some(first) = report.malformed.first() {
        return Err(format!("malformed: {} ({})", first.reason, first.position));
    }
    if report.records == 0 {
        let kinds: Vec<&str> = report.unknown.keys().map(String::as_str).collect();
        return Err(format!("no CloudTrail record in it: {}", kinds.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{ACCOUNT, Bench, bench, is_done, reasons, record};

    fn event(id: &str) -> serde_json::Value {
        json!({"version": "0", "id": "1", "detail-type": "AWS API Call via CloudTrail", "source": "aws.iam",
            "account": ACCOUNT, "region": "us-east-1", "time": "2024-05-06T07:00:00Z", "detail": record(id)})
    }

    fn bus(b: &Bench) -> Bus {
        Bus::new(b.ingest.clone(), b.beats(), "default".into())
    }

    async fn handle(b: &Bench, bodies: &[String]) -> Vec<Outcome> {
        bus(b).handle(bodies.iter().map(|body| b.message(body)).collect()).await
    }

    #[tokio::test]
    async fn events_are_taken_in_as_the_accounts_own_and_their_source_is_noted() {
        let b = bench();
        let outcomes = handle(&b, &[event("1").to_string(), event("2").to_string()]).await;
        assert!(outcomes.iter().all(is_done), "{outcomes:?}");
        let batches = b.queued().await;
        assert_eq!(batches.len(), 1, "one message for all");
        let channel = Channel::Bus { bus: "default".into(), account: ACCOUNT.into() };
        for event in &batches[0].events {
            assert_eq!(event.provenance[0].channel, channel);
        }
        let seen: Vec<Source> = b.sources().await;
        assert_eq!(seen, [Source { account: ACCOUNT.into(), region: "us-east-1".into(), delivery: Delivery::Bus }]);
    }

    #[tokio::test]
    async fn what_is_malformed_fails_alone() {
        let b = bench();
        let mut no_record = event("x");
        no_record["detail"] = json!({"unrelated": true});
        let bodies = [
            event("1").to_string(),
            "{broken".to_owned(),
            no_record.to_string(),
            record("bare").to_string(),
            event("2").to_string(),
        ];
        let outcomes = handle(&b, &bodies).await;
        let done: Vec<bool> = outcomes.iter().map(is_done).collect();
        assert_eq!(done, [true, false, false, false, true], "{outcomes:?}");
        assert_eq!(b.queued_ids().await, ["1", "2"]);
    }

    #[tokio::test]
    async fn what_no_service_of_aws_put_on_the_bus_is_never_the_accounts_word() {
        let b = bench();
        let with = |name: &str, value: &str| {
            let mut event = event("1");
            event[name] = json!(value);
            event.to_string()
        };
        let bodies = [with("source", "my.app"), with("detail-type", "GuardDuty Finding"), with("account", "root")];
        let outcomes = handle(&b, &bodies).await;
        for (outcome, part) in reasons(&outcomes).iter().zip(["my.app", "GuardDuty Finding", "no account"]) {
            assert!(outcome.contains(part), "{outcomes:?}");
        }
        assert!(b.queued_ids().await.is_empty());
        assert!(b.sources().await.is_empty());
    }

    #[tokio::test]
    async fn a_record_of_another_account_is_set_aside_and_not_tried_again() {
        let b = bench();
        let mut foreign = event("1");
        foreign["account"] = json!("444455556666");
        let outcomes = handle(&b, &[foreign.to_string()]).await;
        assert!(is_done(&outcomes[0]), "{outcomes:?}");
        assert!(b.queued_ids().await.is_empty());
    }

    #[tokio::test]
    async fn when_a_store_fails_every_message_comes_again() {
        let b = bench();
        b.fail_archive(true);
        let outcomes = handle(&b, &[event("1").to_string(), event("2").to_string()]).await;
        for reason in reasons(&outcomes) {
            assert!(reason.contains("archive failed"), "{reason}");
        }
        assert!(b.sources().await.is_empty());
        b.fail_archive(false);
        assert!(handle(&b, &[event("1").to_string()]).await.iter().all(is_done));
    }
}
