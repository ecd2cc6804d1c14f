//! Readable sentences on why an alert was raised.
//!
//! In: events. Out: text for people. What an attacker can choose (names, agents, hosts) is cut short and
//! loses control characters, so that it cannot forge lines or drive a terminal.

use sentinel_model::{Event, Outcome, Principal, PrincipalKind};

/// Longest text taken from a record or rule, in characters.
const MAX_CHARS: usize = 600;
/// Longest name taken from a record, in characters.
const MAX_NAME_CHARS: usize = 120;

/// What the sentence on one event tells: who called what, from where, and how it ended.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who, as [`Call::who`] says it.
    pub who: &'a str,
    /// Service host name.
    pub service: &'a str,
    /// Operation.
    pub action: &'a str,
    /// The service through which it was done.
    pub invoked_by: Option<&'a str>,
    /// Source address or host as text.
    pub source: Option<&'a str>,
    /// Region.
    pub region: Option<&'a str>,
    /// The error's code, if it failed.
    pub failure: Option<&'a str>,
}

impl Call<'_> {
    /// Appends who a principal is.
    pub fn who(principal: &Principal, said: &mut String) {
        who(said, principal);
    }

    /// Appends the sentence.
    pub fn write(&self, said: &mut String) {
        said.push_str(self.who);
        said.push_str(" called ");
        name(said, self.service.strip_suffix(".amazonaws.com").unwrap_or(self.service));
        said.push(':');
        name(said, self.action);
        let parts = [(" through ", self.invoked_by), (" from ", self.source), (" in ", self.region)];
        for (before, text) in parts {
            if let Some(text) = text {
                said.push_str(before);
                name(said, text);
            }
        }
        if let Some(code) = self.failure {
            said.push_str("; it failed (");
            name(said, code);
            said.push(')');
        }
        said.push('.');
    }
}

/// One sentence: who called what, from where, and how it ended.
pub(crate) fn call(event: &Event) -> String {
    // Written into one buffer: this is done for every event that matches anything.
    let mut said = String::with_capacity(160);
    let mut who = String::with_capacity(80);
    Call::who(&event.principal, &mut who);
    Call {
        who: &who,
        service: &event.action.service,
        action: &event.action.name,
        invoked_by: event.invoked_by.as_deref(),
        source: source(event).as_deref(),
        region: event.region.as_deref(),
        failure: match &event.outcome {
            Outcome::Failure { code, .. } => Some(code),
            Outcome::Success => None,
        },
    }
    .write(&mut said);
    said
}

/// Source address or host as text.
pub(crate) fn source(event: &Event) -> Option<String> {
    event.network.source_ip.map(|ip| ip.to_string()).or_else(|| event.network.source_host.clone())
}

/// Text on one line, control characters gone, cut to a bearable length.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::new();
    clip(&mut clean, text, MAX_CHARS);
    clean
}

fn name(said: &mut String, text: &str) {
    clip(said, text, MAX_NAME_CHARS);
}

fn clip(said: &mut String, text: &str, most: usize) {
    // Nearly all names: nothing to clean, nothing to cut. Without a way out early, many bytes are looked at at once.
    let plain = |b: u8| u8::from(b.wrapping_sub(b'!') < 0x7f - b'!');
    if text.len() <= most && text.bytes().fold(1, |all, b| all & plain(b)) == 1 {
        return said.push_str(text);
    }
    // Sentences that are clean already.
    let clean = |b: u8| u8::from(b.wrapping_sub(b' ') < 0x7f - b' ');
    if text.bytes().fold(1, |all, b| all & clean(b)) == 1
        && !(text.starts_with(' ') || text.ends_with(' '))
        && text.as_bytes().windows(2).fold(0, |any, two| any | u8::from(two == b"  ")) == 0
    {
        said.push_str(&text[..text.len().min(most)]);
        if text.len() > most {
            said.push('…');
        }
        return;
    }
    let (mut space, mut left) = (false, most);
    for (n, word) in text.trim().split(|c: char| c.is_control() || c.is_whitespace()).enumerate() {
        space |= n > 0;
        if word.is_empty() {
            continue;
        }
        if std::mem::take(&mut space) {
            if left == 0 {
                return said.push('…');
            }
            said.push(' ');
            left -= 1;
        }
        let letters = if word.is_ascii() { word.len() } else { word.chars().count() };
        if letters > left {
            said.extend(word.chars().take(left));
            return said.push('…');
        }
        said.push_str(word);
        left -= letters;
    }
}

fn who(said: &mut String, principal: &Principal) {
    let called = principal.name.as_deref().unwrap_or(&principal.id);
    let kind = match principal.kind {
        PrincipalKind::Root => {
            said.push_str("The root user");
            return account(said, " of", principal);
        }
        PrincipalKind::Service => {
            name(said, called);
            return said.push_str(" (AWS service)");
        }
        PrincipalKind::Account => {
            said.push_str("Somebody of another account (");
            name(said, &principal.id);
            return said.push(')');
        }
        PrincipalKind::Unknown => return said.push_str("Somebody unknown"),
        PrincipalKind::AssumedRole => match principal.role.as_deref().and_then(|r| r.rsplit('/').next()) {
            Some(role) => {
                name(said, called);
                said.push_str(" (session of role ");
                name(said, role);
                account(said, ",", principal);
                return said.push(')');
            }
            None => "role session",
        },
        PrincipalKind::IamUser => "IAM user",
        PrincipalKind::FederatedUser => "federated user",
        PrincipalKind::External => "user of an outside identity provider",
        PrincipalKind::IdentityCenterUser => "IAM Identity Center user",
    };
    name(said, called);
    said.push_str(" (");
    said.push_str(kind);
    account(said, ",", principal);
    said.push(')');
}

fn account(said: &mut String, before: &str, principal: &Principal) {
    if let Some(account) = &principal.account {
        said.push_str(before);
        said.push_str(" account ");
        name(said, account);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::event;

    fn told(principal: &Principal) -> String {
        let mut said = String::new();
        who(&mut said, principal);
        said
    }

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
            told(&p)
        };
        assert_eq!(read(PrincipalKind::Root), "The root user of account 111122223333");
        assert_eq!(read(PrincipalKind::AssumedRole), "dana (role session, account 111122223333)");
        assert_eq!(read(PrincipalKind::Unknown), "Somebody unknown");
        p.role = Some(String::from("arn:aws:iam::111122223333:role/path/admin"));
        p.kind = PrincipalKind::AssumedRole;
        assert_eq!(told(&p), "dana (session of role admin, account 111122223333)");
    }

    proptest! {
        /// Clean texts are cut where others are: a letter that is none of them ends the short way.
        #[test]
        fn clean_texts_are_cut_like_others(text in "[ab ]{0,12}", most in 0..12_usize) {
            let cut = |text: &str| {
                let mut said = String::new();
                clip(&mut said, text, most);
                said
            };
            prop_assert_eq!(cut(&text), cut(&text.replace('b', "ß")).replace('ß', "b"));
        }
    }

    #[test]
    fn hostile_text_cannot_forge_lines() {
        assert_eq!(clean("a\u{1b}[31m\nb\r\n\tc  d"), "a [31m b c d");
        let mut long = String::new();
        name(&mut long, &"x".repeat(500));
        assert_eq!(long.chars().count(), MAX_NAME_CHARS + 1);
    }
}
