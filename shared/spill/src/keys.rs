//! Remembers more 128-bit keys than memory holds, each once.
//!
//! In: keys in any order, again and again. Out: each different one, in order. In memory a key takes its 16 bytes and no
//! more; when room runs out, those that came again go first, and the rest to disk if that was not enough.

use std::io;

use crate::Sorter;

/// Keys that are held at least.
const LEAST: usize = 64;

/// Different keys.
#[derive(Debug)]
pub struct Keys {
    most: usize,
    held: Vec<u128>,
    rest: Sorter,
}

impl Keys {
    /// About `budget` bytes are held in memory.
    pub fn new(budget: usize) -> Self {
        Self { most: (budget / size_of::<u128>()).max(LEAST), held: Vec::new(), rest: Sorter::new(0) }
    }

    /// Adds a key.
    pub fn push(&mut self, key: u128) -> io::Result<()> {
        if self.held.len() >= self.most {
            self.sort();
            if self.held.len() > self.most / 2 {
                self.spill()?;
            }
        }
        if self.held.capacity() == 0 {
            // Memory that is not touched costs nothing, and what grows is copied again and again.
            self.held.reserve_exact(self.most);
        }
        self.held.push(key);
        Ok(())
    }

    /// Puts in order what is in memory, each once.
    pub fn sort(&mut self) {
        self.held.sort_unstable();
        self.held.dedup();
    }

    /// Writes what is in memory, in order, to disk.
    fn spill(&mut self) -> io::Result<()> {
        self.rest.write_keys(&self.held)?;
        self.held.clear();
        Ok(())
    }

    /// Hands each different key of several to `take`, in order.
    pub fn each(all: Vec<Self>, mut take: impl FnMut(u128)) -> io::Result<()> {
        if !all.iter().any(|keys| keys.rest.spilled()) {
            let mut all = all.into_iter();
            let Some(mut first) = all.next() else { return Ok(()) };
            all.for_each(|mut more| first.held.append(&mut more.held));
            #[allow(clippy::stable_sort_primitive, reason = "it merges what is in order already")]
            first.held.sort();
            first.held.dedup();
            first.held.into_iter().for_each(take);
            return Ok(());
        }
        let mut sorters = Vec::with_capacity(all.len());
        for mut keys in all {
            keys.sort();
            keys.spill()?;
            sorters.push(keys.rest);
        }
        let (mut merged, mut before) = (Sorter::merge(sorters)?, None);
        while let Some((key, _)) = merged.take_next()? {
            if before.replace(key) != Some(key) {
                take(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn each_key_comes_once_and_in_order(
            keys in prop::collection::vec(prop_oneof![0..300_u128, any::<u128>()], 0..900),
            parts in 1..4_usize,
            budget in prop::sample::select(vec![0, 4_000, 20_000, 1 << 20]),
        ) {
            let mut all: Vec<_> = (0..parts).map(|_| Keys::new(budget)).collect();
            for (n, key) in keys.iter().enumerate() {
                all[n % parts].push(*key).unwrap();
            }
            all[0].sort();
            let mut seen = Vec::new();
            Keys::each(all, |key| seen.push(key)).unwrap();
            prop_assert_eq!(seen, keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_comes_again_stays_in_memory_and_what_is_new_goes_to_disk() {
        let mut keys = Keys::new(1 << 20);
        (0..1_000_000).for_each(|n| keys.push(n % 1_000).unwrap());
        assert!(!keys.rest.spilled() && keys.held.capacity() * 16 <= 1 << 20);
        (0..100_000).for_each(|n| keys.push(n).unwrap());
        assert!(keys.rest.spilled());
    }
}
