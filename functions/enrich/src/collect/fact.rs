//! What alerts need to know of one matching event, and where it is held: in a log, in two pieces.
//!
//! One piece is the event's own; the other says who did it from where, which a session's events have in common: it is
//! written again only when it was not met lately. What it called is a number ([`Calls`]). Pieces stay at their places, so
//! matches name events by them.

use std::{cmp::Ordering, io};

use sentinel_model::{PrincipalKind, Timestamp, alert::ActionClass, hash};
use sentinel_spill::{Log, Pages};

use super::calls::{Call, Calls};

/// What alerts need to know of one matching event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact<'a> {
    /// Its time.
    pub time: Timestamp,
    /// Its id.
    pub id: &'a str,
    /// Hash of its content.
    pub content: u64,
    /// The account in which it happened.
    pub account: &'a str,
    /// Who did it, as text.
    pub principal: &'a str,
    /// What sort of identity that is.
    pub kind: PrincipalKind,
    /// Who did it, as the sentence on the event says it.
    pub who: &'a str,
    /// `awsRegion`.
    pub region: Option<&'a str>,
    /// Source address or host as text.
    pub source: Option<&'a str>,
    /// User agent.
    pub user_agent: Option<&'a str>,
    /// Access key that signed the call.
    pub access_key: Option<&'a str>,
    /// The kind of action, see [`crate::score::classify_action`].
    pub class: ActionClass,
    /// Service host name.
    pub service: &'a str,
    /// Operation.
    pub action: &'a str,
    /// The service through which it was done.
    pub invoked_by: Option<&'a str>,
    /// The error's code, if it failed.
    pub failure: Option<&'a str>,
}

const KINDS: [PrincipalKind; 9] = [
    PrincipalKind::Root,
    PrincipalKind::IamUser,
    PrincipalKind::AssumedRole,
    PrincipalKind::FederatedUser,
    PrincipalKind::External,
    PrincipalKind::IdentityCenterUser,
    PrincipalKind::Service,
    PrincipalKind::Account,
    PrincipalKind::Unknown,
];
const CLASSES: [ActionClass; 8] = [
    ActionClass::FailedRead,
    ActionClass::FailedChange,
    ActionClass::Read,
    ActionClass::SignIn,
    ActionClass::ResourceChange,
    ActionClass::CredentialChange,
    ActionClass::DefenceEvasion,
    ActionClass::DataLoss,
];
/// Number of a call that has none.
const NONE: u32 = u32::MAX;
const TIME: usize = 12;
/// Bits of a place that are the place in its worker's log.
const PLACE_BITS: u32 = 48;
/// Sessions met lately: a power of two.
const LATELY: usize = 1024;

/// The kind of action at its number.
pub(super) fn class_of(number: u8) -> Option<ActionClass> {
    CLASSES.get(usize::from(number)).copied()
}

/// The facts of one worker's events.
#[derive(Debug)]
pub(super) struct Facts {
    log: Log,
    calls: Calls,
    worker: u64,
    /// Where sessions are that were met lately, by a hash of them: hash and place.
    lately: Box<[(u64, u64)]>,
    session: Vec<u8>,
}

impl Facts {
    /// Nothing yet; about `budget` bytes are held in memory. Workers have different numbers.
    pub(super) fn new(budget: usize, worker: u16) -> Self {
        let lately = vec![(0, u64::MAX); LATELY].into_boxed_slice();
        let (log, calls) = (Log::new(budget), Calls::default());
        Self { log, calls, worker: u64::from(worker), lately, session: Vec::new() }
    }

    /// Keeps a fact; its place.
    pub(super) fn push(&mut self, fact: &Fact<'_>) -> io::Result<u64> {
        let session = self.session(fact)?;
        let call = self.calls.number(fact.service, fact.action);
        let named = |name| if call.is_none() { Some(name) } else { None };
        let at = self.log.push(|into| {
            write_order(fact, into);
            into.push(fact.class as u8);
            into.extend_from_slice(&session.to_le_bytes());
            into.extend_from_slice(&call.unwrap_or(NONE).to_le_bytes());
            put(into, [named(fact.service), named(fact.action), fact.invoked_by, fact.failure]);
            into.extend_from_slice(&u32::try_from(fact.id.len()).unwrap_or(NONE).to_le_bytes());
        })?;
        if at >> PLACE_BITS != 0 {
            return Err(io::Error::other("too many matching events"));
        }
        Ok(self.worker << PLACE_BITS | at)
    }

    /// Where the fact's session is.
    fn session(&mut self, fact: &Fact<'_>) -> io::Result<u64> {
        let session = &mut self.session;
        session.clear();
        session.push(fact.kind as u8);
        let texts = [
            Some(fact.account),
            Some(fact.principal),
            Some(fact.who),
            fact.region,
            fact.source,
            fact.user_agent,
            fact.access_key,
        ];
        put(session, texts);
        let key = hash::hash_64(session);
        #[allow(clippy::cast_possible_truncation, reason = "a place below LATELY")]
        let known = &mut self.lately[key as usize % LATELY];
        // Whoever writes the log could make two of one hash.
        if known.0 == key && self.log.held(known.1) == Some(session.as_slice()) {
            return Ok(known.1);
        }
        let at = self.log.push(|into| into.extend_from_slice(session))?;
        *known = (key, at);
        Ok(at)
    }
}

/// Appends time, id and content: bytes that sort like these.
pub(super) fn write_order(fact: &Fact<'_>, into: &mut Vec<u8>) {
    let (mut second, mut nanosecond) = (fact.time.as_second(), fact.time.subsec_nanosecond());
    if nanosecond < 0 {
        (second, nanosecond) = (second - 1, nanosecond + 1_000_000_000);
    }
    // With its sign turned, the big-endian number sorts as bytes.
    into.extend_from_slice(&(second.cast_unsigned() ^ 1 << 63).to_be_bytes());
    into.extend_from_slice(&nanosecond.to_be_bytes());
    into.extend_from_slice(fact.id.as_bytes());
    into.push(0);
    into.extend_from_slice(&fact.content.to_be_bytes());
}

/// Appends at most eight texts: which are there, how long those are, then all of them, so that one look tells that they
/// are UTF-8.
fn put<const N: usize>(into: &mut Vec<u8>, texts: [Option<&str>; N]) {
    let there = (0..N).fold(0, |there, n| there | u8::from(texts[n].is_some()) << n);
    into.push(there);
    for text in texts.into_iter().flatten() {
        // A record is at most a few megabytes.
        into.extend_from_slice(&u32::try_from(text.len()).unwrap_or(NONE).to_le_bytes());
    }
    for text in texts.into_iter().flatten() {
        into.extend_from_slice(text.as_bytes());
    }
}

/// What [`put`] wrote, up to the end; `None` for bytes that are damaged.
fn take<const N: usize>(from: &[u8]) -> Option<[Option<&str>; N]> {
    let (there, rest) = from.split_first()?;
    let (lens, texts) = rest.split_at_checked(4 * there.count_ones() as usize)?;
    let (mut lens, mut left) = (lens.as_chunks::<4>().0.iter(), std::str::from_utf8(texts).ok()?);
    let mut found = [None; N];
    for (n, found) in found.iter_mut().enumerate() {
        if there >> n & 1 == 1 {
            let (text, rest) = left.split_at_checked(u32::from_le_bytes(*lens.next()?) as usize)?;
            (*found, left) = (Some(text), rest);
        }
    }
    Some(found)
}

/// The time that [`write_order`] wrote.
pub(super) fn time_of(bytes: &[u8]) -> Option<Timestamp> {
    let second = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?) ^ 1 << 63;
    let nanosecond = i32::from_be_bytes(bytes.get(8..TIME)?.try_into().ok()?);
    Timestamp::new(second.cast_signed(), nanosecond).ok()
}

/// Time, id and content of an event's piece, and what follows.
fn split_order(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, id) = piece.split_last_chunk::<4>()?;
    rest.split_at_checked((u32::from_le_bytes(*id) as usize).checked_add(TIME + 1 + 8)?)
}

/// What an event called, by its number.
fn named(calls: &Calls, number: u32) -> Option<(&str, &str, Option<&Call>)> {
    calls.get(number).map(|call| (&*call.service, &*call.action, Some(call)))
}

fn read<'a>(piece: &'a [u8], session: &'a [u8], calls: &'a Calls) -> Option<Fact<'a>> {
    let (order, rest) = split_order(piece)?;
    let (id, content) = order.get(TIME..)?.split_last_chunk::<8>()?;
    let (class, rest) = rest.split_first()?;
    let (call, rest) = rest.get(8..)?.split_first_chunk::<4>()?;
    let [service, action, invoked_by, failure] = take(rest)?;
    let (service, action) = match u32::from_le_bytes(*call) {
        NONE => (service?, action?),
        number => named(calls, number).map(|(service, action, _)| (service, action))?,
    };
    let (kind, session) = session.split_first()?;
    let [account, principal, who, region, source, user_agent, access_key] = take(session)?;
    Some(Fact {
        time: time_of(order)?,
        id: std::str::from_utf8(id.strip_suffix(&[0])?).ok()?,
        content: u64::from_be_bytes(*content),
        account: account?,
        principal: principal?,
        kind: *KINDS.get(usize::from(*kind))?,
        who: who?,
        region,
        source,
        user_agent,
        access_key,
        class: *CLASSES.get(usize::from(*class))?,
        service,
        action,
        invoked_by,
        failure,
    })
}

fn read_own<'a>(piece: &'a [u8], worker: u64, calls: &'a Calls) -> Option<Own<'a>> {
    let (order, rest) = split_order(piece)?;
    let (id, _) = order.get(TIME..)?.split_last_chunk::<8>()?;
    let (class, rest) = rest.split_first()?;
    let (session, rest) = rest.split_first_chunk::<8>()?;
    let (call, rest) = rest.split_first_chunk::<4>()?;
    let (service, action, call) = match u32::from_le_bytes(*call) {
        NONE => {
            let [service, action, _, _] = take(rest)?;
            (service?, action?, None)
        }
        number => named(calls, number)?,
    };
    Some(Own {
        time: time_of(order)?,
        id: std::str::from_utf8(id.strip_suffix(&[0])?).ok()?,
        class: class_of(*class)?,
        service,
        action,
        call,
        session: worker << PLACE_BITS | u64::from_le_bytes(*session),
    })
}

/// The facts of all workers.
#[derive(Debug)]
pub(super) struct AllFacts(Vec<(Log, Calls)>);

/// Reads facts one at a time.
#[derive(Debug)]
pub(super) struct Reader<'f> {
    facts: &'f AllFacts,
    event: Pages,
    session: Pages,
}

/// What an event does not have in common with its session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) time: Timestamp,
    pub(super) id: &'a str,
    pub(super) class: ActionClass,
    pub(super) service: &'a str,
    pub(super) action: &'a str,
    /// Both, where they are held.
    pub(super) call: Option<&'a Call>,
    /// Where its session is.
    pub(super) session: u64,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was collected came back damaged")
}

impl AllFacts {
    /// Those of workers numbered from 0.
    pub(super) fn new(facts: impl IntoIterator<Item = Facts>) -> Self {
        Self(facts.into_iter().map(|one| (one.log, one.calls)).collect())
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { facts: self, event: Pages::default(), session: Pages::default() }
    }

    fn of(&self, at: u64) -> io::Result<(&Log, &Calls, u64)> {
        let worker = usize::try_from(at >> PLACE_BITS).ok();
        let (log, calls) = worker.and_then(|n| self.0.get(n)).ok_or_else(damaged)?;
        Ok((log, calls, at & ((1 << PLACE_BITS) - 1)))
    }

    fn order<'a>(&'a self, at: u64, pages: &'a mut Pages) -> io::Result<&'a [u8]> {
        let (log, _, at) = self.of(at)?;
        Ok(split_order(log.get(at, pages)?).ok_or_else(damaged)?.0)
    }
}

impl Reader<'_> {
    /// The fact at a place.
    pub(super) fn get(&mut self, at: u64) -> io::Result<Fact<'_>> {
        let (log, calls, at) = self.facts.of(at)?;
        let piece = log.get(at, &mut self.event)?;
        let session = split_order(piece).and_then(|(_, rest)| rest.get(1..9)?.try_into().ok()).ok_or_else(damaged)?;
        let session = log.get(u64::from_le_bytes(session), &mut self.session)?;
        read(piece, session, calls).ok_or_else(damaged)
    }

    /// The event at a place, without its session.
    pub(super) fn own(&mut self, at: u64) -> io::Result<Own<'_>> {
        let (log, calls, place) = self.facts.of(at)?;
        read_own(log.get(place, &mut self.event)?, at >> PLACE_BITS, calls).ok_or_else(damaged)
    }

    /// The time of an event, and its kind of action as a number.
    pub(super) fn time_and_class(&mut self, at: u64) -> io::Result<(Timestamp, u8)> {
        let (log, _, at) = self.facts.of(at)?;
        let (order, rest) = split_order(log.get(at, &mut self.event)?).ok_or_else(damaged)?;
        Ok((time_of(order).ok_or_else(damaged)?, *rest.first().ok_or_else(damaged)?))
    }

    /// Compares two events by time, id, then content.
    pub(super) fn compare(&mut self, a: u64, b: u64) -> io::Result<Ordering> {
        let a = self.facts.order(a, &mut self.event)?;
        Ok(a.cmp(self.facts.order(b, &mut self.session)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_comes_back_and_sorts_by_time_then_id(
            times in prop::array::uniform2((-9_000_000_000_i64..9_000_000_000, -999_999_999..999_999_999_i32)),
            ids in prop::array::uniform2("[a-c]{0,3}"),
            texts in prop::array::uniform12(prop::option::of(".{0,5}")),
            (kind, class, content) in (0..9_usize, 0..8_usize, any::<u64>()),
            budget in prop::sample::select(vec![0, 1 << 20]),
            is_long in any::<bool>(),
        ) {
            let long = "x".repeat(300);
            let text = |n: usize| texts[n].as_deref();
            let fact = |n: usize| Fact {
                time: Timestamp::new(times[n].0, times[n].1).unwrap(),
                id: &ids[n],
                content,
                account: text(0).unwrap_or_default(),
                principal: text(1).unwrap_or_default(),
                kind: KINDS[kind],
                who: text(8).unwrap_or_default(),
                region: text(2),
                source: text(3),
                user_agent: text(4),
                access_key: text(5),
                class: CLASSES[class],
                service: text(9).unwrap_or_default(),
                action: if is_long { &long } else { text(6).unwrap_or_default() },
                invoked_by: text(10),
                failure: text(11),
            };
            let (mut first, mut second) = (Facts::new(budget, 0), Facts::new(budget, 1));
            let places = [first.push(&fact(0)), second.push(&fact(1)), first.push(&fact(1))].map(Result::unwrap);
            let all = AllFacts::new([first, second]);
            let mut reader = all.reader();
            for (at, n) in places.into_iter().zip([0, 1, 1]) {
                prop_assert_eq!(reader.get(at).unwrap(), fact(n));
                let own = reader.own(at).unwrap();
                let same = (own.time, own.id, own.class, own.service, own.action);
                prop_assert_eq!(same, (fact(n).time, fact(n).id, fact(n).class, fact(n).service, fact(n).action));
                prop_assert_eq!(own.session >> PLACE_BITS, at >> PLACE_BITS);
                prop_assert_eq!(own.call.is_none(), is_long);
            }
            let order = |n: usize| (fact(n).time, fact(n).id);
            prop_assert_eq!(reader.compare(places[0], places[1]).unwrap(), order(0).cmp(&order(1)));
            prop_assert_eq!(reader.compare(places[1], places[2]).unwrap(), Ordering::Equal);
        }
    }

    #[test]
    fn kinds_and_classes_stand_at_their_number() {
        assert!(KINDS.iter().enumerate().all(|(n, kind)| *kind as usize == n));
        assert!(CLASSES.iter().enumerate().all(|(n, class)| *class as usize == n));
    }

    #[test]
    fn what_was_not_written_here_is_nothing() {
        let all = AllFacts::new([Facts::new(0, 0)]);
        assert!(all.reader().get(0).is_err() && all.reader().get(1 << PLACE_BITS).is_err());
        for bytes in [&[][..], &[0; 20], &[255; 100], &[0; 40]] {
            assert!(read(bytes, bytes, &Calls::default()).is_none());
        }
    }
}
