//! What the name of a file or object says about the records in it.
//!
//! CloudTrail names its objects `AWSLogs/[o-xxxx/]ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/
//! ACCOUNT_CloudTrail_REGION_YYYYMMDDTHHmmZ_UNIQUE.json.gz` (AWS CloudTrail User Guide, "CloudTrail log file
//! name format").

use sentinel_model::Timestamp;

/// What could be read from a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyHints {
    /// The account whose trail wrote the file.
    pub account: Option<String>,
    /// The Region it was written for.
    pub region: Option<String>,
    /// The time in the file's name, else the start of the day of its folders.
    pub time: Option<Timestamp>,
}

impl KeyHints {
    /// Reads a path or object key; unknown parts stay `None`.
    pub fn of(name: &str) -> Self {
        let name = name.replace('\\', "/");
        let parts: Vec<&str> = name.split('/').collect();
        let file = parts.last().copied().unwrap_or_default();
        let mut hints = Self::of_file(file);
        let Some(root) = parts.iter().rposition(|p| *p == "AWSLogs") else { return hints };
        let mut rest = parts[root + 1..].iter().copied();
        let mut next = rest.next();
        if next.is_some_and(|p| p.starts_with("o-")) {
            next = rest.next();
        }
        let Some(account) = next.filter(|p| is_account(p)) else { return hints };
        hints.account = Some(account.to_owned());
        if !rest.next().is_some_and(|p| p.starts_with("CloudTrail")) {
            return hints;
        }
        if let Some(region) = rest.next().filter(|p| is_region(p)) {
            hints.region = Some(region.to_owned());
        }
        if hints.time.is_none() {
            let day: Vec<&str> = rest.take(3).collect();
            hints.time = format!("{}T00:00:00Z", day.join("-")).parse().ok();
        }
        hints
    }

    fn of_file(file: &str) -> Self {
        let stem = file.split('.').next().unwrap_or_default();
        let parts: Vec<&str> = stem.split('_').collect();
        if parts.len() < 3 || !is_account(parts[0]) || !parts[1].starts_with("CloudTrail") {
            return Self::default();
        }
        // Some tools write `REGION-TIME` instead of `REGION_TIME`.
        let (region, time) = match parts[2].rsplit_once('-') {
            Some((region, time)) if parse_time(time).is_some() => (region, Some(time)),
            _ => (parts[2], parts.get(3).copied()),
        };
        Self {
            account: Some(parts[0].to_owned()),
            region: Some(region.to_owned()).filter(|r| is_region(r)),
            time: time.and_then(parse_time),
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `us-east-1`, `us-gov-west-1`: lower-case words and a number, joined by dashes.
fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let number = parts.next_back().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    number && parts.clone().count() >= 2 && parts.all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
}

/// `YYYYMMDDTHHmmZ`, with or without the Z.
fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim_end_matches('Z');
    let digits = |range: std::ops::Range<usize>| {
        text.get(range).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
    };
    if text.len() != 13 || text.as_bytes()[8] != b'T' {
        return None;
    }
    let (y, m, d, h, min) = (digits(0..4)?, digits(4..6)?, digits(6..8)?, digits(9..11)?, digits(11..13)?);
    format!("{y}-{m}-{d}T{h}:{min}:00Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> (Option<String>, Option<String>, Option<String>) {
        let h = KeyHints::of(name);
        (h.account, h.region, h.time.map(|t| t.to_string()))
    }

    fn some(a: &str, r: &str, t: &str) -> (Option<String>, Option<String>, Option<String>) {
        (Some(a.into()), Some(r.into()), Some(t.into()))
    }

    #[test]
    fn reads_the_layout_of_trails_and_organisation_trails() {
        assert_eq!(
            read(
                "prefix/AWSLogs/123456789012/CloudTrail/us-gov-west-1/2024/05/06/123456789012_CloudTrail_us-gov-west-1_20240506T0710Z_abc.json.gz"
            ),
            some("123456789012", "us-gov-west-1", "2024-05-06T07:10:00Z")
        );
        assert_eq!(
            read("AWSLogs/o-abcd/123456789012/CloudTrail/eu-west-1/2024/05/06/x.json"),
            some("123456789012", "eu-west-1", "2024-05-06T00:00:00Z")
        );
        assert_eq!(
            read("123456789012_CloudTrail_eu-west-1-20240506T0710.json"),
            some("123456789012", "eu-west-1", "2024-05-06T07:10:00Z")
        );
    }

    #[test]
    fn says_nothing_of_other_names() {
        for name in ["", "-", "logs/a_b_c.json", "AWSLogs/README.md", "AWSLogs/o-abcd/CloudTrail/x"] {
            assert_eq!(KeyHints::of(name), KeyHints::default(), "{name}");
        }
    }
}
