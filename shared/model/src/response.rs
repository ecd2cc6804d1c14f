//! Responses: what was done, or would be done, about an alert, as recorded and audited.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How far respond may go by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}
