//! What comes by respond's queue: raised alerts as enrich sends them, and respond's own work.

use sentinel_durable::codec::{self, CodecError};
use sentinel_model::message::AlertRaised;
use serde::{Deserialize, Serialize};

/// A message of the respond queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RespondMessage {
    /// Respond's own work: told apart by its `work` key, which a raised alert has not.
    Work(Work),
    /// An alert was raised or rose.
    Alert(AlertRaised),
}

/// Work that respond sends itself, by outbox or timer. Each may come twice, late or in any order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// Plan for an alert again, after IAM could not be read.
    Plan {
        /// The alert.
        raised: AlertRaised,
        /// Tries so far.
        tries: u32,
        /// Follows the batch through logs.
        correlation_id: String,
    },
    /// Go on with a response from where it stands.
    Step {
        /// Its account.
        account: String,
        /// The response.
        response_id: String,
        /// Follows the batch through logs.
        correlation_id: String,
    },
    /// A wait for approval may be over.
    Expire {
        /// Its account.
        account: String,
        /// The response.
        response_id: String,
        /// Follows the batch through logs.
        correlation_id: String,
    },
    /// Deliver a notice through a channel.
    Notify {
        /// Its account.
        account: String,
        /// The notice.
        notice_id: String,
        /// The channel.
        channel: String,
        /// Follows the batch through logs.
        correlation_id: String,
    },
}

impl Work {
    /// The work as a queue body.
    pub fn body(&self) -> Result<String, CodecError> {
        codec::encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::Level;

    #[test]
    fn raised_alerts_and_own_work_are_told_apart() {
        let raised = AlertRaised {
            correlation_id: "c".into(),
            alert_id: "al-1".into(),
            account: "123456789012".into(),
            level: Level::High,
        };
        let body = codec::encode(&raised).unwrap();
        assert_eq!(codec::decode::<RespondMessage>(&body).unwrap(), RespondMessage::Alert(raised.clone()));
        for work in [
            Work::Plan { raised, tries: 2, correlation_id: "c".into() },
            Work::Step { account: "1".into(), response_id: "rs-1".into(), correlation_id: "c".into() },
            Work::Expire { account: "1".into(), response_id: "rs-1".into(), correlation_id: "c".into() },
        ] {
            let body = work.body().unwrap();
            assert_eq!(codec::decode::<RespondMessage>(&body).unwrap(), RespondMessage::Work(work));
        }
    }
}
