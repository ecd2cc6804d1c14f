//! Our dispatch and event view held to rsigma's plain evaluation: no hit lost, none invented.
//!
//! In: records and rules. Out: a failed test for every verdict that differs from rsigma's, rule by rule over the
//! whole record. Where we differ on purpose ([`crate::program`] lists it and tests it) no rule compared here is
//! concerned, but for objects as text, see [`expected`].

use std::path::{Path, PathBuf};

use rsigma_eval::{CompiledDetection, CompiledRule, JsonEvent, evaluate_rule};
use sentinel_json::Document;
use serde_json::Value;

use crate::{
    Matcher, check,
    rules::{LoadOptions, RuleSet},
    view::{FieldPath, Found, Objects, RecordView},
};

/// The folder of shared test data beside the repository, where there is one.
pub(crate) fn shared_data() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|p| p.join("Cargo.lock").is_file())?;
    let data = root.parent()?.join("shared/data");
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: no shared data beside the repository");
    None
}

/// The fields that a rule looks at.
fn fields(rule: &CompiledRule) -> Vec<FieldPath> {
    fn walk(detection: &CompiledDetection, fields: &mut Vec<FieldPath>) {
        match detection {
            CompiledDetection::AllOf(items) => {
                fields.extend(items.iter().filter_map(|i| i.field.as_deref()).map(FieldPath::parse));
            }
            CompiledDetection::AnyOf(parts) | CompiledDetection::And(parts) => {
                for part in parts {
                    walk(part, fields);
                }
            }
            // Members of arrays are seen as they are by both.
            CompiledDetection::ArrayMatch { .. }
            | CompiledDetection::Keywords(_)
            | CompiledDetection::Conditional { .. } => {}
        }
    }
    let mut fields = Vec::new();
    rule.detections.values().for_each(|d| walk(d, &mut fields));
    fields
}

fn holds_object(value: sentinel_json::Value<'_>) -> bool {
    value.is_object() || value.items().any(holds_object)
}

/// What rsigma's evaluator says without our dispatch and program. It sees the record plainly, but where a
/// field of the rule holds an object: plain JSON matches no text there, ours on purpose matches its JSON
/// text, so there rsigma's evaluator runs over our view.
fn expected(rule: &CompiledRule, paths: &[FieldPath], plain: &Value, record: sentinel_json::Value<'_>) -> bool {
    let sees_object = paths.iter().any(|path| match path.find(record) {
        Found::Absent => false,
        Found::One(value) => holds_object(value),
        Found::Many(values) => values.into_iter().any(holds_object),
    });
    if sees_object {
        return evaluate_rule(rule, &RecordView::new(record, Objects::Text)).is_some();
    }
    evaluate_rule(rule, &JsonEvent::borrow(plain)).is_some()
}

/// A record of the same shape, call and service with other values.
fn altered(record: &Value, way: usize) -> String {
    fn alter(value: &mut Value, way: usize) {
        match value {
            Value::Object(members) => {
                let others = members.iter_mut().filter(|(key, _)| !matches!(key.as_str(), "eventName" | "eventSource"));
                others.for_each(|(_, value)| alter(value, way));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| alter(item, way)),
            Value::Null => *value = "x".into(),
            Value::String(text) if way == 0 => text.push('x'),
            Value::Bool(flag) => *flag = !*flag,
            _ if way == 1 => *value = Value::Null,
            _ => *value = "äx".into(),
        }
    }
    let mut record = record.clone();
    alter(&mut record, way);
    record.to_string()
}

fn compare(set: &RuleSet, records: &[String]) -> usize {
    let rules: Vec<_> = set.plain().map(|(index, rule)| (index, rule, fields(rule))).collect();
    let (mut ours, mut again, mut of_other, mut total) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut matcher = Matcher::new(set);
    for text in records {
        let plain: Value = serde_json::from_str(text).unwrap();
        let document = Document::parse(text).unwrap();
        let record = document.root();
        set.matches(record, &mut ours);
        for _ in 0..2 {
            // What was found out about a record of this shape with other values must not stay for this one.
            let other = altered(&plain, total % 3);
            let other = Document::parse(&other).unwrap();
            matcher.matches(other.root(), &mut again);
            set.matches(other.root(), &mut of_other);
            assert_eq!(again, of_other, "one that remembers shapes differs on {}", other.text());
            matcher.matches(record, &mut again);
            assert_eq!(again, ours, "one that remembers shapes differs on {text}");
        }
        total += ours.len();
        for (index, rule, paths) in &rules {
            let (mine, theirs) = (ours.contains(index), expected(rule, paths, &plain, record));
            assert_eq!(mine, theirs, "ours is left, rsigma's right: {} on {text}", set.meta(*index).reference.title);
        }
    }
    total
}

#[test]
fn our_pack_hits_what_rsigma_hits() {
    let records = check::pack_events();
    assert!(compare(&RuleSet::default_pack(), &records) > records.len() / 4, "hardly anything was hit");
}

#[test]
fn the_shared_rules_hit_what_rsigma_hits_on_the_shared_records() {
    let Some(data) = shared_data() else { return };
    let options = LoadOptions { default_rules: true, dirs: vec![data.join("sigma")], ..LoadOptions::default() };
    let (set, report) = RuleSet::load(&options).unwrap();
    let mut records = Vec::new();
    collect(&data.join("cloudtrail"), &mut records);
    collect(&data.join("labelled"), &mut records);
    let hits = compare(&set, &records);
    println!(
        "{} rules ({} evaluated, {:?}), {} records, {hits} hits",
        report.rules,
        report.evaluated,
        set.dispatch_stats(),
        records.len()
    );
    assert!(records.len() > 1000 && hits > 1000, "{} records, {hits} hits", records.len());
}

#[test]
fn every_shared_rule_loads() {
    let Some(data) = shared_data() else { return };
    let report = check::check(&[data.join("sigma")]).unwrap();
    assert_eq!((report.rules, report.correlations), (965, 5), "{:#?}", report.refused);
    assert!(report.refused.is_empty(), "{:#?}", report.refused);
}

/// Records of all plain JSON files below a folder: arrays, `Records`, one per line, or an `event` in a line.
fn collect(folder: &Path, records: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
        if path.is_dir() {
            collect(&path, records);
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        values.map_while(Result::ok).for_each(|value| flatten(value, records));
    }
}

fn flatten(value: Value, records: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.into_iter().for_each(|v| flatten(v, records)),
        Value::Object(mut map) => {
            if let Some(inner) = map.remove("Records").or_else(|| map.remove("event")) {
                flatten(inner, records);
            } else if map.contains_key("eventName") {
                records.push(Value::Object(map).to_string());
            }
        }
        _ => {}
    }
}
