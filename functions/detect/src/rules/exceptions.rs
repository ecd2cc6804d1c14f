//! Exceptions: what an operator has looked at and does not want alerts of, said without touching rules.
//!
//! In: a YAML file, a list of entries:
//!
//! ```yaml
//! - rule: 636726f7-2e74-4689-8fb5-465f7c1d0e7c   # id, name or title; "*" for every rule
//!   principal: arn:aws:sts::111122223333:assumed-role/Backup/*
//!   account: "111122223333"
//!   resource: arn:aws:s3:::public-*
//!   network: 198.51.100.0/24
//!   expires: 2026-12-31
//!   name: public site          # in metrics and summaries; else file and line
//!   reason: The web site's buckets are public by design (ticket 4711)
//! ```
//!
//! `rule` and `reason` are required, and every field that is given must match; a field may be a list, of which one
//! must match. `principal` and `resource` are ARNs in which `*` and `?` stand for any text and letter, `principal` is
//! held against the principal and the role behind it. An exception ends with the day `expires` names (UTC): it is not
//! applied to later events, nor read once that day is over. Out: which hits raise no alert, and how many each
//! exception took. Our own role's activity and models have no exceptions.

use std::{
    net::IpAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::IpNet;
use jiff::{civil::Date, tz::TimeZone};
use sentinel_model::{Event, Target, Timestamp};
use serde::{Deserialize, Serialize};

use super::{caps::too_hostile, load::Refused};

/// Entries in all files together.
const MAX_ENTRIES: usize = 2_000;
/// Longest text of a field, in bytes.
const MAX_TEXT_BYTES: usize = 2_048;
/// Longest name of an exception, in bytes: it is a label of a metric.
const MAX_NAME_BYTES: usize = 100;

/// An entry as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    rule: OneOrMany,
    #[serde(default)]
    principal: OneOrMany,
    #[serde(default)]
    account: OneOrMany,
    #[serde(default)]
    resource: OneOrMany,
    #[serde(default)]
    network: OneOrMany,
    expires: Option<String>,
    name: Option<String>,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(String),
    Number(u64),
    Many(Vec<String>),
}

impl OneOrMany {
    fn texts(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text],
            Self::Number(number) => vec![number.to_string()],
            Self::Many(texts) => texts,
        }
    }
}

/// One exception.
#[derive(Debug)]
struct Exception {
    name: String,
    /// Ids, names or titles; empty for every rule.
    rules: Vec<String>,
    principals: Vec<String>,
    accounts: Vec<String>,
    resources: Vec<String>,
    networks: Vec<IpNet>,
    /// The first instant at which it does not count any more.
    ends: Option<Timestamp>,
    reason: String,
    place: String,
    taken: AtomicU64,
}

/// How many hits an exception took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suppressed {
    /// The exception's name: its own, else its file and line.
    pub exception: String,
    /// Rules it names; `*` for every rule.
    pub rule: String,
    /// Why there is an exception.
    pub reason: String,
    /// Hits that raised no alert.
    pub count: u64,
}

/// Exceptions in force.
#[derive(Debug, Default)]
pub struct Exceptions {
    entries: Vec<Exception>,
}

/// What reading a file of exceptions had to tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ExceptionRemarks {
    /// Entries that are not applied because they are wrong.
    pub refused: Vec<Refused>,
    /// Entries that are not applied because they have expired.
    pub warnings: Vec<String>,
}

impl Exceptions {
    /// Reads a file's text and adds its entries. `file` is how messages name it, `now` tells what has expired.
    pub fn add(&mut self, file: &str, text: &str, now: Timestamp) -> ExceptionRemarks {
        let mut remarks = ExceptionRemarks::default();
        let refusal = |line, field: Option<&str>, reason| Refused {
            file: file.to_owned(),
            line,
            field: field.map(str::to_owned),
            reason,
        };
        if let Some(reason) = too_hostile(text) {
            remarks.refused.push(refusal(1, None, reason));
            return remarks;
        }
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "[]")
        {
            return remarks;
        }
        let entries: Vec<serde_yaml_ng::Value> = match serde_yaml_ng::from_str(text) {
            Ok(entries) => entries,
            Err(error) => {
                let line = error.location().and_then(|l| u32::try_from(l.line()).ok()).unwrap_or(1);
                remarks.refused.push(refusal(line.max(1), None, format!("no list of exceptions: {error}")));
                return remarks;
            }
        };
        let lines = entry_lines(text);
        for (number, entry) in entries.into_iter().enumerate() {
            let line = lines.get(number).copied().unwrap_or(1);
            if self.entries.len() >= MAX_ENTRIES {
                remarks.refused.push(refusal(line, None, format!("more than {MAX_ENTRIES} exceptions")));
                return remarks;
            }
            let read = serde_yaml_ng::from_value::<Written>(entry)
                .map_err(|e| (None, e.to_string()))
                .and_then(|written| Exception::new(written, file, line).map_err(|(field, e)| (Some(field), e)));
            match read {
                Err((field, reason)) => remarks.refused.push(refusal(line, field, format!("exception: {reason}"))),
                Ok(exception) if exception.ends.is_some_and(|ends| ends <= now) => remarks.warnings.push(format!(
                    "{}: the exception has expired and is not applied: {}",
                    exception.place, exception.reason
                )),
                Ok(exception) => self.entries.push(exception),
            }
        }
        remarks
    }

    /// Reads a file and adds its entries.
    pub fn add_file(&mut self, path: &Path, now: Timestamp) -> Result<ExceptionRemarks, std::io::Error> {
        Ok(self.add(&path.display().to_string(), &super::load::read(path)?, now))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an exception takes a hit of a rule, which is named by its id, name and title. The first that does
    /// counts it.
    pub fn suppresses<'a>(&self, event: &Event, names: &(impl Iterator<Item = &'a str> + Clone)) -> bool {
        let taken = self.entries.iter().find(|e| e.is_of(names.clone()) && e.covers(event));
        if let Some(exception) = taken {
            exception.taken.fetch_add(1, Ordering::Relaxed);
            sentinel_telemetry::metrics::suppressed(&exception.name);
        }
        taken.is_some()
    }

    /// What each exception took since it was loaded, those that took nothing included.
    pub fn suppressed(&self) -> Vec<Suppressed> {
        let said = |e: &Exception| Suppressed {
            exception: e.name.clone(),
            rule: if e.rules.is_empty() { String::from("*") } else { e.rules.join(", ") },
            reason: e.reason.clone(),
            count: e.taken.load(Ordering::Relaxed),
        };
        self.entries.iter().map(said).collect()
    }

    /// Rules that exceptions name and that are not there, as sentences.
    pub(super) fn unknown(&self, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        let of = |e: &Exception| {
            let missing = e.rules.iter().filter(|rule| !is_known(rule));
            missing
                .map(|rule| format!("{}: the exception is for a rule that is not loaded: {rule:?}", e.place))
                .collect()
        };
        self.entries.iter().flat_map(|e: &Exception| -> Vec<String> { of(e) }).collect()
    }
}

type BadEntry = (&'static str, String);

impl Exception {
    fn new(written: Written, file: &str, line: u32) -> Result<Self, BadEntry> {
        let place = format!("{file}:{line}");
        let rules = texts("rule", written.rule)?;
        let principals = texts("principal", written.principal)?;
        let accounts = texts("account", written.account)?;
        let resources = texts("resource", written.resource)?;
        let networks = texts("network", written.network)?;
        if rules.is_empty() {
            return Err(("rule", String::from("needs a rule's id or title, or *")));
        }
        let every = rules.iter().any(|rule| rule == "*");
        if every && principals.is_empty() && accounts.is_empty() && resources.is_empty() && networks.is_empty() {
            let reason = "one for every rule needs a principal, account, resource or network, or nothing would be left";
            return Err(("rule", reason.to_owned()));
        }
        if written.reason.trim().is_empty() || written.reason.len() > MAX_TEXT_BYTES {
            return Err(("reason", format!("needs a reason of at most {MAX_TEXT_BYTES} bytes")));
        }
        if let Some(account) = accounts.iter().find(|a| a.len() != 12 || !a.bytes().all(|b| b.is_ascii_digit())) {
            return Err(("account", format!("{account:?} is no account: 12 digits, in quotes")));
        }
        for (field, patterns) in [("principal", &principals), ("resource", &resources)] {
            if let Some(pattern) = patterns.iter().find(|p| p.bytes().all(|b| matches!(b, b'*' | b'?'))) {
                return Err((field, format!("{pattern:?} would be anything")));
            }
        }
        let network = |text: &String| parse_network(text).ok_or_else(|| ("network", format!("{text:?} is no network")));
        let networks = networks.iter().map(network).collect::<Result<Vec<_>, _>>()?;
        let name = written.name.filter(|n| !n.trim().is_empty()).unwrap_or_else(|| place.clone());
        if name.len() > MAX_NAME_BYTES && name != place {
            return Err(("name", format!("longer than {MAX_NAME_BYTES} bytes")));
        }
        Ok(Self {
            name,
            rules: if every { Vec::new() } else { rules },
            principals,
            accounts,
            resources,
            networks,
            ends: written.expires.as_deref().map(end_of).transpose()?,
            reason: written.reason.trim().to_owned(),
            place,
            taken: AtomicU64::new(0),
        })
    }

    fn is_of<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        self.rules.is_empty() || names.any(|name| self.rules.iter().any(|rule| rule.eq_ignore_ascii_case(name)))
    }

    fn covers(&self, event: &Event) -> bool {
        let one_of =
            |wanted: &[String], holds: &dyn Fn(&str) -> bool| wanted.is_empty() || wanted.iter().any(|w| holds(w));
        self.ends.is_none_or(|ends| event.time < ends)
            && one_of(&self.accounts, &|account| event.account == account)
            && (self.networks.is_empty()
                || event.network.source_ip.is_some_and(|ip| self.networks.iter().any(|n| n.contains(&unmapped(ip)))))
            && one_of(&self.principals, &|pattern| is_principal(event, pattern))
            && one_of(&self.resources, &|pattern| event.targets.iter().any(|t| is_resource(event, t, pattern)))
    }
}

/// Whether a pattern is the principal or the role behind it. An ARN that was put together from names is nobody's word.
fn is_principal(event: &Event, pattern: &str) -> bool {
    let principal = &event.principal;
    (!principal.inferred && like(pattern, &principal.id)) || principal.role.as_deref().is_some_and(|r| like(pattern, r))
}

/// Whether a pattern is what an event was done to. Where the record has a bare name, it counts as a resource of the
/// called service in the event's account.
fn is_resource(event: &Event, target: &Target, pattern: &str) -> bool {
    if like(pattern, &target.id) {
        return true;
    }
    if target.id.starts_with("arn:") {
        return false;
    }
    let mut parts = pattern.splitn(6, ':');
    let (Some("arn"), Some(_), Some(service), Some(_), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let called = event.action.service.split('.').next().unwrap_or_default();
    let name = resource.rsplit(['/', ':']).next().unwrap_or(resource);
    called.eq_ignore_ascii_case(service)
        && (account.is_empty() || like(account, &event.account))
        && name != "*"
        && like(name, &target.id)
}

/// An address of version 4 that was written as one of version 6 is the former.
fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn parse_network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
}

/// Whether a text is like a pattern with `*` and `?`. Takes time of at most their lengths' product.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and where its text ends so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(letter) if *letter == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, end)) => {
                    (p, t) = (at + 1, end + 1);
                    star = Some((at, end + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

fn texts(field: &'static str, values: OneOrMany) -> Result<Vec<String>, BadEntry> {
    let texts = values.texts();
    if texts.iter().any(|t| t.trim().is_empty() || t.len() > MAX_TEXT_BYTES) {
        return Err((field, format!("must be a text, or a list of texts, of at most {MAX_TEXT_BYTES} bytes each")));
    }
    Ok(texts)
}

/// The instant after the last one of a day, or an instant itself.
fn end_of(text: &str) -> Result<Timestamp, BadEntry> {
    let day = || {
        let next = text.parse::<Date>().ok()?.tomorrow().ok()?;
        Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    // A day first: an instant without a time would be its beginning.
    day()
        .or_else(|| text.parse::<Timestamp>().ok())
        .ok_or_else(|| ("expires", format!("{text:?} is no day (2026-12-31) and no instant (2026-12-31T18:00:00Z)")))
}

/// The line on which each entry of the list begins.
fn entry_lines(text: &str) -> Vec<u32> {
    let dash = |line: &str| line.trim_start().starts_with("- ") || line.trim() == "-";
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(outer) = text.lines().find(|l| dash(l)).map(indent) else { return Vec::new() };
    (1..).zip(text.lines()).filter(|(_, line)| dash(line) && indent(line) == outer).map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn read(text: &str) -> (Exceptions, ExceptionRemarks) {
        let mut exceptions = Exceptions::default();
        let remarks = exceptions.add("e.yml", text, at("2026-06-01T00:00:00Z"));
        (exceptions, remarks)
    }

    /// Whether the exceptions take a hit of rule `r1` ("Key made").
    fn takes(exceptions: &Exceptions, event: &Event) -> bool {
        exceptions.suppresses(event, &["r1", "Key made"].into_iter())
    }

    fn called() -> Event {
        let mut event = event("e1", "2026-05-01T10:00:00Z", "CreateAccessKey");
        event.targets = vec![
            Target { id: "backup".into(), kind: "userName".into(), account: None },
            Target { id: "arn:aws:s3:::public-site/a".into(), kind: "AWS::S3::Object".into(), account: None },
        ];
        event
    }

    #[test]
    fn every_given_field_must_match() {
        let all = "- rule: r1\n  principal: arn:aws:iam::111122223333:user/da*\n  account: 111122223333\n  resource: arn:aws:s3:::public-*\n  network: 203.0.113.0/24\n  expires: 2026-12-31\n  reason: fine\n";
        let (exceptions, remarks) = read(all);
        assert_eq!(remarks, ExceptionRemarks::default());
        assert!(takes(&exceptions, &called()));
        for (from, to) in [
            ("rule: r1", "rule: r2"),
            ("user/da*", "user/eve"),
            ("account: 111122223333", "account: '999999999999'"),
            ("public-*", "private-*"),
            ("203.0.113.0/24", "203.0.113.46"),
        ] {
            assert!(!takes(&read(&all.replace(from, to)).0, &called()), "{to}");
        }
        for (from, to) in [
            ("rule: r1", "rule: key MADE"),
            ("rule: r1", "rule: '*'"),
            ("rule: r1", "rule: [nobody, r1]"),
            ("account: 111122223333", "account: ['999999999999', '111122223333']"),
            ("203.0.113.0/24", "203.0.113.45"),
            ("expires: 2026-12-31", "expires: 2026-12-31T00:00:00Z"),
            ("arn:aws:s3:::public-*", "arn:aws:iam::111122223333:user/backup"),
        ] {
            assert!(takes(&read(&all.replace(from, to)).0, &called()), "{to}");
        }
        assert_eq!(
            exceptions.suppressed(),
            [Suppressed { exception: "e.yml:1".into(), rule: "r1".into(), reason: "fine".into(), count: 1 }]
        );
    }

    #[test]
    fn a_bare_name_is_a_resource_of_the_called_service_alone() {
        let takes_resource = |resource: &str| {
            takes(&read(&format!("- {{rule: r1, resource: '{resource}', reason: fine}}")).0, &called())
        };
        assert!(takes_resource("arn:aws:iam::111122223333:user/backup"));
        assert!(takes_resource("arn:aws:iam::*:user/back*"));
        assert!(takes_resource("backup"));
        assert!(!takes_resource("arn:aws:iam::999999999999:user/backup"));
        assert!(!takes_resource("arn:aws:s3:::backup"));
        assert!(!takes_resource("arn:aws:iam::111122223333:user/*"));
    }

    #[test]
    fn a_principal_is_never_what_was_put_together_from_names() {
        let (exceptions, _) = read("- {rule: r1, principal: 'arn:aws:iam::111122223333:*', reason: fine}");
        let mut event = called();
        assert!(takes(&exceptions, &event));
        event.principal.inferred = true;
        assert!(!takes(&exceptions, &event));
        event.principal.role = Some("arn:aws:iam::111122223333:role/Backup".into());
        assert!(takes(&exceptions, &event));
    }

    #[test]
    fn exceptions_end() {
        let (exceptions, remarks) = read("- {rule: r1, expires: 2026-05-31, reason: migration}");
        assert!(exceptions.is_empty() && remarks.refused.is_empty());
        assert_eq!(remarks.warnings, ["e.yml:1: the exception has expired and is not applied: migration"]);
        let (exceptions, remarks) = read("- {rule: r1, expires: 2026-06-01, reason: migration}");
        assert_eq!(remarks, ExceptionRemarks::default());
        assert!(takes(&exceptions, &event("a", "2026-06-01T23:59:59Z", "X")));
        assert!(!takes(&exceptions, &event("a", "2026-06-02T00:00:00Z", "X")));
    }

    #[test]
    fn a_bad_entry_costs_only_itself() {
        let bad = [
            ("{rule: r1}", "reason", None),
            ("{reason: fine}", "rule", None),
            ("{rule: r1, reason: fine, colour: red}", "colour", None),
            ("{rule: '*', reason: fine}", "every rule", Some("rule")),
            ("{rule: [], reason: fine}", "needs a rule", Some("rule")),
            ("{rule: r1, reason: ' '}", "reason", Some("reason")),
            ("{rule: r1, reason: fine, account: 12}", "12 digits", Some("account")),
            ("{rule: r1, reason: fine, network: here}", "no network", Some("network")),
            ("{rule: r1, reason: fine, principal: '*'}", "anything", Some("principal")),
            ("{rule: r1, reason: fine, expires: soon}", "no day", Some("expires")),
            ("just text", "invalid type", None),
        ];
        let entries: Vec<_> = bad.iter().map(|(entry, ..)| format!("- {entry}\n")).collect();
        let (exceptions, remarks) = read(&format!("# ours\n{}- rule: r1\n  reason: fine\n", entries.concat()));
        assert!(takes(&exceptions, &called()));
        assert_eq!(remarks.refused.len(), bad.len(), "{:#?}", remarks.refused);
        for (number, ((_, reason, field), refused)) in (2..).zip(bad.iter().zip(&remarks.refused)) {
            assert!(refused.reason.contains(reason), "{refused:?}");
            assert_eq!((refused.line, refused.field.as_deref()), (number, *field), "{refused:?}");
        }
        for none in ["", "# nothing\n", "[]"] {
            assert!(read(none).0.is_empty() && read(none).1.refused.is_empty(), "{none}");
        }
        assert_eq!(read("rule: r1\n").1.refused.len(), 1);
        assert_eq!(read("- rule: r1\n  reason: [\n").1.refused.len(), 1);
    }

    #[test]
    fn unknown_rules_are_named() {
        let (exceptions, _) =
            read("- {rule: [r1, ghost], reason: fine}\n- {rule: '*', account: '111122223333', reason: fine}");
        let unknown = exceptions.unknown(|rule| rule == "r1");
        assert_eq!(unknown, ["e.yml:1: the exception is for a rule that is not loaded: \"ghost\""]);
    }

    proptest! {
        #[test]
        fn patterns_mean_what_a_regex_of_them_would(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            prop_assert_eq!(like(&pattern, &text), regex::Regex::new(&regex).unwrap().is_match(&text));
        }
    }
}
