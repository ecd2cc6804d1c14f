//! What sorting needs to know of one matching event, as bytes.
//!
//! They begin with time, id and content, and what copies of one event may differ in, so that whichever copy comes first
//! does not depend on the order in which they were read.

use sentinel_model::{Timestamp, hash};

use super::fact::{self, Fact};

/// Behind time, id and content: account and principal, Region, class, place.
const TAIL: usize = 16 + 8 + 1 + 8;

/// What was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark<'a> {
    /// All bytes before the rules.
    pub(super) bytes: &'a [u8],
    /// The event's time.
    pub(super) time: Timestamp,
    /// Hash of account and principal.
    pub(super) who: u128,
    /// The kind of action, as a number.
    pub(super) class: u8,
    /// Where the event is kept.
    pub(super) at: u64,
    rules: &'a [u8],
}

/// Appends an event's mark, and the numbers of its rules.
pub(super) fn write(at: u64, fact: &Fact<'_>, rules: &[u32], into: &mut Vec<u8>) {
    fact::write_order(fact, into);
    into.extend_from_slice(&who(fact.account, fact.principal).to_be_bytes());
    into.extend_from_slice(&hash::hash_64(fact.region.unwrap_or_default().as_bytes()).to_be_bytes());
    into.push(fact.class as u8);
    into.extend_from_slice(&at.to_be_bytes());
    write_rules(rules.iter().copied(), into);
}

/// Appends the numbers of rules behind a mark's bytes.
pub(super) fn write_rules(rules: impl ExactSizeIterator<Item = u32>, into: &mut Vec<u8>) {
    let count = u32::try_from(rules.len()).unwrap_or(u32::MAX);
    for rule in rules {
        into.extend_from_slice(&rule.to_le_bytes());
    }
    into.extend_from_slice(&count.to_le_bytes());
}

/// Account and principal.
pub(super) fn who(account: &str, principal: &str) -> u128 {
    let mut short = [0; 256];
    let length = account.len() + 1 + principal.len();
    if let Some(text) = short.get_mut(..length) {
        text[..account.len()].copy_from_slice(account.as_bytes());
        text[account.len() + 1..].copy_from_slice(principal.as_bytes());
        return hash::hash_128(text);
    }
    hash::hash_128(&[account.as_bytes(), &[0], principal.as_bytes()].concat())
}

impl<'a> Mark<'a> {
    /// Reads what [`write`] wrote; `None` when it is something else.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (rest, count) = bytes.split_last_chunk::<4>()?;
        let rules = (u32::from_le_bytes(*count) as usize).checked_mul(4)?;
        let (bytes, rules) = rest.split_at_checked(rest.len().checked_sub(rules)?)?;
        let tail = bytes.split_last_chunk::<TAIL>()?.1;
        let (who, rest) = tail.split_first_chunk::<16>()?;
        let (class, at) = rest.get(8..)?.split_first()?;
        Some(Self {
            bytes,
            time: fact::time_of(bytes)?,
            who: u128::from_be_bytes(*who),
            class: *class,
            at: u64::from_be_bytes(at.try_into().ok()?),
            rules,
        })
    }

    /// The numbers of the rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.rules.as_chunks::<4>().0.iter().map(|rule| u32::from_le_bytes(*rule))
    }
}
