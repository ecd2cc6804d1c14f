//! The respond stage's handler: each message is handled by itself, so that one that fails costs no other.

use async_trait::async_trait;
use sentinel_durable::worker::Handler;
use sentinel_durable::{Message, Outcome, codec};
use sentinel_model::Level;
use sentinel_model::message::AlertRaised;

use crate::message::{RespondMessage, Work};
use crate::notify::Delivery;
use crate::saga::{Respond, WorkError};

#[async_trait]
impl Handler for Respond {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch {
            outcomes.push(match self.handle_one(&message.body).await {
                Ok(()) => Outcome::Done,
                Err(e) => Outcome::Retry(e.to_string()),
            });
        }
        self.relay().await;
        outcomes
    }
}

impl Respond {
    async fn handle_one(&self, body: &str) -> Result<(), WorkError> {
        match codec::decode::<RespondMessage>(body)? {
            RespondMessage::Alert(raised) => self.alert_raised(&raised, 0).await,
            RespondMessage::Work(Work::Plan { raised, tries, .. }) => self.alert_raised(&raised, tries).await,
            RespondMessage::Work(Work::Step { account, response_id, .. }) => self.drive(&account, &response_id).await,
            RespondMessage::Work(Work::Expire { account, response_id, .. }) => {
                self.expire(&account, &response_id).await
            }
            RespondMessage::Work(Work::Notify { account, notice_id, channel, .. }) => {
                let (account, notice_id, channel) = (account.as_str(), notice_id.as_str(), channel.as_str());
                self.deliver(&Delivery { account, notice_id, channel, body }).await
            }
        }
    }

    /// Reads the alert again from the store, contains, then notifies: neither stands in the other's way.
    async fn alert_raised(&self, raised: &AlertRaised, tries: u32) -> Result<(), WorkError> {
        let Some(found) = self.ports.alerts.read(&raised.account, &raised.alert_id).await? else {
            return Err(WorkError::NoAlert(raised.alert_id.clone()));
        };
        if found.alert.level == Level::Informational {
            return Ok(());
        }
        let planned = self.plan_alert(&found, raised, tries).await;
        let notified = self.notify_alert(&found.alert).await;
        planned.and(notified)
    }
}
