//! What a principal uses, and how often, in a fixed number of slots.
//!
//! Space-saving (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data
//! streams", 2005): when all slots are taken, the least counted makes room and its count is inherited, so
//! frequent values always stay. Values are kept as 32-bit hashes: 40 slots meet a false match once in 100 million.

use xxhash_rust::xxh3::xxh3_64;

/// Counts are halved when they sum to this, so that habits of long ago fade.
const HALVE_AT: u32 = 20_000;

/// A 32-bit hash of a value.
#[allow(clippy::cast_possible_truncation, reason = "the low half of a 64-bit hash is a hash")]
pub(crate) fn hash(text: &str) -> u32 {
    xxh3_64(text.as_bytes()) as u32
}

/// One slot: hash, count, and minute of last use since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32, pub(crate) u32, pub(crate) u32);

/// Counts of values in at most `CAP` slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sketch<const CAP: usize>(Vec<Slot>);

impl<const CAP: usize> Sketch<CAP> {
    pub(crate) fn count(&self, hash: u32) -> u32 {
        self.0.iter().find(|s| s.0 == hash).map_or(0, |s| s.1)
    }

    pub(crate) fn total(&self) -> u32 {
        self.0.iter().map(|s| s.1).sum()
    }

    /// How many values were used in the hour up to `minute`.
    pub(crate) fn used_within_hour(&self, minute: u32) -> usize {
        self.0.iter().filter(|s| s.2 + 60 > minute && s.2 <= minute + 60).count()
    }

    /// All slots, in the order in which they were taken.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.0
    }

    /// A sketch of these slots; `None` when they are more than it holds.
    pub(crate) fn of(slots: Vec<Slot>) -> Option<Self> {
        (slots.len() <= CAP).then_some(Self(slots))
    }

    pub(crate) fn add(&mut self, hash: u32, minute: u32) {
        if let Some(slot) = self.0.iter_mut().find(|s| s.0 == hash) {
            slot.1 = slot.1.saturating_add(1);
            slot.2 = slot.2.max(minute);
        } else if self.0.len() < CAP {
            self.0.push(Slot(hash, 1, minute));
        } else if let Some(least) = self.0.iter_mut().min_by_key(|s| (s.1, s.2)) {
            *least = Slot(hash, least.1.saturating_add(1), minute);
        }
        if self.total() >= HALVE_AT {
            for slot in &mut self.0 {
                slot.1 = slot.1.div_ceil(2);
            }
        }
    }
}
