//! Tells people: once per alert and level, and when a response asks, acts, fails or meets the cap.
//!
//! A notice is written once with its mark, and sent by queue message afterwards, so a notifier that fails
//! stands in nobody's way: it is tried again later, by itself. Towards the receiver it is at least once, with
//! an id by which a repetition after a crash is known.

use async_trait::async_trait;
use futures::future::join_all;
use sentinel_durable::{Stage, lease, outbox};
use sentinel_model::response::{Response, ResponseState};
use sentinel_model::{Alert, Level, Timestamp, hash, time};
use sentinel_state::responses::{Notice, Responses};
use sentinel_state::{TableError, Write};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{error, info, warn};

use crate::message::Work;
use crate::saga::{Respond, WorkError};

/// Seconds one delivery may take; longer than any notifier's own timeout.
const DELIVERY_SECONDS: u32 = 60;
/// Deliveries tried before a notice is given up: about five hours.
const MAX_ATTEMPTS: u32 = 24;
/// Seconds before the second delivery; doubled for each further one up to [`BACKOFF_CAP_SECONDS`].
const BACKOFF_SECONDS: i64 = 70;
/// Most seconds between two deliveries.
const BACKOFF_CAP_SECONDS: i64 = 900;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// An alert was raised, or its level rose.
    Alert,
    /// A response changed its state.
    Response,
    /// The hourly cap of an account was reached.
    CapReached,
}

/// What is told, to whomever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Identity: the same at every delivery, so that a receiver can drop a repetition.
    pub id: String,
    /// What it is about.
    pub kind: NoticeKind,
    /// When it was decided on.
    pub at: Timestamp,
    /// One line.
    pub title: String,
    /// Readable sentences.
    pub text: Vec<String>,
    /// The alert's level, where there is one.
    pub level: Option<Level>,
    /// The account.
    pub account: String,
    /// The alert as the API shows it.
    pub alert: Option<Value>,
    /// The response as stored.
    pub response: Option<Value>,
    /// Follows the batch through logs.
    pub correlation_id: String,
}

impl Notification {
    /// Of an alert, for its level as it stands.
    pub fn of_alert(alert: &Alert, now: Timestamp) -> Result<Self, serde_json::Error> {
        let parts = ["alert", &alert.account, &alert.alert_id, alert.level.as_str()];
        Ok(Self {
            id: hash::derived_id("nt-", &parts),
            kind: NoticeKind::Alert,
            at: now,
            title: format!("{} alert: {}", alert.level, alert.title),
            text: alert.reasons.clone(),
            level: Some(alert.level),
            account: alert.account.clone(),
            alert: Some(serde_json::to_value(alert.to_view())?),
            response: None,
            correlation_id: alert.correlation_id.clone(),
        })
    }

    /// Of a response that has just come to its state. `version` is the one it was read at: it tells the
    /// second time in a state from the first.
    pub fn of_response(response: &Response, version: u64, now: Timestamp) -> Result<Self, serde_json::Error> {
        let parts = ["response", &response.response_id, response.state.as_str(), &version.to_string()];
        let last = response.steps.last().map(|step| step.detail.clone());
        Ok(Self {
            id: hash::derived_id("nt-", &parts),
            kind: NoticeKind::Response,
            at: now,
            title: format!("{}: {}", state_words(response.state), subject(response)),
            text: last.into_iter().chain(response.reasons.iter().cloned()).collect(),
            level: None,
            account: response.account.clone(),
            alert: None,
            response: Some(serde_json::to_value(response)?),
            correlation_id: response.correlation_id.clone(),
        })
    }

    /// That the hourly cap of an account is reached: once an hour.
    pub fn of_cap(account: &str, cap: u32, now: Timestamp, correlation_id: &str) -> Self {
        let hour = time::window_start(now, 60);
        Self {
            id: hash::derived_id("nt-", &["cap", account, &hour.to_string()]),
            kind: NoticeKind::CapReached,
            at: now,
            title: format!("The hourly cap of {cap} automatic actions is reached in account {account}"),
            text: vec!["Further actions of this hour wait for a person's approval.".to_owned()],
            level: None,
            account: account.to_owned(),
            alert: None,
            response: None,
            correlation_id: correlation_id.to_owned(),
        }
    }
}

fn subject(response: &Response) -> String {
    let key = &response.access_key_id;
    let owner = response.user_name.as_deref().unwrap_or(&response.principal);
    format!("access key {key} of {owner} in account {}", response.account)
}

fn state_words(state: ResponseState) -> &'static str {
    match state {
        ResponseState::AwaitingApproval => "Approval needed",
        ResponseState::Contained => "Contained",
        ResponseState::Failed => "Containment failed",
        ResponseState::Refused => "Containment refused",
        ResponseState::Undone => "Containment undone",
        ResponseState::UndoBlocked => "Undo stopped, a person must decide",
        ResponseState::Recorded => "Sessions must be revoked by a person",
        ResponseState::Expired => "Approval expired",
        ResponseState::Observed => "Observed",
        ResponseState::Approved => "Approved",
        ResponseState::Denied => "Denied",
        ResponseState::Acting | ResponseState::Verifying | ResponseState::Undoing => "Under way",
    }
}

/// A delivery that failed; it is tried again later.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotifyError(pub String);

/// A way to tell people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// The channel's name: unique, part of keys; never an address or a secret.
    fn name(&self) -> &str;

    /// Delivers; returns when the receiver has taken it. At most 30 seconds.
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError>;
}

/// Writes notices into the process's structured log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogNotifier;

#[async_trait]
impl Notifier for LogNotifier {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn notify(&self, n: &Notification) -> Result<(), NotifyError> {
        let level = n.level.map(Level::as_str);
        info!(notice = %n.id, account = %n.account, level, correlation_id = %n.correlation_id, text = ?n.text, "{}", n.title);
        Ok(())
    }
}

impl Respond {
    /// The writes by which a notice is sent once through every channel, for the transaction that decides on
    /// it; it fails when the notice was decided on before.
    pub(crate) fn notices(&self, notification: &Notification) -> Result<Vec<Write>, WorkError> {
        let mut writes = Vec::new();
        for notifier in &self.ports.notifiers {
            writes.extend(one_notice(notification, notifier.name())?);
        }
        Ok(writes)
    }

    /// Sends an alert's notice through every channel that has not had it for this level.
    pub(crate) async fn notify_alert(&self, alert: &Alert) -> Result<(), WorkError> {
        let notification = Notification::of_alert(alert, self.ports.clock.now())?;
        match self.table().write(self.notices(&notification)?).await {
            Err(e) if e.is_condition() => {}
            written => return Ok(written?),
        }
        // Through some channels it went before, or is on its way.
        let decided = self.ports.notifiers.iter().map(|notifier| async {
            match self.table().write(one_notice(&notification, notifier.name())?).await {
                Err(e) if !e.is_condition() => Err(WorkError::from(e)),
                _ => Ok(()),
            }
        });
        join_all(decided).await.into_iter().collect()
    }

    /// Delivers one notice, unless it was delivered. A failure sets a timer for the next try.
    pub(crate) async fn deliver(&self, delivery: &Delivery) -> Result<(), WorkError> {
        let Delivery { account, notice_id, channel, .. } = delivery;
        let Some(notifier) = self.ports.notifiers.iter().find(|n| n.name() == channel) else {
            warn!(%channel, notice = %notice_id, "notice for a channel that is not configured any more");
            return Ok(());
        };
        let Some(stored) = self.ports.responses.notice(account, notice_id, channel).await? else { return Ok(()) };
        if stored.notice.sent_at.is_some() || stored.notice.given_up.is_some() {
            return Ok(());
        }
        // Set before anything else: should this process die, or another hold the lease and die, the next try
        // is due all the same.
        let doubled = BACKOFF_SECONDS << stored.notice.attempts.min(8);
        let due = time::plus_seconds(self.ports.clock.now(), doubled.min(BACKOFF_CAP_SECONDS));
        self.ports.timer.set(&delivery.timer_id(), due, Stage::Respond, &delivery.body).await?;
        let name = format!("notice#{account}#{notice_id}#{channel}");
        let (table, clock) = (self.table().as_ref(), self.ports.clock.as_ref());
        let Some(held) = lease::acquire(table, &name, &self.owner(), clock, DELIVERY_SECONDS).await? else {
            return Ok(());
        };
        let done = self.deliver_held(notifier.as_ref(), delivery).await;
        lease::release(table, &held, clock).await?;
        done
    }

    async fn deliver_held(&self, notifier: &dyn Notifier, delivery: &Delivery) -> Result<(), WorkError> {
        let Delivery { account, notice_id, channel, .. } = delivery;
        let Some(stored) = self.ports.responses.notice(account, notice_id, channel).await? else { return Ok(()) };
        let (mut notice, version) = (stored.notice, stored.version);
        if notice.sent_at.is_some() || notice.given_up.is_some() {
            return Ok(self.ports.timer.cancel(&delivery.timer_id()).await?);
        }
        let content: Notification = serde_json::from_value(notice.content.clone())?;
        notice.attempts += 1;
        let outcome = notifier.notify(&content).await;
        match &outcome {
            Ok(()) => notice.sent_at = Some(self.ports.clock.now()),
            Err(e) => {
                sentinel_telemetry::error("respond");
                warn!(%channel, notice = %notice_id, attempts = notice.attempts, error = %e, correlation_id = %content.correlation_id, "notice was not delivered");
                if notice.attempts >= MAX_ATTEMPTS {
                    error!(%channel, notice = %notice_id, error = %e, "notice is given up");
                    notice.given_up = Some(e.to_string());
                }
            }
        }
        self.table().write(vec![Responses::update_notice(account, &notice, version)?]).await?;
        if notice.sent_at.is_some() || notice.given_up.is_some() {
            self.ports.timer.cancel(&delivery.timer_id()).await?;
        }
        let said = match (&outcome, &notice.given_up) {
            (Ok(()), _) => "ok",
            (Err(_), None) => "failed",
            (Err(_), Some(_)) => "given_up",
        };
        sentinel_telemetry::metrics::notification(channel, said);
        Ok(())
    }
}

/// One notice to be delivered through one channel, and the message that asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) account: String,
    pub(crate) notice_id: String,
    pub(crate) channel: String,
    pub(crate) body: String,
}

impl Delivery {
    /// The timer of its next try.
    fn timer_id(&self) -> String {
        hash::derived_id("nt-", &[&self.account, &self.notice_id, &self.channel])
    }
}

/// The mark of a notice for one channel and the message that delivers it.
fn one_notice(notification: &Notification, channel: &str) -> Result<Vec<Write>, WorkError> {
    let notice = Notice {
        notice_id: notification.id.clone(),
        channel: channel.to_owned(),
        content: serde_json::to_value(notification)?,
        created_at: notification.at,
        attempts: 0,
        sent_at: None,
        given_up: None,
    };
    let work = Work::Notify {
        account: notification.account.clone(),
        notice_id: notification.id.clone(),
        channel: channel.to_owned(),
        correlation_id: notification.correlation_id.clone(),
    };
    let mark: Result<Write, TableError> = Responses::put_notice(&notification.account, &notice);
    let message = outbox::put(&format!("{}#{channel}", notification.id), Stage::Respond, &work.body()?);
    Ok(vec![mark?, message?])
}
