//! Matches many records by one rule set.
//!
//! In: parsed records, one at a time. Out: the rules that each matches, as [`RuleSet::matches`] says. Logs hold the same
//! few hundred pairs of `eventSource` and `eventName` again and again, so what these two decide is decided once for each
//! pair: which rules can match at all, and what is left to ask of them.

use std::collections::HashMap;

use sonic_rs::Value;

use crate::{
    dispatch::Header,
    fields::{Lookup, Scratch},
    program::graph::{Graph, Id},
    rules::{RuleIndex, RuleSet},
    view::BETWEEN_TEXTS,
};

/// Pairs remembered; whoever writes the log can choose endless names.
const MOST: usize = 1024;

/// A rule set with what was found out about its records so far: for one thread.
#[derive(Debug)]
pub struct Matcher<'r> {
    rules: &'r RuleSet,
    plans: HashMap<Box<str>, Plan>,
    /// The pair that is looked up.
    pair: String,
    scratch: Scratch,
}

/// What is left to ask of records with one pair of source and name.
#[derive(Debug, Default)]
struct Plan {
    /// Rules that can match, in order, each with where its questions end in `asked`; all must be answered by yes.
    rules: Vec<(u32, usize)>,
    asked: Vec<Id>,
}

impl<'r> Matcher<'r> {
    /// A matcher that knows of no record yet.
    pub fn new(rules: &'r RuleSet) -> Self {
        Self { rules, plans: HashMap::new(), pair: String::new(), scratch: rules.fields().scratch() }
    }

    /// Which rules a record (a CloudTrail record, parsed) matches: `hits` is cleared and filled, in the set's order.
    pub fn matches(&mut self, record: &Value, hits: &mut Vec<RuleIndex>) {
        hits.clear();
        let rules = self.rules;
        let fields = rules.fields().of(record, &self.scratch);
        let Some((source, name)) = Header::of(&fields).and_then(|header| header.source.zip(header.name)) else {
            return rules.matches_of(&fields, hits);
        };
        self.pair.clear();
        self.pair.push_str(source);
        // Both are ASCII: nothing else makes the same pair.
        self.pair.push(BETWEEN_TEXTS);
        self.pair.push_str(name);
        if let Some(plan) = self.plans.get(self.pair.as_str()) {
            return plan.ask(rules.graph(), &fields, hits);
        }
        if self.plans.len() >= MOST {
            return rules.matches_of(&fields, hits);
        }
        let plan = Plan::of(rules, &fields);
        plan.ask(rules.graph(), &fields, hits);
        self.plans.insert(self.pair.as_str().into(), plan);
    }
}

impl Plan {
    /// What is left to ask of records that have source and name in common with this one.
    fn of(rules: &RuleSet, record: &Lookup<'_>) -> Self {
        let mut candidates = Vec::new();
        rules.candidates(record, |number, condition| candidates.push((number, condition)));
        candidates.sort_unstable();
        let mut plan = Self::default();
        for (number, condition) in candidates {
            let begin = plan.asked.len();
            if rules.graph().left_to_ask(condition, record, &mut plan.asked) {
                plan.rules.push((number, plan.asked.len()));
            } else {
                plan.asked.truncate(begin);
            }
        }
        plan
    }

    fn ask(&self, graph: &Graph, record: &Lookup<'_>, hits: &mut Vec<RuleIndex>) {
        let mut begin = 0;
        for (number, end) in &self.rules {
            if self.asked[begin..*end].iter().all(|id| graph.holds(*id, record)) {
                hits.push(RuleIndex(*number));
            }
            begin = *end;
        }
    }
}
