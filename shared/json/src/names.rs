//! Names of members with places of their own, found by the hashes that keys are read with.

use crate::{likeness::key_hash, value::Key};

/// Names with places, from 0.
#[derive(Debug, Default)]
pub struct Names {
    names: Vec<Box<str>>,
    /// Where a name's hash says, or behind. Its length is a power of two.
    table: Box<[Entry]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    hash: u32,
    /// The place plus one; 0 for none.
    place: u32,
}

impl Names {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The place of a member's name.
    #[inline]
    pub fn find(&self, key: Key<'_>) -> Option<usize> {
        self.look(key.hash(), || key.name())
    }

    #[inline]
    fn look<'k>(&self, hash: u32, name: impl Fn() -> &'k str) -> Option<usize> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        // At least half of the table is empty.
        loop {
            let entry = self.table[at];
            let place = (entry.place as usize).checked_sub(1)?;
            if entry.hash == hash && *self.names[place] == *name() {
                return Some(place);
            }
            at = (at + 1) & mask;
        }
    }

    /// The place of a name, which is entered unless it is there.
    pub fn add(&mut self, name: &str) -> usize {
        if let Some(known) = self.look(key_hash(name), || name) {
            return known;
        }
        self.names.push(name.into());
        if self.names.len() * 3 > self.table.len() {
            self.table = vec![Entry::default(); (self.names.len() * 6).next_power_of_two()].into();
            (0..self.names.len()).for_each(|place| self.enter(place));
        } else {
            self.enter(self.names.len() - 1);
        }
        self.names.len() - 1
    }

    fn enter(&mut self, place: usize) {
        let mask = self.table.len() - 1;
        let hash = key_hash(&self.names[place]);
        let mut at = hash as usize & mask;
        while self.table[at].place != 0 {
            at = (at + 1) & mask;
        }
        // Memory ends long before.
        self.table[at] = Entry { hash, place: u32::try_from(place + 1).unwrap_or(u32::MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_place_each() {
        let mut names = Names::default();
        let all: Vec<String> = (0..500).map(|n| format!("key{n}x{}", n % 7)).collect();
        let places: Vec<_> = all.iter().map(|n| names.add(n)).collect();
        assert_eq!(places, (0..500).collect::<Vec<_>>());
        let find = |names: &Names, name: &str| names.look(key_hash(name), || name);
        assert!(all.iter().enumerate().all(|(n, name)| names.add(name) == n && find(&names, name) == Some(n)));
        assert_eq!((find(&names, "key500x3"), find(&names, "")), (None, None));
        assert_eq!((names.add(""), names.len()), (500, 501));
        assert_eq!(find(&names, ""), Some(500));
        assert_eq!(names.look(key_hash(&all[7]), || "another"), None, "of the same hash");
    }
}
