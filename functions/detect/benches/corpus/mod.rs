//! The events and rule sets that benchmarks measure on.
//!
//! With shared test data beside the repository: its real events over and over, each round with its own ids, accounts
//! (so principals) and times, and the public rule sets. Without it: a simulated company's events and our own pack.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use sentinel_detect::{LoadOptions, RuleSet};
use sentinel_simulator::company::{Company, CompanyOptions};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

/// The folder of shared test data beside the repository, where there is one.
pub(crate) fn shared_data() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|p| p.join("Cargo.lock").is_file())?;
    Some(root.parent()?.join("shared/data")).filter(|data| data.is_dir())
}

/// So many events as JSON texts.
pub(crate) fn events(count: usize) -> Vec<String> {
    match shared_data() {
        Some(data) => rounds(&distinct(&data), count),
        None => simulated(count),
    }
}

/// A rule set and its name.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) rules: RuleSet,
}

/// Names of the sets that figures are wanted for, and what is in them.
pub(crate) fn options() -> Vec<(&'static str, LoadOptions)> {
    #[allow(clippy::needless_update)] // Whatever else can be loaded is left out.
    let options = |default_rules, dirs: Vec<PathBuf>| LoadOptions { default_rules, dirs, ..LoadOptions::default() };
    let mut sets = vec![("ours", options(true, Vec::new()))];
    if let Some(data) = shared_data() {
        let (sigmahq, suzaku) = (data.join("sigma/sigmahq/aws"), data.join("sigma/suzaku-aws"));
        sets.push(("sigmahq", options(false, vec![sigmahq.clone()])));
        sets.push(("suzaku", options(false, vec![suzaku.clone()])));
        sets.push(("ours+suzaku", options(true, vec![suzaku.clone()])));
        sets.push(("all", options(true, vec![sigmahq, suzaku])));
    }
    sets
}

/// Loads a set.
pub(crate) fn load(options: &LoadOptions) -> RuleSet {
    let (rules, report) = RuleSet::load(options).expect("rules");
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    rules
}

/// The sets that figures are wanted for.
pub(crate) fn rule_sets() -> Vec<Named> {
    options().into_iter().map(|(name, options)| Named { name, rules: load(&options) }).collect()
}

/// The real events' texts without id and time.
fn distinct(data: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for folder in ["cloudtrail/stratus", "cloudtrail/traildiscover"] {
        let mut files: Vec<_> =
            std::fs::read_dir(data.join(folder)).expect("folder").map(|e| e.expect("entry").path()).collect();
        files.sort();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "json")) {
            let all: Value = sonic_rs::from_str(&std::fs::read_to_string(file).expect("file")).expect("JSON");
            let items = all.as_array().expect("array").iter();
            texts.extend(items.filter(|e| e.get("eventID").is_some()).map(rest));
        }
    }
    texts
}

fn rest(event: &Value) -> String {
    let mut text = String::new();
    for (key, value) in event.as_object().expect("object") {
        if key != "eventID" && key != "eventTime" {
            let value = sonic_rs::to_string(value).expect("text");
            write!(text, ",\"{key}\":{value}").expect("memory");
        }
    }
    text.push('}');
    text
}

fn rounds(texts: &[String], count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            let (round, at) = (n / texts.len(), n % texts.len());
            let (day, hour) = (round / 24 % 28 + 1, round % 24);
            let time = format!("2026-01-{day:02}T{hour:02}:{:02}:{:02}Z", at / 60 % 60, at % 60);
            let id = format!("00000000-0000-0000-0000-{n:012x}");
            format!(r#"{{"eventID":"{id}","eventTime":"{time}"{}"#, accounts(&texts[at], round))
        })
        .collect()
}

/// Shifts every number of 12 digits.
fn accounts(text: &str, round: usize) -> String {
    let bytes = text.as_bytes();
    let word = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let mut out = String::with_capacity(text.len() + 64);
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 12 && (at == 0 || !word(at - 1)) && !word(at + 12) {
            out.push_str(&text[from..at]);
            let account: u64 = text[at..at + 12].parse().expect("digits");
            write!(out, "{:012}", (account + round as u64 * 1_000_003) % 1_000_000_000_000).expect("memory");
            from = at + 12;
        }
        at += digits.max(1);
    }
    out.push_str(&text[from..]);
    out
}

fn simulated(count: usize) -> Vec<String> {
    let options = CompanyOptions { people: 200, days: 30, ..CompanyOptions::default() };
    Company::new(options).events().take(count).map(|e| e.to_string()).collect()
}
