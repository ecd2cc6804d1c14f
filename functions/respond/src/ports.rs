//! The ports respond works over, and the two narrow ones it defines: alerts as it reads them, and
//! who may decide.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_durable::{Clock, Queue, Timer};
use sentinel_model::{Alert, Verdict};
use sentinel_state::TableError;
use sentinel_state::alerts::Alerts;
use sentinel_state::responses::Responses;
use sentinel_state::users::{Role, Users};

use crate::iam::Iam;
use crate::notify::Notifier;

/// Everything respond reaches outside itself.
#[derive(Clone)]
pub struct Ports {
    /// IAM of the connected accounts.
    pub iam: Arc<dyn Iam>,
    /// Responses and what belongs to them; its table also carries outbox and leases.
    pub responses: Responses,
    /// Alerts.
    pub alerts: Arc<dyn AlertReader>,
    /// Who may decide.
    pub approvers: Arc<dyn Approvers>,
    /// Where notices go.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// Queues, for the outbox.
    pub queue: Arc<dyn Queue>,
    /// Timers.
    pub timer: Arc<dyn Timer>,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

/// An alert as respond reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundAlert {
    /// The alert.
    pub alert: Alert,
    /// The incident it belongs to.
    pub incident_id: Option<String>,
    /// Whether an analyst called it a false positive.
    pub false_positive: bool,
}

/// Reads alerts as they stand.
#[async_trait]
pub trait AlertReader: Send + Sync {
    /// The alert; `None` when there is none of that id in the account.
    async fn read(&self, account: &str, alert_id: &str) -> Result<Option<FoundAlert>, TableError>;
}

#[async_trait]
impl AlertReader for Alerts {
    async fn read(&self, account: &str, alert_id: &str) -> Result<Option<FoundAlert>, TableError> {
        let Some((stored, triage)) = self.get_with_triage(account, alert_id).await? else { return Ok(None) };
        let false_positive = triage.verdict == Some(Verdict::FalsePositive);
        Ok(Some(FoundAlert { alert: stored.alert, incident_id: stored.incident_id, false_positive }))
    }
}

/// Somebody who decides about a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// Login name.
    pub username: String,
    /// Role; only an administrator decides.
    pub role: Role,
    /// AWS principals (ARNs) that are this person.
    pub principals: Vec<String>,
}

/// Knows people as they are now, so that a right that was taken away since an approval counts no more.
#[async_trait]
pub trait Approvers: Send + Sync {
    /// The person; `None` when unknown or disabled.
    async fn current(&self, username: &str) -> Result<Option<Approver>, TableError>;
}

#[async_trait]
impl Approvers for Users {
    async fn current(&self, username: &str) -> Result<Option<Approver>, TableError> {
        let found = self.get(username).await?.map(|versioned| versioned.value);
        let enabled = found.filter(|user| !user.disabled);
        Ok(enabled.map(|u| Approver { username: u.username, role: u.role, principals: u.principals }))
    }
}
