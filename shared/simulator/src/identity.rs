//! Who signs a simulated call, written as `CloudTrail`'s `userIdentity` in each of its forms.
//!
//! Source: AWS `CloudTrail` User Guide, "`CloudTrail` userIdentity element".

use sentinel_model::Timestamp;
use serde_json::{Value, json};

use crate::record::stamp;

/// Who signs a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// An IAM user with a long-term key.
    IamUser {
        /// User name.
        name: String,
        /// Unique id (`AIDA...`).
        principal_id: String,
        /// Long-term access key (`AKIA...`).
        access_key_id: String,
    },
    /// A session of a role.
    RoleSession {
        /// Role name.
        role: String,
        /// Path of the role within IAM, with slashes at both ends.
        path: String,
        /// The role's unique id (`AROA...`).
        role_id: String,
        /// Session name: a person's mail address for Identity Center, else a workload's name.
        session: String,
        /// Temporary access key (`ASIA...`).
        access_key_id: String,
        /// When the session began.
        created: Timestamp,
        /// Whether the person signed in with a second factor.
        mfa: bool,
    },
    /// A workload that proves itself with an identity provider's token before it holds a role session.
    WebIdentity {
        /// The provider's host.
        provider: String,
        /// Audience and subject, as `CloudTrail` joins them.
        subject: String,
    },
    /// An AWS service.
    Service {
        /// Its host name, e.g. `lambda.amazonaws.com`.
        host: String,
    },
}

impl Caller {
    /// The caller's `userIdentity` in `account`.
    pub fn user_identity(&self, account: &str) -> Value {
        match self {
            Self::IamUser { name, principal_id, access_key_id } => json!({
                "type": "IAMUser",
                "principalId": principal_id,
                "arn": format!("arn:aws:iam::{account}:user/{name}"),
                "accountId": account,
                "accessKeyId": access_key_id,
                "userName": name,
            }),
            Self::RoleSession { role, path, role_id, session, access_key_id, created, mfa } => json!({
                "type": "AssumedRole",
                "principalId": format!("{role_id}:{session}"),
                "arn": format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
                "accountId": account,
                "accessKeyId": access_key_id,
                "sessionContext": {
                    "sessionIssuer": {
                        "type": "Role",
                        "principalId": role_id,
                        "arn": format!("arn:aws:iam::{account}:role{path}{role}"),
                        "accountId": account,
                        "userName": role,
                    },
                    "attributes": {
                        "creationDate": stamp(*created),
                        "mfaAuthenticated": if *mfa { "true" } else { "false" },
                    },
                },
            }),
            Self::WebIdentity { provider, subject } => json!({
                "type": "WebIdentityUser",
                "principalId": format!("arn:aws:iam::{account}:oidc-provider/{provider}:{subject}"),
                "userName": subject,
                "identityProvider": format!("arn:aws:iam::{account}:oidc-provider/{provider}"),
            }),
            Self::Service { host } => json!({ "type": "AWSService", "invokedBy": host }),
        }
    }
}
