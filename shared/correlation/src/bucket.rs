//! The hits of one group within one window: what is kept as state.
//!
//! Buckets merge as sets do, and what a bucket holds depends on all that was put in, never on the order. Past
//! [`CAP`] hits a bucket is thinned, for good: of each kind of hit (rule, and value where values are counted) the
//! earliest in each eighth of the timespan stays, and of those the first [`CAP`]. Both steps keep what a later merge
//! would keep, so thinning early or late is the same.

use std::collections::{BTreeMap, HashSet};

use crate::{Hit, HitKey, Kind, Plan};

/// Hits kept of one group and window.
pub const CAP: usize = 2_000;
/// Results of referred correlations kept in one group and window.
pub const MAX_SOURCES: usize = 500;
/// Parts of a timespan in which a thinned bucket tells hits of one kind apart.
const SLICES: u64 = 8;

/// Where hits that are a correlation's completions come from: that correlation's position among the bases, its group,
/// and the start of its window in seconds.
pub type SourceKey = (u16, u128, i64);

/// The completions of one group and window of a referred correlation. The newest version counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// Version: see [`Bucket::measure`].
    pub revision: u64,
    /// The completing hits that belong into this bucket.
    pub hits: Vec<Hit>,
}

/// The hits of one group within one window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    hits: BTreeMap<HitKey, Hit>,
    sources: BTreeMap<SourceKey, Source>,
    thinned: bool,
    raised: bool,
    full: bool,
}

impl Bucket {
    /// Adds a hit; returns whether anything changed.
    pub fn insert(&mut self, plan: &Plan, hit: Hit) -> bool {
        if let Some(known) = self.hits.get_mut(&hit.key()) {
            return known.absorb(&hit);
        }
        let key = hit.key();
        if self.thinned && self.is_beyond(plan, &key, &hit) {
            return false;
        }
        self.hits.insert(key.clone(), hit);
        if self.thinned || self.hits.len() > CAP {
            let already = std::mem::replace(&mut self.thinned, true);
            self.thin(plan);
            return !already || self.hits.contains_key(&key);
        }
        true
    }

    /// Whether thinning would surely take this hit out again: most of what comes to a thinned bucket, told cheaply.
    fn is_beyond(&self, plan: &Plan, key: &HitKey, hit: &Hit) -> bool {
        let is_full = self.full || self.hits.len() >= CAP;
        if is_full && self.hits.last_key_value().is_some_and(|(last, _)| key > last) {
            return true;
        }
        let Some(width) = slice_width(plan) else { return false };
        let slice = slice_of(hit, width);
        let earlier = self.hits.range(..key).rev().map(|(_, h)| h);
        earlier.take_while(|h| slice_of(h, width) == slice).any(|h| h.base == hit.base && h.values == hit.values)
    }

    /// Takes in the completions of a referred correlation; returns whether anything changed.
    pub fn put_source(&mut self, key: SourceKey, source: Source) -> bool {
        if let Some(known) = self.sources.get(&key) {
            if known.revision >= source.revision {
                return false;
            }
        } else if source.hits.is_empty()
            || (self.full && self.sources.last_key_value().is_none_or(|(last, _)| key > *last))
        {
            return false;
        }
        self.sources.insert(key, source);
        while self.sources.len() > MAX_SOURCES {
            self.sources.pop_last();
            self.thinned = true;
        }
        self.sources.contains_key(&key)
    }

    /// Takes in another bucket of the same group and window; returns whether anything changed.
    pub fn merge(&mut self, plan: &Plan, other: Self) -> bool {
        let mut changed = false;
        for hit in other.hits.into_values() {
            changed |= self.insert(plan, hit);
        }
        for (key, source) in other.sources {
            changed |= self.put_source(key, source);
        }
        if other.thinned && !self.thinned {
            self.thinned = true;
            self.thin(plan);
            changed = true;
        }
        changed | (other.raised && self.mark_raised())
    }

    /// Leaves out the last of what it holds, for good, where that takes more room than there is: what somebody who is
    /// watched may write into every event has no other bound. Returns whether anything was left to leave out.
    pub fn shrink(&mut self) -> bool {
        (self.full, self.thinned) = (true, true);
        let of_sources: usize = self.sources.values().map(|source| source.hits.len()).sum();
        if of_sources > self.hits.len() {
            return self.sources.pop_last().is_some();
        }
        let least = self.hits.len().div_ceil(8);
        (0..least).filter(|_| self.hits.pop_last().is_some()).count() > 0
    }

    /// Whether there was no room for more.
    pub fn is_full(&self) -> bool {
        self.full
    }

    fn thin(&mut self, plan: &Plan) {
        if let Some(width) = slice_width(plan) {
            let mut seen = HashSet::new();
            self.hits.retain(|_, hit| seen.insert((slice_of(hit, width), hit.base, hit.values.clone())));
        }
        while self.hits.len() > CAP {
            self.hits.pop_last();
        }
    }

    /// Whether this hit is kept.
    pub fn holds(&self, hit: &Hit) -> bool {
        self.hits.contains_key(&hit.key())
    }

    /// Whether hits were left out.
    pub fn is_thinned(&self) -> bool {
        self.thinned
    }

    /// Whether an alert was made of it, so that it must be told when that turns out untrue.
    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// Notes that an alert was made of it; returns whether that was news.
    pub fn mark_raised(&mut self) -> bool {
        !std::mem::replace(&mut self.raised, true)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.hits.is_empty() && self.sources.is_empty()
    }

    /// All hits in order, each once.
    pub fn hits(&self) -> Vec<&Hit> {
        if self.sources.is_empty() {
            return self.hits.values().collect();
        }
        let mut all: Vec<&Hit> = self.hits.values().chain(self.sources.values().flat_map(|s| &s.hits)).collect();
        all.sort_by_key(|hit| hit.key());
        all.dedup_by_key(|hit| hit.key());
        all
    }

    /// The hits that are events' own.
    pub fn own_hits(&self) -> impl Iterator<Item = &Hit> {
        self.hits.values()
    }

    /// The completions of referred correlations.
    pub fn sources(&self) -> impl Iterator<Item = (&SourceKey, &Source)> {
        self.sources.iter()
    }

    /// How much it knows: grows with every hit that it takes in, and does not depend on how they came.
    pub fn measure(&self) -> u64 {
        let own = if self.thinned { CAP + 1 } else { self.hits.len() } as u64;
        own + self.sources.values().map(|s| 1 + (s.revision >> REVISION_SHIFT)).sum::<u64>()
    }

    /// A bucket as it was stored.
    pub fn restore(
        hits: impl IntoIterator<Item = Hit>,
        sources: impl IntoIterator<Item = (SourceKey, Source)>,
        [thinned, raised, full]: [bool; 3],
    ) -> Self {
        let hits = hits.into_iter().map(|hit| (hit.key(), hit)).collect();
        Self { hits, sources: sources.into_iter().collect(), thinned, raised, full }
    }
}

/// Seconds in which a thinned bucket keeps one hit of a kind; `None` where every event counts.
pub fn slice_width(plan: &Plan) -> Option<i64> {
    matches!(plan.kind, Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered)
        .then(|| i64::try_from((plan.timespan / SLICES).max(1)).unwrap_or(i64::MAX))
}

fn slice_of(hit: &Hit, width: i64) -> i64 {
    hit.event().time.as_second().div_euclid(width)
}

/// Bits of a revision that tell versions of equally much knowledge apart.
const REVISION_SHIFT: u32 = 24;

/// The version of what is said of some buckets: of two versions, the one that rests on more is greater.
/// `measure` is the sum of [`Bucket::measure`], `versions` that of their items' versions in the store.
pub fn revision(measure: u64, versions: u64) -> u64 {
    (measure << REVISION_SHIFT) | versions.min((1 << REVISION_SHIFT) - 1)
}
