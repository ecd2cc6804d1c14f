//! Who acted: the principal of a record, from `userIdentity` (AWS CloudTrail User Guide, "CloudTrail
//! userIdentity element").

use sentinel_json::Value;
use sentinel_model::{Principal, PrincipalKind};

use super::{is_account, partition, text_at};
use crate::head::{self, Head, text};

/// What CloudTrail writes for a user name that may be a password typed into the wrong field.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// The principal of a record that happened in `account`; `who` is the record's `userIdentity`.
pub(super) fn principal(record: &Head<'_>, who: &head::Identity<'_>, account: &str, region: Option<&str>) -> Principal {
    if !record.identity.is_some_and(Value::is_object) {
        return service_or_unknown(record);
    }
    let who = Identity { record, who, account, partition: partition(region) };
    match text(who.who.kind) {
        Some("Root") => who.root(),
        Some("IAMUser") => who.user(),
        Some("AssumedRole") => who.session(),
        Some("FederatedUser") => who.federated(),
        Some("AWSAccount") => who.other_account(),
        Some("AWSService") => who.service(),
        Some("IdentityCenterUser") => who.identity_center(),
        Some("SAMLUser" | "WebIdentityUser" | "Directory") => who.external(),
        _ => who.untyped(),
    }
}

/// Whether nothing but the identity, the account and the partition tells who it is.
pub(super) fn is_told_by_identity(who: &head::Identity<'_>) -> bool {
    let kinds = ["Root", "IAMUser", "AssumedRole", "FederatedUser", "AWSAccount", "IdentityCenterUser"];
    text(who.kind).is_some_and(|kind| kinds.contains(&kind))
}

/// A record without an identity: what a service did by itself, or nobody known.
fn service_or_unknown(record: &Head<'_>) -> Principal {
    match text(record.event_source) {
        Some(host) if text(record.event_type) == Some("AwsServiceEvent") && is_host(host) => service(host),
        _ => Principal::unknown(),
    }
}

fn service(host: &str) -> Principal {
    Principal { kind: PrincipalKind::Service, ..plain(host.to_owned()) }
}

fn plain(id: String) -> Principal {
    let (kind, actor) = (PrincipalKind::Unknown, id.clone());
    Principal { id, kind, account: None, role: None, name: None, actor, inferred: false }
}

fn is_host(text: &str) -> bool {
    text.contains('.') && !text.contains(char::is_whitespace)
}

struct Identity<'h, 'a> {
    record: &'h Head<'a>,
    who: &'h head::Identity<'a>,
    account: &'h str,
    partition: &'static str,
}

impl<'a> Identity<'_, 'a> {
    fn arn(&self) -> Option<&'a str> {
        text(self.who.arn).filter(|a| a.starts_with("arn:"))
    }

    /// The identity's own account, as far as told.
    fn own_account(&self) -> Option<&'a str> {
        text(self.who.account)
            .filter(|a| is_account(a))
            .or_else(|| self.arn().and_then(account_of).filter(|a| is_account(a)))
    }

    /// The account to build an ARN from: the identity's own, else that of the event.
    fn building_account(&self) -> Option<&str> {
        self.own_account().or_else(|| Some(self.account).filter(|a| is_account(a)))
    }

    fn name(&self) -> Option<&'a str> {
        text(self.who.user_name).filter(|n| *n != HIDDEN)
    }

    fn some(&self, kind: PrincipalKind, id: String, inferred: bool) -> Principal {
        Principal { kind, account: self.own_account().map(str::to_owned), inferred, ..plain(id) }
    }

    /// Nobody who can be named; what is known of him stands beside it.
    fn unnamed(&self, kind: PrincipalKind) -> Principal {
        Principal { name: self.name().map(str::to_owned), ..self.some(kind, "unknown".to_owned(), false) }
    }

    fn root(&self) -> Principal {
        if let Some(arn) = self.arn() {
            return self.some(PrincipalKind::Root, arn.to_owned(), false);
        }
        let principal = text(self.who.principal_id).filter(|p| is_account(p));
        match self.own_account().or(principal).or_else(|| self.building_account()) {
            Some(account) => {
                let id = format!("arn:{}:iam::{account}:root", self.partition);
                Principal { account: Some(account.to_owned()), ..self.some(PrincipalKind::Root, id, true) }
            }
            None => Principal::unknown(),
        }
    }

    fn user(&self) -> Principal {
        if let Some(arn) = self.arn() {
            let name = self.name().or_else(|| arn.rsplit('/').next()).map(str::to_owned);
            return Principal { name, ..self.some(PrincipalKind::IamUser, arn.to_owned(), false) };
        }
        match (self.building_account(), self.name()) {
            (Some(account), Some(name)) => {
                let id = format!("arn:{}:iam::{account}:user/{name}", self.partition);
                let user = self.some(PrincipalKind::IamUser, id, true);
                Principal { name: Some(name.to_owned()), account: Some(account.to_owned()), ..user }
            }
            _ => self.unnamed(PrincipalKind::Unknown),
        }
    }

    fn issuer(&self, key: &str) -> Option<&'a str> {
        text_at(self.who.session?, &["sessionIssuer", key])
    }

    fn session(&self) -> Principal {
        let arn = self.arn();
        let principal_id = text(self.who.principal_id);
        let name = arn
            .filter(|a| part(a, ASSUMED_ROLE).is_some())
            .and_then(|a| a.splitn(3, '/').nth(2))
            .or_else(|| principal_id.and_then(|p| p.split_once(':')).map(|(_, name)| name))
            .filter(|n| !n.is_empty());
        let role_name = arn
            .and_then(|a| part(a, ASSUMED_ROLE))
            .and_then(|rest| rest.split('/').next())
            .or_else(|| self.issuer("userName"));
        let built_role = || {
            let account = self.building_account()?;
            Some(format!("arn:{}:iam::{account}:role/{}", self.partition_of(arn), role_name?))
        };
        let role = self.issuer("arn").map(str::to_owned).or_else(built_role);
        let id = match (arn, self.building_account(), role_name, name) {
            (Some(arn), ..) => Some((arn.to_owned(), false)),
            (None, Some(account), Some(role), Some(name)) => {
                Some((format!("arn:{}:sts::{account}:assumed-role/{role}/{name}", self.partition), true))
            }
            _ => None,
        };
        let mut session = match id {
            Some((id, inferred)) => self.some(PrincipalKind::AssumedRole, id, inferred),
            None => self.unnamed(PrincipalKind::Unknown),
        };
        session.name = name.map(str::to_owned);
        if let Some(role) = &role {
            session.actor = match name.filter(|n| self.is_person(role, n)) {
                Some(person) => format!("{role}/{person}"),
                None => role.clone(),
            };
        }
        session.role = role;
        session
    }

    fn partition_of(&self, arn: Option<&'a str>) -> &str {
        arn.and_then(|a| a.split(':').nth(1)).unwrap_or(self.partition)
    }

    /// Whether a role session's name names a person: Identity Center and SAML make it so, and nobody calls a
    /// workload by a mail address.
    fn is_person(&self, role: &str, session: &str) -> bool {
        let provider = self.who.session.and_then(|s| text_at(s, &["webIdFederationData", "federatedProvider"]));
        role.contains("/AWSReservedSSO_")
            || session.contains('@')
            || provider.is_some_and(|p| p.contains(":saml-provider/"))
    }

    fn federated(&self) -> Principal {
        let role = self.issuer("arn").map(str::to_owned);
        let name = self
            .arn()
            .and_then(|a| a.split_once(":federated-user/"))
            .or_else(|| text(self.who.principal_id).and_then(|p| p.split_once(':')))
            .map(|(_, name)| name)
            .or_else(|| self.name());
        let federated = match (self.arn(), self.building_account(), name) {
            (Some(arn), ..) => self.some(PrincipalKind::FederatedUser, arn.to_owned(), false),
            (None, Some(account), Some(name)) => {
                let id = format!("arn:{}:sts::{account}:federated-user/{name}", self.partition);
                self.some(PrincipalKind::FederatedUser, id, true)
            }
            _ => self.unnamed(PrincipalKind::Unknown),
        };
        Principal { role, name: name.map(str::to_owned), ..federated }
    }

    fn other_account(&self) -> Principal {
        match self.own_account() {
            Some(account) => self.some(PrincipalKind::Account, format!("account:{account}"), false),
            None => Principal::unknown(),
        }
    }

    /// A service by its host name. `AWS Internal` names none; then the address or the event's service does.
    fn service(&self) -> Principal {
        let candidates = [text(self.who.invoked_by), text(self.record.source), text(self.record.event_source)];
        let is_name = |h: &&str| is_host(h) && h.parse::<std::net::IpAddr>().is_err();
        match candidates.into_iter().flatten().find(is_name) {
            Some(host) => service(host),
            None => Principal { kind: PrincipalKind::Service, ..Principal::unknown() },
        }
    }

    /// A user of IAM Identity Center (`onBehalfOf`), by the ARN that the identity store gives users.
    fn identity_center(&self) -> Principal {
        if let Some(arn) = self.arn() {
            return self.some(PrincipalKind::IdentityCenterUser, arn.to_owned(), false);
        }
        let user = self
            .record
            .identity
            .and_then(|i| text_at(i, &["onBehalfOf", "userId"]))
            .or_else(|| text(self.who.principal_id));
        match user {
            Some(user) => {
                let id = format!("arn:{}:identitystore:::user/{user}", self.partition);
                let found = self.some(PrincipalKind::IdentityCenterUser, id, true);
                Principal { name: self.name().map(str::to_owned), ..found }
            }
            None => self.unnamed(PrincipalKind::Unknown),
        }
    }

    /// Somebody of an outside provider who has no session yet.
    fn external(&self) -> Principal {
        match self.arn() {
            Some(arn) => {
                let found = self.some(PrincipalKind::External, arn.to_owned(), false);
                Principal { name: self.name().map(str::to_owned), ..found }
            }
            None => self.unnamed(PrincipalKind::External),
        }
    }

    /// No type, or `Unknown`, or one that is new: the ARN tells, or the service that called.
    fn untyped(&self) -> Principal {
        match self.arn() {
            Some(arn) if part(arn, ASSUMED_ROLE).is_some() => self.session(),
            Some(arn) if arn.contains(":federated-user/") => self.federated(),
            Some(arn) if arn.ends_with(":root") => self.root(),
            Some(arn) if arn.contains(":user/") => self.user(),
            Some(arn) => self.some(PrincipalKind::Unknown, arn.to_owned(), false),
            None if text(self.who.invoked_by).is_some_and(is_host) => self.service(),
            None if self.who.session.and_then(|s| s.get("sessionIssuer")).is_some_and(Value::is_object)
                && text(self.who.principal_id).is_some() =>
            {
                self.session()
            }
            None if text(self.who.invoked_by).is_some() => self.service(),
            None => match service_or_unknown(self.record) {
                unknown if unknown.kind == PrincipalKind::Unknown => self.unnamed(PrincipalKind::Unknown),
                found => found,
            },
        }
    }
}

const ASSUMED_ROLE: &str = "assumed-role/";

/// What follows the first part of an ARN that begins so; the parts stand behind colons. This is asked of every
/// session's record, and a search for the whole text would cost more to prepare than to do.
fn part<'a>(arn: &'a str, begins: &str) -> Option<&'a str> {
    memchr::memchr_iter(b':', arn.as_bytes()).find_map(|at| arn[at + 1..].strip_prefix(begins))
}

fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|a| !a.is_empty())
}
