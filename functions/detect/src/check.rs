//! Rules looked at as content: checked, listed and tested, for authors and for `sentinel rules`.
//!
//! In: folders of rules, and the tests file beside each (`NAME.yml` beside `NAME.tests.json`). Out: reports
//! that serialise to what the command line prints. A tests file is
//! `{"hits": [{"name", "events"}], "misses": [...]}`; its rule must match every event of a hit and none of a
//! miss, and has at least one of each. The events of a correlation's case are one story (`stories.rs`).

use std::{collections::BTreeMap, fs, io::Read, path::Path, path::PathBuf};

use sentinel_json::Document;
use sentinel_model::{Attack, Level};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::rules::{LoadError, LoadOptions, LoadReport, Refused, RuleIndex, RuleSet, pack_files};
use crate::stories;

/// Largest tests file in bytes.
const MAX_TESTS_BYTES: u64 = 16 * 1024 * 1024;

/// What `sentinel rules check` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Rules loaded.
    pub rules: usize,
    /// Correlation rules read.
    pub correlations: usize,
    /// What was refused, sorted.
    pub refused: Vec<Refused>,
    /// What an author should know.
    pub warnings: Vec<String>,
}

impl From<LoadReport> for CheckReport {
    fn from(report: LoadReport) -> Self {
        Self {
            rules: report.rules,
            correlations: report.correlations,
            refused: report.refused,
            warnings: report.warnings,
        }
    }
}

/// Checks folders of rules, our own pack left out.
pub fn check(dirs: &[PathBuf]) -> Result<CheckReport, LoadError> {
    let (_, report) = RuleSet::load(&LoadOptions { dirs: dirs.to_vec(), ..LoadOptions::default() })?;
    Ok(report.into())
}

/// One line of `sentinel rules list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListRow {
    /// Id as alerts carry it.
    pub id: String,
    /// Title.
    pub title: String,
    /// Level; medium where the rule has none.
    pub level: Level,
    /// Status, where the rule has one.
    pub status: Option<String>,
    /// ATT&CK labels.
    pub attack: Attack,
    /// File it comes from; `default:NAME` for our pack.
    pub source: String,
    /// Log source as `product/service/category`.
    pub log_source: String,
    /// Whether it is evaluated: its log source is CloudTrail's.
    pub evaluated: bool,
}

/// The rules of a set, sorted by title and id.
pub fn list(set: &RuleSet) -> Vec<ListRow> {
    let mut rows: Vec<_> = set
        .iter()
        .map(|(_, meta)| meta)
        .chain(set.correlation_metas())
        .map(|meta| ListRow {
            id: meta.reference.id.clone(),
            title: meta.reference.title.clone(),
            level: meta.reference.level,
            status: meta.status.clone(),
            attack: meta.attack.clone(),
            source: meta.file.clone(),
            log_source: meta.log_source.clone(),
            evaluated: meta.evaluated,
        })
        .collect();
    rows.sort_by(|a, b| (&a.title, &a.id).cmp(&(&b.title, &b.id)));
    rows
}

/// What `sentinel rules test` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// Rules whose tests were run.
    pub rules: usize,
    /// Cases run.
    pub cases: usize,
    /// What did not hold.
    pub failures: Vec<TestFailure>,
}

/// A test that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestFailure {
    /// The rule's file.
    pub file: String,
    /// The case, where one failed.
    pub case: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// A tests file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    hits: Vec<Case>,
    misses: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    events: Vec<Box<RawValue>>,
}

/// Runs the tests beside all rules of a folder. Rules of other log sources have nothing to run; a refused rule
/// is a failure.
pub fn run_tests(dir: &Path) -> Result<TestReport, LoadError> {
    let (set, loaded) = RuleSet::load(&LoadOptions { dirs: vec![dir.to_owned()], ..LoadOptions::default() })?;
    let mut report = TestReport::default();
    for refused in loaded.refused {
        let reason = format!("refused at line {}: {}", refused.line, refused.reason);
        report.failures.push(TestFailure { file: refused.file, case: None, reason });
    }
    report.run(&set, |file| read_tests(&Path::new(file).with_extension("tests.json")));
    Ok(report)
}

/// Runs the tests of our own pack, which are part of the binary as well.
pub fn run_pack_tests() -> TestReport {
    let tests: BTreeMap<String, Option<&str>> =
        pack_files().iter().map(|(name, _, tests)| (format!("default:{name}"), *tests)).collect();
    let mut report = TestReport::default();
    let missing = || String::from("has no tests file beside it");
    report.run(&RuleSet::default_pack(), |file| {
        tests.get(file).copied().flatten().map(str::to_owned).ok_or_else(missing)
    });
    report
}

/// The events of our own pack's tests, as JSON texts: material for benchmarks and comparisons.
pub fn pack_events() -> Vec<String> {
    let parsed = pack_files().iter().filter_map(|(_, _, tests)| serde_json::from_str::<Tests>((*tests)?).ok());
    parsed
        .flat_map(|tests| tests.hits.into_iter().chain(tests.misses))
        .flat_map(|case| case.events)
        .flat_map(|entry| stories::expand(&entry).unwrap_or_default())
        .collect()
}

fn read_tests(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|e| format!("its tests file cannot be read: {e}"))?;
    file.take(MAX_TESTS_BYTES).read_to_string(&mut text).map_err(|e| format!("its tests file cannot be read: {e}"))?;
    Ok(text)
}

impl TestReport {
    /// Whether all tests held.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    fn run(&mut self, set: &RuleSet, tests_of: impl Fn(&str) -> Result<String, String>) {
        let mut files: BTreeMap<&str, Vec<RuleIndex>> = BTreeMap::new();
        for (index, meta) in set.iter().filter(|(_, meta)| meta.evaluated) {
            files.entry(&meta.file).or_default().push(index);
        }
        let mut correlations: BTreeMap<&str, usize> = BTreeMap::new();
        for meta in set.correlation_metas().filter(|meta| meta.evaluated) {
            files.entry(&meta.file).or_default();
            *correlations.entry(&meta.file).or_default() += 1;
        }
        for (file, rules) in files {
            let correlated = correlations.get(file).copied().unwrap_or_default();
            self.rules += rules.len() + correlated;
            let tests = tests_of(file)
                .and_then(|text| serde_json::from_str::<Tests>(&text).map_err(|e| format!("its tests file: {e}")));
            match tests {
                Ok(tests) if correlated > 0 => self.stories(set, file, &tests),
                Ok(tests) => self.file(set, file, &rules, &tests),
                Err(reason) => self.fail(file, None, reason),
            }
        }
    }

    fn file(&mut self, set: &RuleSet, file: &str, rules: &[RuleIndex], tests: &Tests) {
        for (cases, kind, wanted) in [(&tests.hits, "hit", true), (&tests.misses, "miss", false)] {
            if cases.is_empty() {
                self.fail(file, None, format!("has no {kind} among its tests"));
            }
            for case in cases {
                self.cases += 1;
                if case.events.is_empty() {
                    self.fail(file, Some(&case.name), String::from("has no events"));
                }
                for (position, event) in case.events.iter().enumerate() {
                    let wrong = match hits_any(set, rules, event.get()) {
                        Ok(hit) if hit == wanted => continue,
                        Ok(true) => String::from("is matched, and should not be"),
                        Ok(false) => String::from("is not matched, and should be"),
                        Err(error) => error,
                    };
                    self.fail(file, Some(&case.name), format!("event {position}: {wrong}"));
                }
            }
        }
    }

    /// The tests of a file with a correlation: each case is one story.
    fn stories(&mut self, set: &RuleSet, file: &str, tests: &Tests) {
        for (cases, kind, wanted) in [(&tests.hits, "hit", true), (&tests.misses, "miss", false)] {
            if cases.is_empty() {
                self.fail(file, None, format!("has no {kind} among its tests"));
            }
            for case in cases {
                self.cases += 1;
                let wrong = match stories::completes(set, file, &case.events) {
                    Ok(complete) if complete == wanted => continue,
                    Ok(true) => String::from("completes the correlation, and should not"),
                    Ok(false) => String::from("does not complete the correlation, and should"),
                    Err(error) => error,
                };
                self.fail(file, Some(&case.name), wrong);
            }
        }
    }

    fn fail(&mut self, file: &str, case: Option<&str>, reason: String) {
        self.failures.push(TestFailure { file: file.to_owned(), case: case.map(str::to_owned), reason });
    }
}

fn hits_any(set: &RuleSet, rules: &[RuleIndex], event: &str) -> Result<bool, String> {
    let record = Document::parse(event).map_err(|e| e.to_string())?;
    let mut hits = Vec::new();
    set.matches(record.root(), &mut hits);
    Ok(hits.iter().any(|hit| rules.contains(hit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "title: One\nid: r1\nstatus: test\nlevel: low\ntags: [attack.t1098]\nlogsource: {product: aws}\ndetection: {s: {eventName: X}, condition: s}\n";

    fn tested(tests: Option<&str>) -> TestReport {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one.yml"), RULE).unwrap();
        if let Some(tests) = tests {
            fs::write(dir.path().join("one.tests.json"), tests).unwrap();
        }
        run_tests(dir.path()).unwrap()
    }

    #[test]
    fn tests_hold_only_when_every_event_does_as_said() {
        let file = |hit: &str, miss: &str| {
            format!(r#"{{"hits":[{{"name":"h","events":[{hit}]}}],"misses":[{{"name":"m","events":[{miss}]}}]}}"#)
        };
        let (x, y) = (r#"{"eventName":"X"}"#, r#"{"eventName":"Y"}"#);
        let good = tested(Some(&file(x, y)));
        assert!(good.passed(), "{:?}", good.failures);
        assert_eq!((good.rules, good.cases), (1, 2));
        for bad in [
            file(y, y),
            file(x, x),
            file(&format!("{x},{y}"), y),
            file("", y),
            file("5,", y),
            String::from(r#"{"hits":[],"misses":[]}"#),
            String::from(r#"{"hits":[],"misses":[],"typo":[]}"#),
        ] {
            assert!(!tested(Some(&bad)).passed(), "{bad}");
        }
        assert!(!tested(None).passed());
    }

    #[test]
    fn a_refused_rule_fails_its_tests() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bad.yml"), RULE.replace("condition: s", "condition: t")).unwrap();
        assert_eq!(run_tests(dir.path()).unwrap().failures.len(), 1);
    }

    #[test]
    fn checks_and_lists_read_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one.yml"), format!("{RULE}---\n{}", RULE.replace("eventName", "eventName|foo")))
            .unwrap();
        let report = check(&[dir.path().to_owned()]).unwrap();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["rules"].as_u64(), json["correlations"].as_u64()), (Some(1), Some(0)));
        let refused = &json["refused"][0];
        assert!(refused["file"].as_str().unwrap().ends_with("one.yml"), "{refused}");
        assert_eq!((&refused["line"], &refused["field"]), (&15.into(), &"eventName|foo".into()), "{refused}");
        assert!(refused["reason"].as_str().unwrap().contains("foo"), "{refused}");
        let (set, _) =
            RuleSet::load(&LoadOptions { dirs: vec![dir.path().to_owned()], ..LoadOptions::default() }).unwrap();
        let rows = list(&set);
        assert_eq!((rows[0].id.as_str(), rows[0].level, rows[0].status.as_deref()), ("r1", Level::Low, Some("test")));
    }

    #[test]
    fn our_own_pack_loads_whole_and_passes_its_tests() {
        let (set, report) = RuleSet::load(&LoadOptions { default_rules: true, ..LoadOptions::default() }).unwrap();
        assert!(report.refused.is_empty(), "{:#?}", report.refused);
        assert!(report.warnings.is_empty(), "{:#?}", report.warnings);
        assert_eq!(report.rules, report.evaluated);
        assert!(set.len() >= 25, "{} rules", set.len());
        // What only serves a correlation is told by it.
        let alone = set.iter().filter(|(index, _)| set.alerts_alone(*index)).map(|(_, meta)| meta);
        for meta in alone.chain(set.correlation_metas()) {
            let name = &meta.file;
            assert!(!meta.attack.techniques.is_empty(), "{name} names no ATT&CK technique");
            assert!(!meta.attack.tactics.is_empty(), "{name} names no ATT&CK tactic");
            assert!(!meta.false_positives.is_empty(), "{name} has no notes on false positives");
            assert!(meta.description.as_deref().is_some_and(|d| !d.is_empty()), "{name} has no description");
        }
        let tests = run_pack_tests();
        assert!(tests.passed(), "{:#?}", tests.failures);
        assert_eq!(tests.rules, set.len() + set.correlation_metas().count());
    }
}
