//! Where fields stand in records of one shape.
//!
//! In: what a search for a field found in one record. Out: the same for every other record of its shape, without a search.

use std::cell::Cell;

use sentinel_json::Value;

use super::keys::End;

/// Where each field stands in records of one shape.
#[derive(Debug)]
pub(crate) struct Layout(Box<[Cell<u16>]>);

impl Layout {
    const UNKNOWN: u16 = 0;
    const ABSENT: u16 = 1;
    /// There is an array on the way.
    const ARRAY: u16 = 2;
    /// Where the first value stands.
    const FIRST: u16 = 3;

    /// Of so many fields none is known yet.
    pub(super) fn new(fields: usize) -> Self {
        Self(vec![Cell::new(Self::UNKNOWN); fields].into())
    }

    pub(super) fn get<'a>(&self, field: usize, record: Value<'a>) -> Option<End<'a>> {
        match self.0[field].get() {
            Self::UNKNOWN => None,
            Self::ABSENT => Some(End::Absent),
            Self::ARRAY => Some(End::Array),
            place => Some(End::One(record.at(u32::from(place - Self::FIRST)))),
        }
    }

    pub(super) fn set(&self, field: usize, end: &End<'_>) {
        let place = match end {
            End::Absent => Some(Self::ABSENT),
            End::Array => Some(Self::ARRAY),
            End::One(value) => u16::try_from(value.place()).ok().and_then(|place| place.checked_add(Self::FIRST)),
        };
        // Few records have so many values that it does not fit.
        self.0[field].set(place.unwrap_or(Self::UNKNOWN));
    }
}
