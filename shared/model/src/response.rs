//! Responses: what was done, or would be done, about an alert, as recorded and audited.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, hash};

/// How far respond may go by itself, ordered from the most careful.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Record what would be done.
    #[default]
    Observe,
    /// Ask a person first.
    Approve,
    /// Act where every guardrail holds, else ask.
    Automatic,
}

impl Mode {
    /// The mode's name as configuration writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Approve => "approve",
            Self::Automatic => "automatic",
        }
    }
}

/// Kinds of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Set one IAM access key to Inactive.
    DeactivateAccessKey,
    /// A person must revoke the sessions behind a temporary key.
    RevokeSessions,
}

impl ActionKind {
    /// The kind's name as stores and pages write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeactivateAccessKey => "deactivate_access_key",
            Self::RevokeSessions => "revoke_sessions",
        }
    }
}

/// Where a response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseState {
    /// Observe mode: recorded, not done.
    Observed,
    /// Waits for a person.
    AwaitingApproval,
    /// To be carried out.
    Approved,
    /// Snapshot is taken; the call is being made.
    Acting,
    /// The call was made; being read back.
    Verifying,
    /// Read back and found in force.
    Contained,
    /// Could not be carried out.
    Failed,
    /// A guardrail forbids it.
    Refused,
    /// A person said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The inverse is being carried out.
    Undoing,
    /// The inverse was carried out and read back.
    Undone,
    /// The inverse would overwrite a later change: a person must decide.
    UndoBlocked,
    /// Recorded for a person to act on; the product cannot do it.
    Recorded,
}

impl ResponseState {
    /// All states.
    pub const ALL: [Self; 14] = [
        Self::Observed,
        Self::AwaitingApproval,
        Self::Approved,
        Self::Acting,
        Self::Verifying,
        Self::Contained,
        Self::Failed,
        Self::Refused,
        Self::Denied,
        Self::Expired,
        Self::Undoing,
        Self::Undone,
        Self::UndoBlocked,
        Self::Recorded,
    ];

    /// The state's name as stores and pages write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Approved => "approved",
            Self::Acting => "acting",
            Self::Verifying => "verifying",
            Self::Contained => "contained",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoBlocked => "undo_blocked",
            Self::Recorded => "recorded",
        }
    }

    /// Whether the product itself still has something to do: a redelivered step goes on from here.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Approved | Self::Acting | Self::Verifying | Self::Undoing)
    }

    /// Whether nothing was done and a new alert may put the question again.
    pub const fn may_be_planned_again(self) -> bool {
        matches!(
            self,
            Self::Observed | Self::AwaitingApproval | Self::Failed | Self::Refused | Self::Denied | Self::Expired
        )
    }
}

impl std::fmt::Display for ResponseState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no response state.
#[derive(Debug, thiserror::Error)]
#[error("unknown response state {0:?}")]
pub struct UnknownState(String);

impl std::str::FromStr for ResponseState {
    type Err = UnknownState;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == s).ok_or_else(|| UnknownState(s.to_owned()))
    }
}

/// The identity of a response: one for an account, key, kind and number of undos before it.
pub fn response_id(account: &str, access_key_id: &str, kind: ActionKind, undo_count: u32) -> String {
    hash::derived_id("rs-", &[account, access_key_id, kind.as_str(), &undo_count.to_string()])
}

/// How far the call under way (the action or its inverse) has come; what a resumed step goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Calls intended; counted before each is made.
    pub attempts: u32,
    /// When the last of them was intended.
    pub intended_at: Option<Timestamp>,
    /// When a call was answered with success, or found to be in force.
    pub called_at: Option<Timestamp>,
    /// Times the result was read back.
    pub reads: u32,
    /// IAM calls in a row that were throttled or failed in passing.
    pub setbacks: u32,
}

/// One line of a response's audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What: `plan`, `approve`, `snapshot`, `act`, `verify`, `undo` ...
    pub step: String,
    /// `ok`, `refused`, `failed`, `waiting`.
    pub outcome: String,
    /// A readable sentence.
    pub detail: String,
}

/// A response as recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Identity: derived from account, key, kind and undo count.
    pub response_id: String,
    /// What is done.
    pub kind: ActionKind,
    /// Where it stands.
    pub state: ResponseState,
    /// Mode when it was planned.
    pub mode: Mode,
    /// Account.
    pub account: String,
    /// Principal concerned.
    pub principal: String,
    /// IAM user that owns the key, read from IAM; `None` until read.
    pub user_name: Option<String>,
    /// The access key.
    pub access_key_id: String,
    /// The alert it answers.
    pub alert_id: String,
    /// That alert's incident.
    pub incident_id: Option<String>,
    /// Playbook that asked for it.
    pub playbook: String,
    /// Readable sentences: why automatic, why approval, why refused.
    pub reasons: Vec<String>,
    /// When it was planned.
    pub requested_at: Timestamp,
    /// When a wait for approval ends.
    pub expires_at: Option<Timestamp>,
    /// Who approved or denied, or `automatic`.
    pub decided_by: Option<String>,
    /// What IAM said before the action.
    pub snapshot: Option<serde_json::Value>,
    /// What IAM said after it.
    pub verification: Option<serde_json::Value>,
    /// How many times an action on this key was undone before this one.
    pub undo_count: u32,
    /// Audit trail.
    pub steps: Vec<Step>,
    /// Events that our own calls caused.
    pub own_events: Vec<String>,
    /// Correlation id of the alert's batch.
    pub correlation_id: String,
    /// When it was approved or denied.
    #[serde(default)]
    pub decided_at: Option<Timestamp>,
    /// Whether our own call changed the key; `false` when there was nothing to change.
    #[serde(default)]
    pub changed: bool,
    /// Who asked for the undo.
    #[serde(default)]
    pub undo_by: Option<String>,
    /// The call under way.
    #[serde(default)]
    pub progress: Progress,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_named_alike_everywhere() {
        for state in ResponseState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(state.as_str().parse::<ResponseState>().unwrap(), state);
        }
    }

    #[test]
    fn every_part_of_a_response_id_counts() {
        let id = response_id("1", "AKIA1", ActionKind::DeactivateAccessKey, 0);
        assert_ne!(id, response_id("2", "AKIA1", ActionKind::DeactivateAccessKey, 0));
        assert_ne!(id, response_id("1", "AKIA2", ActionKind::DeactivateAccessKey, 0));
        assert_ne!(id, response_id("1", "AKIA1", ActionKind::RevokeSessions, 0));
        assert_ne!(id, response_id("1", "AKIA1", ActionKind::DeactivateAccessKey, 1));
    }
}
