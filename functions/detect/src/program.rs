//! A compiled rule as we run it: rsigma's matchers under our own evaluation.
//!
//! In: a rule compiled by rsigma. Out: whether a record matches. We evaluate rsigma's compiled form
//! ourselves because its evaluator takes field names apart for every event, folds case by allocating, and
//! collects details of each match that nobody reads here. Where the verdict differs from rsigma's plain
//! evaluation it is on purpose, because in CloudTrail an absent field and a null one mean the same:
//!
//! - null inside a list of values matches an absent field (`errorCode: [null, '']`);
//! - `|neq` holds for an absent field, as the Sigma specification's `not` does;
//! - `|fieldref` never holds between two nulls;
//! - objects are matched as text (see [`crate::view`]).
//!
//! Rules that match inside array members (`sigma-version: 3`) run on rsigma's own evaluator.

use std::{borrow::Cow, collections::HashMap};

use rsigma_eval::{
    CompiledDetection, CompiledDetectionItem, CompiledMatcher, CompiledRule, EventValue, evaluate_rule,
    matcher::GroupMode,
};
use rsigma_parser::{ConditionExpr, Quantifier};
use sonic_rs::{JsonValueTrait, Value};

use crate::{
    fields::{Fields, Lookup},
    view::{Found, Objects, RecordView, event_value},
};

/// Selections that the conditions of one rule may refer to, selectors counted out. A rule with more would
/// cost too much per event; the largest public rules stay below 200.
const MAX_REFERENCES: usize = 10_000;

/// A rule's condition is too large to be evaluated at a bounded cost.
#[derive(Debug, thiserror::Error)]
#[error("the condition refers to more than {MAX_REFERENCES} selections")]
pub(crate) struct TooLarge;

/// A rule ready to run.
#[derive(Debug)]
pub(crate) enum Program {
    /// Evaluated here.
    Own {
        /// The named selections.
        selections: Vec<Node>,
        /// Any of these makes the rule match.
        conditions: Vec<Node>,
    },
    /// Evaluated by rsigma over the structured record.
    Plain(Box<CompiledRule>),
}

/// A part of a condition or selection.
#[derive(Debug)]
pub(crate) enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    /// One named selection.
    Selection(usize),
    /// At least so many of these selections.
    AtLeast(usize, Vec<usize>),
    /// Always or never.
    Fixed(bool),
    /// A field (its number) and what its value must be.
    Field(usize, CompiledMatcher),
    /// Whether a field is there (null counts as absent).
    Exists(usize, bool),
    /// Any text of the record.
    Keyword(CompiledMatcher),
}

impl Program {
    /// Makes a rule ready to run.
    pub(crate) fn new(rule: &CompiledRule, fields: &mut Fields) -> Result<Self, TooLarge> {
        if rule.detections.values().any(looks_into_arrays) {
            return Ok(Self::Plain(Box::new(rule.clone())));
        }
        let mut names: Vec<&String> = rule.detections.keys().collect();
        names.sort_unstable();
        let numbers: HashMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        let mut references = 0;
        let conditions = rule
            .conditions
            .iter()
            .map(|c| condition(c, &names, &numbers, &mut references))
            .collect::<Result<Vec<_>, _>>()?;
        let selections = names.iter().map(|name| selection(&rule.detections[*name], fields)).collect();
        Ok(Self::Own { selections, conditions })
    }

    /// Whether a record matches.
    pub(crate) fn matches(&self, record: &Lookup<'_>) -> bool {
        match self {
            Self::Own { selections, conditions } => conditions.iter().any(|node| holds(node, selections, record)),
            Self::Plain(rule) => evaluate_rule(rule, &RecordView::new(record.record, Objects::Structure)).is_some(),
        }
    }
}

fn looks_into_arrays(detection: &CompiledDetection) -> bool {
    match detection {
        CompiledDetection::AllOf(_) | CompiledDetection::Keywords(_) => false,
        CompiledDetection::AnyOf(parts) | CompiledDetection::And(parts) => parts.iter().any(looks_into_arrays),
        CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => true,
    }
}

fn condition(
    expr: &ConditionExpr,
    names: &[&String],
    numbers: &HashMap<&str, usize>,
    references: &mut usize,
) -> Result<Node, TooLarge> {
    let mut several = |parts: &[ConditionExpr]| {
        parts.iter().map(|p| condition(p, names, numbers, references)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match expr {
        ConditionExpr::And(parts) => Node::All(several(parts)?),
        ConditionExpr::Or(parts) => Node::Any(several(parts)?),
        ConditionExpr::Not(inner) => Node::Not(Box::new(condition(inner, names, numbers, references)?)),
        ConditionExpr::Identifier(name) => {
            count(references, 1)?;
            numbers.get(name.as_str()).map_or(Node::Fixed(false), |number| Node::Selection(*number))
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let chosen: Vec<usize> = (0..names.len()).filter(|i| pattern.matches_detection_name(names[*i])).collect();
            count(references, chosen.len())?;
            match quantifier {
                Quantifier::Any => Node::AtLeast(1, chosen),
                Quantifier::All => Node::AtLeast(chosen.len(), chosen),
                Quantifier::Count(least) => Node::AtLeast(usize::try_from(*least).unwrap_or(usize::MAX), chosen),
            }
        }
    })
}

fn count(references: &mut usize, more: usize) -> Result<(), TooLarge> {
    *references += more;
    if *references > MAX_REFERENCES { Err(TooLarge) } else { Ok(()) }
}

fn selection(detection: &CompiledDetection, fields: &mut Fields) -> Node {
    match detection {
        CompiledDetection::AllOf(items) => Node::All(items.iter().map(|i| item(i, fields)).collect()),
        CompiledDetection::And(parts) => Node::All(parts.iter().map(|p| selection(p, fields)).collect()),
        CompiledDetection::AnyOf(parts) => Node::Any(parts.iter().map(|p| selection(p, fields)).collect()),
        CompiledDetection::Keywords(matcher) => Node::Keyword(matcher.clone()),
        // Rules with these run on rsigma's evaluator, see `looks_into_arrays`.
        CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => Node::Fixed(false),
    }
}

fn item(item: &CompiledDetectionItem, fields: &mut Fields) -> Node {
    match (&item.field, item.exists) {
        (Some(field), Some(there)) => Node::Exists(fields.number(field), there),
        (None, Some(there)) => Node::Fixed(!there),
        (Some(field), None) => Node::Field(fields.number(field), item.matcher.clone()),
        (None, None) => Node::Keyword(item.matcher.clone()),
    }
}

fn holds(node: &Node, selections: &[Node], record: &Lookup<'_>) -> bool {
    match node {
        Node::All(parts) => parts.iter().all(|p| holds(p, selections, record)),
        Node::Any(parts) => parts.iter().any(|p| holds(p, selections, record)),
        Node::Not(inner) => !holds(inner, selections, record),
        Node::Selection(number) => holds(&selections[*number], selections, record),
        Node::AtLeast(least, chosen) => at_least(*least, chosen, selections, record),
        Node::Fixed(verdict) => *verdict,
        Node::Field(field, matcher) => field_matches(matcher, record.find(*field), record.record),
        Node::Exists(field, there) => is_there(&record.find(*field)) == *there,
        Node::Keyword(matcher) => matcher.matches_keyword(&RecordView::new(record.record, Objects::Text)),
    }
}

fn at_least(least: usize, chosen: &[usize], selections: &[Node], record: &Lookup<'_>) -> bool {
    let mut missing = least;
    for (position, number) in chosen.iter().enumerate() {
        if missing == 0 || missing > chosen.len() - position {
            break;
        }
        missing -= usize::from(holds(&selections[*number], selections, record));
    }
    missing == 0
}

fn is_there(found: &Found<'_>) -> bool {
    match found {
        Found::Absent => false,
        Found::One(value) => !value.is_null(),
        Found::Many(_) => true,
    }
}

fn field_matches(matcher: &CompiledMatcher, found: Found<'_>, record: &Value) -> bool {
    let view = RecordView::new(record, Objects::Text);
    match found {
        Found::Absent => matches_nothing(matcher),
        Found::One(value) if value.is_null() => matches_nothing(matcher),
        Found::One(value) => match value.as_str() {
            Some(text) if text.is_ascii() => ascii_matches(matcher, text, &view),
            _ => matcher.matches(&event_value(value, Objects::Text), &view),
        },
        Found::Many(values) => {
            let all = values.into_iter().map(|v| event_value(v, Objects::Text)).collect();
            matcher.matches(&EventValue::Array(all), &view)
        }
    }
}

/// Whether a matcher holds for a field that is absent or null.
fn matches_nothing(matcher: &CompiledMatcher) -> bool {
    match matcher {
        CompiledMatcher::Null => true,
        CompiledMatcher::Exists(there) => !there,
        CompiledMatcher::Not(inner) => !matches_nothing(inner),
        CompiledMatcher::AnyOf(parts) => parts.iter().any(matches_nothing),
        CompiledMatcher::AllOf(parts) => parts.iter().all(matches_nothing),
        _ => false,
    }
}

/// The common text matchers without allocating; the rest is rsigma's. `text` is ASCII, so folding its
/// ASCII case is all of Unicode's case folding, and rules' values are stored in lower case.
fn ascii_matches(matcher: &CompiledMatcher, text: &str, view: &RecordView<'_>) -> bool {
    let bytes = text.as_bytes();
    match matcher {
        CompiledMatcher::Exact { value, case_insensitive: true } => text.eq_ignore_ascii_case(value),
        CompiledMatcher::StartsWith { value, case_insensitive: true } => {
            bytes.get(..value.len()).is_some_and(|head| head.eq_ignore_ascii_case(value.as_bytes()))
        }
        CompiledMatcher::EndsWith { value, case_insensitive: true } => {
            bytes.len().checked_sub(value.len()).is_some_and(|at| bytes[at..].eq_ignore_ascii_case(value.as_bytes()))
        }
        CompiledMatcher::Contains { value, case_insensitive: true } => contains_folded(bytes, value.as_bytes()),
        CompiledMatcher::Not(inner) => !ascii_matches(inner, text, view),
        CompiledMatcher::AnyOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => {
            parts.iter().any(|part| ascii_matches(part, text, view))
        }
        CompiledMatcher::AllOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::All } => {
            parts.iter().all(|part| ascii_matches(part, text, view))
        }
        other => other.matches(&EventValue::Str(Cow::Borrowed(text)), view),
    }
}

/// Whether `text` contains `wanted` (in lower case), ASCII case folded.
fn contains_folded(text: &[u8], wanted: &[u8]) -> bool {
    let Some((&first, rest)) = wanted.split_first() else { return true };
    let Some(last_start) = text.len().checked_sub(wanted.len()) else { return false };
    (0..=last_start)
        .any(|at| text[at].to_ascii_lowercase() == first && text[at + 1..at + wanted.len()].eq_ignore_ascii_case(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(program: &(Program, Fields), record: &str) -> bool {
        let record = sonic_rs::from_str(record).unwrap();
        program.0.matches(&program.1.of(&record))
    }

    fn made(yaml: &str) -> Result<(Program, Fields), TooLarge> {
        let collection = rsigma_parser::parse_sigma_yaml(yaml).unwrap();
        assert!(collection.errors.is_empty(), "{:?}", collection.errors);
        let mut fields = Fields::default();
        Ok((Program::new(&rsigma_eval::compile_rule(&collection.rules[0]).unwrap(), &mut fields)?, fields))
    }

    fn program(detection: &str) -> (Program, Fields) {
        let yaml = format!("title: t\nlogsource:\n  product: aws\ndetection:\n{detection}\n");
        made(&yaml).unwrap()
    }

    #[track_caller]
    fn check(detection: &str, hits: &[&str], misses: &[&str]) {
        let program = program(detection);
        for record in hits {
            assert!(matches(&program, record), "should hit: {record}");
        }
        for record in misses {
            assert!(!matches(&program, record), "should miss: {record}");
        }
    }

    #[test]
    fn null_matches_absent_and_null_alone_and_in_a_list() {
        let hits = ["{}", r#"{"errorCode":null}"#];
        check("  s:\n    errorCode: null\n  condition: s", &hits, &[r#"{"errorCode":"AccessDenied"}"#]);
        check("  s:\n    errorCode:\n      - null\n      - ''\n  condition: s", &hits, &[r#"{"errorCode":"x"}"#]);
        check("  s:\n    errorCode|exists: false\n  condition: s", &hits, &[r#"{"errorCode":"x"}"#]);
    }

    #[test]
    fn not_equal_holds_for_absent_fields() {
        check(
            "  s:\n    errorCode|neq: AccessDenied\n  condition: s",
            &["{}", r#"{"errorCode":null}"#, r#"{"errorCode":"Throttling"}"#],
            &[r#"{"errorCode":"accessdenied"}"#],
        );
    }

    #[test]
    fn a_field_reference_never_holds_between_nulls() {
        check(
            "  s:\n    a|fieldref: b\n  condition: s",
            &[r#"{"a":"X","b":"x"}"#],
            &["{}", r#"{"a":null,"b":null}"#, r#"{"a":"x"}"#],
        );
    }

    #[test]
    fn objects_and_their_arrays_match_as_text() {
        check(
            "  s:\n    requestParameters|contains|all:\n      - '\"cidrIp\":\"0.0.0.0/0\"'\n      - ingress\n  condition: s",
            &[r#"{"requestParameters":{"ingress":[{"cidrIp": "0.0.0.0/0"}]}}"#],
            &[r#"{"requestParameters":null}"#, r#"{"requestParameters":{"ingress":[{"cidrIp":"10.0.0.0/8"}]}}"#],
        );
        check(
            "  s:\n    requestParameters.items|contains: '0.0.0.0/0'\n  condition: s",
            &[r#"{"requestParameters":{"items":[{"a":1},{"cidrIp":"0.0.0.0/0"}]}}"#],
            &[r#"{"requestParameters":{"items":[]}}"#],
        );
    }

    #[test]
    fn numbers_and_booleans_compare_as_text_and_back() {
        check(
            "  s:\n    n: '5'\n    b: 'True'\n    m: 5\n    c: false\n  condition: s",
            &[r#"{"n":5,"b":true,"m":"5","c":"FALSE"}"#, r#"{"n":"5","b":"true","m":5,"c":false}"#],
            &[r#"{"n":6,"b":true,"m":5,"c":false}"#],
        );
        check("  s:\n    n|gt: 5\n  condition: s", &[r#"{"n":"6"}"#, r#"{"n":[1,9]}"#], &[r#"{"n":"5"}"#, "{}"]);
    }

    #[test]
    fn selectors_count_selections() {
        let rule = "  s_a:\n    a: 1\n  s_b:\n    b: 1\n  s_c:\n    c: 1\n  condition: 2 of s_*";
        check(rule, &[r#"{"a":1,"c":1}"#, r#"{"a":1,"b":1,"c":1}"#], &[r#"{"b":1}"#, "{}"]);
        check("  s_a:\n    a: 1\n  s_b:\n    b: 1\n  condition: all of s_*", &[r#"{"a":1,"b":1}"#], &[r#"{"a":1}"#]);
    }

    #[test]
    fn array_member_rules_run_on_the_structured_record() {
        let yaml = "title: t\nsigma-version: 3\nlogsource:\n  product: aws\ndetection:\n  s:\n    items[any]:\n      a: x\n      b: y\n  condition: s\n";
        let program = made(yaml).unwrap();
        assert!(matches!(program.0, Program::Plain(_)));
        assert!(matches(&program, r#"{"items":[{"a":"x","b":"y"}]}"#));
        assert!(!matches(&program, r#"{"items":[{"a":"x"},{"b":"y"}]}"#));
    }

    #[test]
    fn non_ascii_text_folds_as_unicode_does() {
        check("  s:\n    u|startswith: ärz\n  condition: s", &[r#"{"u":"ÄRZTE"}"#], &[r#"{"u":"arzte"}"#]);
    }

    #[test]
    fn a_condition_that_refers_to_too_much_is_refused() {
        let selections: Vec<_> = (0..200).map(|i| format!("  s{i}:\n    a: {i}\n")).collect();
        let condition = vec!["1 of them"; 60].join(" or ");
        let head = "title: t\nlogsource:\n  product: aws\ndetection:\n";
        let yaml = format!("{head}{}  condition: {condition}\n", selections.concat());
        assert!(made(&yaml).is_err());
    }

    proptest! {
        #[test]
        fn the_short_cuts_agree_with_rsigma(text in "[a-cA-C*.]{0,12}", value in "[a-c.]{0,4}") {
            let record: Value = sonic_rs::from_str("{}").unwrap();
            let view = RecordView::new(&record, Objects::Text);
            let ci = || (value.clone(), true);
            let make: [fn((String, bool)) -> CompiledMatcher; 4] = [
                |(value, case_insensitive)| CompiledMatcher::Exact { value, case_insensitive },
                |(value, case_insensitive)| CompiledMatcher::StartsWith { value, case_insensitive },
                |(value, case_insensitive)| CompiledMatcher::EndsWith { value, case_insensitive },
                |(value, case_insensitive)| CompiledMatcher::Contains { value, case_insensitive },
            ];
            for matcher in make.map(|m| m(ci())) {
                let plain = matcher.matches(&EventValue::Str(Cow::Borrowed(&text)), &view);
                prop_assert_eq!(ascii_matches(&matcher, &text, &view), plain, "{:?} on {:?}", matcher, text);
            }
        }
    }
}
