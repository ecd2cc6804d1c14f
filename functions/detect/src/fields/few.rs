//! Fields of which rules tell few things apart.
//!
//! In: the matchers that are left to be put to such a field, and what stands in it. Out: one number for what all of them say
//! of it. Logs hold millions of records and a few kinds of principals, errors and tools; and of the tools, rules tell
//! apart fewer still. So what is left to ask of a record is worked out for each of these numbers that is met, and not
//! asked again ([`crate::program::plan`]).

use sentinel_model::fast_hash::FastMap;

use super::{EVENT_SOURCE, Kind, Lookup};

/// The fields: what kind of principal calls, with which tool, and how it went.
pub(super) const FIELDS: [&str; 3] = ["userIdentity.type", "userAgent", "errorCode"];
/// The number of the first of them.
const FIRST: usize = EVENT_SOURCE + 1;
/// Matchers on one field that a number has bits for.
const MOST: usize = 64;
/// Bytes of the longest text that is told so.
const LONGEST: usize = 400;

/// Which of them a field is.
fn at(field: usize) -> Option<usize> {
    field.checked_sub(FIRST).filter(|at| *at < FIELDS.len())
}

/// Lists of matchers on one field, by number.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    lists: Vec<Box<[u32]>>,
    numbers: FastMap<Box<[u32]>, u32>,
}

impl Lists {
    /// The number of a list: the same for the same.
    fn number(&mut self, list: &[u32]) -> u32 {
        if let Some(number) = self.numbers.get(list) {
            return *number;
        }
        let number = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        self.lists.push(list.into());
        self.numbers.insert(list.into(), number);
        number
    }
}

/// The fields that records are sorted by, each with the number of the list of matchers that it is asked about by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct By([Option<u32>; FIELDS.len()]);

impl By {
    /// The list that records are sorted by at a field, and its number.
    fn list<'l>(&self, at: usize, lists: &'l Lists) -> Option<(u32, &'l [u32])> {
        let number = self.0[at]?;
        Some((number, lists.lists.get(number as usize)?))
    }
}

/// Finds out what records are to be sorted by.
#[derive(Debug, Default)]
pub(crate) struct Wanted([Option<Vec<u32>>; FIELDS.len()]);

impl Wanted {
    /// Takes note that whether a field is there is asked.
    pub(crate) fn field(&mut self, field: usize) {
        if let Some(at) = at(field) {
            self.0[at].get_or_insert_default();
        }
    }

    /// Takes note of a matcher, which looks at nothing but the text if it is `alone`.
    fn test(&mut self, field: usize, test: u32, alone: bool) {
        if let Some(at) = at(field).filter(|_| alone) {
            self.0[at].get_or_insert_default().push(test);
        }
    }

    /// What was noted.
    pub(crate) fn into_by(self, lists: &mut Lists) -> By {
        By(self.0.map(|tests| {
            let mut tests = tests.filter(|tests| tests.len() <= MOST)?;
            tests.sort_unstable();
            tests.dedup();
            Some(lists.number(&tests))
        }))
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
    /// What is said of the fields that records are sorted by; of the others nothing.
    pub(crate) fn sorts(&self, lists: &Lists, by: By) -> Sorts {
        let mut sorts = Sorts::default();
        for (at, sort) in sorts.0.iter_mut().enumerate() {
            if let Some((number, tests)) = by.list(at, lists) {
                *sort = self.sort(at, number, tests);
            }
        }
        sorts
    }

    fn sort(&self, at: usize, number: u32, tests: &[u32]) -> Sort {
        let known = self.known(FIRST + at).1;
        match known.kind {
            Kind::Nothing => return Sort::Nothing,
            Kind::Other | Kind::Many => return Sort::Open,
            Kind::Text => {}
        }
        let text = self.record.at(known.place).as_str().unwrap_or_default();
        if text.len() > LONGEST {
            return Sort::Open;
        }
        let ask = || (0..).zip(tests).fold(0, |yes, (bit, test)| yes | u64::from(self.test(*test as usize)) << bit);
        Sort::Text(self.scratch.sorted.once(number as usize, text, ask))
    }

    /// Takes note of a matcher that is left to be asked.
    pub(crate) fn note(&self, test: u32, wanted: &mut Wanted) {
        let of = &self.fields.tests[test as usize];
        wanted.test(of.field, test, of.quick.is_of_text_alone());
    }

    /// Whether the record's sorts tell whether a field is there, and what a matcher on it says if one is given.
    pub(super) fn is_sorted(&self, field: usize, test: Option<u32>, lists: &Lists, by: By) -> bool {
        let Some((at, (number, tests))) = at(field).and_then(|at| Some((at, by.list(at, lists)?))) else {
            return false;
        };
        test.is_none_or(|test| tests.binary_search(&test).is_ok()) && self.sort(at, number, tests) != Sort::Open
    }
}
