//! Kinds of action, each declared in one place: how the state it changes is read, what it does, how it is
//! seen to be in force, its inverse, and its blast radius.
//!
//! A saga knows an action only through [`Action`], so a new kind is one module here, one line in
//! [`for_kind`] and a name in the model.

use async_trait::async_trait;
use sentinel_model::response::ActionKind;
use serde_json::Value;

use crate::iam::{Iam, IamError};

mod access_key;

/// What an action is carried out on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The account.
    pub account: String,
    /// The IAM user that owns the key.
    pub user_name: String,
    /// The user's ARN.
    pub user_arn: String,
    /// The key.
    pub access_key_id: String,
}

/// What stops working while the action is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlastRadius {
    /// A readable sentence.
    pub sentence: &'static str,
    /// Whether the inverse restores everything.
    pub reversible: bool,
}

/// One kind of action together with its snapshot, verification and inverse.
///
/// `Value`s are what [`read`](Self::read) gave: opaque to the saga, stored with the response, shown to people.
#[async_trait]
pub trait Action: Send + Sync {
    /// Which kind this is.
    fn kind(&self) -> ActionKind;

    /// What stops working.
    fn blast_radius(&self) -> BlastRadius;

    /// The operation that the action and its inverse call, as CloudTrail names it.
    fn operation(&self) -> &'static str;

    /// Reads the state that the action changes: the snapshot before, the verification after. `None` when
    /// the target is gone.
    async fn read(&self, iam: &dyn Iam, target: &Target) -> Result<Option<Value>, IamError>;

    /// Carries it out. Doing it twice is the same as once.
    async fn act(&self, iam: &dyn Iam, target: &Target) -> Result<(), IamError>;

    /// Whether a state that was read has the action in force.
    fn in_force(&self, seen: &Value) -> bool;

    /// Puts back what the snapshot says.
    async fn undo(&self, iam: &dyn Iam, target: &Target, snapshot: &Value) -> Result<(), IamError>;

    /// Whether a state that was read is what the snapshot says.
    fn restored(&self, snapshot: &Value, seen: &Value) -> bool;
}

/// Operations that reading a key's owner and state makes, as CloudTrail names them.
pub const READ_OPERATIONS: [&str; 4] = ["GetAccessKeyLastUsed", "GetUser", "ListUserTags", "ListAccessKeys"];

/// The action of a kind; `None` for what only a person can do.
pub fn for_kind(kind: ActionKind) -> Option<&'static dyn Action> {
    match kind {
        ActionKind::DeactivateAccessKey => Some(&access_key::DeactivateAccessKey),
        ActionKind::RevokeSessions => None,
    }
}
