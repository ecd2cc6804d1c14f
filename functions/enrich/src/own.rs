//! Our own actions: what respond did must not raise an alert, and what only claims to be ours must.
//!
//! In: events issued by respond's role. Out: whether a recorded action of ours caused them. Port only; respond
//! implements it over the actions that it records before it acts.

use async_trait::async_trait;
use sentinel_model::Member;

/// Rule id of the alert for events issued by our own role that no recorded action explains.
pub const OWN_ROLE_RULE: &str = "sentinel:own-role-activity";

/// The record of our own actions failed. Policy: the batch is delivered again, since neither answer is safe.
#[derive(Debug, thiserror::Error)]
#[error("the record of our own actions failed: {0}")]
pub struct OwnActionsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl OwnActionsError {
    /// Wraps an implementation's own error.
    pub fn new(e: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(e))
    }
}

/// The record of our own actions.
#[async_trait]
pub trait OwnActions: Send + Sync {
    /// Whether a recorded action of ours caused this event. Asked only for events whose issuer is our role.
    async fn is_ours(&self, account: &str, event: &Member) -> Result<bool, OwnActionsError>;

    /// Notes on that action that this event was its doing; `false` when another event was noted meanwhile, so that this
    /// one is somebody else's. The same event may be noted again.
    async fn note_ours(&self, account: &str, event: &Member) -> Result<bool, OwnActionsError>;
}

/// No own actions: for a pipeline that never acts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOwnActions;

#[async_trait]
impl OwnActions for NoOwnActions {
    async fn is_ours(&self, _account: &str, _event: &Member) -> Result<bool, OwnActionsError> {
        Ok(false)
    }

    async fn note_ours(&self, _account: &str, _event: &Member) -> Result<bool, OwnActionsError> {
        Ok(false)
    }
}
