//! Lineage: which identities an identity made, changed or assumed.
//!
//! Known from all successful events, not only alerted ones, so that one intruder who hops from a user to
//! a key to a role session stays one incident.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// An identity as lineage links it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Identity {
    /// A principal: IAM user ARN, role session ARN, root ARN.
    Principal(String),
    /// An access key id, long-term or temporary.
    AccessKey(String),
}

impl Identity {
    /// One text for keys of stores: `principal#ARN` or `key#ID`.
    pub fn as_key(&self) -> String {
        match self {
            Self::Principal(arn) => format!("principal#{arn}"),
            Self::AccessKey(id) => format!("key#{id}"),
        }
    }
}

/// What the maker did to the other identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageKind {
    /// Created the user, key or login profile.
    Made,
    /// Changed its credentials or rights.
    Changed,
    /// Took on its role or session.
    Assumed,
}

/// One step of lineage: `maker` made, changed or assumed `made` at `time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEdge {
    /// Who did it (a principal; never a service, `unknown` or a whole account).
    pub maker: Identity,
    /// The access key the maker used, so that a stolen key's trail is followed too.
    pub maker_key: Option<String>,
    /// The identity made, changed or assumed.
    pub made: Identity,
    /// What was done.
    pub how: LineageKind,
    /// Event time.
    pub time: Timestamp,
    /// The event that shows it.
    pub event_id: String,
}
