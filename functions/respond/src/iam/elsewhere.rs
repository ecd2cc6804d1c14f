//! IAM that another process calls: for one that only records decisions and must not be able to act.
//!
//! An account is connected, so that decisions are accepted as where the calls are made; yet every call made
//! here is refused, so that a process without rights in IAM neither acts nor pretends to.

use async_trait::async_trait;

use super::{Iam, IamError, KeyOwner, KeyStatus};

/// Stands where the IAM of accounts would that another process of the deployment acts on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ElsewhereIam;

fn refused() -> IamError {
    IamError::Denied("this process only records decisions; another one carries them out".to_owned())
}

#[async_trait]
impl Iam for ElsewhereIam {
    async fn key_owner(&self, _account: &str, _access_key_id: &str) -> Result<Option<KeyOwner>, IamError> {
        Err(refused())
    }

    async fn key_status(
        &self,
        _account: &str,
        _user_name: &str,
        _access_key_id: &str,
    ) -> Result<Option<KeyStatus>, IamError> {
        Err(refused())
    }

    async fn set_key_status(
        &self,
        _account: &str,
        _user_name: &str,
        _access_key_id: &str,
        _status: KeyStatus,
    ) -> Result<(), IamError> {
        Err(refused())
    }

    fn is_simulated(&self) -> bool {
        false
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn is_elsewhere(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_call_is_refused_for_good() {
        let iam = ElsewhereIam;
        let (account, key) = ("123456789012", "AKIAIOSFODNN7EXAMPLE");
        let refusals = [
            iam.key_owner(account, key).await.unwrap_err(),
            iam.key_status(account, "bob", key).await.unwrap_err(),
            iam.set_key_status(account, "bob", key, KeyStatus::Inactive).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, IamError::Denied(_)) && !refusal.is_passing(), "{refusal}");
        }
        assert!(iam.is_connected() && !iam.is_simulated());
    }
}
