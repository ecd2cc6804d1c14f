//! Rules and correlations taken from plain YAML without the complete parser.
//!
//! In: the tree of one document. Out: the rule that rsigma's parser would make of it, or nothing where anything is
//! unusual: filters, versions, wrong values, whatever deserves a remark. Those go to rsigma's parser, whose word
//! counts; tests hold both to each other over every rule there is.

use std::{borrow::Cow, collections::HashMap};

use rsigma_parser::{
    ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, Detection, DetectionItem,
    Detections, FieldAlias, LogSource, Modifier, Related, SigmaRule, SigmaString, SigmaValue, WindowMode,
    parse_condition, parse_field_spec,
    value::{StringPart, Timespan},
};

use super::{compiled::Item, conditions as condition_words, plain::Node};
use crate::program::quick::Quick;

/// What Sigma gives a meaning to at the top of a rule; the rest is the author's.
const STANDARD: [&str; 18] = [
    "title",
    "id",
    "name",
    "taxonomy",
    "status",
    "description",
    "license",
    "author",
    "references",
    "date",
    "modified",
    "logsource",
    "detection",
    "fields",
    "falsepositives",
    "level",
    "tags",
    "scope",
];
/// What Sigma gives a meaning to at the top of a correlation.
const STANDARD_OF_CORRELATIONS: [&str; 18] = [
    "author",
    "correlation",
    "date",
    "description",
    "falsepositives",
    "fields",
    "generate",
    "id",
    "level",
    "license",
    "modified",
    "name",
    "references",
    "scope",
    "status",
    "tags",
    "taxonomy",
    "title",
];
/// What needs the complete parser.
const UNUSUAL: [&str; 5] = ["action", "correlation", "filter", "sigma-version", "custom_attributes"];
/// What needs it in a correlation.
const UNUSUAL_IN_CORRELATIONS: [&str; 8] =
    ["action", "detection", "filter", "sigma-version", "custom_attributes", "rsigma.window", "rsigma.gap", "logsource"];

/// What an author adds of his own at the top; `None` where something unusual stands there.
fn custom<V>(entries: &[(Cow<'_, str>, Node<'_>)], standard: &[&str], unusual: &[&str]) -> Option<HashMap<String, V>>
where
    V: From<i64> + From<bool> + for<'t> From<&'t str> + for<'t> From<Vec<&'t str>>,
{
    let mut custom_attributes = HashMap::new();
    for (key, value) in entries {
        let key = key.as_ref();
        if unusual.contains(&key) {
            return None;
        }
        if standard.contains(&key) || key == "related" {
            continue;
        }
        let value = match value {
            Node::Text(text) => text.as_ref().into(),
            Node::Whole(number) => (*number).into(),
            Node::Bool(flag) => (*flag).into(),
            Node::List(items) => items.iter().map(Node::text).collect::<Option<Vec<_>>>()?.into(),
            Node::Null | Node::Map(_) => return None,
        };
        custom_attributes.insert(key.to_owned(), value);
    }
    Some(custom_attributes)
}

/// The rule in a document.
pub(super) fn rule(document: &Node<'_>) -> Option<SigmaRule> {
    rule_with(document, detections(document.get("detection")?)?)
}

/// The rule in a document that is without its selections, which are nobody's business here.
pub(super) fn rule_without_selections(document: &Node<'_>) -> Option<SigmaRule> {
    let (conditions, _) = conditions(document.get("detection")?)?;
    let detections = Detections { named: HashMap::new(), conditions, condition_strings: Vec::new(), timeframe: None };
    rule_with(document, detections)
}

fn rule_with(document: &Node<'_>, detection: Detections) -> Option<SigmaRule> {
    let Node::Map(entries) = document else { return None };
    let custom_attributes = custom(entries, &STANDARD, &UNUSUAL)?;
    let text = |key: &str| document.get(key).and_then(Node::text).map(str::to_owned);
    Some(SigmaRule {
        title: text("title")?,
        logsource: document.get("logsource").map_or_else(|| Some(LogSource::default()), log_source)?,
        detection,
        sigma_version: None,
        id: text("id"),
        name: text("name"),
        related: document.get("related").map_or_else(|| Some(Vec::new()), related)?,
        taxonomy: text("taxonomy"),
        // One that is not known is remarked on.
        status: text("status").map(|s| s.parse().ok()).map_or(Some(None), |s| s.map(Some))?,
        description: text("description"),
        license: text("license"),
        author: text("author"),
        references: texts(document.get("references")),
        date: text("date"),
        modified: text("modified"),
        fields: texts(document.get("fields")),
        falsepositives: texts(document.get("falsepositives")),
        level: text("level").map(|s| s.parse().ok()).map_or(Some(None), |s| s.map(Some))?,
        tags: texts(document.get("tags")),
        scope: texts(document.get("scope")),
        custom_attributes,
    })
}

/// The correlation in a document.
pub(super) fn correlation(document: &Node<'_>) -> Option<CorrelationRule> {
    let Node::Map(entries) = document else { return None };
    let inner = document.get("correlation")?;
    let Node::Map(keys) = inner else { return None };
    if keys.iter().any(|(key, _)| matches!(key.as_ref(), "window" | "gap")) {
        return None;
    }
    let text = |key: &str| document.get(key).and_then(Node::text).map(str::to_owned);
    let flag = |node: &Node<'_>| match node.get("generate") {
        None => Some(None),
        Some(Node::Bool(flag)) => Some(Some(*flag)),
        Some(_) => None,
    };
    let kind: CorrelationType = inner.get("type")?.text()?.parse().ok()?;
    let timespan = inner.get("timeframe").or_else(|| inner.get("timespan"))?.text()?;
    Some(CorrelationRule {
        title: text("title")?,
        sigma_version: None,
        id: text("id"),
        name: text("name"),
        status: text("status").map(|s| s.parse().ok()).map_or(Some(None), |s| s.map(Some))?,
        description: text("description"),
        author: text("author"),
        date: text("date"),
        modified: text("modified"),
        related: document.get("related").map_or_else(|| Some(Vec::new()), related)?,
        references: texts(document.get("references")),
        taxonomy: text("taxonomy"),
        license: text("license"),
        tags: texts(document.get("tags")),
        fields: texts(document.get("fields")),
        falsepositives: texts(document.get("falsepositives")),
        level: text("level").map(|s| s.parse().ok()).map_or(Some(None), |s| s.map(Some))?,
        scope: texts(document.get("scope")),
        correlation_type: kind,
        rules: texts(inner.get("rules")),
        group_by: texts(inner.get("group-by")),
        timespan: Timespan::parse(timespan).ok()?,
        window: WindowMode::default(),
        gap: None,
        condition: match (inner.get("condition"), kind) {
            (Some(condition), _) => correlation_condition(condition)?,
            // Each of its rules once.
            (None, CorrelationType::Temporal | CorrelationType::TemporalOrdered) => {
                let predicates = vec![(ConditionOperator::Gte, 1)];
                CorrelationCondition::Threshold { predicates, field: None, percentile: None }
            }
            (None, _) => return None,
        },
        aliases: inner.get("aliases").map_or_else(|| Some(Vec::new()), aliases)?,
        generate: flag(document)?.or(flag(inner)?).unwrap_or(false),
        custom_attributes: custom(entries, &STANDARD_OF_CORRELATIONS, &UNUSUAL_IN_CORRELATIONS)?,
    })
}

fn correlation_condition(node: &Node<'_>) -> Option<CorrelationCondition> {
    if let Some(text) = node.text() {
        return condition(text).map(CorrelationCondition::Extended);
    }
    let mut predicates = Vec::new();
    for name in ["lt", "lte", "gt", "gte", "eq", "neq"] {
        match node.get(name) {
            None => {}
            Some(Node::Whole(number)) => {
                predicates.push((name.parse::<ConditionOperator>().ok()?, u64::try_from(*number).ok()?));
            }
            Some(_) => return None,
        }
    }
    if predicates.is_empty() || node.get("percentile").is_some() {
        return None;
    }
    let field = node.get("field").map(|field| field.text().map(|f| vec![f.to_owned()]));
    Some(CorrelationCondition::Threshold {
        predicates,
        field: field.map_or(Some(None), |f| f.map(Some))?,
        percentile: None,
    })
}

fn aliases(node: &Node<'_>) -> Option<Vec<FieldAlias>> {
    let Node::Map(entries) = node else { return None };
    let one = |(alias, mapping): &(Cow<'_, str>, Node<'_>)| {
        let Node::Map(mapping) = mapping else { return None };
        let mapping = mapping.iter().map(|(rule, field)| Some((rule.to_string(), field.text()?.to_owned())));
        Some(FieldAlias { alias: alias.to_string(), mapping: mapping.collect::<Option<_>>()? })
    };
    entries.iter().map(one).collect()
}

fn condition(text: &str) -> Option<ConditionExpr> {
    condition_words::read(text).or_else(|| parse_condition(text).ok())
}

fn texts(node: Option<&Node<'_>>) -> Vec<String> {
    match node {
        Some(Node::Text(text)) => vec![text.to_string()],
        Some(Node::List(items)) => items.iter().filter_map(Node::text).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn log_source(node: &Node<'_>) -> Option<LogSource> {
    let Node::Map(entries) = node else { return None };
    let mut source = LogSource::default();
    for (key, value) in entries {
        let value = Some(value.text()?.to_owned());
        match key.as_ref() {
            "category" => source.category = value,
            "product" => source.product = value,
            "service" => source.service = value,
            "definition" => source.definition = value,
            other => drop(source.custom.insert(other.to_owned(), value?)),
        }
    }
    Some(source)
}

fn related(node: &Node<'_>) -> Option<Vec<Related>> {
    let Node::List(items) = node else { return None };
    let one = |item: &Node<'_>| {
        let id = item.get("id")?.text()?.to_owned();
        Some(Related { id, relation_type: item.get("type")?.text()?.parse().ok()? })
    };
    items.iter().map(one).collect()
}

/// The conditions beside selections, and their texts.
fn conditions<'n>(node: &'n Node<'_>) -> Option<(Vec<ConditionExpr>, Vec<&'n str>)> {
    let texts = match node.get("condition")? {
        Node::Text(text) => vec![&**text],
        Node::List(items) => items.iter().map(Node::text).collect::<Option<_>>()?,
        _ => return None,
    };
    Some((texts.iter().map(|text| condition(text)).collect::<Option<_>>()?, texts))
}

fn detections(node: &Node<'_>) -> Option<Detections> {
    let Node::Map(entries) = node else { return None };
    let (conditions, texts) = conditions(node)?;
    let condition_strings = texts.into_iter().map(str::to_owned).collect();
    let mut named = HashMap::with_capacity(entries.len());
    for (key, value) in entries.iter().filter(|(key, _)| key != "condition" && key != "timeframe") {
        named.insert(key.to_string(), detection(value)?);
    }
    let timeframe = node.get("timeframe").and_then(Node::text).map(str::to_owned);
    Some(Detections { named, conditions, condition_strings, timeframe })
}

fn detection(node: &Node<'_>) -> Option<Detection> {
    match node {
        Node::Map(entries) => {
            entries.iter().map(|(key, value)| item(key, value)).collect::<Option<_>>().map(Detection::AllOf)
        }
        Node::List(items) if items.iter().all(|i| !matches!(i, Node::Map(_) | Node::List(_))) => {
            items.iter().map(|i| value(i, false)).collect::<Option<_>>().map(Detection::Keywords)
        }
        Node::List(items) => items.iter().map(detection).collect::<Option<_>>().map(Detection::AnyOf),
        one => Some(Detection::Keywords(vec![value(one, false)?])),
    }
}

/// What a field must be.
pub(super) fn item(key: &str, node: &Node<'_>) -> Option<DetectionItem> {
    // Brackets are escaped in field names, and mean more in later versions.
    if key.contains(['[', ']', '\\']) {
        return None;
    }
    let field = parse_field_spec(key).ok()?;
    let raw = field.has_modifier(Modifier::Re);
    let values = match node {
        Node::List(items) => items.iter().map(|i| value(i, raw)).collect::<Option<_>>()?,
        one => vec![value(one, raw)?],
    };
    Some(DetectionItem { field, values })
}

/// What a field must be where it is nothing but texts without wildcards, compiled without rsigma's types in between.
pub(super) fn plain_item(key: &str, node: &Node<'_>) -> Option<Item> {
    if key.contains(['[', ']', '\\']) {
        return None;
    }
    let texts: Vec<&str> = match node {
        Node::List(items) => items.iter().map(Node::text).collect::<Option<_>>()?,
        one => vec![one.text()?],
    };
    if texts.iter().any(|text| text.contains(['*', '?', '\\', '$'])) {
        return None;
    }
    let field = parse_field_spec(key).ok()?;
    let matcher = Quick::of_texts(&field.modifiers, &texts)?;
    Some(Item { field: field.name, exists: None, matcher })
}

/// A text without wildcards and escapes is one part, which need not be looked for letter by letter.
fn string(text: &str) -> SigmaString {
    if text.is_empty() || text.contains(['*', '?', '\\']) {
        return SigmaString::new(text);
    }
    SigmaString { parts: vec![StringPart::Plain(text.to_owned())], original: text.to_owned() }
}

fn value(node: &Node<'_>, raw: bool) -> Option<SigmaValue> {
    Some(match node {
        Node::Null => SigmaValue::Null,
        Node::Bool(flag) => SigmaValue::Bool(*flag),
        Node::Whole(number) => SigmaValue::Integer(*number),
        Node::Text(text) if raw => SigmaValue::from_raw_string(text),
        Node::Text(text) => SigmaValue::String(string(text)),
        Node::List(_) | Node::Map(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{pack_files, plain, split};

    fn rule(text: &str) -> Option<SigmaRule> {
        super::rule(&plain::read(text)?)
    }

    fn correlation(text: &str) -> Option<CorrelationRule> {
        super::correlation(&plain::read(text)?)
    }

    /// Takes documents both ways; returns how many were taken the quick one.
    fn compare<'a>(documents: impl Iterator<Item = &'a str>) -> (usize, usize) {
        let (mut quickly, mut all) = (0, 0);
        for text in documents {
            all += 1;
            let complete = || {
                let complete = rsigma_parser::parse_sigma_yaml(text).unwrap();
                assert!(complete.errors.is_empty(), "{:?}: {text}", complete.errors);
                complete
            };
            if let Some(quick) = rule(text) {
                quickly += 1;
                assert_eq!(quick, complete().rules.remove(0), "{text}");
            } else if let Some(quick) = correlation(text) {
                quickly += 1;
                assert_eq!(quick, complete().correlations.remove(0), "{text}");
            }
        }
        (quickly, all)
    }

    #[test]
    fn our_rules_are_taken_quickly_and_the_same() {
        let documents = pack_files().iter().flat_map(|(_, text, _)| split::documents(text));
        let (quickly, all) = compare(documents.map(|(_, text)| text));
        assert!(quickly * 100 >= all * 95, "{quickly} of {all}");
    }

    #[test]
    fn shared_rules_are_taken_the_same() {
        let Some(data) = crate::differential::shared_data() else { return };
        let mut texts = Vec::new();
        let mut folders = vec![data.join("sigma")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "yml") {
                    texts.push(std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let (quickly, all) = compare(texts.iter().flat_map(|t| split::documents(t)).map(|(_, text)| text));
        println!("{quickly} of {all} documents");
        assert!(all >= 965 && quickly * 10 >= all * 8, "{quickly} of {all}");
    }

    #[test]
    fn what_deserves_a_remark_or_a_refusal_is_left_to_the_complete_parser() {
        let good = "title: T\nlogsource:\n  product: aws\ndetection:\n  s:\n    a: 1\n  condition: s\n";
        assert!(rule(good).is_some());
        for (from, to) in [
            ("title: T", "title: 5"),
            ("title: T", "level: terrible\ntitle: T"),
            ("title: T", "status: terrible\ntitle: T"),
            ("title: T", "sigma-version: 3\ntitle: T"),
            ("title: T", "related: none\ntitle: T"),
            ("title: T", "custom: {a: b}\ntitle: T"),
            ("title: T", "action: global\ntitle: T"),
            ("a: 1", "a|foo: 1"),
            ("a: 1", "a: {b: c}"),
            ("a: 1", "a[0]: b"),
            ("condition: s", "condition: s and ("),
            ("condition: s", "condition: 5"),
            ("  product: aws", "  product: 5"),
            ("detection:", "correlation:"),
        ] {
            assert!(rule(&good.replace(from, to)).is_none(), "{to}");
        }
    }

    #[test]
    fn unusual_correlations_are_left_to_the_complete_parser() {
        let good =
            "title: T\ncorrelation:\n  type: event_count\n  rules: a\n  timespan: 5m\n  condition:\n    gte: 3\n";
        assert_eq!(correlation(good).unwrap(), rsigma_parser::parse_sigma_yaml(good).unwrap().correlations.remove(0));
        for (from, to) in [
            ("title: T", "title: 5"),
            ("title: T", "title: T\nsigma-version: 3"),
            ("title: T", "title: T\nrsigma.window: session"),
            ("title: T", "title: T\ngenerate: perhaps"),
            ("title: T", "title: T\ndetection:\n  s:\n    a: b"),
            ("event_count", "counting"),
            ("timespan: 5m", "timespan: soon"),
            ("timespan: 5m", "timespan: 5m\n  window: tumbling"),
            ("gte: 3", "gte: many"),
            ("gte: 3", "field: a"),
            ("gte: 3", "gte: 3\n    percentile: 5"),
            ("condition:\n    gte: 3", "condition: a and ("),
            ("  condition:\n    gte: 3\n", ""),
        ] {
            assert!(correlation(&good.replace(from, to)).is_none(), "{to}");
        }
    }
}
