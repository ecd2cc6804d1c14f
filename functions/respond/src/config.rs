//! What an operator decides about responses; built by whoever wires the process, never read from the
//! environment here.

use sentinel_model::{OwnRoles, response::Mode};

use crate::iam::Iam;

/// Settings of respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How far it may go by itself.
    pub mode: Mode,
    /// Who is never acted on.
    pub protected: Protected,
    /// The roles under which the product itself calls IAM.
    pub own_roles: OwnRoles,
    /// Most automatic actions an hour (of the UTC clock) and account; above it a person is asked.
    pub hourly_cap: u32,
    /// How long a question waits for an answer, in seconds.
    pub approval_seconds: i64,
    /// How long IAM may take to make a change effective everywhere, in seconds.
    pub propagation_seconds: i64,
    /// Times a result is read back before the action counts as failed.
    pub max_reads: u32,
    /// Calls, or passing failures in a row, before the action counts as failed.
    pub max_attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            protected: Protected::default(),
            own_roles: OwnRoles::default(),
            hourly_cap: 10,
            approval_seconds: 24 * 3600,
            propagation_seconds: 10,
            max_reads: 6,
            max_attempts: 8,
        }
    }
}

impl Config {
    /// Refuses a mode that the connected account cannot carry out, or whose own calls could not be told from
    /// somebody else's.
    pub fn check(&self, iam: &dyn Iam) -> Result<(), ConfigError> {
        if self.mode != Mode::Observe && !iam.is_connected() {
            return Err(ConfigError::NotConnected(self.mode.as_str()));
        }
        let calls_for_real = iam.is_connected() && !iam.is_simulated() && !iam.is_elsewhere();
        if self.mode != Mode::Observe && calls_for_real && self.own_roles.is_empty() {
            return Err(ConfigError::OwnRole(self.mode.as_str()));
        }
        if self.approval_seconds <= 0 || self.propagation_seconds < 0 || self.max_reads == 0 || self.max_attempts == 0 {
            return Err(ConfigError::Range);
        }
        Ok(())
    }
}

/// Who is never acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// ARNs or user names; a trailing `*` stands for any ending.
    pub principals: Vec<String>,
    /// Break-glass ARNs or user names; likewise.
    pub break_glass: Vec<String>,
    /// Tag keys of IAM users, whatever the value.
    pub tags: Vec<String>,
}

impl Default for Protected {
    fn default() -> Self {
        Self { principals: Vec::new(), break_glass: Vec::new(), tags: vec!["cloudsentinel:protected".into()] }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A mode that acts, without an account.
    #[error("response mode {0} needs a connected account, and none is connected: use observe, or connect one")]
    NotConnected(&'static str),
    /// A mode that acts on a real account, without a name for our own role.
    #[error(
        "response mode {0} needs own_role, the ARN of the role that our own calls are made with: without it their \
         events could not be told from an attacker's"
    )]
    OwnRole(&'static str),
    /// A number out of range.
    #[error("approval time, reads and attempts must be above zero, propagation time not below it")]
    Range,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iam::{ElsewhereIam, IamError, KeyOwner, KeyStatus, UnconnectedIam};

    struct RealIam;

    #[async_trait::async_trait]
    impl Iam for RealIam {
        async fn key_owner(&self, _: &str, _: &str) -> Result<Option<KeyOwner>, IamError> {
            Ok(None)
        }
        async fn key_status(&self, _: &str, _: &str, _: &str) -> Result<Option<KeyStatus>, IamError> {
            Ok(None)
        }
        async fn set_key_status(&self, _: &str, _: &str, _: &str, _: KeyStatus) -> Result<(), IamError> {
            Ok(())
        }
        fn is_simulated(&self) -> bool {
            false
        }
        fn is_connected(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_mode_that_acts_on_a_real_account_names_our_own_role() {
        for mode in [Mode::Approve, Mode::Automatic] {
            let mut config = Config { mode, ..Config::default() };
            let error = config.check(&RealIam).unwrap_err().to_string();
            assert!(error.contains("own_role") && error.contains(mode.as_str()), "{error}");
            config.check(&ElsewhereIam).unwrap();
            config.own_roles = ["arn:aws:iam::123456789012:role/CloudSentinelRespond"].into_iter().collect();
            config.check(&RealIam).unwrap();
        }
        Config::default().check(&RealIam).unwrap();
    }

    #[test]
    fn without_an_account_only_observe_is_accepted() {
        let with = |mode| Config { mode, ..Config::default() }.check(&UnconnectedIam);
        assert!(with(Mode::Observe).is_ok());
        for mode in [Mode::Approve, Mode::Automatic] {
            let error = with(mode).unwrap_err().to_string();
            assert!(error.contains(mode.as_str()) && error.contains("none is connected"), "{error}");
        }
    }
}
