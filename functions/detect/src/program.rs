//! A compiled rule as we run it: Sigma's matchers under our own evaluation.
//!
//! In: a compiled rule. Out: whether a record matches. We evaluate rules ourselves because rsigma's evaluator takes
//! field names apart for every event, folds case by allocating, and collects details of each match that nobody reads
//! here. Where the verdict differs from rsigma's plain
//! evaluation it is on purpose, because in CloudTrail an absent field and a null one mean the same:
//!
//! - null inside a list of values matches an absent field (`errorCode: [null, '']`);
//! - `|neq` holds for an absent field, as the Sigma specification's `not` does;
//! - `|fieldref` never holds between two nulls;
//! - objects are matched as text (see [`crate::view`]).
//!
//! What a rule says of single members of an array (`sigma-version: 3`) runs on rsigma's own evaluator.
//!
//! Conditions are pure, so what costs little is asked first, and what costs more is asked once per record however
//! many rules ask it ([`graph`], [`crate::fields`]). What is left of it for records with something in common is a
//! [`plan`].

use std::{collections::HashMap, sync::Arc};

use rsigma_eval::{CompiledDetection, compiler::eval_condition};
use rsigma_parser::{ConditionExpr, Quantifier};

pub(crate) mod graph;
pub(crate) mod plan;
pub(crate) mod quick;

use sentinel_model::fast_hash::FastMap;

use crate::{
    dispatch::Needs,
    fields::{Fields, Lookup},
    rules::compiled::{Compiled, Item, Part},
    view::{Objects, RecordView},
};
use graph::{Graph, Id, Kind};

/// Selections that the conditions of one rule may refer to, selectors counted out. A rule with more would
/// cost too much per event; the largest public rules stay below 200.
const MAX_REFERENCES: usize = 10_000;

/// Rules that are tried for every record. Ours are fewer than ten.
pub(crate) const MAX_ALWAYS: usize = 256;
/// What they may cost together, in about nanoseconds for a usual record.
pub(crate) const MAX_ALWAYS_COST: u32 = 100_000;

/// Why a rule would cost too much.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooLarge {
    /// Its condition.
    #[error("the condition refers to more than {MAX_REFERENCES} selections")]
    Condition,
    /// It would be tried for every record, as too many are.
    #[error(
        "no eventName or eventSource limits what it can match, so it is tried for every record: at most {MAX_ALWAYS} \
         such rules are loaded, of about {} microseconds a record together",
        MAX_ALWAYS_COST / 1_000
    )]
    Always,
}

/// A rule ready to run: the node of its condition in the graph of all rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program(Both);

/// A part of a condition as it is asked where the dispatch found the rule by the record's values, what that proves left
/// out, and as it is asked elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Both {
    found: Id,
    whole: Id,
}

impl Both {
    fn same(id: Id) -> Self {
        Self { found: id, whole: id }
    }
}

/// A selection of rsigma's under the only name that it has here.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    named: HashMap<String, CompiledDetection>,
    condition: ConditionExpr,
}

impl Members {
    fn new(detection: CompiledDetection) -> Self {
        let name = String::from("members");
        Self { condition: ConditionExpr::Identifier(name.clone()), named: HashMap::from([(name, detection)]) }
    }

    fn holds(&self, record: &Lookup<'_>) -> bool {
        let view = RecordView::new(record.record, Objects::Structure);
        eval_condition(&self.condition, &self.named, &view, &mut Vec::new())
    }
}

impl Program {
    /// Makes a rule ready to run. It takes for granted what [`crate::dispatch`] knows of the rule's records.
    pub(crate) fn new(
        rule: &Compiled,
        needs: &Needs<'_>,
        fields: &mut Fields,
        graph: &mut Graph,
        made: &mut Made,
    ) -> Result<Self, TooLarge> {
        let names: Vec<&str> = rule.detections.iter().map(|(name, _)| name.as_str()).collect();
        let mut references = 0;
        for condition in &rule.conditions {
            count(condition, &names, &mut references)?;
        }
        let mut maker = Maker { needs, fields, graph, made };
        let selections: Vec<Both> = rule.detections.iter().map(|(_, part)| maker.selection(part)).collect();
        let conditions: Vec<Both> = rule.conditions.iter().map(|c| maker.condition(c, &names, &selections)).collect();
        Ok(Self(maker.joined(&conditions, false)))
    }

    /// What a verdict costs at most, in about nanoseconds for a usual record.
    pub(crate) fn cost(self, graph: &Graph) -> u32 {
        graph.cost(self.0.found)
    }

    /// What decides whether a record matches. `found`: the dispatch found the rule for the record by its values.
    pub(crate) fn condition(self, found: bool) -> Id {
        if found { self.0.found } else { self.0.whole }
    }
}

/// Counts the selections that a condition refers to, selectors counted out.
fn count(expr: &ConditionExpr, names: &[&str], references: &mut usize) -> Result<(), TooLarge> {
    *references += match expr {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            return parts.iter().try_for_each(|p| count(p, names, references));
        }
        ConditionExpr::Not(inner) => return count(inner, names, references),
        ConditionExpr::Identifier(_) => 1,
        ConditionExpr::Selector { pattern, .. } => names.iter().filter(|n| pattern.matches_detection_name(n)).count(),
    };
    if *references > MAX_REFERENCES { Err(TooLarge::Condition) } else { Ok(()) }
}

/// What items that several rules share were made to, while rules are loaded.
#[derive(Debug, Default)]
pub(crate) struct Made(FastMap<usize, (Arc<Item>, Id)>);

/// Makes nodes of a rule.
struct Maker<'a> {
    needs: &'a Needs<'a>,
    fields: &'a mut Fields,
    graph: &'a mut Graph,
    made: &'a mut Made,
}

impl Maker<'_> {
    fn condition(&mut self, expr: &ConditionExpr, names: &[&str], selections: &[Both]) -> Both {
        match expr {
            ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
                let all = matches!(expr, ConditionExpr::And(_));
                let parts: Vec<_> = parts.iter().map(|p| self.condition(p, names, selections)).collect();
                self.joined(&parts, all)
            }
            ConditionExpr::Not(inner) => {
                let Both { found, whole } = self.condition(inner, names, selections);
                Both { found: self.graph.not(found, self.fields), whole: self.graph.not(whole, self.fields) }
            }
            ConditionExpr::Identifier(name) => match names.binary_search(&name.as_str()) {
                Ok(number) => selections[number],
                Err(_) => Both::same(self.graph.fixed(false, self.fields)),
            },
            ConditionExpr::Selector { quantifier, pattern } => {
                let chosen = selections.iter().zip(names).filter(|(_, n)| pattern.matches_detection_name(n));
                let chosen: Vec<Both> = chosen.map(|(selection, _)| *selection).collect();
                match quantifier {
                    Quantifier::Any => self.joined(&chosen, false),
                    Quantifier::All => self.joined(&chosen, true),
                    Quantifier::Count(least) => {
                        let least = usize::try_from(*least).unwrap_or(usize::MAX);
                        let (found, whole) = ways(&chosen);
                        let mut make = |parts: &[Id]| self.graph.at_least(least, parts, self.fields);
                        Both { found: make(&found), whole: make(&whole) }
                    }
                }
            }
        }
    }

    fn joined(&mut self, parts: &[Both], all: bool) -> Both {
        let (found, whole) = ways(parts);
        if found == whole {
            return Both::same(self.graph.joined(&found, all, self.fields));
        }
        Both { found: self.graph.joined(&found, all, self.fields), whole: self.graph.joined(&whole, all, self.fields) }
    }

    fn selection(&mut self, part: &Part) -> Both {
        match part {
            Part::Items(items) => {
                let parts: Vec<_> = items.iter().map(|i| self.item(i)).collect();
                self.joined(&parts, true)
            }
            Part::All(parts) => {
                let parts: Vec<_> = parts.iter().map(|p| self.selection(p)).collect();
                self.joined(&parts, true)
            }
            Part::Any(parts) => {
                let parts: Vec<_> = parts.iter().map(|p| self.selection(p)).collect();
                self.joined(&parts, false)
            }
            Part::Keywords(matcher) => {
                let keyword = self.fields.keyword(matcher);
                Both::same(self.graph.leaf(Kind::Keyword(number(keyword)), self.fields))
            }
            Part::Members(detection) => Both::same(self.graph.members(Members::new((**detection).clone()))),
        }
    }

    fn item(&mut self, item: &Arc<Item>) -> Both {
        let whole = self.whole(item);
        let known = match (&item.field, item.exists) {
            (Some(field), None) => self.needs.known(field, &item.matcher),
            _ => None,
        };
        Both { found: known.map_or(whole, |verdict| self.graph.fixed(verdict, self.fields)), whole }
    }

    /// An item as it is asked of any record, made once for all that share it.
    fn whole(&mut self, item: &Arc<Item>) -> Id {
        if Arc::strong_count(item) == 1 {
            return self.leaf(item);
        }
        // It is kept, so nothing else comes to be at its address.
        let address = Arc::as_ptr(item).addr();
        if let Some((_, id)) = self.made.0.get(&address) {
            return *id;
        }
        let id = self.leaf(item);
        self.made.0.insert(address, (Arc::clone(item), id));
        id
    }

    fn leaf(&mut self, Item { field, exists, matcher }: &Item) -> Id {
        let kind = match (field, exists) {
            (Some(field), Some(there)) => Kind::Exists(number(self.fields.number(field)), *there),
            (None, Some(there)) => Kind::Fixed(!there),
            (None, None) => Kind::Keyword(number(self.fields.keyword(&matcher.complete()))),
            (Some(field), None) => Kind::Test(number(self.fields.test(field, matcher))),
        };
        self.graph.leaf(kind, self.fields)
    }
}

fn number(number: usize) -> u32 {
    // Memory ends long before.
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn ways(parts: &[Both]) -> (Vec<Id>, Vec<Id>) {
    parts.iter().map(|both| (both.found, both.whole)).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_json::Document;

    fn matches(program: &(Program, Fields, Graph), record: &str) -> bool {
        let record = Document::parse(record).unwrap();
        program.2.holds(program.0.condition(false), &program.1.of(record.root(), &program.1.scratch()))
    }

    fn made(yaml: &str) -> Result<(Program, Fields, Graph), TooLarge> {
        let collection = rsigma_parser::parse_sigma_yaml(yaml).unwrap();
        assert!(collection.errors.is_empty(), "{:?}", collection.errors);
        let (mut fields, mut graph) = (Fields::default(), Graph::default());
        let compiled = crate::rules::compiled::compile(&collection.rules[0]).unwrap();
        let needs = Needs::of(&compiled);
        Ok((Program::new(&compiled, &needs, &mut fields, &mut graph, &mut Made::default())?, fields, graph))
    }

    fn program(detection: &str) -> (Program, Fields, Graph) {
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
    fn members_of_arrays_are_matched_one_by_one() {
        let yaml = "title: t\nsigma-version: 3\nlogsource:\n  product: aws\ndetection:\n  s:\n    items[any]:\n      a: x\n      b: y\n  condition: s\n";
        let program = made(yaml).unwrap();
        assert!(matches(&program, r#"{"items":[{"a":"x","b":"y"}]}"#));
        assert!(!matches(&program, r#"{"items":[{"a":"x"},{"b":"y"}]}"#));
        let program = made(&yaml.replace("  condition: s", "  t:\n    c: z\n  condition: s and not t")).unwrap();
        assert!(matches(&program, r#"{"items":[{"a":"x","b":"y"}],"c":"w"}"#));
        assert!(!matches(&program, r#"{"items":[{"a":"x","b":"y"}],"c":"Z"}"#));
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
