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
    fields::{By, Layout, Lists, Lookup, Scratch, Sorts},
    program::{graph::Id, plan::Plan},
    rules::{RuleIndex, RuleSet},
    view::BETWEEN_TEXTS,
};

/// Shapes remembered, each with two bytes for each field of the rules, and plans for all of them: whoever writes the log
/// can choose endless names.
const SHAPES: usize = 1024;
const PLANS: usize = 4096;
/// Bytes of the longest pair that is remembered; those of AWS have fewer than 100.
const LONGEST: usize = 512;

/// A rule set with what was found out about its records so far: for one thread.
#[derive(Debug)]
pub struct Matcher<'r> {
    rules: &'r RuleSet,
    shapes: Shapes<Shape>,
    /// How many plans there are, at most: some may be forgotten.
    plans: usize,
    /// The lists of matchers that records are sorted by, which select their plans.
    lists: Lists,
    /// The pair that is looked up.
    pair: String,
    scratch: Scratch,
}

/// What looking at one record after the other needs of memory, for one set: for one thread.
#[derive(Debug)]
pub struct Memory(pub(crate) Scratch);

/// What is known of records of one shape. Most have one pair, which is found without going through a table: that would be
/// three reads, one after the other, of memory that was not used lately.
#[derive(Debug)]
struct Shape {
    layout: Layout,
    first: Option<(Box<str>, Pair)>,
    more: FastMap<Box<str>, Pair>,
}

/// What is known of those with one pair of names.
#[derive(Debug)]
struct Pair {
    /// The rules that can match, each with what then decides, in order.
    candidates: Vec<(u32, Id)>,
    /// What their plans are told apart by.
    by: By,
    /// The plan of the first record, and those of others.
    first: (Sorts, Plan),
    more: FastMap<Sorts, Plan>,
}

impl<'r> Matcher<'r> {
    /// A matcher that knows of no record yet.
    pub fn new(rules: &'r RuleSet) -> Self {
        let scratch = rules.fields().scratch().remembering();
        Self { rules, shapes: Shapes::new(SHAPES), plans: 0, lists: Lists::default(), pair: String::new(), scratch }
    }

    /// Which rules a record (a CloudTrail record, parsed) matches: `hits` is cleared and filled, in the set's order.
    pub fn matches<'m>(&'m mut self, record: Value<'m>, hits: &mut Vec<RuleIndex>) -> Looked<'m> {
        hits.clear();
        let Self { rules, shapes, plans, lists, pair, scratch } = self;
        if *plans >= PLANS {
            shapes.clear();
            (*plans, *lists) = (0, Lists::default());
            scratch.forget_lists();
        }
        let Shape { layout, first, more } =
            shapes.of(record, || Shape { layout: rules.fields().layout(), first: None, more: FastMap::default() });
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
        let name = pair.as_str();
        let mut new = || {
            *plans += 1;
            Pair::of(rules, &fields, lists)
        };
        let pair = match first {
            None => &mut first.insert((name.into(), new())).1,
            Some((known, pair)) if **known == *name => pair,
            Some(_) => match more.get_mut(name) {
                Some(known) => known,
                None => more.entry(name.into()).or_insert_with(new),
            },
        };
        let Pair { candidates, by, first, more } = pair;
        let sorts = fields.sorts(lists, *by);
        let plan = if first.0 == sorts {
            &mut first.1
        } else {
            more.entry(sorts).or_insert_with(|| {
                *plans += 1;
                Plan::new(rules.graph(), &fields, candidates, lists, *by)
            })
        };
        plan.ask(rules.graph(), &fields, |rule| hits.push(RuleIndex(rule)));
        Looked(fields)
    }
}

impl Pair {
    fn of(rules: &RuleSet, record: &Lookup<'_>, lists: &mut Lists) -> Self {
        let mut candidates = Vec::new();
        rules.candidates(record, |number, condition| candidates.push((number, condition)));
        candidates.sort_unstable();
        let plan = Plan::new(rules.graph(), record, &candidates, lists, By::default());
        let by = plan.few(record).into_by(lists);
        let first = (record.sorts(lists, by), Plan::new(rules.graph(), record, &candidates, lists, by));
        Self { candidates, by, first, more: FastMap::default() }
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
    use proptest::prelude::*;
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

    /// Asks about each record in turn; who of them matches, and how many plans are remembered.
    fn matched(set: &RuleSet, records: &[String]) -> (Vec<bool>, usize) {
        let (mut matcher, mut hits) = (Matcher::new(set), Vec::new());
        let verdicts = records.iter().map(|record| {
            matcher.matches(Document::parse(record).unwrap().root(), &mut hits);
            !hits.is_empty()
        });
        (verdicts.collect(), matcher.plans)
    }

    #[test]
    fn a_name_that_another_field_is_compared_with_is_compared_each_time() {
        let set = set("  s:\n    eventName|fieldref: x");
        let record = |x: &str| format!(r#"{{"eventSource":"s","eventName":"A","x":"{x}"}}"#);
        assert_eq!(matched(&set, &["B", "A", "B"].map(record)).0, [false, true, false]);
    }

    proptest! {
        /// What is said of kinds of principals, tools and errors is said of each record anew, whatever stands there.
        #[test]
        fn verdicts_are_those_of_single_records(
            values in prop::collection::vec([0..10_usize, 0..10, 0..10], 1..40),
            named in 0..4_usize,
        ) {
            let detections = [
                "  s:\n    userIdentity.type: Root\n    errorCode|exists: false\n  condition: s",
                "  s:\n    userAgent|contains: [kali, boto]\n  f:\n    userIdentity.type: [Root, IAMUser]\n  condition: s and not f",
                "  s:\n    errorCode: null\n  t:\n    errorCode|endswith: Denied\n  condition: s or t",
                "  s:\n    userAgent|re: '^[a-z]+$'\n  condition: s",
                "  s:\n    errorCode|fieldref: userAgent\n  condition: s",
                "  s:\n    userIdentity.type|neq: Root\n    userAgent|cased|contains: Boto\n  condition: s",
            ];
            let rule = |(n, detection): (usize, &&str)| {
                // Some rules are tried for one name, some for all.
                let name = if n % 4 == named { "\n  n:\n    eventName: A" } else { "" };
                if name.is_empty() { (*detection).to_owned() } else {
                    let (selections, condition) = detection.split_once("\n  condition: ").unwrap();
                    format!("{selections}{name}\n  condition: n and ({condition})")
                }
            };
            let set = sets(&detections.iter().enumerate().map(rule).collect::<Vec<_>>());
            let long = format!("\"{}boto\"", "x".repeat(500));
            let value = |n: usize| match n {
                0 => "null",
                1 => r#""Root""#,
                2 => r#""IAMUser""#,
                3 => r#""AccessDenied""#,
                4 => r#""Boto3""#,
                5 => r#""käli""#,
                6 => r#"["Root","boto"]"#,
                7 => "7",
                8 => r#""\u0052oot""#,
                _ => &long,
            };
            let (mut matcher, mut hits, mut wanted) = (Matcher::new(&set), Vec::new(), Vec::new());
            for (n, [kind, agent, error]) in values.into_iter().enumerate() {
                let error = if error < 3 { String::new() } else { format!(r#","errorCode":{}"#, value(error)) };
                let record = format!(
                    r#"{{"eventSource":"s","eventName":"{}","userIdentity":{{"type":{}}},"userAgent":{}{error}}}"#,
                    ["A", "B"][n % 2], value(kind), value(agent),
                );
                let document = Document::parse(&record).unwrap();
                matcher.matches(document.root(), &mut hits);
                set.matches(document.root(), &mut wanted);
                prop_assert_eq!(&hits, &wanted, "{}", record);
            }
        }
    }

    fn sets(detections: &[String]) -> RuleSet {
        let rule = |(n, detection): (usize, &String)| {
            format!(
                "title: t{n}\nid: {n}\nlogsource:\n  product: aws\n  service: cloudtrail\ndetection:\n{detection}\n"
            )
        };
        let text = detections.iter().enumerate().map(rule).collect::<Vec<_>>().join("---\n");
        let (set, report) = RuleSet::from_texts(false, [("t.yml", text.as_str())]);
        assert!(report.refused.is_empty() && set.len() == detections.len(), "{:?}", report.refused);
        set
    }

    #[test]
    fn more_is_said_of_a_field_than_is_counted() {
        let rule = |n: usize| format!("  s:\n    userAgent|startswith: a{n}b\n    x: 1\n  condition: s");
        let set = sets(&(0..70).map(rule).collect::<Vec<_>>());
        let record = |n: u32| format!(r#"{{"eventSource":"s","eventName":"A","x":1,"userAgent":"a{n}b"}}"#);
        assert_eq!(matched(&set, &[record(3), record(71), record(69)]).0, [true, false, true]);
    }

    #[test]
    fn what_was_said_of_a_text_is_forgotten_with_the_plans() {
        let rule = |name: char, agent| {
            format!("  s:\n    eventName|startswith: {name}\n    userAgent|startswith: {agent}\n  condition: s")
        };
        let set = sets(&[rule('A', "p"), rule('B', "q")]);
        let record = |name: String| format!(r#"{{"eventSource":"s","eventName":"{name}","userAgent":"q1"}}"#);
        let mut records: Vec<_> = (0..PLANS).map(|n| record(format!("A{n}"))).collect();
        records.push(record(String::from("B")));
        let (hits, plans) = matched(&set, &records);
        assert_eq!((hits.iter().position(|hit| *hit), plans), (Some(PLANS), 1));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_without_harm() {
        let set = set("  s:\n    eventName|startswith: A\n    x: 1");
        let record = |name: &str, x: u32| format!(r#"{{"eventSource":"s","eventName":"{name}","x":{x}}}"#);
        let long = "A".repeat(LONGEST);
        assert_eq!(matched(&set, &[record(&long, 1), record(&long, 2)]), (vec![true, false], 0));
        let names: Vec<_> = (0..u32::try_from(PLANS).unwrap() + 10).map(|n| record(&format!("A{n}"), n % 2)).collect();
        let (hits, plans) = matched(&set, &names);
        assert!(hits.iter().enumerate().all(|(n, hit)| *hit == (n % 2 == 1)));
        assert_eq!(plans, 10);
        let shapes: Vec<_> = (0..SHAPES + 10)
            .map(|n| format!(r#"{{"eventSource":"s","eventName":"A","k{n}":0,"x":{}}}"#, n % 2))
            .collect();
        assert!(matched(&set, &shapes).0.iter().enumerate().all(|(n, hit)| *hit == (n % 2 == 1)));
    }
}
