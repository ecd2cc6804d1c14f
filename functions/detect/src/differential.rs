//! Our dispatch and event view held to rsigma's plain evaluation: no hit lost, none invented.
//!
//! In: records and rules. Out: a failed test for every verdict that differs from rsigma's over the whole
//! record without dispatch, but for the differences on purpose, which [`crate::program`] lists and tests and
//! which [`is_on_purpose`] knows by rule shape.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    check,
    rules::{LoadOptions, RuleIndex, RuleSet},
};

/// The folder of shared test data beside the repository, where there is one.
fn shared_data() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|p| p.join("Cargo.lock").is_file())?;
    let data = root.parent()?.join("shared/data");
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: no shared data beside the repository");
    None
}

/// Rules that see objects as text, which rsigma's plain view does not: our hits may be more there.
fn is_on_purpose(set: &RuleSet, index: RuleIndex) -> bool {
    const OBJECTS: [&str; 5] =
        ["requestParameters", "responseElements", "resources", "additionalEventData", "userIdentity"];
    set.fields(index).iter().any(|field| OBJECTS.contains(&field.as_str()))
}

fn compare(set: &RuleSet, records: &[String]) -> usize {
    let (mut ours, mut total) = (Vec::new(), 0);
    for text in records {
        let plain_record: Value = serde_json::from_str(text).unwrap();
        set.matches(&sonic_rs::from_str(text).unwrap(), &mut ours);
        let plain = set.plain_matches(&plain_record);
        total += ours.len();
        for index in ours.iter().filter(|i| !plain.contains(i)) {
            assert!(is_on_purpose(set, *index), "invented: {} on {text}", set.meta(*index).reference.title);
        }
        for index in plain.iter().filter(|i| !ours.contains(i)) {
            panic!("lost: {} on {text}", set.meta(*index).reference.title);
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
    let options = LoadOptions { default_rules: true, dirs: vec![data.join("sigma")] };
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
