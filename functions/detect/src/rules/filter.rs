//! Sigma filters: conditions added to rules without touching them.
//!
//! In: filters, each compiled like a rule, and all rules of a set. Out: the rules with `(condition) and (filter's
//! condition)`, as the Sigma filters specification 2.x says; a filter usually says `not selection`. A filter applies to
//! the rules that it names by id, name or title, or to `any`, and only to those of its log source: a part that the
//! filter's `logsource` leaves out may be anything. Selections keep to themselves: neither a rule's `1 of them` nor a
//! filter's sees the other's.

use std::collections::HashSet;

use rsigma_parser::{ConditionExpr, LogSource, Quantifier, SelectorPattern};

use super::{
    compiled::{Compiled, Part},
    load::Refused,
    meta::RuleMeta,
};

/// Selections that the filters of one rule may refer to together, so that they cannot make it costly.
const MAX_REFERENCES: usize = 2_000;
/// Selections that filters add to all rules of a set together.
const MAX_ADDED: usize = 500_000;

/// A rule that a filter names, and where.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) line: u32,
}

/// A filter ready to be applied.
#[derive(Debug)]
pub(super) struct Filter {
    title: String,
    file: String,
    line: u32,
    /// `None`: every rule of the log source.
    targets: Option<Vec<Reference>>,
    log_source: LogSource,
    detections: Vec<(String, Part)>,
    condition: ConditionExpr,
    references: usize,
}

/// A filter that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFilter {
    #[error("the condition refers to more than {MAX_REFERENCES} selections")]
    TooLarge,
    #[error("counts among selections some of which begin with _, which cannot be told apart in a filter")]
    HiddenCounted,
}

impl Filter {
    /// `compiled` is the filter's detections compiled as a rule's.
    pub(super) fn new(
        title: String,
        file: &str,
        line: u32,
        targets: Option<Vec<Reference>>,
        log_source: LogSource,
        compiled: Compiled,
    ) -> Result<Self, BadFilter> {
        let Compiled { detections, conditions, .. } = compiled;
        let names: Vec<&str> = detections.iter().map(|(name, _)| name.as_str()).collect();
        let references = conditions.iter().map(|c| references(c, &names)).fold(0, usize::saturating_add);
        if references > MAX_REFERENCES {
            return Err(BadFilter::TooLarge);
        }
        let mut conditions = conditions.iter().map(|c| without_them(c, &names)).collect::<Result<Vec<_>, _>>()?;
        let condition = if conditions.len() == 1 { conditions.remove(0) } else { ConditionExpr::Or(conditions) };
        Ok(Self { title, file: file.to_owned(), line, targets, log_source, detections, condition, references })
    }

    /// What the parts of a filter are called among a rule's: nothing that a rule can name. Hidden from `them`.
    fn prefix(number: usize) -> String {
        format!("_\0{number}\0")
    }

    fn fits(&self, meta: &RuleMeta, rule: &Compiled, wanted: Option<&HashSet<&str>>) -> bool {
        wanted.is_none_or(|wanted| meta.names().any(|name| wanted.contains(name)))
            && contains(&self.log_source, &rule.log_source)
    }

    fn refusal(&self, line: u32, reason: &str) -> Refused {
        let field = Some(String::from("rules"));
        Refused { file: self.file.clone(), line, field, reason: format!("filter {:?}: {reason}", self.title) }
    }
}

/// Whether a rule is of a filter's log source.
fn contains(filter: &LogSource, rule: &LogSource) -> bool {
    let same = |wanted: &Option<String>, has: &Option<String>| {
        wanted.as_deref().is_none_or(|w| has.as_deref().is_some_and(|h| h.eq_ignore_ascii_case(w)))
    };
    same(&filter.product, &rule.product)
        && same(&filter.service, &rule.service)
        && same(&filter.category, &rule.category)
}

/// Applies filters to rules, and says which are refused. One that names an unknown rule is refused as a whole, so
/// that nobody relies on half of it.
pub(super) fn apply(filters: &[Filter], rules: &mut [(RuleMeta, Compiled)]) -> Vec<Refused> {
    if filters.is_empty() {
        return Vec::new();
    }
    let known: HashSet<String> = rules.iter().flat_map(|(meta, _)| meta.names()).map(str::to_owned).collect();
    let (mut refused, mut added) = (Vec::new(), 0_usize);
    let mut spent = vec![0_usize; rules.len()];
    for (number, filter) in filters.iter().enumerate() {
        let unknown = filter.targets.iter().flatten().find(|target| !known.contains(&target.name));
        if let Some(Reference { name, line }) = unknown {
            let reason = format!("no rule has the id, name or title {name:?} (correlations cannot be filtered)");
            refused.push(filter.refusal(*line, &reason));
            continue;
        }
        let wanted: Option<HashSet<&str>> =
            filter.targets.as_ref().map(|targets| targets.iter().map(|t| t.name.as_str()).collect());
        let prefix = Filter::prefix(number);
        let condition = renamed(&filter.condition, &prefix, ADDED);
        for ((meta, rule), spent) in rules.iter_mut().zip(&mut spent) {
            if !filter.fits(meta, rule, wanted.as_ref()) {
                continue;
            }
            if *spent + filter.references > MAX_REFERENCES || added + filter.detections.len() > MAX_ADDED {
                let reason =
                    format!("too many filters: not applied to {:?} and what comes after", meta.reference.title);
                refused.push(filter.refusal(filter.line, &reason));
                break;
            }
            *spent += filter.references;
            added += filter.detections.len();
            add(rule, filter, &prefix, &condition);
        }
    }
    refused
}

/// What ends the name of a rule's own selection, once a filter was added.
const OWN: &str = "\u{1}";
/// What ends the name of a filter's selection.
const ADDED: &str = "\0";

fn add(rule: &mut Compiled, filter: &Filter, prefix: &str, condition: &ConditionExpr) {
    // So that a pattern as wide as `*` still means the rule's own selections alone.
    if !rule.detections.iter().any(|(name, _)| name.ends_with(OWN)) {
        rule.detections = std::mem::take(&mut rule.detections).into_iter().map(|(n, d)| (n + OWN, d)).collect();
        rule.conditions = rule.conditions.iter().map(|c| renamed(c, "", OWN)).collect();
    }
    for old in &mut rule.conditions {
        let own = std::mem::replace(old, ConditionExpr::And(Vec::new()));
        *old = ConditionExpr::And(vec![own, condition.clone()]);
    }
    let added = filter.detections.iter().map(|(name, part)| (format!("{prefix}{name}{ADDED}"), part.clone()));
    rule.detections.extend(added);
    rule.detections.sort_unstable_by(|a, b| a.0.cmp(&b.0));
}

/// A condition over selections that got a prefix and a suffix.
fn renamed(expr: &ConditionExpr, prefix: &str, suffix: &str) -> ConditionExpr {
    let several = |parts: &[ConditionExpr]| parts.iter().map(|p| renamed(p, prefix, suffix)).collect();
    match expr {
        ConditionExpr::And(parts) => ConditionExpr::And(several(parts)),
        ConditionExpr::Or(parts) => ConditionExpr::Or(several(parts)),
        ConditionExpr::Not(inner) => ConditionExpr::Not(Box::new(renamed(inner, prefix, suffix))),
        ConditionExpr::Identifier(name) => ConditionExpr::Identifier(format!("{prefix}{name}{suffix}")),
        ConditionExpr::Selector { quantifier, pattern } => ConditionExpr::Selector {
            quantifier: quantifier.clone(),
            pattern: match pattern {
                SelectorPattern::Them => SelectorPattern::Them,
                SelectorPattern::Pattern(text) => SelectorPattern::Pattern(format!("{prefix}{text}{suffix}")),
            },
        },
    }
}

/// A filter's condition without `them`, which would be the rule's selections. `them` leaves out names that begin with
/// an underscore.
fn without_them(expr: &ConditionExpr, names: &[&str]) -> Result<ConditionExpr, BadFilter> {
    let several = |parts: &[ConditionExpr]| parts.iter().map(|p| without_them(p, names)).collect::<Result<Vec<_>, _>>();
    Ok(match expr {
        ConditionExpr::And(parts) => ConditionExpr::And(several(parts)?),
        ConditionExpr::Or(parts) => ConditionExpr::Or(several(parts)?),
        ConditionExpr::Not(inner) => ConditionExpr::Not(Box::new(without_them(inner, names)?)),
        ConditionExpr::Selector { quantifier, pattern: SelectorPattern::Them } => {
            let seen: Vec<&&str> = names.iter().filter(|name| !name.starts_with('_')).collect();
            let each = || seen.iter().map(|name| ConditionExpr::Identifier((**name).to_owned())).collect();
            match quantifier {
                quantifier if seen.len() == names.len() => ConditionExpr::Selector {
                    quantifier: quantifier.clone(),
                    pattern: SelectorPattern::Pattern(String::from("*")),
                },
                Quantifier::Any | Quantifier::Count(1) => ConditionExpr::Or(each()),
                Quantifier::All => ConditionExpr::And(each()),
                Quantifier::Count(_) => return Err(BadFilter::HiddenCounted),
            }
        }
        other => other.clone(),
    })
}

/// How many selections a condition refers to, selectors counted out.
fn references(expr: &ConditionExpr, names: &[&str]) -> usize {
    match expr {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            parts.iter().map(|p| references(p, names)).fold(0, usize::saturating_add)
        }
        ConditionExpr::Not(inner) => references(inner, names),
        ConditionExpr::Identifier(_) => 1,
        ConditionExpr::Selector { pattern, .. } => {
            names.iter().filter(|name| pattern.matches_detection_name(name)).count()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LoadReport, RuleSet};
    use sentinel_json::Document;

    const RULES: &str = "title: Users made
id: users
name: made
logsource: {product: aws, service: cloudtrail}
detection:
  user: {eventName: CreateUser}
  key: {eventName: CreateAccessKey}
  _hidden: {eventName: DeleteUser}
  condition: 1 of them or 1 of _*
---
title: Anything
id: anything
logsource: {product: aws, service: cloudtrail}
detection:
  one: {awsRegion: eu-central-1}
  condition: all of *
";

    fn loaded(filter: &str) -> (RuleSet, LoadReport) {
        // The filter comes first: what it refers to is known when everything is.
        RuleSet::from_texts(false, [("a-filter.yml", filter), ("rules.yml", RULES)])
    }

    fn hits(set: &RuleSet, record: &str) -> Vec<String> {
        let mut hits = Vec::new();
        set.matches(Document::parse(record).unwrap().root(), &mut hits);
        hits.iter().map(|index| set.meta(*index).reference.id.clone()).collect()
    }

    fn filter(rules: &str, selections: &str, condition: &str) -> String {
        format!(
            "title: F\nlogsource: {{product: aws, service: cloudtrail}}\nfilter:\n  rules: {rules}\n{selections}\n  condition: {condition}\n"
        )
    }

    #[test]
    fn a_filter_is_anded_to_the_rules_it_names() {
        let admin = "  selection:\n    user|startswith: adm_";
        for target in ["[users]", "users", "[made]", "[Users made]", "[Users made, anything]"] {
            let (set, report) = loaded(&filter(target, admin, "not selection"));
            assert_eq!((report.filters, report.refused.len()), (1, 0), "{:?}", report.refused);
            assert!(report.warnings.is_empty(), "{:?}", report.warnings);
            assert_eq!(hits(&set, r#"{"eventName":"CreateUser","user":"eve"}"#), ["users"]);
            assert_eq!(hits(&set, r#"{"eventName":"DeleteUser","user":"eve"}"#), ["users"]);
            assert!(hits(&set, r#"{"eventName":"CreateUser","user":"adm_x"}"#).is_empty(), "{target}");
            assert!(hits(&set, r#"{"eventName":"DeleteUser","user":"adm_x"}"#).is_empty(), "{target}");
            assert!(hits(&set, r#"{"eventName":"ListUsers","user":"eve"}"#).is_empty(), "{target}");
        }
    }

    #[test]
    fn any_is_every_rule_of_the_log_source() {
        let admin = "  selection:\n    user|startswith: adm_";
        let event = r#"{"eventName":"CreateUser","user":"adm_x","awsRegion":"eu-central-1"}"#;
        let (set, _) = loaded(&filter("any", admin, "not selection"));
        assert!(hits(&set, event).is_empty());
        assert_eq!(hits(&set, &event.replace("adm_x", "eve")), ["users", "anything"]);
        let other = filter("any", admin, "not selection").replace("service: cloudtrail", "service: guardduty");
        assert_eq!(hits(&loaded(&other).0, event), ["users", "anything"]);
    }

    #[test]
    fn selections_of_rules_and_filters_keep_to_themselves() {
        // Every selection of the filter has a name of the rule's, and every selector of both is as wide as can be.
        let two = "  user: {a: 1}\n  key: {b: 1}";
        for (condition, filtered) in [
            ("not 1 of them", [false, true, true, true]),
            ("not all of *", [false, false, false, true]),
            ("not 2 of them", [false, false, false, true]),
            ("not user", [false, true, false, true]),
            ("not 1 of k*", [false, false, true, true]),
        ] {
            let (set, report) = loaded(&filter("any", two, condition));
            assert!(report.refused.is_empty(), "{:?}", report.refused);
            for (extra, gone) in ["", r#","a":1"#, r#","b":1"#, r#","a":1,"b":1"#].iter().zip(filtered) {
                let event = format!(r#"{{"eventName":"CreateUser","awsRegion":"eu-central-1"{extra}}}"#);
                let expected: &[&str] = if gone { &[] } else { &["users", "anything"] };
                assert_eq!(hits(&set, &event), expected, "{condition} on {event}");
            }
        }
    }

    #[test]
    fn several_filters_add_up() {
        let first = filter("[users]", "  s: {a: 1}", "not s");
        let (set, report) = loaded(&format!("{first}---\n{}", filter("any", "  s: {b: 1}", "not s")));
        assert_eq!((report.filters, report.refused.len()), (2, 0));
        for (extra, hit) in [("", true), (r#","a":1"#, false), (r#","b":1"#, false)] {
            assert_eq!(!hits(&set, &format!(r#"{{"eventName":"CreateUser"{extra}}}"#)).is_empty(), hit, "{extra}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_applied_is_refused_with_its_place() {
        for (text, line, field, reason) in [
            (filter("[users, nobody]", "  s: {a: 1}", "not s"), 4, "rules", "nobody"),
            (filter("[users]", "  s: {a: 1}", "not t"), 6, "condition", "t"),
            (filter("[users]", "  s: {a|foo: 1}", "not s"), 5, "a|foo", "foo"),
            (filter("[users]", "  s:\n    a|re: '('", "not s"), 6, "a|re", "regex"),
            (
                filter("[users]", "  s: {a: 1}\n  _t: {b: 1}\n  u: {c: 1}", "not 2 of them"),
                8,
                "condition",
                "begin with _",
            ),
        ] {
            let (set, report) = loaded(&text);
            assert_eq!((report.rules, report.refused.len()), (2, 1), "{text}: {:?}", report.refused);
            let refused = &report.refused[0];
            assert_eq!((refused.line, refused.field.as_deref()), (line, Some(field)), "{refused:?}");
            assert!(refused.reason.contains(reason), "{refused:?}");
            assert_eq!(hits(&set, r#"{"eventName":"CreateUser","a":1}"#), ["users"], "{text}");
        }
    }

    #[test]
    fn filters_have_a_budget_and_the_rule_stays() {
        let many = (0..900).map(|n| format!("  s{n}: {{a: {n}}}\n")).collect::<Vec<_>>().concat();
        let big = filter("[users]", many.trim_end(), "not 1 of s*");
        let (set, report) = loaded(&format!("{big}---\n{big}---\n{big}"));
        assert_eq!((report.rules, report.refused.len()), (2, 1), "{:?}", report.refused);
        assert!(report.refused[0].reason.contains("too many filters"), "{:?}", report.refused);
        assert_eq!(hits(&set, r#"{"eventName":"CreateUser"}"#), ["users"]);
        let own = (0..60).map(|_| String::from("1 of s*")).collect::<Vec<_>>().join(" or ");
        let (_, report) = loaded(&filter("[users]", many.trim_end(), &format!("not ({own})")));
        assert!(report.refused[0].reason.contains("more than"), "{:?}", report.refused);
    }
}
