//! What is told of records when very many are looked at: borrowed from them, and with what they have in common worked
//! out once.
//!
//! In: the heads of records. Out: sketches. Most records of a log are of somebody who did something just before, within
//! the same minute; who that is, and when, is remembered from record to record ([`Sketcher`]).

use std::{borrow::Cow, net::IpAddr};

use sentinel_json::Value;
use sentinel_model::{Principal, Timestamp, hash};

use super::{UNKNOWN, account_of, event_time, failure, fields, principal, region};
use crate::{
    Envelope,
    head::{self, Head, Identity},
};

/// Principals that are remembered: a power of two.
const PEOPLE: usize = 256;
/// Bytes of the longest `userIdentity` that is remembered.
const LONGEST: usize = 4 * 1024;

/// What [`super::outline`] tells of a record, borrowed from it.
#[derive(Debug)]
pub struct Sketch<'a, T> {
    /// Event time.
    pub time: Timestamp,
    /// Who.
    pub who: &'a Met<T>,
    /// In which account.
    pub account: &'a str,
    /// Region.
    pub region: Option<&'a str>,
    /// Service host name.
    pub service: &'a str,
    /// Operation.
    pub action: &'a str,
    /// Whether it only reads, when the record says so.
    pub read_only: Option<bool>,
    /// Access key that signed the call.
    pub access_key: Option<&'a str>,
    /// The service through which it was done.
    pub invoked_by: Option<&'a str>,
    /// Source address or host as text.
    pub source: Option<Cow<'a, str>>,
    /// User agent.
    pub user_agent: Option<&'a str>,
    /// The error's code, if it failed.
    pub failure: Option<Cow<'a, str>>,
}

/// A principal, and what was noted of it in an account.
#[derive(Debug)]
pub struct Met<T> {
    /// The principal.
    pub principal: Principal,
    /// What was noted.
    pub noted: T,
}

/// Sketches records; for one thread.
#[derive(Debug)]
pub struct Sketcher<T> {
    note: fn(&str, &Principal) -> T,
    people: Box<[Option<Person<T>>]>,
    /// Somebody who is not remembered.
    stranger: Option<Met<T>>,
    minute: Minute,
    /// The last address that is told as it is written.
    address: String,
}

/// Somebody who is remembered, with all that was read to tell who it is.
#[derive(Debug)]
struct Person<T> {
    identity: String,
    account: String,
    partition: &'static str,
    met: Met<T>,
}

impl<T> Sketcher<T> {
    /// A sketcher that has met nobody. `note` is asked once for each principal in an account that is met.
    pub fn new(note: fn(&str, &Principal) -> T) -> Self {
        let people = std::iter::repeat_with(|| None).take(PEOPLE).collect();
        Self { note, people, stranger: None, minute: Minute::default(), address: String::new() }
    }

    /// The sketch of a record. `received_at` is the event's time where nothing else tells one.
    pub fn sketch<'a>(
        &'a mut self,
        record: &Head<'a>,
        envelope: &'a Envelope,
        received_at: Timestamp,
    ) -> Sketch<'a, T> {
        let who = record.who();
        let account = account_of(record, &who, envelope);
        let region = region(record, envelope);
        let source = head::text(record.source).map(|text| self.source(text));
        Sketch {
            time: self.minute.of(record).unwrap_or_else(|| event_time(record, envelope, received_at).0),
            who: self.met(record, &who, account, region),
            account,
            region,
            service: head::text(record.event_source).unwrap_or(UNKNOWN),
            action: record.name(),
            read_only: fields::boolean(record.read_only),
            access_key: head::text(who.access_key),
            invoked_by: head::text(who.invoked_by),
            source,
            user_agent: head::text(record.user_agent),
            failure: failure(record),
        }
    }

    fn source<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        if text == self.address {
            return Cow::Borrowed(text);
        }
        match text.trim().parse::<IpAddr>() {
            // The usual spelling of an IPv4 address is the only one.
            Ok(IpAddr::V4(_)) if text.trim() == text => {
                text.clone_into(&mut self.address);
                Cow::Borrowed(text)
            }
            Ok(ip) => Cow::Owned(ip.to_string()),
            Err(_) => Cow::Borrowed(text),
        }
    }

    fn met(&mut self, record: &Head<'_>, who: &Identity<'_>, account: &str, region: Option<&str>) -> &Met<T> {
        let note = self.note;
        let make = || {
            let principal = principal(record, who, account, region);
            Met { noted: note(account, &principal), principal }
        };
        let identity = record.identity.filter(|_| principal::is_told_by_identity(who));
        let Some(identity) = identity.and_then(Value::written).filter(|text| text.len() <= LONGEST) else {
            return self.stranger.insert(make());
        };
        let partition = fields::partition(region);
        #[allow(clippy::cast_possible_truncation, reason = "a place below PEOPLE")]
        let place = hash::hash_64(identity.as_bytes()) as usize % PEOPLE;
        let person = &mut self.people[place];
        // Whoever writes the log could make two of one hash.
        let is_same = |p: &Person<T>| p.identity == identity && p.account == account && p.partition == partition;
        if !person.as_ref().is_some_and(is_same) {
            let (identity, account) = (identity.to_owned(), account.to_owned());
            *person = Some(Person { identity, account, partition, met: make() });
        }
        match person {
            Some(person) => &person.met,
            None => self.stranger.insert(make()),
        }
    }
}

/// The minute of the last time that was read.
#[derive(Debug, Default)]
struct Minute {
    /// The text of times in it up to their seconds: `2026-03-02T09:15:`.
    begins: [u8; Self::SECONDS],
    /// Its start, if there was any.
    start: Option<Timestamp>,
}

impl Minute {
    /// Where the seconds stand.
    const SECONDS: usize = 17;

    /// The time of a record in the form that CloudTrail gives it; `None` for any other.
    fn of(&mut self, record: &Head<'_>) -> Option<Timestamp> {
        let text = record.event_time?.as_str()?;
        let (begins, rest) = text.as_bytes().split_first_chunk::<{ Self::SECONDS }>()?;
        let [tens @ b'0'..=b'5', ones @ b'0'..=b'9', b'Z'] = rest else { return None };
        // Other forms of this length have something else than seconds there.
        let [_, _, _, _, b'-', .., b':', _, _, b':'] = begins else { return None };
        let second = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
        if let Some(start) = self.start.filter(|_| self.begins == *begins) {
            return Timestamp::from_second(start.as_second() + second).ok();
        }
        let time: Timestamp = text.parse().ok()?;
        self.start = Timestamp::from_second(time.as_second() - second).ok();
        self.begins = *begins;
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use sentinel_json::Document;

    use super::*;

    #[test]
    fn times_of_one_minute_are_those_that_their_texts_say() {
        let mut minute = Minute::default();
        let mut of = |time: &str| {
            let record = format!(r#"{{"eventTime":"{time}"}}"#);
            minute.of(&Head::of(Document::parse(&record).unwrap().root()))
        };
        for time in [
            "2026-03-02T09:15:07Z",
            "2026-03-02T09:15:59Z",
            "2026-03-02T09:15:00Z",
            "2026-03-02T09:16:00Z",
            "1969-12-31T23:59:58Z",
            "1969-12-31T23:59:03Z",
            "2026-03-02 09:15:08Z",
            "9999-12-30T21:59:59Z",
        ] {
            assert_eq!(of(time), time.parse().ok(), "{time}");
        }
        for other in
            ["2026-03-02T09:15:60Z", "2026-03-02T09:15:1Z", "2026-03-02T09:15:0xZ", "2026-03-02T09:15:07+01:00"]
        {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(of("2026-13-02T09:15:07Z"), None);
        assert_eq!(of("2026-13-02T09:15:08Z"), None, "of a minute that is none");
    }
}
