//! Alerts of correlations, until they are printed: each as one record that names its events.

use std::io;

use sentinel_model::Timestamp;
use sentinel_spill::{Log, Pages};

use super::FOUND;

/// The alert of a correlation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found<'a> {
    /// The number of its rule: those of correlations follow those of rules.
    pub rule: u32,
    /// Its identity.
    pub alert_id: &'a str,
    /// The account.
    pub account: &'a str,
    /// Start of its window.
    pub window: Timestamp,
    /// The sentence that says what completed it.
    pub finding: &'a str,
    /// The event whose principal is the alert's.
    pub completing: u64,
    /// Whether events had to be left out.
    pub at_least: bool,
}

/// Alerts of correlations.
#[derive(Debug)]
pub struct AllFound(pub(super) Log);

impl Default for AllFound {
    fn default() -> Self {
        Self(Log::new(FOUND))
    }
}

impl AllFound {
    /// For one of so many parts, which hold as much in memory together as one for all.
    pub fn of_part(parts: usize) -> Self {
        Self(Log::new(FOUND / parts.max(1)))
    }

    /// Adds an alert and the places of its events, in order, each once.
    pub fn add(&mut self, found: &Found<'_>, events: &[u64]) -> io::Result<()> {
        let written = self.0.push(|into| {
            into.extend_from_slice(&found.rule.to_le_bytes());
            into.push(u8::from(found.at_least));
            into.extend_from_slice(&found.window.as_second().to_le_bytes());
            into.extend_from_slice(&found.completing.to_le_bytes());
            for text in [found.alert_id, found.account, found.finding] {
                into.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                into.extend_from_slice(text.as_bytes());
            }
            for at in events {
                into.extend_from_slice(&at.to_le_bytes());
            }
        });
        written.map(|_| ())
    }

    /// Adds the alerts of another.
    pub fn append(&mut self, other: &Self) -> io::Result<()> {
        let (log, mut pages) = (&other.0, Pages::default());
        let mut next = (!log.is_empty()).then_some(0);
        while let Some(at) = next {
            let bytes = log.get(at, &mut pages)?;
            next = log.next(at, bytes.len());
            self.0.push(|into| into.extend_from_slice(bytes))?;
        }
        Ok(())
    }
}

impl<'a> Found<'a> {
    /// Reads what [`AllFound::add`] wrote: the alert, and the places of its events.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, impl Iterator<Item = u64> + use<'a>)> {
        let (rule, rest) = bytes.split_first_chunk::<4>()?;
        let (at_least, rest) = rest.split_first()?;
        let (window, rest) = rest.split_first_chunk::<8>()?;
        let (completing, mut rest) = rest.split_first_chunk::<8>()?;
        let mut text = || -> Option<&'a str> {
            let (len, from) = rest.split_first_chunk::<4>()?;
            let (text, from) = from.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = from;
            std::str::from_utf8(text).ok()
        };
        let (alert_id, account, finding) = (text()?, text()?, text()?);
        let found = Self {
            rule: u32::from_le_bytes(*rule),
            alert_id,
            account,
            window: Timestamp::from_second(i64::from_le_bytes(*window)).ok()?,
            finding,
            completing: u64::from_le_bytes(*completing),
            at_least: *at_least != 0,
        };
        Some((found, rest.as_chunks::<8>().0.iter().map(|at| u64::from_le_bytes(*at))))
    }

    /// The alert at a place, and the places of its events.
    pub(super) fn at(
        log: &'a Log,
        at: u64,
        pages: &'a mut Pages,
    ) -> io::Result<(Self, impl Iterator<Item = u64> + use<'a>)> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an alert came back damaged");
        Self::read(log.get(at, pages)?).ok_or_else(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_comes_back() {
        let found = Found {
            rule: 7,
            alert_id: "al-1",
            account: "111122223333",
            window: "2026-03-02T09:00:00Z".parse().unwrap(),
            finding: "3 events.",
            completing: 1 << 40,
            at_least: true,
        };
        let mut all = AllFound(Log::new(0));
        all.add(&found, &[1, 1 << 50]).unwrap();
        all.add(&Found { rule: 8, at_least: false, ..found }, &[]).unwrap();
        let (mut pages, mut other) = (Pages::default(), Pages::default());
        let (first, events) = Found::at(&all.0, 0, &mut pages).unwrap();
        assert_eq!((first, events.collect::<Vec<_>>()), (found, vec![1, 1 << 50]));
        let next = all.0.next(0, all.0.get(0, &mut other).unwrap().len()).unwrap();
        let (second, events) = Found::at(&all.0, next, &mut other).unwrap();
        assert_eq!((second.rule, second.at_least, events.count()), (8, false, 0));
        assert!(Found::read(&[0; 20]).is_none());
        let mut both = AllFound::default();
        for _ in 0..2 {
            both.append(&all).unwrap();
        }
        let second = (next, both.0.next(next, both.0.held(next).unwrap().len()).unwrap());
        for at in [0, second.1] {
            assert_eq!(Found::at(&both.0, at, &mut pages).unwrap().0, found);
        }
    }
}
