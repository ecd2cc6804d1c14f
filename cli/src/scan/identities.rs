//! Which records are copies of each other, counted over the whole input.
//!
//! In: id and content of every record, in any order, from any number of workers. Out: how many different events and
//! ids there were. A record takes 16 bytes; past a budget they go to disk, sorted, and are counted at the end.

use std::io;

use sentinel_model::hash;
use sentinel_spill::Keys;

/// Remembers records by hashes, so two ids may be taken for one once in many billions of pairs.
#[derive(Debug)]
pub(super) struct Identities(Keys);

/// What was different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Distinct {
    /// Pairs of id and content.
    pub(super) events: u64,
    /// Ids.
    pub(super) ids: u64,
}

impl Identities {
    /// Nothing seen; about `budget` bytes are held in memory.
    pub(super) fn new(budget: usize) -> Self {
        Self(Keys::new(budget))
    }

    /// Takes note of a record.
    pub(super) fn note(&mut self, id: &str, content: u64) -> io::Result<()> {
        let key = u128::from(hash::hash_64(id.as_bytes())) << 64 | u128::from(content);
        self.0.push(key)
    }

    /// Puts in order what was noted: done by the worker, so that all do it at once.
    pub(super) fn seal(&mut self) {
        self.0.sort();
    }

    /// Counts what several workers noted.
    pub(super) fn count(all: Vec<Self>) -> io::Result<Distinct> {
        let (mut distinct, mut last) = (Distinct::default(), None);
        Keys::each(all.into_iter().map(|one| one.0).collect(), |key| {
            let before: Option<u128> = last.replace(key);
            distinct.events += 1;
            distinct.ids += u64::from(before.is_none_or(|known| known >> 64 != key >> 64));
        })?;
        Ok(distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_conflicts_are_told_apart_by_any_number_of_workers() {
        for (workers, budget) in [(1, 1 << 20), (3, 1 << 20), (3, 1), (2, 200)] {
            let mut all: Vec<_> = (0..workers).map(|_| Identities::new(budget)).collect();
            let records = [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("a", 2), ("c", 3), ("a", 1)];
            for (n, (id, content)) in records.iter().cycle().take(70).enumerate() {
                all[n % workers].note(id, *content).unwrap();
            }
            assert_eq!(Identities::count(all).unwrap(), Distinct { events: 4, ids: 3 });
        }
        assert_eq!(Identities::count(Vec::new()).unwrap(), Distinct::default());
    }
}
