//! Whose credentials the process has (STS `GetCallerIdentity`), and whether they are those of a given role.

use aws_config::SdkConfig;

use crate::sdk::CallError;

/// The caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its account.
    pub account: String,
    /// Its ARN: of an IAM user, the root user, or a role's session.
    pub arn: String,
}

/// Why a caller cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The call failed: no credentials, or no way to AWS.
    #[error("the AWS credentials cannot be used: {0}")]
    Call(#[from] CallError),
    /// The answer lacks the account or the ARN.
    #[error("sts:GetCallerIdentity: the answer names no account")]
    Incomplete,
    /// Not a role's session.
    #[error(
        "own_role is {role}, but the credentials are those of {arn}, which is no role's session: a long-term key \
         could itself be the one that was stolen. Assume the role and start again"
    )]
    NoRole {
        /// The role that was configured.
        role: String,
        /// The caller.
        arn: String,
    },
    /// Another role's session.
    #[error("own_role is {role}, but the credentials are those of {arn}: own calls would not be known as ours")]
    OtherRole {
        /// The role that was configured.
        role: String,
        /// The caller.
        arn: String,
    },
}

/// Asks STS who the caller is. Needs no permission.
pub async fn caller(config: &SdkConfig) -> Result<Caller, CallerError> {
    let sts = aws_sdk_sts::Client::new(config);
    let answer = sts.get_caller_identity().send().await.map_err(|e| CallError::new("sts:GetCallerIdentity", &e))?;
    match (answer.account, answer.arn) {
        (Some(account), Some(arn)) => Ok(Caller { account, arn }),
        _ => Err(CallerError::Incomplete),
    }
}

impl Caller {
    /// Checks that the caller is a session of the role with this ARN. A session's ARN leaves the role's path
    /// out, so name, account and partition are compared.
    pub fn check_role(&self, role_arn: &str) -> Result<(), CallerError> {
        let names = || (role_arn.to_owned(), self.arn.clone());
        let Some(session) = self.session_of() else {
            let (role, arn) = names();
            return Err(CallerError::NoRole { role, arn });
        };
        let role = role_arn.split_once(":role/").map(|(start, path)| (start, path.rsplit('/').next().unwrap_or(path)));
        if role == Some((session.0.as_str(), session.1)) {
            return Ok(());
        }
        let (role, arn) = names();
        Err(CallerError::OtherRole { role, arn })
    }

    /// The start of the role's ARN and the role's name, of a session.
    fn session_of(&self) -> Option<(String, &str)> {
        let (start, session) = self.arn.split_once(":assumed-role/")?;
        let (name, _) = session.split_once('/')?;
        Some((start.replacen(":sts:", ":iam:", 1), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/security/CloudSentinelRespond";

    fn check(arn: &str) -> Result<(), CallerError> {
        Caller { account: "111122223333".into(), arn: arn.into() }.check_role(ROLE)
    }

    #[test]
    fn only_a_session_of_the_role_is_the_role() {
        check("arn:aws:sts::111122223333:assumed-role/CloudSentinelRespond/sentinel").unwrap();
        for arn in [
            "arn:aws:sts::111122223333:assumed-role/Other/sentinel",
            "arn:aws:sts::999988887777:assumed-role/CloudSentinelRespond/sentinel",
            "arn:aws-cn:sts::111122223333:assumed-role/CloudSentinelRespond/sentinel",
            "arn:aws:sts::111122223333:assumed-role/CloudSentinelRespond",
        ] {
            let error = check(arn).unwrap_err();
            assert!(error.to_string().contains(arn) && error.to_string().contains(ROLE), "{error}");
        }
        for arn in ["arn:aws:iam::111122223333:user/CloudSentinelRespond", "arn:aws:iam::111122223333:root"] {
            assert!(matches!(check(arn), Err(CallerError::NoRole { .. })), "{arn}");
        }
    }
}
