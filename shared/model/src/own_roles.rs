//! The roles that our own calls are made with, by which the events they cause are known.

use std::collections::BTreeSet;

/// Roles by ARN, and one by its name in whatever account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnRoles {
    arns: BTreeSet<String>,
    member: Option<String>,
}

impl OwnRoles {
    /// Also the role of this name, with its path if it has one (`security/CloudSentinelMember`), in every
    /// account: what respond assumes in member accounts.
    #[must_use]
    pub fn and_in_members(mut self, role: Option<&str>) -> Self {
        self.member = role.map(|name| name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty());
        self
    }

    /// Whether a role is ours; `arn` is the role's (`arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`), not a session's.
    pub fn contains(&self, arn: &str) -> bool {
        self.arns.contains(arn) || self.member.as_deref().is_some_and(|name| role_name(arn) == Some(name))
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.arns.is_empty() && self.member.is_none()
    }
}

impl<S: Into<String>> FromIterator<S> for OwnRoles {
    fn from_iter<I: IntoIterator<Item = S>>(arns: I) -> Self {
        Self { arns: arns.into_iter().map(Into::into).collect(), member: None }
    }
}

/// Path and name of a role's ARN.
fn role_name(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let is_iam = parts.next() == Some("arn") && parts.nth(1) == Some("iam");
    parts.nth(2).filter(|_| is_iam)?.strip_prefix("role/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_known_by_arn_or_in_every_account_by_name() {
        let own: OwnRoles = ["arn:aws:iam::111122223333:role/Contain"].into_iter().collect();
        assert!(own.contains("arn:aws:iam::111122223333:role/Contain"));
        assert!(!own.contains("arn:aws:iam::444455556666:role/Contain"), "an ARN is of one account");
        let own = own.and_in_members(Some("/security/Member"));
        assert!(own.contains("arn:aws-cn:iam::444455556666:role/security/Member"));
        for other in [
            "arn:aws:iam::444455556666:role/Member",
            "arn:aws:iam::444455556666:user/security/Member",
            "arn:aws:sts::444455556666:assumed-role/security/Member",
            "role/security/Member",
            "",
        ] {
            assert!(!own.contains(other), "{other}");
        }
    }

    #[test]
    fn no_name_is_no_role() {
        for none in [OwnRoles::default(), OwnRoles::default().and_in_members(Some("")), OwnRoles::default()] {
            assert!(none.is_empty() && !none.contains("") && !none.contains("arn:aws:iam::1:role/"));
        }
    }
}
