//! Matches many records by one rule set.
//!
//! In: parsed records, one at a time. Out: the rules that each matches, as [`RuleSet::matches`] says, and what was looked
//! up of it, for whoever asks next ([`Looked`]). Logs hold the same few hundred shapes of records, and in each of them
//! the same few pairs of `eventSource` and `eventName`, again and again. So what these decide is decided once: where a
//! field stands or that there is none, which rules can match at all, and what is left to ask of them. Logs hold the same
//! texts again and again, too: costly verdicts on them are remembered.

use sentinel_json::{Shapes, Value};
use sentinel_model::fast_hash::FastMap;

use crate::{
    dispatch::Header,
    fields::{Layout, Lookup, Scratch},
    program::plan::Plan,
    rules::{RuleIndex, RuleSet},
    view::BETWEEN_TEXTS,
};

/// Shapes remembered, each with two bytes for each field of the rules, and pairs in all of them: whoever writes the log
/// can choose endless names.
const SHAPES: usize = 1024;
const PAIRS: usize = 4096;

/// A rule set with what was found out about its records so far: for one thread.
#[derive(Debug)]
pub struct Matcher<'r> {
    rules: &'r RuleSet,
    shapes: Shapes<Shape>,
    /// How many pairs were met since nothing was remembered, at most.
    pairs: usize,
    /// The pair that is looked up.
    pair: String,
    scratch: Scratch,
}

/// What looking at one record after the other needs of memory, for one set: for one thread.
#[derive(Debug)]
pub struct Memory(pub(crate) Scratch);

/// What is known of records of one shape.
#[derive(Debug)]
struct Shape {
    layout: Layout,
    plans: FastMap<Box<str>, Plan>,
}

impl<'r> Matcher<'r> {
    /// A matcher that knows of no record yet.
    pub fn new(rules: &'r RuleSet) -> Self {
        let scratch = rules.fields().scratch().remembering();
        Self { rules, shapes: Shapes::new(SHAPES), pairs: 0, pair: String::new(), scratch }
    }

    /// Which rules a record (a CloudTrail record, parsed) matches: `hits` is cleared and filled, in the set's order.
    pub fn matches<'m>(&'m mut self, record: Value<'m>, hits: &mut Vec<RuleIndex>) -> Looked<'m> {
        hits.clear();
        let Self { rules, shapes, pairs, pair, scratch } = self;
        if *pairs >= PAIRS {
            shapes.clear();
            *pairs = 0;
        }
        let Shape { layout, plans } =
            shapes.of(record, || Shape { layout: rules.fields().layout(), plans: FastMap::default() });
        let fields = rules.fields().of_shape(record, Some(layout), scratch);
        let Some((source, name)) = Header::of(&fields).and_then(|header| header.source.zip(header.name)) else {
            rules.matches_of(&fields, hits);
            return Looked(fields);
        };
        pair.clear();
        pair.push_str(source);
        // Both are ASCII: nothing else makes the same pair.
        pair.push(BETWEEN_TEXTS);
        pair.push_str(name);
        if let Some(plan) = plans.get(pair.as_str()) {
            plan.ask(rules.graph(), &fields, |rule| hits.push(RuleIndex(rule)));
        } else {
            *pairs += 1;
            let mut candidates = Vec::new();
            rules.candidates(&fields, |number, condition| candidates.push((number, condition)));
            candidates.sort_unstable();
            let plan = Plan::new(rules.graph(), &fields, &candidates);
            plan.ask(rules.graph(), &fields, |rule| hits.push(RuleIndex(rule)));
            plans.insert(pair.as_str().into(), plan);
        }
        Looked(fields)
    }
}

/// A record that was matched, with what was looked up in it: whoever asks for the same fields need not search again.
pub struct Looked<'m>(pub(crate) Lookup<'m>);

impl<'m> Looked<'m> {
    pub(crate) fn fields(&self) -> &Lookup<'m> {
        &self.0
    }
}
