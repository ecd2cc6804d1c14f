//! Which rules need to be tried for a record.
//!
//! In: compiled rules. Out, per record: the few rules that can match at all. From each rule's condition a
//! necessary constraint on `eventName` is taken (exact values and prefixes), else one on `eventSource`; the
//! rules are then found by hash look-ups. The constraint may let a rule through that does not match, it
//! never holds one back that does: negations, regular expressions, `|contains`, keywords and anything else
//! that is not understood count as "any value", and case is folded as matchers fold it.
//!
//! Worst case: a rule constrained by neither field (keywords only, `eventName|re`, a bare `not`) is tried
//! for every record, and a record whose `eventName` is no text has every rule tried. The cost of one record
//! is then the number of rules times their size, which loading bounds (sizes of files, conditions and
//! regular expressions; regular expressions run in linear time).

use std::collections::{BTreeSet, HashMap};

use rsigma_eval::{CompiledDetection, CompiledMatcher, CompiledRule, matcher::GroupMode};
use rsigma_parser::{ConditionExpr, Quantifier};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

/// Values a field must have for a rule to match, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// Any value, or none.
    Anything,
    /// One of these, or one that starts with one of those. Empty: the rule never matches.
    OneOf { exact: BTreeSet<String>, prefixes: BTreeSet<String> },
}

impl Need {
    fn never() -> Self {
        Self::OneOf { exact: BTreeSet::new(), prefixes: BTreeSet::new() }
    }

    fn exact(value: &str) -> Self {
        Self::OneOf { exact: BTreeSet::from([value.to_lowercase()]), prefixes: BTreeSet::new() }
    }

    fn prefix(value: &str) -> Self {
        if value.is_empty() {
            return Self::Anything;
        }
        Self::OneOf { exact: BTreeSet::new(), prefixes: BTreeSet::from([value.to_lowercase()]) }
    }

    /// Either may hold.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::OneOf { mut exact, mut prefixes }, Self::OneOf { exact: more, prefixes: more_prefixes }) => {
                exact.extend(more);
                prefixes.extend(more_prefixes);
                Self::OneOf { exact, prefixes }
            }
            _ => Self::Anything,
        }
    }

    /// Both must hold: keeping the tighter one is enough, since each is necessary.
    fn and(self, other: Self) -> Self {
        match (self.looseness(), other.looseness()) {
            (mine, theirs) if mine <= theirs => self,
            _ => other,
        }
    }

    fn looseness(&self) -> usize {
        match self {
            Self::Anything => usize::MAX,
            Self::OneOf { exact, prefixes } => exact.len() + prefixes.len() * 16,
        }
    }
}

/// Finds the constraint that a rule puts on one field.
struct Extract<'a> {
    field: &'a str,
    detections: &'a HashMap<String, CompiledDetection>,
}

impl Extract<'_> {
    fn rule(&self, rule: &CompiledRule) -> Need {
        rule.conditions.iter().fold(Need::never(), |need, c| need.or(self.condition(c)))
    }

    fn condition(&self, expr: &ConditionExpr) -> Need {
        match expr {
            ConditionExpr::And(parts) => parts.iter().fold(Need::Anything, |n, p| n.and(self.condition(p))),
            ConditionExpr::Or(parts) => parts.iter().fold(Need::never(), |n, p| n.or(self.condition(p))),
            ConditionExpr::Not(_) => Need::Anything,
            ConditionExpr::Identifier(name) => self.detections.get(name).map_or(Need::never(), |d| self.selection(d)),
            ConditionExpr::Selector { quantifier, pattern } => {
                let chosen = self.detections.iter().filter(|(n, _)| pattern.matches_detection_name(n)).map(|(_, d)| d);
                match quantifier {
                    Quantifier::Count(0) => Need::Anything,
                    // At least one of them holds.
                    Quantifier::Any | Quantifier::Count(_) => {
                        chosen.fold(Need::never(), |n, d| n.or(self.selection(d)))
                    }
                    Quantifier::All => chosen.fold(Need::Anything, |n, d| n.and(self.selection(d))),
                }
            }
        }
    }

    fn selection(&self, detection: &CompiledDetection) -> Need {
        match detection {
            CompiledDetection::AllOf(items) => items
                .iter()
                .filter(|i| i.field.as_deref() == Some(self.field) && i.exists.is_none())
                .fold(Need::Anything, |n, i| n.and(matcher_need(&i.matcher))),
            CompiledDetection::And(parts) => parts.iter().fold(Need::Anything, |n, p| n.and(self.selection(p))),
            CompiledDetection::AnyOf(parts) => parts.iter().fold(Need::never(), |n, p| n.or(self.selection(p))),
            CompiledDetection::Keywords(_)
            | CompiledDetection::ArrayMatch { .. }
            | CompiledDetection::Conditional { .. } => Need::Anything,
        }
    }
}

fn matcher_need(matcher: &CompiledMatcher) -> Need {
    match matcher {
        CompiledMatcher::Exact { value, .. } => Need::exact(value),
        CompiledMatcher::StartsWith { value, .. } => Need::prefix(value),
        CompiledMatcher::Regex(regex) => literal_prefix(regex.as_str()).map_or(Need::Anything, |p| Need::prefix(&p)),
        CompiledMatcher::AnyOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => {
            parts.iter().fold(Need::never(), |n, p| n.or(matcher_need(p)))
        }
        CompiledMatcher::AllOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::All } => {
            parts.iter().fold(Need::Anything, |n, p| n.and(matcher_need(p)))
        }
        _ => Need::Anything,
    }
}

/// The letters and digits that a text must start with to match an anchored pattern, as wildcard values
/// (`Delete*`) compile to: `(?i)^Delete.*$`. `None` when the pattern is of another shape.
fn literal_prefix(pattern: &str) -> Option<String> {
    let body = pattern.strip_prefix("(?i)").unwrap_or(pattern).strip_prefix('^')?;
    if body.contains('|') || body.contains("(?") {
        return None;
    }
    let literal: String = body.chars().take_while(char::is_ascii_alphanumeric).collect();
    let next = body[literal.len()..].chars().next();
    // A quantifier belongs to the last letter, which is then not required.
    let required = match next {
        Some('?' | '*' | '+' | '{') => &literal[..literal.len().saturating_sub(1)],
        _ => &literal,
    };
    (!required.is_empty()).then(|| required.to_owned())
}

/// Rules by the values of one field.
#[derive(Debug, Default)]
struct Index {
    exact: HashMap<Box<str>, Vec<u32>>,
    prefixes: HashMap<Box<str>, Vec<u32>>,
    /// Lengths of the prefixes, in bytes.
    lengths: BTreeSet<usize>,
}

impl Index {
    /// Enters a rule so that no value finds it twice.
    fn insert(&mut self, rule: u32, exact: BTreeSet<String>, prefixes: &BTreeSet<String>) {
        let covered = |value: &str, by_itself: bool| {
            prefixes.iter().any(|p| value.starts_with(p.as_str()) && (by_itself || value != p))
        };
        for value in exact.into_iter().filter(|v| !covered(v, true)) {
            self.exact.entry(value.into()).or_default().push(rule);
        }
        for prefix in prefixes.iter().filter(|p| !covered(p, false)) {
            self.lengths.insert(prefix.len());
            self.prefixes.entry(prefix.as_str().into()).or_default().push(rule);
        }
    }

    /// Calls `try_rule` with each rule that the value (in lower case) admits.
    fn each(&self, value: &str, try_rule: &mut impl FnMut(u32)) {
        if let Some(rules) = self.exact.get(value) {
            rules.iter().copied().for_each(&mut *try_rule);
        }
        for length in self.lengths.iter().take_while(|l| **l <= value.len()) {
            if let Some(rules) = value.get(..*length).and_then(|head| self.prefixes.get(head)) {
                rules.iter().copied().for_each(&mut *try_rule);
            }
        }
    }
}

/// The index of all rules of a set.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    by_name: Index,
    by_source: Index,
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
    pub(crate) fn insert(&mut self, rule: &CompiledRule) -> Placement {
        let number = self.rules;
        self.rules += 1;
        let need = |field| Extract { field, detections: &rule.detections }.rule(rule);
        if let Need::OneOf { exact, prefixes } = need("eventName") {
            self.by_name.insert(number, exact, &prefixes);
            return Placement::EventName;
        }
        if let Need::OneOf { exact, prefixes } = need("eventSource") {
            self.by_source.insert(number, exact, &prefixes);
            return Placement::EventSource;
        }
        self.always.push(number);
        Placement::Always
    }

    /// Leaves a number out: a rule that is loaded and not evaluated.
    pub(crate) fn skip(&mut self) {
        self.rules += 1;
    }

    /// Calls `try_rule` once with each rule that may match the record.
    pub(crate) fn candidates(&self, record: &Value, skipped: impl Fn(u32) -> bool, mut try_rule: impl FnMut(u32)) {
        let (Some(name), Some(source)) = (field_text(record, "eventName"), field_text(record, "eventSource")) else {
            return (0..self.rules).filter(|r| !skipped(*r)).for_each(try_rule);
        };
        with_lower_case(name, |name| self.by_name.each(name, &mut try_rule));
        with_lower_case(source, |source| self.by_source.each(source, &mut try_rule));
        self.always.iter().copied().for_each(try_rule);
    }
}

/// Under what a rule was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    EventName,
    EventSource,
    Always,
}

/// The field's text (ASCII), empty when absent or null; `None` when it is something that only a matcher can judge.
fn field_text<'a>(record: &'a Value, field: &str) -> Option<&'a str> {
    match record.as_object()?.get(&field) {
        None => Some(""),
        Some(value) if value.is_null() => Some(""),
        // Matchers fold the case of other alphabets in more than one way, so such names get no short cut.
        Some(value) => value.as_str().filter(|text| text.is_ascii()),
    }
}

fn with_lower_case<R>(text: &str, run: impl FnOnce(&str) -> R) -> R {
    let mut buffer = [0_u8; 128];
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
    use super::{
        Placement::{Always, EventName, EventSource},
        *,
    };

    fn compiled(detection: &str) -> CompiledRule {
        let yaml = format!("title: t\nlogsource:\n  product: aws\ndetection:\n{detection}\n");
        let collection = rsigma_parser::parse_sigma_yaml(&yaml).unwrap();
        assert!(collection.errors.is_empty(), "{:?}", collection.errors);
        rsigma_eval::compile_rule(&collection.rules[0]).unwrap()
    }

    fn tried(dispatch: &Dispatch, record: &str) -> Vec<u32> {
        let mut found = Vec::new();
        dispatch.candidates(&sonic_rs::from_str(record).unwrap(), |_| false, |r| found.push(r));
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
        let placed: Vec<_> = rules.iter().map(|r| dispatch.insert(&compiled(r))).collect();
        assert_eq!(placed, [EventName, EventName, EventSource, EventName, Always]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"CREATEUSER","eventSource":"iam.amazonaws.com"}"#), [0, 3, 2, 4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"UpdateFunctionCode20150331v2"}"#), [1, 4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"GetUser","eventSource":"x"}"#), [4]);
        assert_eq!(tried(&dispatch, "{}"), [4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":7}"#), [0, 1, 2, 3, 4]);
        assert_eq!(tried(&dispatch, r#"{"eventName":"Uſer"}"#), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_rule_is_found_once_though_its_values_overlap() {
        let mut dispatch = Dispatch::default();
        let rule = "  a:\n    eventName|startswith: [Create, CreateUser]\n  b:\n    eventName: [CreateUser, Create]\n  condition: a or b";
        dispatch.insert(&compiled(rule));
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
            assert_eq!(Dispatch::default().insert(&compiled(rule)), Always, "{rule}");
        }
    }

    #[test]
    fn prefixes_of_patterns_are_only_what_must_be_there() {
        for (pattern, prefix) in [
            ("(?i)^Delete.*$", Some("Delete")),
            ("^Deletes?$", Some("Delete")),
            ("^a{0}b", None),
            ("^(Create|Delete)", None),
            ("^Create|Delete", None),
            ("Delete", None),
            ("^.*User$", None),
        ] {
            assert_eq!(literal_prefix(pattern).as_deref(), prefix, "{pattern}");
        }
    }
}
