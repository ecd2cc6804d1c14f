//! The fields that rules look at, looked up once per record however many rules ask.
//!
//! In: field names as rules write them, each under a number of its own, and a record. Out: what stands in the
//! record under a number.

use std::{cell::Cell, collections::HashMap};

use sonic_rs::Value;

use crate::view::{FieldPath, Found};

/// Fields whose values are remembered while one record is looked at, so that a rule set with any number of
/// fields costs a record no more. Public sets look at some hundred.
const REMEMBERED: usize = 512;

/// The fields of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    paths: Vec<FieldPath>,
    numbers: HashMap<String, usize>,
}

impl Fields {
    /// A field's number.
    pub(crate) fn number(&mut self, path: &str) -> usize {
        if let Some(known) = self.numbers.get(path) {
            return *known;
        }
        self.paths.push(FieldPath::parse(path));
        self.numbers.insert(path.to_owned(), self.paths.len() - 1);
        self.paths.len() - 1
    }

    /// A record to look fields up in.
    pub(crate) fn of<'a>(&'a self, record: &'a Value) -> Lookup<'a> {
        let remembered = self.paths.len().min(REMEMBERED);
        Lookup { record, paths: &self.paths, known: vec![Cell::new(Known::NotYet); remembered] }
    }
}

/// A record, with the fields that were looked up in it so far.
pub(crate) struct Lookup<'a> {
    pub(crate) record: &'a Value,
    paths: &'a [FieldPath],
    known: Vec<Cell<Known<'a>>>,
}

#[derive(Clone, Copy)]
enum Known<'a> {
    NotYet,
    Absent,
    One(&'a Value),
    /// Rare, so it is looked up again.
    Many,
}

impl<'a> Lookup<'a> {
    /// What stands in the record under a field's number.
    pub(crate) fn find(&self, field: usize) -> Found<'a> {
        let known = self.known.get(field);
        match known.map_or(Known::NotYet, Cell::get) {
            Known::Absent => return Found::Absent,
            Known::One(value) => return Found::One(value),
            Known::NotYet | Known::Many => {}
        }
        let found = self.paths[field].find(self.record);
        if let Some(known) = known {
            known.set(match &found {
                Found::Absent => Known::Absent,
                Found::One(value) => Known::One(value),
                Found::Many(_) => Known::Many,
            });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_remembered_or_not() {
        let mut fields = Fields::default();
        let numbers: Vec<_> = (0..REMEMBERED + 10).map(|n| fields.number(&format!("f{n}.x"))).collect();
        assert_eq!(fields.number("f0.x"), numbers[0], "a field has one number");
        let last = REMEMBERED + 9;
        let text = format!(r#"{{"f0":{{"x":1}},"f1":[{{"x":2}},{{"x":3}}],"f{last}":{{"x":4}}}}"#);
        let record = sonic_rs::from_str(&text).unwrap();
        let lookup = fields.of(&record);
        for _ in 0..2 {
            assert!(matches!(lookup.find(numbers[0]), Found::One(_)));
            assert!(matches!(lookup.find(numbers[1]), Found::Many(all) if all.len() == 2));
            assert!(matches!(lookup.find(numbers[2]), Found::Absent));
            assert!(matches!(lookup.find(numbers[last]), Found::One(_)));
            assert!(matches!(lookup.find(numbers[last - 1]), Found::Absent));
        }
    }
}
