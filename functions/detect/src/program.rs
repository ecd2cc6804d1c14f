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
//!
//! Conditions are pure, so what costs little is asked first, and what costs more is asked once per record however
//! many rules ask it ([`crate::fields`]).

use std::collections::HashMap;

use rsigma_eval::{CompiledDetection, CompiledDetectionItem, CompiledRule, evaluate_rule};
use rsigma_parser::{ConditionExpr, Quantifier};

pub(crate) mod quick;

use crate::{
    dispatch::Needs,
    fields::{Fields, Lookup},
    view::{Objects, RecordView},
};
use quick::Quick;

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
        /// The named selections that several parts of the condition refer to.
        selections: Box<[Node]>,
        /// What makes the rule match.
        condition: Node,
    },
    /// Evaluated by rsigma over the structured record.
    Plain(Box<CompiledRule>),
}

/// A part of a condition or selection.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    /// One named selection.
    Selection(usize),
    /// At least so many of these.
    AtLeast(usize, Vec<Self>),
    /// Always or never.
    Fixed(bool),
    /// Something about a field's value, by its number.
    Test(usize),
    /// Whether a field is there (null counts as absent).
    Exists(usize, bool),
    /// Something about any text of the record, by its number.
    Keyword(usize),
    /// What is known already when the dispatch found the rule.
    Known(bool, Box<Self>),
}

impl Program {
    /// Makes a rule ready to run. It takes for granted what [`crate::dispatch`] knows of the rule's records.
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
        let mut parts = Parts { needs: Needs::of(rule), fields };
        let mut selections: Vec<_> =
            names.iter().map(|name| parts.selection(&rule.detections[*name]).simplified(parts.fields)).collect();
        let mut condition = Node::Any(conditions);
        let mut uses = vec![0_usize; selections.len()];
        condition.each_reference(&mut |number| uses[number] += 1);
        condition.inline(&uses, &mut selections);
        Ok(Self::Own { condition: condition.simplified(fields), selections: selections.into() })
    }

    /// Whether a record matches. `found`: the dispatch found the rule for the record by its values.
    pub(crate) fn matches(&self, record: &Lookup<'_>, found: bool) -> bool {
        match self {
            Self::Own { selections, condition } => Run { selections, record, found }.holds(condition),
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
            let chosen: Vec<Node> =
                (0..names.len()).filter(|i| pattern.matches_detection_name(names[*i])).map(Node::Selection).collect();
            count(references, chosen.len())?;
            match quantifier {
                Quantifier::Any => Node::Any(chosen),
                Quantifier::All => Node::All(chosen),
                Quantifier::Count(least) => Node::AtLeast(usize::try_from(*least).unwrap_or(usize::MAX), chosen),
            }
        }
    })
}

fn count(references: &mut usize, more: usize) -> Result<(), TooLarge> {
    *references += more;
    if *references > MAX_REFERENCES { Err(TooLarge) } else { Ok(()) }
}

/// Makes nodes of a rule's selections.
struct Parts<'a> {
    needs: Needs,
    fields: &'a mut Fields,
}

impl Parts<'_> {
    fn selection(&mut self, detection: &CompiledDetection) -> Node {
        match detection {
            CompiledDetection::AllOf(items) => Node::All(items.iter().map(|i| self.item(i)).collect()),
            CompiledDetection::And(parts) => Node::All(parts.iter().map(|p| self.selection(p)).collect()),
            CompiledDetection::AnyOf(parts) => Node::Any(parts.iter().map(|p| self.selection(p)).collect()),
            CompiledDetection::Keywords(matcher) => Node::Keyword(self.fields.keyword(matcher)),
            // Rules with these run on rsigma's evaluator, see `looks_into_arrays`.
            CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => Node::Fixed(false),
        }
    }

    fn item(&mut self, item: &CompiledDetectionItem) -> Node {
        match (&item.field, item.exists) {
            (Some(field), Some(there)) => Node::Exists(self.fields.number(field), there),
            (None, Some(there)) => Node::Fixed(!there),
            (None, None) => Node::Keyword(self.fields.keyword(&item.matcher)),
            (Some(field), None) => {
                let test = Node::Test(self.fields.test(field, &item.matcher));
                match self.needs.known(field, &Quick::new(&item.matcher)) {
                    Some(verdict) => Node::Known(verdict, Box::new(test)),
                    None => test,
                }
            }
        }
    }
}

impl Node {
    fn each_reference(&self, see: &mut impl FnMut(usize)) {
        match self {
            Self::Selection(number) => see(*number),
            Self::All(parts) | Self::Any(parts) | Self::AtLeast(_, parts) => {
                for part in parts {
                    part.each_reference(see);
                }
            }
            Self::Not(inner) | Self::Known(_, inner) => inner.each_reference(see),
            Self::Fixed(_) | Self::Test(_) | Self::Exists(..) | Self::Keyword(_) => {}
        }
    }

    /// Puts selections that are used once where they are used.
    fn inline(&mut self, uses: &[usize], selections: &mut [Self]) {
        match self {
            Self::Selection(number) if uses[*number] == 1 => {
                *self = std::mem::replace(&mut selections[*number], Self::Fixed(false));
            }
            Self::All(parts) | Self::Any(parts) | Self::AtLeast(_, parts) => {
                for part in parts {
                    part.inline(uses, selections);
                }
            }
            Self::Not(inner) | Self::Known(_, inner) => inner.inline(uses, selections),
            Self::Selection(_) | Self::Fixed(_) | Self::Test(_) | Self::Exists(..) | Self::Keyword(_) => {}
        }
    }

    /// The same, flat, and what costs little first. None of it changes a verdict: nodes have no effects.
    fn simplified(self, fields: &Fields) -> Self {
        match self {
            Self::All(parts) => Self::joined(parts, fields, true),
            Self::Any(parts) => Self::joined(parts, fields, false),
            Self::Not(inner) => match inner.simplified(fields) {
                Self::Fixed(verdict) => Self::Fixed(!verdict),
                Self::Not(inner) => *inner,
                Self::Exists(field, there) => Self::Exists(field, !there),
                other => Self::Not(Box::new(other)),
            },
            Self::AtLeast(least, parts) => {
                Self::AtLeast(least, parts.into_iter().map(|p| p.simplified(fields)).collect())
            }
            other => other,
        }
    }

    fn joined(parts: Vec<Self>, fields: &Fields, all: bool) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match (part.simplified(fields), all) {
                (Self::All(inner), true) | (Self::Any(inner), false) => flat.extend(inner),
                (Self::Fixed(verdict), _) if verdict == all => {}
                (Self::Fixed(verdict), _) => return Self::Fixed(verdict),
                (other, _) => flat.push(other),
            }
        }
        flat.sort_by_key(|p| p.cost(fields));
        match flat.len() {
            0 => Self::Fixed(all),
            1 => flat.remove(0),
            _ if all => Self::All(flat),
            _ => Self::Any(flat),
        }
    }

    /// What a verdict costs, in about nanoseconds for a usual record.
    fn cost(&self, fields: &Fields) -> u32 {
        match self {
            Self::Fixed(_) | Self::Known(..) => 0,
            Self::Exists(..) => 1,
            Self::Test(number) => fields.cost(*number),
            Self::Selection(_) => 50,
            Self::Keyword(_) => 1_000,
            // What rules leave out is rare, so it seldom decides.
            Self::Not(inner) => inner.cost(fields).saturating_add(10),
            Self::All(parts) | Self::Any(parts) | Self::AtLeast(_, parts) => {
                parts.iter().map(|p| p.cost(fields)).fold(1, u32::saturating_add)
            }
        }
    }
}

/// One rule against one record.
struct Run<'a, 'r> {
    selections: &'a [Node],
    record: &'a Lookup<'r>,
    found: bool,
}

impl Run<'_, '_> {
    fn holds(&self, node: &Node) -> bool {
        match node {
            Node::All(parts) => parts.iter().all(|p| self.holds(p)),
            Node::Any(parts) => parts.iter().any(|p| self.holds(p)),
            Node::Not(inner) => !self.holds(inner),
            Node::Selection(number) => self.holds(&self.selections[*number]),
            Node::AtLeast(least, parts) => self.at_least(*least, parts),
            Node::Fixed(verdict) => *verdict,
            Node::Test(number) => self.record.test(*number),
            Node::Exists(field, there) => self.record.is_there(*field) == *there,
            Node::Keyword(number) => self.record.keyword(*number),
            Node::Known(verdict, _) if self.found => *verdict,
            Node::Known(_, inner) => self.holds(inner),
        }
    }

    fn at_least(&self, least: usize, parts: &[Node]) -> bool {
        let mut missing = least;
        for (position, part) in parts.iter().enumerate() {
            if missing == 0 || missing > parts.len() - position {
                break;
            }
            missing -= usize::from(self.holds(part));
        }
        missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(program: &(Program, Fields), record: &str) -> bool {
        let record = sonic_rs::from_str(record).unwrap();
        program.0.matches(&program.1.of(&record), false)
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
}
