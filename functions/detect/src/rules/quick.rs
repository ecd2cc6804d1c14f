//! Rules taken from plain YAML without the complete parser.
//!
//! In: the text of one document. Out: the rule that rsigma's parser would make of it, or nothing where anything is
//! unusual: correlations, filters, versions, wrong values, whatever deserves a remark. Those go to rsigma's parser,
//! whose word counts; tests hold both to each other over every rule there is.

use std::collections::HashMap;

use rsigma_parser::{
    Detection, DetectionItem, Detections, LogSource, Modifier, Related, SigmaRule, SigmaString, SigmaValue,
    parse_condition, parse_field_spec,
};

use super::plain::{self, Node};

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
/// What needs the complete parser.
const UNUSUAL: [&str; 5] = ["action", "correlation", "filter", "sigma-version", "custom_attributes"];

/// The rule in a document.
pub(super) fn rule(text: &str) -> Option<SigmaRule> {
    let document = plain::read(text)?;
    let Node::Map(entries) = &document else { return None };
    let mut custom_attributes = HashMap::new();
    for (key, value) in entries {
        let key = key.as_ref();
        if UNUSUAL.contains(&key) {
            return None;
        }
        if STANDARD.contains(&key) || key == "related" {
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
    let text = |key: &str| document.get(key).and_then(Node::text).map(str::to_owned);
    Some(SigmaRule {
        title: text("title")?,
        logsource: document.get("logsource").map_or_else(|| Some(LogSource::default()), log_source)?,
        detection: detections(document.get("detection")?)?,
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

fn detections(node: &Node<'_>) -> Option<Detections> {
    let Node::Map(entries) = node else { return None };
    let condition_strings = match node.get("condition")? {
        Node::Text(text) => vec![text.to_string()],
        Node::List(items) => items.iter().map(|i| i.text().map(str::to_owned)).collect::<Option<_>>()?,
        _ => return None,
    };
    let conditions = condition_strings.iter().map(|text| parse_condition(text).ok()).collect::<Option<_>>()?;
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

fn item(key: &str, node: &Node<'_>) -> Option<DetectionItem> {
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

fn value(node: &Node<'_>, raw: bool) -> Option<SigmaValue> {
    Some(match node {
        Node::Null => SigmaValue::Null,
        Node::Bool(flag) => SigmaValue::Bool(*flag),
        Node::Whole(number) => SigmaValue::Integer(*number),
        Node::Text(text) if raw => SigmaValue::from_raw_string(text),
        Node::Text(text) => SigmaValue::String(SigmaString::new(text)),
        Node::List(_) | Node::Map(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pack_files;

    /// Takes documents both ways; returns how many were taken the quick one.
    fn compare<'a>(documents: impl Iterator<Item = &'a str>) -> (usize, usize) {
        let (mut quickly, mut all) = (0, 0);
        for text in documents {
            all += 1;
            let Some(quick) = rule(text) else { continue };
            quickly += 1;
            let mut complete = rsigma_parser::parse_sigma_yaml(text).unwrap();
            assert!(complete.errors.is_empty(), "{:?}: {text}", complete.errors);
            assert_eq!(quick, complete.rules.remove(0), "{text}");
        }
        (quickly, all)
    }

    #[test]
    fn our_rules_are_taken_quickly_and_the_same() {
        let documents = pack_files().iter().flat_map(|(_, text, _)| super::super::document::split(text));
        let (quickly, all) = compare(documents.map(|(_, text)| text).filter(|text| !text.contains("correlation:")));
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
        let (quickly, all) = compare(texts.iter().flat_map(|t| super::super::document::split(t)).map(|(_, text)| text));
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
}
