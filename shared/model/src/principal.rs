//! Who acted: the principal of an event, its kind, and who is behind it.

use serde::{Deserialize, Serialize};

/// What sort of identity acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// An account's root user.
    Root,
    /// An IAM user.
    IamUser,
    /// A role session.
    AssumedRole,
    /// A federated user session (`GetFederationToken`).
    FederatedUser,
    /// An identity of an outside provider before it holds a role session (SAML, web identity, directory).
    External,
    /// A user of IAM Identity Center.
    IdentityCenterUser,
    /// An AWS service.
    Service,
    /// Another account, of which only the id is known.
    Account,
    /// Nothing is known.
    Unknown,
}

/// The principal of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The principal as text: the IAM user's ARN; a role or federated session's ARN;
    /// `arn:aws:iam::ACCOUNT:root`; a service's host name; `account:ID`; else `unknown`.
    pub id: String,
    /// What sort of identity it is.
    pub kind: PrincipalKind,
    /// The account of the identity, where known (not always the account acted in).
    pub account: Option<String>,
    /// ARN of the role behind a role session.
    pub role: Option<String>,
    /// IAM user name, or session name of a role session.
    pub name: Option<String>,
    /// The person or workload behind the principal, to whom baselines belong: an IAM user's ARN; for a
    /// role session the role and the session name when it names a person (Identity Center, SAML), else
    /// the role alone; for the rest the same as `id`.
    pub actor: String,
    /// Whether `id` was built from account and names because the record had no ARN. Never acted on.
    pub inferred: bool,
}

impl Principal {
    /// The principal of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            id: "unknown".into(),
            kind: PrincipalKind::Unknown,
            account: None,
            role: None,
            name: None,
            actor: "unknown".into(),
            inferred: false,
        }
    }

    /// Whether alerts of this principal may be grouped by it: `unknown`, another account and a service
    /// stand for many different callers, so sharing them says nothing.
    pub fn identifies_someone(&self) -> bool {
        let many = matches!(self.kind, PrincipalKind::Service | PrincipalKind::Account | PrincipalKind::Unknown);
        !many && self.id != "unknown"
    }
}
