//! Which identities a successful event made, changed or took on, so that one intruder who hops from a user to a
//! key to a role session stays one.
//!
//! Roles are no identities here: what many share links nobody to anybody. Their sessions are.

use sentinel_json::Value;
use sentinel_model::{Event, Identity, LineageEdge, PrincipalKind, lineage::LineageKind};

use crate::normalise::{is_account, partition, text, text_at};

/// Operations on an IAM user's credentials and rights.
const CHANGES: [&str; 24] = [
    "AddUserToGroup",
    "AttachUserPolicy",
    "ChangePassword",
    "CreateServiceSpecificCredential",
    "DeactivateMFADevice",
    "DeleteAccessKey",
    "DeleteLoginProfile",
    "DeleteUserPermissionsBoundary",
    "DeleteUserPolicy",
    "DetachUserPolicy",
    "EnableMFADevice",
    "PutUserPermissionsBoundary",
    "PutUserPolicy",
    "RemoveUserFromGroup",
    "ResetServiceSpecificCredential",
    "ResyncMFADevice",
    "UpdateAccessKey",
    "UpdateLoginProfile",
    "UpdateSSHPublicKey",
    "UpdateServiceSpecificCredential",
    "UpdateSigningCertificate",
    "UpdateUser",
    "UploadSSHPublicKey",
    "UploadSigningCertificate",
];
const MADE: [&str; 3] = ["CreateAccessKey", "CreateLoginProfile", "CreateUser"];
const ASSUMED: [&str; 6] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "GetFederationToken",
    "GetSessionToken",
];
const SWITCH_ROLE: &str = "SwitchRole";

/// Whether events of this name can show lineage: the others need not be looked at.
pub fn is_lineage_action(event_name: &str) -> bool {
    CHANGES.binary_search(&event_name).is_ok()
        || MADE.contains(&event_name)
        || ASSUMED.contains(&event_name)
        || event_name == SWITCH_ROLE
}

/// The lineage that a record shows; `event` is what was normalised of it. Nothing for failures, and nothing
/// whose maker stands for many callers.
pub fn edges(record: Value<'_>, event: &Event) -> Vec<LineageEdge> {
    let name = event.action.name.as_str();
    if !event.outcome.is_success() || !is_lineage_action(name) {
        return Vec::new();
    }
    let mut edges = Edges { record, event, found: Vec::new() };
    match event.action.service.as_str() {
        "iam.amazonaws.com" if MADE.contains(&name) => edges.made(name),
        "iam.amazonaws.com" => edges.changed(name),
        "sts.amazonaws.com" => edges.assumed(),
        "signin.amazonaws.com" if name == SWITCH_ROLE => edges.switched(),
        _ => {}
    }
    edges.found
}

struct Edges<'a> {
    record: Value<'a>,
    event: &'a Event,
    found: Vec<LineageEdge>,
}

impl Edges<'_> {
    fn add(&mut self, made: Identity, how: LineageKind) {
        let principal = &self.event.principal;
        if !principal.identifies_someone() || principal.id == "unknown" {
            return;
        }
        let maker = Identity::Principal(principal.id.clone());
        self.add_from(maker, self.event.access_key_id.clone(), made, how);
    }

    fn add_from(&mut self, maker: Identity, maker_key: Option<String>, made: Identity, how: LineageKind) {
        let own_key = matches!((&made, &maker_key), (Identity::AccessKey(m), Some(k)) if m == k);
        if maker == made || own_key {
            return;
        }
        self.found.push(LineageEdge {
            maker,
            maker_key,
            made,
            how,
            time: self.event.time,
            event_id: self.event.id.clone(),
        });
    }

    /// The ARN of a user in the account whose IAM was called.
    fn user_arn(&self, name: &str, path: &str) -> Option<String> {
        let account = Some(self.event.account.as_str()).filter(|a| is_account(a))?;
        let region = self.event.region.as_deref();
        Some(format!("arn:{}:iam::{account}:user{path}{name}", partition(region)))
    }

    /// The IAM user concerned, by name as the request or answer gives it; none means the caller himself.
    fn user(&self, answer: &str) -> Option<Identity> {
        let name = text_at(self.record, &["requestParameters", "userName"])
            .or_else(|| text_at(self.record, &["responseElements", answer, "userName"]))?;
        if self.event.principal.kind == PrincipalKind::IamUser && self.event.principal.name.as_deref() == Some(name) {
            // The same name in the same account is the caller, whose ARN may have a path that is not known here.
            return Some(Identity::Principal(self.event.principal.id.clone()));
        }
        self.user_arn(name, "/").map(Identity::Principal)
    }

    fn made(&mut self, name: &str) {
        match name {
            "CreateUser" => {
                let built = || {
                    let name = text_at(self.record, &["requestParameters", "userName"])?;
                    let path = text_at(self.record, &["requestParameters", "path"]).unwrap_or("/");
                    self.user_arn(name, path)
                };
                let arn = text_at(self.record, &["responseElements", "user", "arn"]).map(str::to_owned).or_else(built);
                if let Some(arn) = arn {
                    self.add(Identity::Principal(arn), LineageKind::Made);
                }
            }
            "CreateAccessKey" => {
                if let Some(key) = text_at(self.record, &["responseElements", "accessKey", "accessKeyId"]) {
                    self.add(Identity::AccessKey(key.to_owned()), LineageKind::Made);
                }
                if let Some(user) = self.user("accessKey") {
                    self.add(user, LineageKind::Changed);
                }
            }
            _ => {
                if let Some(user) = self.user("loginProfile") {
                    self.add(user, LineageKind::Made);
                }
            }
        }
    }

    fn changed(&mut self, name: &str) {
        if matches!(name, "UpdateAccessKey" | "DeleteAccessKey")
            && let Some(key) = text_at(self.record, &["requestParameters", "accessKeyId"])
        {
            self.add(Identity::AccessKey(key.to_owned()), LineageKind::Changed);
        }
        if let Some(user) = self.user("user") {
            self.add(user, LineageKind::Changed);
        }
    }

    fn assumed(&mut self) {
        let Some(answer) = self.record.get("responseElements").filter(|answer| answer.is_object()) else { return };
        let session =
            text_at(answer, &["assumedRoleUser", "arn"]).or_else(|| text_at(answer, &["federatedUser", "arn"]));
        if let Some(arn) = session {
            self.add(Identity::Principal(arn.to_owned()), LineageKind::Assumed);
        }
        if let Some(key) = text_at(answer, &["credentials", "accessKeyId"]) {
            self.add(Identity::AccessKey(key.to_owned()), LineageKind::Assumed);
        }
    }

    /// The console's role switch: the session bears the name of the user who switched.
    fn switched(&mut self) {
        let Some(more) = self.record.get("additionalEventData") else { return };
        let principal = &self.event.principal;
        if let Some(from) = text(more, "SwitchFrom") {
            if principal.identifies_someone() && principal.id != from && principal.id != "unknown" {
                let made = Identity::Principal(principal.id.clone());
                self.add_from(Identity::Principal(from.to_owned()), None, made, LineageKind::Assumed);
            }
            return;
        }
        let session = text(more, "SwitchTo").and_then(|to| {
            let (head, role) = to.split_once(":role/")?;
            let role = role.rsplit('/').next()?;
            Some(format!("{}:assumed-role/{role}/{}", head.replace(":iam:", ":sts:"), principal.name.as_deref()?))
        });
        if let Some(session) = session {
            self.add(Identity::Principal(session), LineageKind::Assumed);
        }
    }
}

#[cfg(test)]
mod tests;
