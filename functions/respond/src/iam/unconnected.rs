//! No account is connected: every question is answered by saying so, and nothing can be done.

use async_trait::async_trait;

use super::{Iam, IamError, KeyOwner, KeyStatus};

/// Stands where an account's IAM would; respond then only observes.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnconnectedIam;

#[async_trait]
impl Iam for UnconnectedIam {
    async fn key_owner(&self, account: &str, _access_key_id: &str) -> Result<Option<KeyOwner>, IamError> {
        Err(IamError::NotConnected(account.to_owned()))
    }

    async fn key_status(
        &self,
        account: &str,
        _user_name: &str,
        _access_key_id: &str,
    ) -> Result<Option<KeyStatus>, IamError> {
        Err(IamError::NotConnected(account.to_owned()))
    }

    async fn set_key_status(
        &self,
        account: &str,
        _user_name: &str,
        _access_key_id: &str,
        _status: KeyStatus,
    ) -> Result<(), IamError> {
        Err(IamError::NotConnected(account.to_owned()))
    }

    fn is_simulated(&self) -> bool {
        false
    }

    fn is_connected(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_call_says_that_nothing_is_connected() {
        let iam = UnconnectedIam;
        let error = IamError::NotConnected("123456789012".into());
        assert_eq!(iam.key_owner("123456789012", "AKIAIOSFODNN7EXAMPLE").await.unwrap_err(), error);
        let set = iam.set_key_status("123456789012", "bob", "AKIAIOSFODNN7EXAMPLE", KeyStatus::Inactive).await;
        assert_eq!(set.unwrap_err(), error);
        assert!(!iam.is_connected());
    }
}
