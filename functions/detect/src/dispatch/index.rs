//! Rules by the values and beginnings of one field.

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use xxhash_rust::xxh3::xxh3_64;

/// Tables with short text as keys.
pub(super) type Table<V> = HashMap<Box<str>, V, BuildHasherDefault<Short>>;

/// Hashes short text fast. Nobody gains from collisions: keys are what rules say, never what records say.
#[derive(Debug, Default)]
pub(super) struct Short(u64);

impl Hasher for Short {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    /// The end mark of a text, which adds nothing to a single one.
    fn write_u8(&mut self, _: u8) {}
}

/// A rule, and the number of the only source that it is to be tried with; 0 for any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) rule: u32,
    pub(super) source: u32,
}

/// Entries by the values of one field.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: Table<Vec<Entry>>,
    /// A tree of the bytes of prefixes; its root is the first, once there is one.
    tree: Vec<Branch>,
}

#[derive(Debug, Default)]
struct Branch {
    next: Vec<(u8, usize)>,
    entries: Vec<Entry>,
}

impl Index {
    /// Enters a rule so that no value finds an entry twice.
    pub(super) fn insert(&mut self, entries: &[Entry], exact: &[Cow<'_, str>], prefixes: &[Cow<'_, str>]) {
        let covered = |value: &str, by_itself: bool| {
            prefixes.iter().any(|p| value.starts_with(&**p) && (by_itself || value != p))
        };
        for value in exact.iter().filter(|v| !covered(v, true)) {
            self.exact.entry((**value).into()).or_default().extend(entries);
        }
        for prefix in prefixes.iter().filter(|p| !covered(p, false)) {
            self.branch(prefix).entries.extend(entries);
        }
    }

    fn branch(&mut self, prefix: &str) -> &mut Branch {
        if self.tree.is_empty() {
            self.tree.push(Branch::default());
        }
        let mut at = 0;
        for byte in prefix.bytes() {
            at = if let Some((_, next)) = self.tree[at].next.iter().find(|(b, _)| *b == byte) {
                *next
            } else {
                let new = self.tree.len();
                self.tree.push(Branch::default());
                self.tree[at].next.push((byte, new));
                new
            };
        }
        &mut self.tree[at]
    }

    /// Calls `see` with each entry that the value (in lower case) admits.
    pub(super) fn each(&self, value: &str, mut see: impl FnMut(Entry)) {
        if let Some(entries) = self.exact.get(value) {
            entries.iter().copied().for_each(&mut see);
        }
        let Some(mut branch) = self.tree.first() else { return };
        for byte in value.bytes() {
            let Some((_, next)) = branch.next.iter().find(|(b, _)| *b == byte) else { return };
            branch = &self.tree[*next];
            branch.entries.iter().copied().for_each(&mut see);
        }
    }
}
