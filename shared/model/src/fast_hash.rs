//! Tables with short keys, hashed at a fraction of the cost of the standard hasher.
//!
//! Its secret is none: whoever writes a log can choose keys of one hash. So it is for what rules say, whose number caps
//! bound, for what is a hash already, and for tables that whoever uses them keeps small.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A table.
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Fast>>;

/// A set.
pub type FastSet<K> = HashSet<K, BuildHasherDefault<Fast>>;

/// Hashes texts and numbers.
#[derive(Debug, Default)]
pub struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The end mark of a text, which adds little.
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.cast_unsigned() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn different_keys_have_different_hashes() {
        let build = BuildHasherDefault::<Fast>::default();
        let texts = (0..10_000).map(|n| build.hash_one(format!("{n} =x")));
        let lists = (0..10_000_u32).map(|n| build.hash_one((n / 100, vec![n % 100, 7])));
        let all: HashSet<u64> = texts.chain(lists).collect();
        assert_eq!(all.len(), 20_000);
        let low: HashSet<u64> = all.iter().map(|hash| hash % 4096).collect();
        assert!(low.len() > 3_500, "{}", low.len());
    }
}
