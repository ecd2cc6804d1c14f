//! Correlations of a whole input: hits are collected in any order, by any number of workers, and looked at in
//! the end ([`super::whole`]).
//!
//! A hit is held as a few numbers: its group as a hash, its event as the place where the caller keeps it ([`Noted`]),
//! its values as what conditions look at. The texts of its group are kept apart ([`super::noted`]). All are sorted by
//! correlation, account, group and time; what is more than the budget goes to temporary files. So memory is bounded by
//! the budget, a buffer for each sorted run, and the hits of three windows of one group for each part that is looked
//! at. No correlation sees two accounts, so the hits of some accounts are a part ([`super::whole::Part`]) that is looked
//! at beside the others.

use std::io;

use sentinel_correlation::{Onward, Plan, wire};
use sentinel_model::{Event, Timestamp, hash};
use sentinel_spill::{Log, Sorter};

use super::{
    MAX_VALUE_BYTES, fields_of,
    noted::{Noter, TextsAt},
    onward_of, text_of, texts_of,
};
use crate::{
    fields::Lookup,
    matcher::Looked,
    rules::{Correlations, Extract, RuleIndex, RuleSet},
    view::Found,
};

/// Bytes of hits kept in memory by one collector.
const BUDGET: usize = 6 * 1024 * 1024;
/// Part of the budget for texts of groups.
const OF_TEXTS: usize = 6;
/// Bits of a key's parts, from the lowest: group, account, correlation, how many correlations stand below it.
const GROUP_BITS: u32 = 80;
const ACCOUNT_BITS: u32 = 24;
const PLAN_BITS: u32 = 20;

/// What can go wrong with the hits that do not fit into memory.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The temporary file failed.
    #[error("the temporary file for correlations failed: {0}")]
    Io(#[from] io::Error),
    /// It does not hold what was written.
    #[error("the temporary file for correlations is damaged: {0}")]
    Malformed(#[from] wire::Malformed),
    /// The same, found otherwise.
    #[error("the temporary file for correlations is damaged")]
    Damaged,
}

/// An event that the caller keeps.
#[derive(Debug, Clone, Copy)]
pub struct Noted<'a> {
    /// Its account.
    pub account: &'a str,
    /// Its time.
    pub time: Timestamp,
    /// Where it is: correlations that complete name it by this.
    pub at: u64,
    /// The event, for operators' exceptions; may be absent where there are none.
    pub event: Option<&'a Event>,
}

/// A hit without its group.
#[derive(Debug)]
pub(super) struct Light<'a> {
    pub(super) base: u16,
    pub(super) time: Timestamp,
    pub(super) at: u64,
    pub(super) numbers: &'a [u64],
    pub(super) onward: &'a [Option<Onward>],
    pub(super) elsewhere: &'a [u128],
}

/// Collects hits; each worker has its own, and they are joined in the end.
pub struct Correlator {
    pub(super) budget: usize,
    /// By part.
    pub(super) hits: Vec<Sorter>,
    pub(super) texts: Noter,
    pub(super) joined: Vec<(Vec<Sorter>, Log)>,
    scratch: Scratch,
}

/// Memory that is used again.
#[derive(Default)]
struct Scratch {
    /// Account and group, as bytes.
    texts: Vec<u8>,
    /// A hash of them, and where they are noted, once they are.
    noted: Option<(u128, TextsAt)>,
    /// The fields of the record that they are of, and whether any is there; `None` where they are of nothing such.
    of: Option<bool>,
    fields: Vec<usize>,
    numbers: Vec<u64>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl Correlator {
    /// A collector that keeps so many bytes in memory.
    pub fn with_budget(budget: usize) -> Self {
        Self::in_parts(budget, 1)
    }

    /// The same, in parts that can be looked at side by side if all that are joined have as many.
    pub fn in_parts(budget: usize, parts: usize) -> Self {
        let of_texts = budget / OF_TEXTS;
        let of_hits = budget - of_texts;
        Self {
            budget,
            // One account may have nearly all of them.
            hits: if parts > 1 { Sorter::sharing(of_hits, parts) } else { vec![Sorter::new(of_hits)] },
            texts: Noter::new(of_texts),
            joined: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Adds what an event with these matches counts for correlations. All of one collector's events, and those of
    /// collectors that it is joined with, are matched by one set. `record` is the event's, as its matcher has
    /// looked at it.
    pub fn add(
        &mut self,
        rules: &RuleSet,
        noted: &Noted<'_>,
        record: &Looked<'_>,
        hits: &[RuleIndex],
    ) -> Result<(), SpillError> {
        let record = record.fields();
        let correlations = rules.correlations();
        let exceptions = rules.exceptions();
        let account = Account::of(noted.account);
        let mut scratch = std::mem::take(&mut self.scratch);
        // What it holds is of another record.
        scratch.of = None;
        let mut split = Vec::new();
        for feed in hits.iter().flat_map(|index| correlations.feeds(index.0)) {
            let plan = &correlations.plans[feed.plan];
            let excepted = || {
                let event = noted.event.filter(|_| !exceptions.is_empty());
                event.is_some_and(|event| exceptions.suppresses(event, &correlations.metas[feed.plan].names()))
            };
            if plan.splits_events {
                if let Some((group, values)) = fields_of(plan, &feed.fields, record)
                    && !excepted()
                {
                    split.push((feed, group.key(plan.fingerprint), group, values));
                }
                continue;
            }
            if !scratch.fill(plan, &feed.fields, noted.account, record) || excepted() {
                continue;
            }
            let onward = if plan.parents.is_empty() {
                Vec::new()
            } else {
                onward_of(&correlations.plans, plan, &feed.fields, record)
            };
            let group = self.note(&mut scratch)?;
            let light = Light {
                base: feed.base,
                time: noted.time,
                at: noted.at,
                numbers: &scratch.numbers,
                onward: &onward,
                elsewhere: &[],
            };
            self.push(correlations, feed.plan, account, group, &light)?;
        }
        // An event that is a hit in several groups of one correlation says so in each.
        for (feed, key, group, values) in &split {
            let plan = &correlations.plans[feed.plan];
            let others = split.iter().filter(|(other, k, ..)| other.plan == feed.plan && k != key);
            let mut others: Vec<u128> = others.map(|(_, key, ..)| *key).collect();
            others.sort_unstable();
            others.dedup();
            scratch.group(noted.account, group.0.iter().map(Option::as_deref));
            let light = Light {
                base: feed.base,
                time: noted.time,
                at: noted.at,
                numbers: &plan.numbers(values),
                onward: &onward_of(&correlations.plans, plan, &feed.fields, record),
                elsewhere: &others,
            };
            let group = self.note(&mut scratch)?;
            self.push(correlations, feed.plan, account, group, &light)?;
        }
        self.scratch = scratch;
        Ok(())
    }

    /// A hash of the texts, and where they are noted: once for all correlations that group an event alike.
    fn note(&mut self, scratch: &mut Scratch) -> Result<(u128, TextsAt), SpillError> {
        if let Some(noted) = scratch.noted {
            return Ok(noted);
        }
        let hash = hash::hash_128(&scratch.texts);
        Ok(*scratch.noted.insert((hash, self.texts.note(hash, &scratch.texts)?)))
    }

    /// Adds a hit of the group that [`Self::note`] noted.
    fn push(
        &mut self,
        correlations: &Correlations,
        plan: usize,
        account: Account,
        (group, texts): (u128, TextsAt),
        hit: &Light<'_>,
    ) -> Result<(), SpillError> {
        let key = key(correlations, plan, account, group)?;
        let part = part_of(key, self.hits.len());
        self.hits[part].push(key, 0, |into| hit.write(texts, into))?;
        Ok(())
    }

    /// Adds a hit of a correlation that refers to others.
    pub(super) fn push_onward(
        &mut self,
        correlations: &Correlations,
        plan: usize,
        account: &str,
        (next, base): (&Onward, u16),
        (time, at): (Timestamp, u64),
    ) -> Result<(), SpillError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.group(account, next.group.0.iter().map(Option::as_deref));
        let numbers = correlations.plans[plan].numbers(&next.values);
        let light = Light { base, time, at, numbers: &numbers, onward: &next.onward, elsewhere: &[] };
        let group = self.note(&mut scratch)?;
        self.push(correlations, plan, Account::of(account), group, &light)?;
        self.scratch = scratch;
        Ok(())
    }

    /// Puts in order what was collected: done by the worker, so that all do it at once.
    pub fn seal(&mut self) {
        self.hits.iter_mut().for_each(Sorter::sort);
    }

    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        let empty = |hits: &Sorter| hits.in_memory() == 0 && !hits.spilled();
        self.hits.iter().chain(self.joined.iter().flat_map(|(hits, _)| hits)).all(empty)
    }

    /// Joins another worker's.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.joined.extend(other.joined);
        self.joined.push((other.hits, other.texts.into_log()));
        self
    }
}

/// As much of an account's hash as keys have: two of one are still told apart by the group's.
#[derive(Debug, Clone, Copy)]
struct Account(u128);

impl Account {
    fn of(account: &str) -> Self {
        Self(u128::from(hash::string_hash(account)) & ((1 << ACCOUNT_BITS) - 1))
    }
}

/// What hits are sorted by.
fn key(correlations: &Correlations, plan: usize, account: Account, group: u128) -> Result<u128, SpillError> {
    let number = |n: usize, bits: u32| {
        let n = n as u128;
        if n >> bits == 0 { Ok(n) } else { Err(io::Error::other("too many correlations")) }
    };
    let depth = number(correlations.depths[plan], 128 - GROUP_BITS - ACCOUNT_BITS - PLAN_BITS)?;
    let group = group & ((1 << GROUP_BITS) - 1);
    Ok(((depth << PLAN_BITS | number(plan, PLAN_BITS)?) << ACCOUNT_BITS | account.0) << GROUP_BITS | group)
}

/// The part that a key's account is in.
fn part_of(key: u128, parts: usize) -> usize {
    let account = (key >> GROUP_BITS) & ((1 << ACCOUNT_BITS) - 1);
    usize::try_from(account).unwrap_or(0) % parts
}

/// The correlation and account of a key, and its depth.
pub(super) const fn scope(key: u128) -> u128 {
    key >> GROUP_BITS
}

/// The correlation of a key.
pub(super) fn plan(key: u128) -> usize {
    usize::try_from(key >> (GROUP_BITS + ACCOUNT_BITS) & ((1 << PLAN_BITS) - 1)).unwrap_or(usize::MAX)
}

/// How many correlations stand below that of a key.
pub(super) const fn depth(key: u128) -> u128 {
    key >> (GROUP_BITS + ACCOUNT_BITS + PLAN_BITS)
}

impl Scratch {
    /// Takes what a hit brings; `false` when the event is none: it has none of the group's fields, or no value to
    /// count.
    fn fill(&mut self, plan: &Plan, fields: &Extract, account: &str, record: &Lookup<'_>) -> bool {
        self.numbers.clear();
        let any = match self.of {
            Some(any) if self.fields == fields.group => any,
            _ => {
                self.group(account, std::iter::empty());
                let mut any = fields.group.is_empty();
                for field in &fields.group {
                    any |= with_text(*field, record, |text| {
                        push_text(&mut self.texts, text);
                        text.is_some()
                    });
                }
                self.fields.clear();
                self.fields.extend_from_slice(&fields.group);
                self.of = Some(any);
                any
            }
        };
        if !any {
            return false;
        }
        if plan.fields.is_empty() {
            return true;
        }
        if let [one] = fields.values.as_slice() {
            if let Found::One(value) = record.find(*one)
                && let Some(text) = value.as_str().filter(|text| text.len() <= MAX_VALUE_BYTES)
            {
                self.numbers.extend(plan.number(text));
                return true;
            }
            let values = texts_of(*one, record);
            self.numbers.extend(plan.numbers(&values));
            return !values.is_empty();
        }
        let Some((_, values)) = fields_of(plan, fields, record) else { return false };
        self.numbers.extend(plan.numbers(&values));
        true
    }

    /// Takes the texts of a group.
    fn group<'a>(&mut self, account: &str, texts: impl Iterator<Item = Option<&'a str>>) {
        (self.of, self.noted) = (None, None);
        self.texts.clear();
        push_text(&mut self.texts, Some(account));
        texts.for_each(|text| push_text(&mut self.texts, text));
    }
}

/// What [`text_of`] gives, borrowed where it can be.
fn with_text<T>(field: usize, record: &Lookup<'_>, then: impl FnOnce(Option<&str>) -> T) -> T {
    match record.find(field) {
        Found::Absent => then(None),
        Found::One(value) if value.as_str().is_some_and(|text| text.len() <= MAX_VALUE_BYTES) => then(value.as_str()),
        _ => then(text_of(field, record).as_deref()),
    }
}

/// Length of a text that is not there.
const NONE: u32 = u32::MAX;

fn push_text(into: &mut Vec<u8>, text: Option<&str>) {
    // Values are bounded, and an account is a few digits.
    let len = text.map_or(NONE, |text| u32::try_from(text.len()).unwrap_or(NONE - 1));
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// The account and group texts that [`Scratch::group`] made.
pub(super) fn read_texts(mut from: &[u8]) -> Option<(String, Vec<Option<String>>)> {
    let mut texts = Vec::new();
    while let Some((len, rest)) = from.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len);
        let (text, rest) = rest.split_at_checked(if len == NONE { 0 } else { len as usize })?;
        texts.push(if len == NONE { None } else { Some(std::str::from_utf8(text).ok()?.to_owned()) });
        from = rest;
    }
    let account = texts.first_mut()?.take()?;
    texts.remove(0);
    Some((account, texts))
}

const HEAD: usize = 12 + 2 + 8 + 2 + 4 + 8;

impl Light<'_> {
    /// Appends its bytes, which sort by time, with the place of its group's texts.
    fn write(&self, texts: TextsAt, into: &mut Vec<u8>) {
        let (mut second, mut nanosecond) = (self.time.as_second(), self.time.subsec_nanosecond());
        if nanosecond < 0 {
            (second, nanosecond) = (second - 1, nanosecond + 1_000_000_000);
        }
        let mut head = [0; HEAD];
        // With its sign turned, the big-endian number sorts as bytes.
        head[..8].copy_from_slice(&(second.cast_unsigned() ^ 1 << 63).to_be_bytes());
        head[8..12].copy_from_slice(&nanosecond.to_be_bytes());
        head[12..14].copy_from_slice(&self.base.to_le_bytes());
        head[14..22].copy_from_slice(&self.at.to_le_bytes());
        // An event brings at most 100 values.
        head[22..24].copy_from_slice(&u16::try_from(self.numbers.len()).unwrap_or(u16::MAX).to_le_bytes());
        head[24..28].copy_from_slice(&texts.log.to_le_bytes());
        head[28..].copy_from_slice(&texts.at.to_le_bytes());
        into.extend_from_slice(&head);
        for number in self.numbers {
            into.extend_from_slice(&number.to_le_bytes());
        }
        if !self.onward.is_empty() || !self.elsewhere.is_empty() {
            wire::write_onward(self.onward, into);
            wire::write_keys(self.elsewhere, into);
        }
    }
}

/// A hit that was read.
#[derive(Debug, Clone)]
pub(super) struct Slim {
    pub(super) time: Timestamp,
    pub(super) at: u64,
    pub(super) base: u16,
    pub(super) numbers: Numbers,
    pub(super) beyond: Option<Box<Beyond>>,
}

/// The numbers of a hit: most have none or one.
#[derive(Debug, Clone)]
pub(super) enum Numbers {
    One([u64; 1]),
    Several(Vec<u64>),
}

impl Numbers {
    fn read(bytes: &[u8]) -> Self {
        let all = bytes.as_chunks().0;
        match all {
            [one] => Self::One([u64::from_le_bytes(*one)]),
            _ => Self::Several(all.iter().map(|n| u64::from_le_bytes(*n)).collect()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(one) => one,
            Self::Several(all) => all,
        }
    }
}

/// What few hits have.
#[derive(Debug, Clone)]
pub(super) struct Beyond {
    pub(super) onward: Vec<Option<Onward>>,
    pub(super) elsewhere: Vec<u128>,
}

fn part<const N: usize>(head: &[u8; HEAD], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&head[from..from + N]);
    part
}

/// Where the texts of a hit's group are, by what [`Light::write`] wrote.
pub(super) fn texts_at(bytes: &[u8]) -> Result<TextsAt, SpillError> {
    let head = bytes.first_chunk().ok_or(SpillError::Damaged)?;
    Ok(TextsAt { log: u32::from_le_bytes(part(head, 24)), at: u64::from_le_bytes(part(head, 28)) })
}

impl Slim {
    /// Reads what [`Light::write`] wrote.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, SpillError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(SpillError::Damaged)?;
        let second = (u64::from_be_bytes(part(head, 0)) ^ 1 << 63).cast_signed();
        let time = Timestamp::new(second, i32::from_be_bytes(part(head, 8))).map_err(|_| SpillError::Damaged)?;
        let numbers = usize::from(u16::from_le_bytes(part(head, 22)));
        let (numbers, mut rest) = rest.split_at_checked(8 * numbers).ok_or(SpillError::Damaged)?;
        let numbers = Numbers::read(numbers);
        let beyond = if rest.is_empty() {
            None
        } else {
            let onward = wire::read_onward(&mut rest)?;
            Some(Box::new(Beyond { onward, elsewhere: wire::read_keys(&mut rest)? }))
        };
        let (base, at) = (u16::from_le_bytes(part(head, 12)), u64::from_le_bytes(part(head, 14)));
        Ok(Self { time, at, base, numbers, beyond })
    }

    pub(super) fn elsewhere(&self) -> &[u128] {
        self.beyond.as_ref().map_or(&[], |beyond| &beyond.elsewhere)
    }
}
