//! Fields of which rules tell few things apart.
//!
//! In: the matchers that rules put to such a field, and what stands in it. Out: one number for what all of them say of it.
//! Logs hold millions of records and a few kinds of principals, keys, errors and tools. So what is left to ask of a record
//! is worked out for each of these numbers that is met, and not asked again ([`crate::program::plan`]).

use super::{EVENT_SOURCE, Kind, Lookup};

/// The fields: what kind of principal calls, with which tool, and how it went.
pub(super) const FIELDS: [&str; 3] = ["userIdentity.type", "userAgent", "errorCode"];
/// The number of the first of them.
const FIRST: usize = EVENT_SOURCE + 1;
/// Matchers on one field that a number has bits for.
const MOST: usize = 64;
/// Bytes of the longest text that is told so.
const LONGEST: usize = 400;

/// The matchers on each of the fields that look at nothing but its text, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Few([Vec<usize>; FIELDS.len()]);

impl Few {
    pub(super) fn add(&mut self, field: usize, test: usize) {
        if let Some(tests) = field.checked_sub(FIRST).and_then(|at| self.0.get_mut(at)) {
            tests.push(test);
        }
    }
}

/// Some of the fields, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FewFields(u8);

impl FewFields {
    /// Adds a field if it is one of them.
    pub(crate) fn add(&mut self, field: usize) {
        if let Some(at) = field.checked_sub(FIRST).filter(|at| *at < FIELDS.len()) {
            self.0 |= 1 << at;
        }
    }

    fn has(self, at: usize) -> bool {
        at < FIELDS.len() && self.0 & 1 << at != 0
    }
}

/// What matchers say of these fields of one record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sorts([Sort; FIELDS.len()]);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Sort {
    /// Each has to be asked.
    #[default]
    Open,
    /// The field is absent or null.
    Nothing,
    /// It is a text, and these say yes.
    Text(u64),
}

impl Lookup<'_> {
    /// What is said of some of the fields; of the others nothing.
    pub(crate) fn sorts(&self, fields: FewFields) -> Sorts {
        let mut sorts = Sorts::default();
        for (at, sort) in sorts.0.iter_mut().enumerate() {
            if fields.has(at) {
                *sort = self.sort(at);
            }
        }
        sorts
    }

    fn sort(&self, at: usize) -> Sort {
        let known = self.known(FIRST + at).1;
        match known.kind {
            Kind::Nothing => return Sort::Nothing,
            Kind::Other | Kind::Many => return Sort::Open,
            Kind::Text => {}
        }
        let tests = &self.fields.few.0[at];
        let text = self.record.at(known.place).as_str().unwrap_or_default();
        if tests.len() > MOST || text.len() > LONGEST {
            return Sort::Open;
        }
        let ask = || (0..).zip(tests).fold(0, |yes, (bit, test)| yes | u64::from(self.test(*test)) << bit);
        Sort::Text(self.scratch.sorted.once(at, text, ask))
    }

    /// Whether the sorts of these fields tell all that rules ask of this one alone.
    pub(super) fn is_sorted(&self, field: usize, by: FewFields) -> bool {
        field.checked_sub(FIRST).is_some_and(|at| by.has(at) && self.sort(at) != Sort::Open)
    }
}
