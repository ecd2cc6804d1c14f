//! Which rules need to be tried for a record.
//!
//! In: compiled rules. Out, per record: the few rules that can match at all. From each rule's condition necessary
//! constraints on `eventName` and `eventSource` are taken ([`need`]): a rule is found by its names together with its
//! sources, else by its sources alone. That takes two hash look-ups and one walk along the name's bytes, however many
//! rules there are. What finding a rule proves of a record is not asked again ([`Needs::known`]).
//!
//! Worst case: a rule constrained by neither field (keywords only, `eventName|re`, a bare `not`) is tried for every
//! record (loading refuses more than [`crate::program::MAX_ALWAYS`] of them, or what they cost together), and a record whose `eventName` or `eventSource` is no ASCII text has every rule tried. The cost of one
//! record is then bounded by the rules' size in tests times the record's size in bytes: every test runs in time linear
//! in the text it looks at (regular expressions too, which are finite automata here), costly ones run once per record
//! however many rules share them, a record's text for keywords is gathered once, and loading bounds rules, conditions,
//! files and regular expressions.

use crate::fields::{EVENT_NAME, EVENT_SOURCE, Lookup};

mod index;
mod need;

use index::{Entry, Index, Table};
use need::Need;
pub(crate) use need::Needs;

/// The index of all rules of a set.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    by_name: Index,
    by_source: Index,
    /// Numbers, from 1, of the sources that names are paired with.
    sources: Table<u32>,
    always: Vec<u32>,
    rules: u32,
}

/// How many rules are found in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DispatchStats {
    /// By `eventName`.
    pub by_event_name: usize,
    /// By `eventSource`.
    pub by_event_source: usize,
    /// Tried for every record.
    pub always: usize,
}

impl Dispatch {
    /// Enters a rule under the next number.
    pub(crate) fn insert(&mut self, needs: &Needs) -> Placement {
        let number = self.rules;
        self.rules += 1;
        let anywhere = Entry { rule: number, source: 0 };
        match (&needs.name, &needs.source) {
            (Need::OneOf { exact, prefixes }, _) => {
                let entries = match needs.paired() {
                    None => vec![anywhere],
                    Some(sources) => {
                        sources.iter().map(|s| Entry { rule: number, source: self.source_number(s) }).collect()
                    }
                };
                self.by_name.insert(&entries, exact, prefixes);
                Placement::EventName
            }
            (Need::Anything, Need::OneOf { exact, prefixes }) => {
                self.by_source.insert(&[anywhere], exact, prefixes);
                Placement::EventSource
            }
            (Need::Anything, Need::Anything) => {
                self.always.push(number);
                Placement::Always
            }
        }
    }

    fn source_number(&mut self, source: &str) -> u32 {
        let next = u32::try_from(self.sources.len()).unwrap_or(u32::MAX - 1) + 1;
        *self.sources.entry(source.into()).or_insert(next)
    }

    /// Leaves a number out: a rule that is loaded and not evaluated.
    pub(crate) fn skip(&mut self) {
        self.rules += 1;
    }

    /// Calls `try_rule` once with each rule that may match the record, and whether it was found by the record's
    /// values, so that what [`Needs::known`] says of it holds.
    pub(crate) fn candidates(
        &self,
        record: &Lookup<'_>,
        skipped: impl Fn(u32) -> bool,
        mut try_rule: impl FnMut(u32, bool),
    ) {
        let Some(header) = Header::of(record) else {
            return (0..self.rules).filter(|r| !skipped(*r)).for_each(|r| try_rule(r, false));
        };
        let mut source_number = 0;
        // A field that is not there meets no constraint.
        if let Some(source) = header.source {
            with_lower_case(source, |source| {
                source_number = self.sources.get(source).copied().unwrap_or_default();
                self.by_source.each(source, |e| try_rule(e.rule, true));
            });
        }
        if let Some(name) = header.name {
            with_lower_case(name, |name| {
                self.by_name.each(name, |e| {
                    if e.source == 0 || e.source == source_number {
                        try_rule(e.rule, true);
                    }
                });
            });
        }
        self.always.iter().for_each(|r| try_rule(*r, true));
    }
}

/// Under what a rule was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    EventName,
    EventSource,
    Always,
}

/// The texts that rules are found by; `None` for what is absent or null.
#[derive(Debug, Default)]
pub(crate) struct Header<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) source: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// `None` when a field is something that only a matcher can judge: no text, or of other alphabets, whose case
    /// matchers fold in more than one way.
    pub(crate) fn of(record: &Lookup<'a>) -> Option<Self> {
        if !record.record.is_object() {
            return None;
        }
        Some(Self { name: record.plain(EVENT_NAME)?, source: record.plain(EVENT_SOURCE)? })
    }
}

fn with_lower_case<R>(text: &str, run: impl FnOnce(&str) -> R) -> R {
    let mut buffer = [0_u8; 64];
    let Some(folded) = buffer.get_mut(..text.len()) else { return run(&text.to_ascii_lowercase()) };
    folded.copy_from_slice(text.as_bytes());
    folded.make_ascii_lowercase();
    match std::str::from_utf8(folded) {
        Ok(folded) => run(folded),
        Err(_) => run(&text.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use sentinel_json::Document;

    use super::{
        Placement::{Always, EventName, EventSource},
        *,
    };
    use crate::fields::Fields;

    fn inserted(dispatch: &mut Dispatch, detection: &str) -> Placement {
        let yaml = format!("title: t\nlogsource:\n  product: aws\ndetection:\n{detection}\n");
        let collection = rsigma_parser::parse_sigma_yaml(&yaml).unwrap();
        assert!(collection.errors.is_empty(), "{:?}", collection.errors);
        dispatch.insert(&Needs::of(&crate::rules::compiled::compile(&collection.rules[0]).unwrap()))
    }

    fn tried(dispatch: &Dispatch, record: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let record = Document::parse(record).unwrap();
        let fields = Fields::default();
        dispatch.candidates(&fields.of(record.root(), &fields.scratch()), |_| false, |r, _| found.push(r));
        found
    }

    #[test]
    fn rules_are_found_by_name_prefix_and_source() {
        let mut dispatch = Dispatch::default();
        let rules = [
            "  s:\n    eventName: [CreateUser, DeleteUser]\n    a: 1\n  condition: s",
            "  s:\n    eventName|startswith: UpdateFunctionCode\n  condition: s",
            "  s:\n    eventSource: iam.amazonaws.com\n  f:\n    eventName: GetUser\n  condition: s and not f",
            "  s:\n    eventName: 'Create*'\n  condition: s",
            "  s:\n    a: 1\n  condition: s",
        ];
        let placed: Vec<_> = rules.iter().map(|r| inserted(&mut dispatch, r)).collect();
        assert_eq!(placed, [EventName, EventName, EventSource, EventName, Always]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"CREATEUSER","eventSource":"iam.amazonaws.com"}"#), [2, 0, 3, 4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"UpdateFunctionCode20150331v2"}"#), [1, 4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"GetUser","eventSource":"x"}"#), [4]);
        assert_eq!(tried(&dispatch, "{}"), [4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":7}"#), [0, 1, 2, 3, 4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"Uſer"}"#), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn rules_are_found_by_name_and_source_together() {
        let mut dispatch = Dispatch::default();
        for rule in [
            "  s:\n    eventSource: IAM.amazonaws.com\n    eventName|startswith: [Create, CreateUser]\n  condition: s",
            "  s:\n    eventSource: [ec2.amazonaws.com, sts.amazonaws.com]\n    eventName: CreateUser\n  condition: s",
            "  s:\n    eventSource|endswith: amazonaws.com\n    eventName: CreateUser\n  condition: s",
        ] {
            inserted(&mut dispatch, rule);
        }
        let tried = |source: &str| tried(&dispatch, &format!(r#"{{"eventName":"CreateUser"{source}}}"#));
        assert_eq!(tried(r#","eventSource":"iam.AMAZONAWS.com""#), [2, 0]);
        assert_eq!(tried(r#","eventSource":"sts.amazonaws.com""#), [1, 2]);
        assert_eq!(tried(r#","eventSource":"s3.amazonaws.com""#), [2]);
        assert_eq!(tried(""), [2]);
    }

    #[test]
    fn a_rule_is_found_once_though_its_values_overlap() {
        let mut dispatch = Dispatch::default();
        let rule = "  a:\n    eventName|startswith: [Create, CreateUser]\n  b:\n    eventName: [CreateUser, Create]\n  condition: a or b";
        inserted(&mut dispatch, rule);
        assert_eq!(tried(&dispatch, r#"{"eventName":"CreateUser"}"#), [0]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"Create"}"#), [0]);
    }

    #[test]
    fn what_is_not_understood_is_always_tried() {
        for rule in [
            "  s:\n    eventName|contains: User\n  condition: s",
            "  s:\n    eventName: null\n  condition: s",
            "  s:\n    eventName|re: '(?i)create.*'\n  condition: s",
            "  s:\n    - eventName: CreateUser\n    - a: 1\n  condition: s",
            "  s:\n    eventName: CreateUser\n  k:\n    - keyword\n  condition: s or k",
            "  s:\n    eventName: CreateUser\n  condition: not s",
            "  s:\n    eventName|neq: CreateUser\n  condition: s",
        ] {
            assert_eq!(inserted(&mut Dispatch::default(), rule), Always, "{rule}");
        }
    }
}
