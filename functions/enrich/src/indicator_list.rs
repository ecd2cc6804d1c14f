//! The built-in source of intelligence: local lists of indicators.
//!
//! In: files of plain lines, CSV or NDJSON, told apart line by line. Out: an [`IndicatorList`] and the lines that
//! could not be read, each with file and line; a bad line never costs the others.
//!
//! - plain: `198.51.100.7` alone is known bad;
//! - CSV: `indicator,verdict,source,expires` with the last two optional; a header line is passed over;
//! - NDJSON: `{"indicator": "...", "verdict": "suspicious", "source": "...", "expires": "2026-01-01T00:00:00Z"}`.
//!
//! An indicator is an address, a network (`198.51.100.0/24`), an access key id, an ARN, or else a user agent
//! (compared whole, without regard to case; `kind` in NDJSON or a prefix such as `agent:` says it explicitly).

use std::{collections::HashMap, net::IpAddr, path::Path};

use async_trait::async_trait;
use sentinel_model::{
    Timestamp,
    alert::{IntelFinding, Reputation},
    time,
};
use serde::Deserialize;

use crate::intel::{Indicator, IntelError, Intelligence};

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BadLine {
    /// The file as given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Debug, Clone)]
struct Entry {
    reputation: Reputation,
    source: String,
    expires: Option<Timestamp>,
}

/// What lists say, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct IndicatorList {
    exact: HashMap<Indicator, Vec<Entry>>,
    /// Networks by address family, prefix length and masked address.
    networks: HashMap<(bool, u8, u128), Vec<Entry>>,
    /// Prefix lengths in use, by family, so that a lookup asks only for those.
    lengths: Vec<(bool, u8)>,
    len: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    indicator: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    expires: Option<String>,
}

/// What a line is about.
enum Subject {
    Exact(Indicator),
    Network(IpAddr, u8),
}

impl IndicatorList {
    /// Adds a file's lines; returns those that could not be read.
    ///
    /// # Errors
    /// The file cannot be read at all.
    pub fn load(&mut self, path: &Path) -> std::io::Result<Vec<BadLine>> {
        let text = std::fs::read(path)?;
        let name = path.display().to_string();
        let stem = path.file_name().map_or_else(|| name.clone(), |n| n.to_string_lossy().into_owned());
        Ok(self.add(&String::from_utf8_lossy(&text), &name, &stem))
    }

    /// Adds the lines of a text; `source` names those lines that name none.
    pub fn add(&mut self, text: &str, file: &str, source: &str) -> Vec<BadLine> {
        let mut bad = Vec::new();
        for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty()
                || line.starts_with('#')
                || (i == 0 && line.to_ascii_lowercase().starts_with("indicator,"))
            {
                continue;
            }
            if let Err(reason) = self.add_line(line, source) {
                bad.push(BadLine { file: file.to_owned(), line: i + 1, reason });
            }
        }
        bad
    }

    /// How many indicators it knows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add_line(&mut self, line: &str, source: &str) -> Result<(), String> {
        let parsed = if line.starts_with('{') {
            serde_json::from_str::<JsonLine>(line).map_err(|e| format!("no indicator object: {e}"))?
        } else {
            let mut fields = split_csv(line)?.into_iter();
            let indicator = fields.next().unwrap_or_default();
            let mut next = || fields.next().filter(|f| !f.is_empty());
            let parsed = JsonLine { indicator, kind: None, verdict: next(), source: next(), expires: next() };
            if fields.next().is_some() {
                return Err("more than four fields: indicator, verdict, source, expires".into());
            }
            parsed
        };
        let reputation = match parsed.verdict.as_deref().map(str::trim) {
            None | Some("known_bad") => Reputation::KnownBad,
            Some("suspicious") => Reputation::Suspicious,
            Some(other) => return Err(format!("unknown verdict {other:?}: expected suspicious or known_bad")),
        };
        let expires = match parsed.expires.as_deref() {
            None => None,
            Some(text) => Some(parse_expiry(text).ok_or_else(|| format!("expiry {text:?} is not a time"))?),
        };
        let source = parsed.source.filter(|s| !s.trim().is_empty()).unwrap_or_else(|| source.to_owned());
        let entry = Entry { reputation, source, expires };
        match subject(parsed.indicator.trim(), parsed.kind.as_deref())? {
            Subject::Exact(indicator) => self.exact.entry(indicator).or_default().push(entry),
            Subject::Network(address, length) => {
                let (v6, bits) = bits_of(address);
                if !self.lengths.contains(&(v6, length)) {
                    self.lengths.push((v6, length));
                }
                self.networks.entry((v6, length, mask(v6, bits, length))).or_default().push(entry);
            }
        }
        self.len += 1;
        Ok(())
    }

    /// What it says of one indicator as of `at`.
    pub fn check(&self, indicator: &Indicator, at: Timestamp) -> Vec<IntelFinding> {
        let mut found: Vec<&Entry> = self.exact.get(&normalised(indicator)).into_iter().flatten().collect();
        if let Indicator::Address(text) = indicator
            && let Ok(address) = text.parse::<IpAddr>()
        {
            let (v6, bits) = bits_of(address);
            for (family, length) in self.lengths.iter().filter(|(family, _)| *family == v6) {
                found.extend(self.networks.get(&(*family, *length, mask(v6, bits, *length))).into_iter().flatten());
            }
        }
        found
            .into_iter()
            .filter(|e| e.expires.is_none_or(|t| t > at))
            .map(|e| IntelFinding {
                reputation: e.reputation,
                kind: indicator.kind().to_owned(),
                indicator: indicator.value().to_owned(),
                source: e.source.clone(),
            })
            .collect()
    }

    /// What it says of several indicators as of `at`.
    pub fn check_all(&self, indicators: &[Indicator], at: Timestamp) -> Vec<IntelFinding> {
        if self.is_empty() {
            return Vec::new();
        }
        indicators.iter().flat_map(|i| self.check(i, at)).collect()
    }
}

#[async_trait]
impl Intelligence for IndicatorList {
    async fn lookup(&self, indicators: &[Indicator], at: Timestamp) -> Result<Vec<IntelFinding>, IntelError> {
        Ok(self.check_all(indicators, at))
    }
}

/// An expiry: a time, or a day, through whose beginning in UTC the line holds.
fn parse_expiry(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    time::parse_event_time(text).or_else(|| time::parse_event_time(&format!("{text}T00:00:00Z")))
}

fn subject(text: &str, kind: Option<&str>) -> Result<Subject, String> {
    let (kind, value) = match kind {
        Some(kind) => (Some(kind), text),
        None => match text.split_once(':') {
            Some((k @ ("agent" | "key" | "principal" | "address"), rest)) => (Some(k), rest),
            _ => (None, text),
        },
    };
    let value = value.trim();
    if value.is_empty() {
        return Err("no indicator".into());
    }
    match kind {
        Some("agent" | "user_agent") => return Ok(Subject::Exact(Indicator::Agent(value.to_ascii_lowercase()))),
        Some("key" | "access_key") => return Ok(Subject::Exact(Indicator::Key(value.to_owned()))),
        Some("principal") => return Ok(Subject::Exact(Indicator::Principal(value.to_owned()))),
        Some("address" | "network" | "ip" | "cidr") => {
            return address(value).ok_or_else(|| format!("{value:?} is no address or network"));
        }
        Some(other) => return Err(format!("unknown kind {other:?}: expected address, key, agent or principal")),
        None => {}
    }
    if let Some(found) = address(value) {
        return Ok(found);
    }
    if value.starts_with("arn:") {
        return Ok(Subject::Exact(Indicator::Principal(value.to_owned())));
    }
    if is_key_id(value) {
        return Ok(Subject::Exact(Indicator::Key(value.to_owned())));
    }
    // What looks like an address but is none is a mistake, not a user agent.
    if value.bytes().all(|b| b.is_ascii_digit() || b".:/".contains(&b)) {
        return Err(format!("{value:?} is no address or network"));
    }
    Ok(Subject::Exact(Indicator::Agent(value.to_ascii_lowercase())))
}

/// An access key id: four letters that say its kind, then 12 or more capitals and digits (IAM User Guide,
/// "IAM identifiers", unique ID prefixes).
fn is_key_id(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && (text.starts_with("AKIA") || text.starts_with("ASIA"))
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn address(text: &str) -> Option<Subject> {
    let Some((address, length)) = text.split_once('/') else {
        let (v6, bits) = bits_of(text.parse().ok()?);
        return Some(Subject::Exact(Indicator::Address(address_text(v6, bits))));
    };
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    let most = if address.is_ipv6() { 128 } else { 32 };
    (length <= most).then_some(Subject::Network(address, length))
}

/// Family (IPv6 or not) and bits; an IPv4 address written as IPv6 is the IPv4 address.
fn bits_of(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

fn address_text(v6: bool, bits: u128) -> String {
    if v6 {
        std::net::Ipv6Addr::from_bits(bits).to_string()
    } else {
        std::net::Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(0)).to_string()
    }
}

fn mask(v6: bool, bits: u128, length: u8) -> u128 {
    let width: u32 = if v6 { 128 } else { 32 };
    let drop = width - u32::from(length).min(width);
    if drop >= 128 { 0 } else { (bits >> drop) << drop }
}

fn normalised(indicator: &Indicator) -> Indicator {
    match indicator {
        Indicator::Agent(text) => Indicator::Agent(text.to_ascii_lowercase()),
        Indicator::Address(text) => match text.parse() {
            Ok(address) => {
                let (v6, bits) = bits_of(address);
                Indicator::Address(address_text(v6, bits))
            }
            Err(_) => indicator.clone(),
        },
        other => other.clone(),
    }
}

/// Splits a CSV line (RFC 4180: quoted fields, doubled quotes within them).
fn split_csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_owned()),
            _ => field.push(c),
        }
    }
    if quoted {
        return Err("a quoted field is not closed".into());
    }
    fields.push(field.trim().to_owned());
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "indicator,verdict,source,expires\n\
        # comment\n\
        198.51.100.7\n\
        203.0.113.0/24,suspicious,\"Feed, one\",2024-06-01\n\
        2001:db8::/32,known_bad\n\
        AKIAIOSFODNN7EXAMPLE,known_bad,leak\n\
        agent:Pacu/1.0,suspicious\n\
        {\"indicator\":\"arn:aws:iam::111122223333:user/mallory\",\"verdict\":\"suspicious\",\"source\":\"hr\"}\n\
        300.1.1.1\n\
        198.51.100.8,awful\n\
        203.0.113.0/40\n\
        {\"indicator\":5}\n\
        198.51.100.9,suspicious,x,someday\n\
        \"open\n";

    fn list() -> (IndicatorList, Vec<BadLine>) {
        let mut list = IndicatorList::default();
        let bad = list.add(LIST, "iocs.csv", "iocs");
        (list, bad)
    }

    fn says(list: &IndicatorList, indicator: &Indicator, at: &str) -> Vec<(Reputation, String)> {
        list.check(indicator, at.parse().unwrap()).into_iter().map(|f| (f.reputation, f.source)).collect()
    }

    #[test]
    fn bad_lines_are_named_and_cost_no_other_line() {
        let (list, bad) = list();
        assert_eq!(list.len(), 6);
        assert_eq!(bad.iter().map(|b| b.line).collect::<Vec<_>>(), [9, 10, 11, 12, 13, 14]);
        assert!(bad[1].to_string().starts_with("iocs.csv:10: unknown verdict"), "{}", bad[1]);
    }

    #[test]
    fn every_kind_is_found() {
        use Reputation::{KnownBad, Suspicious};
        let (list, _) = list();
        let day = "2024-05-01T00:00:00Z";
        let address = |a: &str| Indicator::Address(a.into());
        assert_eq!(says(&list, &address("198.51.100.7"), day), [(KnownBad, "iocs".into())]);
        assert_eq!(says(&list, &address("::ffff:198.51.100.7"), day), [(KnownBad, "iocs".into())]);
        assert_eq!(says(&list, &address("203.0.113.77"), day), [(Suspicious, "Feed, one".into())]);
        assert_eq!(says(&list, &address("2001:db8:1::5"), day), [(KnownBad, "iocs".into())]);
        assert_eq!(says(&list, &Indicator::Key("AKIAIOSFODNN7EXAMPLE".into()), day), [(KnownBad, "leak".into())]);
        assert_eq!(says(&list, &Indicator::Agent("pacu/1.0".into()), day), [(Suspicious, "iocs".into())]);
        let mallory = Indicator::Principal("arn:aws:iam::111122223333:user/mallory".into());
        assert_eq!(says(&list, &mallory, day), [(Suspicious, "hr".into())]);
        for unknown in [address("198.51.100.1"), address("203.0.114.1"), address("AWS Internal")] {
            assert!(says(&list, &unknown, day).is_empty());
        }
    }

    #[test]
    fn an_expired_line_says_nothing_of_later_events() {
        let (list, _) = list();
        let address = Indicator::Address("203.0.113.77".into());
        assert_eq!(says(&list, &address, "2024-05-31T23:59:59Z").len(), 1);
        assert!(says(&list, &address, "2024-06-01T00:00:00Z").is_empty());
    }

    #[test]
    fn the_widest_networks_fit() {
        let mut list = IndicatorList::default();
        assert!(list.add("0.0.0.0/0,suspicious\n::/0,suspicious", "f", "f").is_empty());
        assert_eq!(list.check(&Indicator::Address("8.8.8.8".into()), Timestamp::UNIX_EPOCH).len(), 1);
        assert_eq!(list.check(&Indicator::Address("2001:db8::1".into()), Timestamp::UNIX_EPOCH).len(), 1);
    }
}
