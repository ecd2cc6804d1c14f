//! The IAM port, in the shapes of the IAM API: `GetAccessKeyLastUsed` names a key's owner, `GetUser` and
//! `ListUserTags` describe it, `ListAccessKeys` gives a key's status, `UpdateAccessKey` sets it
//! (IAM API Reference, 2010-05-08).
//!
//! An adapter makes at most one request of each operation a call and never retries by itself: each attempt
//! is recorded before it is made, so that the event it causes can be told from somebody else's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The status of an access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatus {
    /// Calls signed with it are accepted.
    Active,
    /// They are refused.
    Inactive,
}

impl KeyStatus {
    /// The status as IAM writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Inactive => "Inactive",
        }
    }
}

/// The IAM user that owns an access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOwner {
    /// The user's name: up to 64 letters, digits and `+=,.@_-`.
    pub user_name: String,
    /// The user's ARN, with its path.
    pub user_arn: String,
    /// The user's tags.
    pub tags: BTreeMap<String, String>,
}

/// What can go wrong with IAM.
///
/// Policy: [`Throttled`](Self::Throttled) and [`Other`](Self::Other) are tried again after a while, the rest
/// ends what was wanted and is shown to a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IamError {
    /// Too many requests; nothing was done.
    #[error("IAM throttled the request")]
    Throttled,
    /// There is no such user or key.
    #[error("IAM knows no such user or key")]
    NotFound,
    /// IAM refused; nothing was done.
    #[error("IAM refused the request: {0}")]
    Denied(String),
    /// No account is connected, or not this one.
    #[error("account {0} is not connected")]
    NotConnected(String),
    /// A passing failure; whether anything was done is not known.
    #[error("the request to IAM failed: {0}")]
    Other(String),
}

impl IamError {
    /// Whether another try may go better.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Throttled | Self::Other(_))
    }
}

/// The IAM of the accounts that are connected.
#[async_trait]
pub trait Iam: Send + Sync {
    /// The IAM user that owns a long-term access key; `None` when there is no such key in the account, or
    /// it is the root user's.
    async fn key_owner(&self, account: &str, access_key_id: &str) -> Result<Option<KeyOwner>, IamError>;

    /// The status of one key of a user; `None` when the user has no such key.
    async fn key_status(
        &self,
        account: &str,
        user_name: &str,
        access_key_id: &str,
    ) -> Result<Option<KeyStatus>, IamError>;

    /// Sets the status of one key of a user. Setting what is set already is no error.
    async fn set_key_status(
        &self,
        account: &str,
        user_name: &str,
        access_key_id: &str,
        status: KeyStatus,
    ) -> Result<(), IamError>;

    /// Whether the accounts behind this port are simulated, so that simulated events attest for them.
    fn is_simulated(&self) -> bool;

    /// Whether any account is connected. Without one, respond can only observe.
    fn is_connected(&self) -> bool;

    /// Whether the calls are made by another process, so that this one only records decisions.
    fn is_elsewhere(&self) -> bool {
        false
    }
}
