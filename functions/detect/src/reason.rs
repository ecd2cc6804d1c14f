//! Readable sentences on why an alert was raised.
//!
//! In: events. Out: text for people. What an attacker can choose (names, agents, hosts) is cut short and
//! loses control characters, so that it cannot forge lines or drive a terminal.

use sentinel_model::{Event, Outcome, Principal, PrincipalKind};

/// Longest text taken from a record or rule, in characters.
const MAX_CHARS: usize = 600;
/// Longest name taken from a record, in characters.
const MAX_NAME_CHARS: usize = 120;

/// One sentence: who called what, from where, and how it ended.
pub(crate) fn call(event: &Event) -> String {
    let action = format!("{}:{}", short_service(&event.action.service), name(&event.action.name));
    let through = event.invoked_by.as_deref().map(|service| format!(" through {}", name(service)));
    let from = source(event).map(|source| format!(" from {}", name(&source)));
    let region = event.region.as_deref().map(|region| format!(" in {}", name(region)));
    let failed = match &event.outcome {
        Outcome::Success => None,
        Outcome::Failure { code, .. } => Some(format!("; it failed ({})", name(code))),
    };
    let rest = [through, from, region, failed].map(Option::unwrap_or_default).concat();
    format!("{} called {action}{rest}.", who(&event.principal))
}

/// Source address or host as text.
pub(crate) fn source(event: &Event) -> Option<String> {
    event.network.source_ip.map(|ip| ip.to_string()).or_else(|| event.network.source_host.clone())
}

/// Text on one line, control characters gone, cut to a bearable length.
pub(crate) fn clean(text: &str) -> String {
    clip(text, MAX_CHARS)
}

fn name(text: &str) -> String {
    clip(text, MAX_NAME_CHARS)
}

fn clip(text: &str, most: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(most));
    let mut space = false;
    for c in text.trim().chars() {
        if c.is_control() || c.is_whitespace() {
            space = true;
            continue;
        }
        if space {
            clean.push(' ');
            space = false;
        }
        clean.push(c);
    }
    match clean.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

/// `iam` for `iam.amazonaws.com`.
fn short_service(service: &str) -> String {
    name(service.strip_suffix(".amazonaws.com").unwrap_or(service))
}

fn who(principal: &Principal) -> String {
    let account = principal.account.as_deref().map(|a| format!(", account {}", name(a))).unwrap_or_default();
    let called = principal.name.as_deref().unwrap_or(&principal.id);
    match principal.kind {
        PrincipalKind::Root => format!("The root user{}", account.replacen(", ", " of ", 1)),
        PrincipalKind::IamUser => format!("{} (IAM user{account})", name(called)),
        PrincipalKind::AssumedRole => match principal.role.as_deref().and_then(|r| r.rsplit('/').next()) {
            Some(role) => format!("{} (session of role {}{account})", name(called), name(role)),
            None => format!("{} (role session{account})", name(called)),
        },
        PrincipalKind::FederatedUser => format!("{} (federated user{account})", name(called)),
        PrincipalKind::External => format!("{} (user of an outside identity provider{account})", name(called)),
        PrincipalKind::IdentityCenterUser => format!("{} (IAM Identity Center user{account})", name(called)),
        PrincipalKind::Service => format!("{} (AWS service)", name(called)),
        PrincipalKind::Account => format!("Somebody of another account ({})", name(&principal.id)),
        PrincipalKind::Unknown => String::from("Somebody unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    #[test]
    fn failures_and_go_betweens_are_told() {
        let mut e = event("e", "2026-03-02T09:15:00Z", "CreateUser");
        e.outcome = Outcome::Failure { code: String::from("AccessDenied"), message: None };
        e.invoked_by = Some(String::from("cloudformation.amazonaws.com"));
        e.network.source_ip = None;
        e.network.source_host = Some(String::from("AWS Internal"));
        e.region = None;
        assert_eq!(
            call(&e),
            "dana (IAM user, account 111122223333) called iam:CreateUser through cloudformation.amazonaws.com from AWS Internal; it failed (AccessDenied)."
        );
    }

    #[test]
    fn every_kind_of_principal_reads_well() {
        let mut p = event("e", "2026-03-02T09:15:00Z", "CreateUser").principal;
        let mut read = |kind| {
            p.kind = kind;
            who(&p)
        };
        assert_eq!(read(PrincipalKind::Root), "The root user of account 111122223333");
        assert_eq!(read(PrincipalKind::AssumedRole), "dana (role session, account 111122223333)");
        assert_eq!(read(PrincipalKind::Unknown), "Somebody unknown");
        p.role = Some(String::from("arn:aws:iam::111122223333:role/path/admin"));
        p.kind = PrincipalKind::AssumedRole;
        assert_eq!(who(&p), "dana (session of role admin, account 111122223333)");
    }

    #[test]
    fn hostile_text_cannot_forge_lines() {
        assert_eq!(clean("a\u{1b}[31m\nb\r\n\tc  d"), "a [31m b c d");
        assert_eq!(name(&"x".repeat(500)).chars().count(), MAX_NAME_CHARS + 1);
    }
}
