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
/// Bytes of the longest pair that is remembered; those of AWS have fewer than 100.
const LONGEST: usize = 512;

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
        if source.len() + name.len() >= LONGEST {
            rules.matches_of(&fields, hits);
            return Looked(fields);
        }
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

#[cfg(test)]
mod tests {
    use sentinel_json::Document;

    use super::*;

    fn set(detection: &str) -> RuleSet {
        let yaml = format!(
            "title: t\nid: 1\nlogsource:\n  product: aws\n  service: cloudtrail\ndetection:\n{detection}\n  condition: s\n"
        );
        let (set, report) = RuleSet::from_texts(false, [("t.yml", yaml.as_str())]);
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        set
    }

    /// Asks about each record in turn; who of them matches, and how many pairs are remembered.
    fn matched(set: &RuleSet, records: &[String]) -> (Vec<bool>, usize) {
        let (mut matcher, mut hits) = (Matcher::new(set), Vec::new());
        let verdicts = records.iter().map(|record| {
            matcher.matches(Document::parse(record).unwrap().root(), &mut hits);
            !hits.is_empty()
        });
        (verdicts.collect(), matcher.pairs)
    }

    #[test]
    fn a_name_that_another_field_is_compared_with_is_compared_each_time() {
        let set = set("  s:\n    eventName|fieldref: x");
        let record = |x: &str| format!(r#"{{"eventSource":"s","eventName":"A","x":"{x}"}}"#);
        assert_eq!(matched(&set, &["B", "A", "B"].map(record)).0, [false, true, false]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_without_harm() {
        let set = set("  s:\n    eventName|startswith: A\n    x: 1");
        let record = |name: &str, x: u32| format!(r#"{{"eventSource":"s","eventName":"{name}","x":{x}}}"#);
        let long = "A".repeat(LONGEST);
        assert_eq!(matched(&set, &[record(&long, 1), record(&long, 2)]), (vec![true, false], 0));
        let names: Vec<_> = (0..u32::try_from(PAIRS).unwrap() + 10).map(|n| record(&format!("A{n}"), n % 2)).collect();
        let (hits, pairs) = matched(&set, &names);
        assert!(hits.iter().enumerate().all(|(n, hit)| *hit == (n % 2 == 1)));
        assert_eq!(pairs, 10);
        let shapes: Vec<_> = (0..SHAPES + 10)
            .map(|n| format!(r#"{{"eventSource":"s","eventName":"A","k{n}":0,"x":{}}}"#, n % 2))
            .collect();
        assert!(matched(&set, &shapes).0.iter().enumerate().all(|(n, hit)| *hit == (n % 2 == 1)));
    }
}
