//! Rules compiled, without making at load what may never be asked.
//!
//! In: a parsed rule. Out: its selections with matchers ([`Quick`]) and its conditions, as rsigma's compiler understands
//! them. Whatever is unusual is compiled by rsigma itself, whose refusals count; tests hold both to each other over every
//! rule there is. Regular expressions of usual rules are not made here: what loads them checks them
//! ([`super::caps`]).

use std::sync::Arc;

use rsigma_eval::{CompiledDetection, CompiledDetectionItem, CompiledMatcher, EvalError, compiler::compile_detection};
use rsigma_parser::{ConditionExpr, Detection, DetectionItem, LogSource, Modifier, SigmaRule, SigmaValue};

use crate::program::quick::Quick;

/// A rule's logic.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) log_source: LogSource,
    /// Selections by name, sorted.
    pub(crate) detections: Vec<(String, Part)>,
    pub(crate) conditions: Vec<ConditionExpr>,
    /// What rsigma itself would run, to compare with.
    #[cfg(test)]
    pub(crate) plain: rsigma_eval::CompiledRule,
}

/// A selection, or a part of one.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// All of these fields. Rules of one pack share what they ask alike.
    Items(Vec<Arc<Item>>),
    All(Vec<Self>),
    Any(Vec<Self>),
    /// Any text of the record.
    Keywords(Box<CompiledMatcher>),
    /// Something about single members of an array: rsigma's own.
    Members(Box<CompiledDetection>),
}

/// What a field must be.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// `None`: any text of the record.
    pub(crate) field: Option<String>,
    /// Whether the field must be there, or not; the matcher then says nothing.
    pub(crate) exists: Option<bool>,
    pub(crate) matcher: Quick,
}

/// Compiles a rule.
pub(crate) fn compile(rule: &SigmaRule) -> Result<Compiled, EvalError> {
    let mut detections: Vec<(String, Part)> = match usual(rule) {
        Some(detections) => detections,
        None => rsigma_eval::compile_rule(rule)?.detections.into_iter().map(|(n, d)| (n, Part::of(d))).collect(),
    };
    detections.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(Compiled {
        log_source: rule.logsource.clone(),
        detections,
        conditions: rule.detection.conditions.clone(),
        #[cfg(test)]
        plain: rsigma_eval::compile_rule(rule)?,
    })
}

/// What rsigma itself would run of a document's rule.
#[cfg(test)]
pub(super) fn plain(text: &str, placeholders: &super::Placeholders) -> rsigma_eval::CompiledRule {
    let mut rule = rsigma_parser::parse_sigma_yaml(text).unwrap().rules.remove(0);
    placeholders.fill(&mut rule).unwrap();
    rsigma_eval::compile_rule(&rule).unwrap()
}

impl Compiled {
    /// A selection by its name.
    pub(crate) fn detection(&self, name: &str) -> Option<&Part> {
        let at = self.detections.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        self.detections.get(at).map(|(_, part)| part)
    }

    /// Whether all conditions name only selections that are there.
    pub(super) fn is_complete(&self) -> bool {
        self.conditions.iter().all(|c| is_known(c, &|name| self.detection(name).is_some()))
    }
}

/// The selections, where nothing in the rule could be refused.
fn usual(rule: &SigmaRule) -> Option<Vec<(String, Part)>> {
    let named = &rule.detection.named;
    if !rule.detection.conditions.iter().all(|c| is_known(c, &|name| named.contains_key(name))) {
        return None;
    }
    named.iter().map(|(name, detection)| Some((name.clone(), Part::usual(detection)?))).collect()
}

/// Whether a condition names only selections that are there.
fn is_known(condition: &ConditionExpr, is_there: &impl Fn(&str) -> bool) -> bool {
    match condition {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => parts.iter().all(|p| is_known(p, is_there)),
        ConditionExpr::Not(inner) => is_known(inner, is_there),
        ConditionExpr::Identifier(name) => is_there(name),
        ConditionExpr::Selector { .. } => true,
    }
}

impl Part {
    fn usual(detection: &Detection) -> Option<Self> {
        let several = |parts: &[Detection]| {
            let parts = parts.iter().map(Self::usual).collect::<Option<Vec<_>>>();
            parts.filter(|parts| !parts.is_empty())
        };
        match detection {
            Detection::AllOf(items) if !items.is_empty() => {
                items.iter().map(|item| Item::usual(item).map(Arc::new)).collect::<Option<_>>().map(Self::Items)
            }
            Detection::And(parts) => several(parts).map(Self::All),
            Detection::AnyOf(parts) => several(parts).map(Self::Any),
            Detection::Keywords(values) if !values.is_empty() => match compile_detection(detection).ok()? {
                CompiledDetection::Keywords(matcher) => Some(Self::Keywords(Box::new(matcher))),
                _ => None,
            },
            _ => None,
        }
    }

    fn of(detection: CompiledDetection) -> Self {
        let several = |parts: Vec<CompiledDetection>| parts.into_iter().map(Self::of).collect();
        match detection {
            CompiledDetection::AllOf(items) => Self::Items(items.iter().map(|item| Arc::new(Item::of(item))).collect()),
            CompiledDetection::And(parts) => Self::All(several(parts)),
            CompiledDetection::AnyOf(parts) => Self::Any(several(parts)),
            CompiledDetection::Keywords(matcher) => Self::Keywords(Box::new(matcher)),
            CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => {
                Self::Members(Box::new(detection))
            }
        }
    }
}

impl Item {
    /// What a rule asks of a field; `None` where it could be refused.
    pub(super) fn usual(item: &DetectionItem) -> Option<Self> {
        let field = item.field.name.clone();
        if item.field.modifiers.contains(&Modifier::Exists) {
            let there = match item.values.as_slice() {
                [SigmaValue::Bool(there)] if item.field.modifiers.len() == 1 => *there,
                _ => return None,
            };
            return Some(Self { field, exists: Some(there), matcher: Quick::exists(there) });
        }
        match Quick::of(item) {
            Some(matcher) => Some(Self { field, exists: None, matcher }),
            None => Self::alone(item),
        }
    }

    /// What is unusual about one field alone, and cheap to make, as rsigma makes it.
    fn alone(item: &DetectionItem) -> Option<Self> {
        let cheap = |value: &SigmaValue| match value {
            SigmaValue::String(text) => !text.original.contains("${source."),
            SigmaValue::Integer(_) | SigmaValue::Float(_) => true,
            SigmaValue::Bool(_) | SigmaValue::Null => false,
        };
        if item.field.modifiers.contains(&Modifier::Re) || !item.values.iter().all(cheap) {
            return None;
        }
        match compile_detection(&Detection::AllOf(vec![item.clone()])).ok()? {
            CompiledDetection::AllOf(items) => items.first().map(Self::of),
            _ => None,
        }
    }

    fn of(item: &CompiledDetectionItem) -> Self {
        Self { field: item.field.clone(), exists: item.exists, matcher: Quick::new(&item.matcher) }
    }
}

/// Texts of all that a selection asks.
#[cfg(test)]
pub(super) fn described(part: &Part) -> Vec<String> {
    let describe = |item: &Arc<Item>| {
        let mut text = format!("{:?} {:?} ", item.field, item.exists);
        item.matcher.describe(&mut text);
        text
    };
    match part {
        Part::Items(items) => items.iter().map(describe).collect(),
        Part::All(parts) | Part::Any(parts) => parts.iter().flat_map(described).collect(),
        Part::Keywords(_) | Part::Members(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, differential::shared_data};

    fn rules(text: &str) -> Vec<SigmaRule> {
        rsigma_parser::parse_sigma_yaml(text).map(|c| c.rules).unwrap_or_default()
    }

    /// Compiles a rule here and by rsigma; returns whether it was a usual one.
    fn compare(rule: &SigmaRule) -> bool {
        let Some(quick) = usual(rule) else { return false };
        let theirs = rsigma_eval::compile_rule(rule).unwrap_or_else(|e| panic!("{e}: {}", rule.title));
        assert_eq!(rule.detection.conditions, theirs.conditions, "{}", rule.title);
        assert_eq!(quick.len(), theirs.detections.len());
        for (name, part) in &quick {
            // Texts and expressions that rsigma puts into one automaton stay apart here.
            let joined = |text: &str| text.contains("set ") || text.contains("RegexSet");
            let theirs = described(&Part::of(theirs.detections[name].clone()));
            let same = described(part).into_iter().zip(&theirs).all(|(a, b)| a == *b || joined(b));
            assert!(same && described(part).len() == theirs.len(), "{}: {part:?}\n{theirs:?}", rule.title);
        }
        true
    }

    #[test]
    fn rules_are_compiled_as_rsigma_compiles_them() {
        let (mut usual, mut all) = (0, 0);
        let mut texts: Vec<String> = crate::rules::pack_files().iter().map(|(_, text, _)| (*text).to_owned()).collect();
        let mut folders: Vec<_> = shared_data().map(|data| data.join("sigma")).into_iter().collect();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "yml") {
                    texts.push(std::fs::read_to_string(path).unwrap());
                }
            }
        }
        for rule in texts.iter().flat_map(|text| rules(text)) {
            all += 1;
            usual += usize::from(compare(&rule));
        }
        println!("{usual} of {all} rules");
        assert!(all > 300 && usual * 100 >= all * 98, "{usual} of {all}");
        assert!(!check::pack_events().is_empty());
    }

    #[test]
    fn what_may_be_refused_is_left_to_rsigma() {
        for detection in [
            "s: {a|contains|startswith: x}",
            "s: {a|all: x}",
            "s: {a|contains|all: [x]}",
            "s: {a|i: x}",
            "s: {a|cidr: nonsense}",
            "s: {a|re: 5}",
            "s: {a|exists: maybe}",
            "s: {a|exists|contains: true}",
            "s: {a|contains: null}",
            "s: {a: '${source.x}'}",
            "s: {}",
            "s: []",
        ] {
            let text = format!("title: T\nlogsource: {{product: aws}}\ndetection:\n  {detection}\n  condition: s\n");
            for rule in rules(&text) {
                assert!(usual(&rule).is_none(), "{detection}");
            }
        }
        let missing = "title: T\nlogsource: {product: aws}\ndetection:\n  s: {a: 1}\n  condition: s and not t\n";
        for rule in rules(missing) {
            assert!(usual(&rule).is_none() && compile(&rule).is_err());
        }
    }
}
