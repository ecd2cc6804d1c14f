//! What a rule's records must have in `eventName` and `eventSource`.
//!
//! In: a compiled rule. Out: constraints that every record it matches meets. They may let a record through that does
//! not match, never hold one back that does: negations, regular expressions, `|contains`, keywords and anything else
//! that is not understood count as "any value", and case is folded as matchers fold it.

use std::borrow::Cow;

use rsigma_eval::{CompiledMatcher, matcher::GroupMode};
use rsigma_parser::{ConditionExpr, Quantifier};
use sentinel_json::Value;

use crate::{
    program::quick::{Quick, Text},
    rules::compiled::{Compiled, Part},
    view::{Objects, RecordView},
};

/// Sources beyond which a rule that is found by its names is not told apart by its sources too.
const MAX_SOURCES: usize = 16;

/// The constraints of one rule.
#[derive(Debug)]
pub(crate) struct Needs<'a> {
    pub(super) name: Need<'a>,
    pub(super) source: Need<'a>,
}

impl<'a> Needs<'a> {
    pub(crate) fn of(rule: &'a Compiled) -> Self {
        let need = |field| Extract { field, rule }.need();
        Self { name: need("eventName"), source: need("eventSource") }
    }

    /// Whether a rule must be tried for every record.
    pub(crate) fn is_met_by_all(&self) -> bool {
        self.name == Need::Anything && self.source == Need::Anything
    }

    /// The sources that a rule found by its names is found by too.
    pub(super) fn paired(&self) -> Option<&[Cow<'a, str>]> {
        match (&self.name, &self.source) {
            (Need::OneOf { .. }, Need::OneOf { exact, prefixes }) if prefixes.is_empty() => {
                Some(exact.as_slice()).filter(|e| e.len() <= MAX_SOURCES)
            }
            _ => None,
        }
    }

    /// The verdict of a matcher on a field, where it is the same for all records for which the rule is found.
    pub(crate) fn known(&self, field: &str, matcher: &Quick) -> Option<bool> {
        let need = match field {
            "eventName" => &self.name,
            "eventSource" if self.name == Need::Anything || self.paired().is_some() => &self.source,
            _ => return None,
        };
        let Need::OneOf { exact, prefixes } = need else { return None };
        if !matcher.ignores_case() || !exact.iter().chain(prefixes).all(|v| v.is_ascii()) {
            return None;
        }
        // Such a matcher looks at nothing but the text.
        let view = RecordView::new(Value::null(), Objects::Text);
        let mut verdicts = exact.iter().map(|value| matcher.matches(&Text::new(Cow::Borrowed(value)), &view));
        if prefixes.is_empty() {
            let first = verdicts.next()?;
            return verdicts.all(|v| v == first).then_some(first);
        }
        (verdicts.all(|v| v) && prefixes.iter().all(|p| matcher.holds_from(p))).then_some(true)
    }
}

/// Values a field must have for a rule to match, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need<'a> {
    /// Any value, or none.
    Anything,
    /// One of these, or one that starts with one of those, each sorted and once. Empty: the rule never matches.
    OneOf { exact: Vec<Cow<'a, str>>, prefixes: Vec<Cow<'a, str>> },
}

impl<'a> Need<'a> {
    fn never() -> Self {
        Self::OneOf { exact: Vec::new(), prefixes: Vec::new() }
    }

    fn exact(value: Cow<'a, str>) -> Self {
        Self::OneOf { exact: vec![lower(value)], prefixes: Vec::new() }
    }

    fn prefix(value: Cow<'a, str>) -> Self {
        if value.is_empty() {
            return Self::Anything;
        }
        Self::OneOf { exact: Vec::new(), prefixes: vec![lower(value)] }
    }

    /// One of these values.
    fn one_of(values: impl Iterator<Item = Cow<'a, str>>) -> Self {
        let mut exact: Vec<_> = values.map(lower).collect();
        exact.sort_unstable();
        exact.dedup();
        Self::OneOf { exact, prefixes: Vec::new() }
    }

    /// Any of these may hold.
    fn any(needs: impl Iterator<Item = Self>) -> Self {
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for need in needs {
            let Self::OneOf { exact: more, prefixes: more_prefixes } = need else { return Self::Anything };
            exact.extend(more);
            prefixes.extend(more_prefixes);
        }
        for all in [&mut exact, &mut prefixes] {
            all.sort_unstable();
            all.dedup();
        }
        Self::OneOf { exact, prefixes }
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

/// In lower case, as nearly all values of rules are already.
fn lower(value: Cow<'_, str>) -> Cow<'_, str> {
    let is_lower = value.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase());
    if is_lower { value } else { Cow::Owned(value.to_lowercase()) }
}

/// Finds the constraint that a rule puts on one field.
struct Extract<'a> {
    field: &'a str,
    rule: &'a Compiled,
}

impl<'a> Extract<'a> {
    fn need(&self) -> Need<'a> {
        Need::any(self.rule.conditions.iter().map(|c| self.condition(c)))
    }

    fn condition(&self, expr: &ConditionExpr) -> Need<'a> {
        match expr {
            ConditionExpr::And(parts) => parts.iter().fold(Need::Anything, |n, p| n.and(self.condition(p))),
            ConditionExpr::Or(parts) => Need::any(parts.iter().map(|p| self.condition(p))),
            ConditionExpr::Not(_) => Need::Anything,
            ConditionExpr::Identifier(name) => self.rule.detection(name).map_or(Need::never(), |d| self.selection(d)),
            ConditionExpr::Selector { quantifier, pattern } => {
                let all = self.rule.detections.iter();
                let chosen = all.filter(|(n, _)| pattern.matches_detection_name(n)).map(|(_, d)| d);
                match quantifier {
                    Quantifier::Count(0) => Need::Anything,
                    // At least one of them holds.
                    Quantifier::Any | Quantifier::Count(_) => Need::any(chosen.map(|d| self.selection(d))),
                    Quantifier::All => chosen.fold(Need::Anything, |n, d| n.and(self.selection(d))),
                }
            }
        }
    }

    fn selection(&self, part: &'a Part) -> Need<'a> {
        match part {
            Part::Items(items) => items
                .iter()
                .filter(|i| i.field.as_deref() == Some(self.field) && i.exists.is_none())
                .fold(Need::Anything, |n, i| n.and(matcher_need(&i.matcher))),
            Part::All(parts) => parts.iter().fold(Need::Anything, |n, p| n.and(self.selection(p))),
            Part::Any(parts) => Need::any(parts.iter().map(|p| self.selection(p))),
            Part::Keywords(_) | Part::Members(_) => Need::Anything,
        }
    }
}

fn matcher_need(matcher: &Quick) -> Need<'_> {
    match matcher {
        Quick::Exact(value) => Need::exact(Cow::Borrowed(value)),
        Quick::OneOf(values) => Need::one_of(values.iter().map(|value| Cow::Borrowed(&**value))),
        Quick::Starts(value) => Need::prefix(Cow::Borrowed(value)),
        Quick::Glob(glob) => Need::prefix(Cow::Borrowed(&glob.start)),
        Quick::Regex(pattern) => literal_prefix(&pattern.text).map_or(Need::Anything, |p| Need::prefix(p.into())),
        Quick::Any(parts) => Need::any(parts.iter().map(matcher_need)),
        Quick::All(parts) => parts.iter().fold(Need::Anything, |n, p| n.and(matcher_need(p))),
        Quick::Other(matcher) => other_need(matcher),
        Quick::Ends(_) | Quick::Contains(_) | Quick::Among(_) | Quick::Not(_) => Need::Anything,
    }
}

fn other_need(matcher: &CompiledMatcher) -> Need<'_> {
    match matcher {
        CompiledMatcher::Exact { value, .. } => Need::exact(Cow::Borrowed(value)),
        CompiledMatcher::StartsWith { value, .. } => Need::prefix(Cow::Borrowed(value)),
        CompiledMatcher::AnyOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => {
            Need::any(parts.iter().map(other_need))
        }
        CompiledMatcher::AllOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::All } => {
            parts.iter().fold(Need::Anything, |n, p| n.and(other_need(p)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(detection: &str) -> Compiled {
        let yaml = format!("title: t\nlogsource:\n  product: aws\ndetection:\n{detection}\n");
        crate::rules::compiled::compile(&rsigma_parser::parse_sigma_yaml(&yaml).unwrap().rules[0]).unwrap()
    }

    fn exact(value: &str) -> CompiledMatcher {
        CompiledMatcher::Exact { value: value.into(), case_insensitive: true }
    }

    #[test]
    fn what_finding_a_rule_proves_is_known() {
        let both = compiled(
            "  s:\n    eventSource: a.b\n    eventName: [Get, Put]\n  f:\n    eventName: Get\n  condition: s and not f",
        );
        let both = Needs::of(&both);
        let known = |field, matcher| both.known(field, &Quick::new(&matcher));
        assert_eq!(known("eventSource", exact("a.b")), Some(true));
        assert_eq!(known("eventSource", exact("a.c")), Some(false));
        assert_eq!(
            known("eventName", CompiledMatcher::AnyOf(vec![exact("put"), exact("get"), exact("x")])),
            Some(true)
        );
        assert_eq!(known("eventName", exact("get")), None, "holds for one of the values alone");
        assert_eq!(known("eventName", exact("x")), Some(false));
        assert_eq!(known("awsRegion", exact("x")), None);
        let case = CompiledMatcher::Exact { value: "a.b".into(), case_insensitive: false };
        assert_eq!(known("eventSource", case), None, "the rule is found whatever the case");

        let starts = |value: &str| CompiledMatcher::StartsWith { value: value.into(), case_insensitive: true };
        let prefix = compiled("  s:\n    eventName|startswith: Create\n  condition: s");
        let prefix = Needs::of(&prefix);
        assert_eq!(prefix.known("eventName", &Quick::new(&starts("cre"))), Some(true));
        assert_eq!(prefix.known("eventName", &Quick::new(&starts("createu"))), None);
        assert_eq!(prefix.known("eventName", &Quick::new(&exact("create"))), None);

        let apart = compiled("  a:\n    eventSource|endswith: b\n    eventName: Get\n  condition: a");
        let apart = Needs::of(&apart);
        assert_eq!(apart.known("eventSource", &Quick::new(&exact("b"))), None);
        let source = compiled("  a:\n    eventSource: b\n  condition: a");
        let source = Needs::of(&source);
        assert_eq!(source.known("eventSource", &Quick::new(&exact("b"))), Some(true));
        assert_eq!(source.known("eventName", &Quick::new(&exact("b"))), None);
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
