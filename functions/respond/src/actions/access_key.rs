//! `deactivate_access_key`: sets exactly one IAM access key to Inactive. The key stays, its user and the
//! user's other keys are not touched, and setting it Active again restores everything.

use async_trait::async_trait;
use sentinel_model::response::ActionKind;
use serde_json::{Value, json};

use super::{Action, BlastRadius, Target};
use crate::iam::{Iam, IamError, KeyStatus};

/// The action. Sessions that were made with the key before live on until they expire (IAM User Guide,
/// "Updating access keys"; AWS STS, 15 minutes to 36 hours).
pub(super) struct DeactivateAccessKey;

#[async_trait]
impl Action for DeactivateAccessKey {
    fn kind(&self) -> ActionKind {
        ActionKind::DeactivateAccessKey
    }

    fn blast_radius(&self) -> BlastRadius {
        BlastRadius {
            sentence: "Everything that signs with this access key stops working; the user's other keys, password \
                       and running sessions go on.",
            reversible: true,
        }
    }

    fn operation(&self) -> &'static str {
        "UpdateAccessKey"
    }

    async fn read(&self, iam: &dyn Iam, target: &Target) -> Result<Option<Value>, IamError> {
        let status = match iam.key_status(&target.account, &target.user_name, &target.access_key_id).await {
            Ok(status) => status,
            Err(IamError::NotFound) => None,
            Err(e) => return Err(e),
        };
        Ok(status.map(|status| {
            json!({
                "access_key_id": target.access_key_id,
                "user_name": target.user_name,
                "user_arn": target.user_arn,
                "status": status.as_str(),
            })
        }))
    }

    async fn act(&self, iam: &dyn Iam, target: &Target) -> Result<(), IamError> {
        set(iam, target, KeyStatus::Inactive).await
    }

    fn in_force(&self, seen: &Value) -> bool {
        seen["status"] == KeyStatus::Inactive.as_str()
    }

    async fn undo(&self, iam: &dyn Iam, target: &Target, snapshot: &Value) -> Result<(), IamError> {
        if snapshot["status"] != KeyStatus::Active.as_str() {
            return Err(IamError::Denied("the key was not active before, so it is not activated".into()));
        }
        set(iam, target, KeyStatus::Active).await
    }

    fn restored(&self, snapshot: &Value, seen: &Value) -> bool {
        snapshot["status"] == seen["status"]
    }
}

async fn set(iam: &dyn Iam, target: &Target, status: KeyStatus) -> Result<(), IamError> {
    iam.set_key_status(&target.account, &target.user_name, &target.access_key_id, status).await
}
