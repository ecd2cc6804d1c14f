//! `sentinel rules`, and what operators put beside rules, as they use it: files in, reports, alerts and exit status out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{run, scan, stop_logging, write};
use serde_json::{Value, json};

/// Any call that stops a trail.
const RULE: &str = "title: Logging stopped
id: stopped
level: high
tags: [attack.t1562.008]
logsource: {product: aws, service: cloudtrail}
detection:
  selection: {eventName: StopLogging}
  condition: selection
";

struct Folders {
    rules: tempfile::TempDir,
    logs: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let (rules, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(rules.path(), "stopped.yml", RULE);
        let event = stop_logging("a0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
        write(logs.path(), "log.json", json!({"Records": [event]}).to_string());
        Self { rules, logs }
    }

    /// Alerts of our rule, and the summary.
    fn scan(&self, more: &[&str]) -> (usize, Value) {
        let (rules, logs) = (self.rules.path().to_str().unwrap(), self.logs.path().to_str().unwrap());
        let (alerts, summary) = scan(&[&["--no-default-rules", "--rules", rules, logs], more].concat());
        (alerts.iter().filter(|a| a["rule"]["id"] == "stopped").count(), summary)
    }
}

fn rules(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["rules"], arguments].concat(), b"");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_refused_rule_is_told_with_its_place_and_by_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    write(folder.path(), "good.yml", RULE);
    assert_eq!(rules(&["check", dir]).0, Some(0));
    write(folder.path(), "bad.yml", RULE.replace("eventName", "eventName|nonsense"));
    let (status, text) = rules(&["check", dir]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("line 7, field eventName|nonsense"), "{text}");
    let (status, text) = rules(&["check", "--format", "json", dir]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &report["rules"], &report["correlations"]), (Some(1), &json!(1), &json!(0)));
    assert_eq!(
        (&report["refused"][0]["line"], &report["refused"][0]["field"]),
        (&json!(7), &json!("eventName|nonsense"))
    );
    assert_eq!(rules(&["check"]).0, Some(0), "our own pack");
}

#[test]
fn a_list_tells_what_rules_there_are() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "good.yml", RULE);
    let dir = folder.path().to_str().unwrap();
    let (_, table) = rules(&["list", dir]);
    for part in ["stopped", "high", "T1562.008", "Logging stopped", "good.yml"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let rows: Value = serde_json::from_str(&rules(&["list", "--format", "json", dir]).1).unwrap();
    assert_eq!((&rows[0]["id"], &rows[0]["attack"]["techniques"]), (&json!("stopped"), &json!(["T1562.008"])));
}

#[test]
fn a_filter_takes_matches_from_a_rule_it_names() {
    let folders = Folders::new();
    assert_eq!(folders.scan(&[]).0, 1);
    let filter = "title: Mallory may\nlogsource: {product: aws}\nfilter:\n  rules: [stopped]\n  who:\n    userIdentity.userName: mallory\n  condition: not who\n";
    write(folders.rules.path(), "filter.yml", filter);
    assert_eq!(folders.scan(&[]).0, 0);
    write(folders.rules.path(), "filter.yml", filter.replace("mallory", "trent"));
    assert_eq!(folders.scan(&[]).0, 1);
}

#[test]
fn placeholders_are_filled_from_a_file_and_without_it_nothing_is_filtered() {
    let folders = Folders::new();
    let rule = RULE.replace(
        "  condition: selection",
        "  trusted:\n    sourceIPAddress|cidr|expand: '%trusted_networks%'\n  condition: selection and not trusted",
    );
    write(folders.rules.path(), "stopped.yml", rule);
    assert_eq!(folders.scan(&[]).0, 1);
    let dir = folders.rules.path().to_str().unwrap().to_owned();
    let (status, text) = rules(&["check", &dir]);
    assert!(status == Some(0) && text.contains("%trusted_networks% has no values"), "{text}");
    let values = folders.logs.path().join("values.toml");
    std::fs::write(&values, "trusted_networks = [\"203.0.113.0/24\"]\n").unwrap();
    let values = values.to_str().unwrap().to_owned();
    assert_eq!(folders.scan(&["--placeholders", &values]).0, 0);
    assert!(!rules(&["check", "--placeholders", &values, &dir]).1.contains("has no values"));
    // The same beside the rules, as in a bucket.
    write(folders.rules.path(), "placeholders.yml", "trusted_networks: 203.0.113.7\n");
    assert_eq!(folders.scan(&[]).0, 1, "an address without a length is no network");
    write(folders.rules.path(), "placeholders.yml", "trusted_networks: 203.0.113.7/32\n");
    assert_eq!(folders.scan(&[]).0, 0);
}

#[test]
fn exceptions_take_alerts_and_are_counted() {
    let folders = Folders::new();
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        folders.scan(&["--exceptions", &path])
    };
    let (alerts, summary) = with(
        "- rule: stopped\n  principal: arn:aws:iam::111122223333:user/mallory\n  name: maintenance\n  reason: Ticket 4711\n",
    );
    assert_eq!(alerts, 0);
    assert_eq!(
        summary["suppressed"],
        json!([{"exception": "maintenance", "rule": "stopped", "reason": "Ticket 4711", "count": 1}])
    );
    let (alerts, summary) = with("- {rule: stopped, network: 198.51.100.0/24, reason: elsewhere}\n");
    assert_eq!((alerts, &summary["suppressed"][0]["count"]), (1, &json!(0)));
    // What has ended or is wrong is told and takes nothing; the next one does.
    let (alerts, _) = with("- {rule: stopped, expires: 2020-01-01, reason: long ago}\n- {rule: stopped}\n");
    assert_eq!(alerts, 1);
    let (alerts, summary) =
        with("- {rule: stopped}\n- {rule: Logging stopped, account: '111122223333', reason: fine}\n");
    assert_eq!((alerts, &summary["suppressed"][0]["count"]), (0, &json!(1)));
}

#[test]
fn coverage_goes_as_far_as_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "stopped.yml", RULE.replace("level: high", "level: high\ncloudsentinel.logs: management"));
    let layer = folder.path().join("layer.json");
    let (dir, layer) = (folder.path().to_str().unwrap(), layer.to_str().unwrap());
    let only = ["coverage", "--no-default-rules", "--rules", dir];
    let (status, table) = rules(&[&only[..], &["--navigator", layer]].concat());
    assert!(status == Some(0) && table.contains("T1562.008") && table.contains("Logging stopped (high)"), "{table}");
    let layer: Value = serde_json::from_slice(&std::fs::read(layer).unwrap()).unwrap();
    assert_eq!((&layer["versions"]["layer"], &layer["techniques"][0]["score"]), (&json!("4.5"), &json!(1)));
    let (_, json) = rules(&[&only[..], &["--format", "json", "--sources", "data:s3,insights"]].concat());
    let coverage: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&coverage["techniques"][0]["seen"], &coverage["missing_logs"]), (&json!("no"), &json!(["management"])));
    assert_eq!(rules(&["coverage", "--sources", "everything"]).0, Some(2));
}
