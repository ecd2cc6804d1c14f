//! The respond stage's handler: each message is handled by itself, so that one that fails costs no other.

use std::future::poll_fn;
use std::task::Poll;

use async_trait::async_trait;
use sentinel_durable::worker::Handler;
use sentinel_durable::{Message, Outcome, codec};
use sentinel_model::message::AlertRaised;
use sentinel_model::response::ResponseState;
use sentinel_model::{Alert, Level};

use crate::message::{RespondMessage, Work};
use crate::notify::Delivery;
use crate::saga::{Respond, WorkError};

#[async_trait]
impl Handler for Respond {
    /// Containment first, then all deliveries of notices at once: a receiver that hangs holds up neither.
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let parsed: Vec<_> = batch.iter().map(|m| codec::decode::<RespondMessage>(&m.body)).collect();
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(batch.len());
        let mut deliveries = Vec::new();
        for (at, (message, parsed)) in batch.iter().zip(parsed).enumerate() {
            let handled = match parsed {
                Ok(RespondMessage::Work(Work::Notify { account, notice_id, channel, .. })) => {
                    let delivery = Delivery { account, notice_id, channel, body: message.body.clone() };
                    deliveries.push(async move { (at, self.deliver(&delivery).await) });
                    None
                }
                Ok(parsed) => Some(outcome(self.handle_one(parsed, &message.body).await)),
                Err(e) => Some(Outcome::Retry(e.to_string())),
            };
            outcomes.push(handled);
        }
        for (at, delivered) in join_all(deliveries).await {
            outcomes[at] = Some(outcome(delivered));
        }
        // What was put when a message came before is not known here.
        if batch.iter().any(|message| message.receives > 1) {
            self.relay().await;
        } else {
            self.send_noted().await;
        }
        let unhandled = || Outcome::Retry("the message was not handled".to_owned());
        outcomes.into_iter().map(|o| o.unwrap_or_else(unhandled)).collect()
    }
}

fn outcome(handled: Result<(), WorkError>) -> Outcome {
    match handled {
        Ok(()) => Outcome::Done,
        Err(e) => Outcome::Retry(e.to_string()),
    }
}

/// Runs a batch's worth of futures side by side in this task.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|f| Some(Box::pin(f))).collect();
    let mut done = Vec::with_capacity(running.len());
    poll_fn(|cx| {
        for slot in &mut running {
            if let Some(future) = slot
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                done.push(output);
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

impl Respond {
    async fn handle_one(&self, message: RespondMessage, body: &str) -> Result<(), WorkError> {
        match message {
            RespondMessage::Alert(raised) => self.alert_raised(&raised, 0).await,
            RespondMessage::Work(Work::Plan { raised, tries, .. }) => self.alert_raised(&raised, tries).await,
            RespondMessage::Work(Work::Step { account, response_id, .. }) => self.drive(&account, &response_id).await,
            RespondMessage::Work(Work::Expire { account, response_id, .. }) => {
                self.expire(&account, &response_id).await
            }
            RespondMessage::Work(Work::Notify { account, notice_id, channel, .. }) => {
                self.deliver(&Delivery { account, notice_id, channel, body: body.to_owned() }).await
            }
        }
    }

    /// Ends what waits for the sake of an alert that later events showed to be none.
    async fn withdraw(&self, alert: &Alert) -> Result<(), WorkError> {
        for stored in self.ports.responses.of_alert(&alert.account, &alert.alert_id).await? {
            let response = &stored.response;
            let waits = matches!(response.state, ResponseState::AwaitingApproval | ResponseState::Approved);
            if response.alert_id == alert.alert_id && waits {
                self.withdraw_response(&response.account, &response.response_id).await?;
            }
        }
        Ok(())
    }

    /// Reads the alert again from the store, contains, then notifies: neither stands in the other's way.
    async fn alert_raised(&self, raised: &AlertRaised, tries: u32) -> Result<(), WorkError> {
        let Some(found) = self.ports.alerts.read(&raised.account, &raised.alert_id).await? else {
            return Err(WorkError::NoAlert(raised.alert_id.clone()));
        };
        if found.alert.superseded_by.is_some() {
            return self.withdraw(&found.alert).await;
        }
        if found.alert.level == Level::Informational {
            return Ok(());
        }
        let planned = self.plan_alert(&found, raised, tries).await;
        let notified = self.notify_alert(&found.alert).await;
        planned.and(notified)
    }
}
