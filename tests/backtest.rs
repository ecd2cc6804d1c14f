//! `sentinel backtest` as its users run it: logs and two rule sets in, what differs and the exit status out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeSet, io::Write as _, path::Path};

use common::{record, run, scan, write};
use serde_json::{Value, json};

/// A rule on one action.
fn rule(id: &str, title: &str, level: &str, action: &str, more: &str) -> String {
    format!(
        "title: {title}\nid: {id}\nlevel: {level}\nlogsource: {{product: aws, service: cloudtrail}}\ndetection:\n    s:\n        eventName: {action}\n{more}    condition: s\n"
    )
}

const BURST: &str = "title: Many users made\nid: burst\nlevel: high\ncorrelation:\n    type: event_count\n    rules: [user-made]\n    group-by: [sourceIPAddress]\n    timespan: 10m\n    condition: {gte: 3}\n";

fn user_made(n: u32, minute: u32, address: &str) -> Value {
    let time = format!("2026-03-02T10:{minute:02}:00Z");
    let mut made = record(&format!("e{n}"), &time, "iam.amazonaws.com", "CreateUser", &json!({"userName": "x"}));
    made["sourceIPAddress"] = address.into();
    made
}

fn by(mut record: Value, name: &str) -> Value {
    record["userIdentity"]["arn"] = format!("arn:aws:iam::111122223333:user/{name}").into();
    record["userIdentity"]["userName"] = name.into();
    record
}

/// Logs and two rule sets: of the rules one stays, one is narrowed, one goes, one comes, and a correlation comes.
fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["logs", "old", "new"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let logs = folder.path().join("logs");
    let delete = |id, time| record(id, time, "iam.amazonaws.com", "DeleteUser", &json!({"userName": "x"}));
    let list = record("e8", "2026-03-03T09:00:00Z", "iam.amazonaws.com", "ListUsers", &json!(null));
    let first = [user_made(1, 0, "203.0.113.7"), user_made(2, 1, "203.0.113.7"), user_made(3, 2, "203.0.113.7")];
    // A copy of one, and the second principal: from an address that the narrowed rule leaves out.
    let second = [first[0].clone(), by(user_made(4, 5, "198.51.100.9"), "dana"), list];
    let third = [delete("e6", "2026-03-02T11:00:00Z"), by(delete("e7", "2026-03-03T11:30:00Z"), "dana")];
    write(&logs, "a.json", json!({"Records": first}).to_string());
    write(&logs, "c.json", json!({"Records": third}).to_string());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(json!({"Records": second}).to_string().as_bytes()).unwrap();
    write(&logs, "b.json.gz", gzip.finish().unwrap());

    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    write(&old, "made.yml", rule("user-made", "User made", "medium", "CreateUser", ""));
    let narrowed = rule("user-made", "User made", "low", "CreateUser", "        sourceIPAddress: 203.0.113.*\n");
    write(&new, "made.yml", format!("{narrowed}---\n{BURST}    generate: true\n"));
    write(&old, "gone.yml", rule("gone", "User deleted", "medium", "DeleteUser", ""));
    write(&new, "listed.yml", rule("listed", "Users listed", "low", "ListUsers", ""));
    for folder in [&old, &new] {
        write(folder, "same.yml", rule("same", "Nothing of it", "low", "DeleteRole", ""));
    }
    folder
}

fn backtest(folder: &Path, more: &[&str]) -> (String, String, i32) {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (new, logs) = (at("new"), at("logs"));
    let mut args = vec!["backtest", "--rules", &new, &logs];
    args.extend(more);
    let output = run(&args, b"");
    let folder = folder.to_str().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder, "FOLDER");
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn people_see_rule_by_rule_what_is_gained_and_lost() {
    let world = world();
    let old = world.path().join("old");
    let (text, stderr, status) = backtest(world.path(), &["--baseline", old.to_str().unwrap()]);
    assert_eq!(status, 0, "{stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|l| !l.starts_with("records")).collect();
    insta::assert_snapshot!(text, @r"
    8 events on 2 days, 2026-03-02T10:00:00Z to 2026-03-03T11:30:00Z
    baseline     3 rules, 0 correlations; 4 alerts, 2 a day: 0 critical, 0 high, 4 medium, 0 low, 0 informational
    candidate    3 rules, 1 correlation; 3 alerts, 1.5 a day: 0 critical, 1 high, 0 medium, 2 low, 0 informational
    gained       2: 0 critical, 1 high, 0 medium, 1 low, 0 informational
    lost         3: 0 critical, 0 high, 3 medium, 0 low, 0 informational
    level        1 alert at another level

    ─────────────────────────────────────────────────────────────────────────
     Rule              Change    Level          Gained   Lost   Alerts a day 
    ═════════════════════════════════════════════════════════════════════════
     User deleted      gone      medium         0        2      1 > 0        
    ─────────────────────────────────────────────────────────────────────────
     User made         changed   medium > low   0        1      1 > 0.5      
    ─────────────────────────────────────────────────────────────────────────
     Many users made   new       high           1        0      0 > 0.5      
    ─────────────────────────────────────────────────────────────────────────
     Users listed      new       low            1        0      0 > 0.5      
    ─────────────────────────────────────────────────────────────────────────

    User deleted (gone, FOLDER/old/gone.yml)
        lost    2026-03-02T11:00:00Z medium arn:aws:iam::111122223333:user/mallory in 111122223333 from 203.0.113.7: 1 event, e6
        lost    2026-03-03T11:30:00Z medium arn:aws:iam::111122223333:user/dana in 111122223333 from 203.0.113.7: 1 event, e7
        most affected: arn:aws:iam::111122223333:user/dana in 111122223333 (+0 -1); arn:aws:iam::111122223333:user/mallory in 111122223333 (+0 -1)

    User made (user-made, FOLDER/new/made.yml)
        lost    2026-03-02T10:05:00Z medium arn:aws:iam::111122223333:user/dana in 111122223333 from 198.51.100.9: 1 event, e4
        level   1 alert at another level
        most affected: arn:aws:iam::111122223333:user/dana in 111122223333 (+0 -1)

    Many users made (burst, FOLDER/new/made.yml)
        gained  2026-03-02T10:00:00Z high arn:aws:iam::111122223333:user/mallory in 111122223333 from 203.0.113.7: 3 events, e1, e2, e3
        most affected: arn:aws:iam::111122223333:user/mallory in 111122223333 (+1 -0)

    Users listed (listed, FOLDER/new/listed.yml)
        gained  2026-03-03T09:00:00Z low arn:aws:iam::111122223333:user/mallory in 111122223333 from 203.0.113.7: 1 event, e8
        most affected: arn:aws:iam::111122223333:user/mallory in 111122223333 (+1 -0)

    Most affected over all rules
        arn:aws:iam::111122223333:user/mallory in 111122223333 (+2 -1)
        arn:aws:iam::111122223333:user/dana in 111122223333 (+0 -2)
    ");
    insta::assert_snapshot!(lines.join("\n"), @r"
    files        3
    duplicates   1
    conflicting  0
    malformed    0
    other kinds  0
    rules        3 (0 refused)
    alerts       0 critical, 1 high, 0 medium, 2 low, 0 informational
    ");
}

#[test]
fn programs_get_one_object_whatever_the_threads() {
    let world = world();
    let old = world.path().join("old");
    let args = ["--baseline", old.to_str().unwrap(), "--format", "json"];
    let (one, stderr, status) = backtest(world.path(), &[&args[..], &["--threads", "1"]].concat());
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(one.lines().count(), 1);
    let (three, ..) = backtest(world.path(), &[&args[..], &["--threads", "3"]].concat());
    assert_eq!(one, three);
    let mut report: Value = serde_json::from_str(&one).unwrap();
    // Objects keep their order or not, by what else is built.
    report.sort_all_objects();
    let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "baseline candidate days events first_event gained gained_by_level last_event level_changed lost lost_by_level principals rules rules_omitted rules_unchanged unreadable"
    );
    assert_eq!(
        (&report["events"], &report["days"], &report["gained"], &report["lost"]),
        (&json!(8), &json!(2), &json!(2), &json!(3))
    );
    let ids: Vec<&str> = report["rules"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["gone", "user-made", "burst", "listed"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&report["rules"][2]).unwrap(), @r#"
    {
      "alerts": 1,
      "alerts_per_day": 0.5,
      "baseline_alerts": 0,
      "baseline_alerts_per_day": 0.0,
      "baseline_level": null,
      "change": "new",
      "file": "FOLDER/new/made.yml",
      "gained": 1,
      "gained_samples": [
        {
          "account": "111122223333",
          "alert_id": "al-30d13c088c7f90c5bc973e5c400655b9",
          "event_count": 3,
          "event_ids": [
            "e1",
            "e2",
            "e3"
          ],
          "level": "high",
          "principal": "arn:aws:iam::111122223333:user/mallory",
          "source_ip": "203.0.113.7",
          "time": "2026-03-02T10:00:00Z"
        }
      ],
      "id": "burst",
      "kind": "correlation",
      "level": "high",
      "level_changed": 0,
      "lost": 0,
      "lost_samples": [],
      "principals": [
        {
          "account": "111122223333",
          "gained": 1,
          "lost": 0,
          "principal": "arn:aws:iam::111122223333:user/mallory"
        }
      ],
      "title": "Many users made"
    }
    "#);
}

fn ids(alerts: &[Value]) -> BTreeSet<String> {
    alerts.iter().map(|a| a["alert_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_sides_are_what_a_scan_gives() {
    let world = world();
    let (new, logs) = (world.path().join("new"), world.path().join("logs"));
    let (new, logs) = (new.to_str().unwrap(), logs.to_str().unwrap());
    let month = run(&["simulate", "--people", "5", "--days", "2", "--attack"], b"").stdout;
    write(world.path(), "logs/simulated.json", month);
    let (before, _) = scan(&[logs]);
    let (after, summary) = scan(&["--rules", new, logs]);
    assert!(before.len() > 5, "{}", before.len());
    let file = world.path().join("summary.json");
    let more = ["--on-top", "--format", "json", "--summary", file.to_str().unwrap()];
    let (text, stderr, status) = backtest(world.path(), &more);
    assert_eq!(status, 0, "{stderr}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["baseline"]["alerts"], before.len());
    assert_eq!(report["candidate"]["alerts"], after.len());
    assert_eq!(report["candidate"]["by_level"], summary["alerts"]);
    assert_eq!(report["gained"], ids(&after).difference(&ids(&before)).count());
    assert_eq!(report["lost"], 0);
    assert!(report["gained"].as_u64().unwrap() >= 4, "{report}");
    let told: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for key in ["files", "records", "duplicates", "conflicting", "alerts", "rules", "rules_refused"] {
        assert_eq!(told[key], summary[key], "{key}");
    }
}

#[test]
fn exceptions_and_placeholders_count_on_both_sides_and_those_of_a_folder_on_its_own() {
    let world = world();
    let old = world.path().join("old");
    let exception = "- rule: user-made\n  principal: arn:aws:iam::111122223333:user/*\n  reason: Known.\n";
    write(world.path(), "exceptions.yml", exception);
    let file = world.path().join("exceptions.yml");
    let args = ["--baseline", old.to_str().unwrap(), "--format", "json"];
    let with = ["--exceptions", file.to_str().unwrap()];
    let (text, stderr, _) = backtest(world.path(), &[&args[..], &with].concat());
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["baseline"]["alerts"], &report["candidate"]["alerts"]), (&json!(2), &json!(1)), "{report}");
    assert!(stderr.contains("suppressed"), "{stderr}");

    write(world.path(), "new/exceptions.yml", exception);
    let (text, ..) = backtest(world.path(), &args);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["baseline"]["alerts"], &report["candidate"]["alerts"]), (&json!(4), &json!(1)), "{report}");
}

#[test]
fn what_cannot_be_read_is_told_and_the_status_is_that_of_a_scan() {
    let world = world();
    let missing = world.path().join("missing.json");
    let (text, stderr, status) = backtest(world.path(), &["--format", "json", missing.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(stderr.contains("NOT READ     FOLDER/missing.json"), "{stderr}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["unreadable"][0].as_str().unwrap().starts_with("FOLDER/missing.json: "), "{report}");
    assert!(report["events"].as_u64().unwrap() > 0, "the rest is replayed");

    write(world.path(), "new/bad.yml", "title: Bad\nlogsource: {product: aws}\ndetection: {s: {a: 1}, condition: t}\n");
    let (text, stderr, status) = backtest(world.path(), &["--format", "json"]);
    assert_eq!(status, 0);
    assert!(stderr.contains("candidate: rule refused: FOLDER/new/bad.yml: line 1, field condition"), "{stderr}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["candidate"]["refused_count"], &report["baseline"]["refused_count"]), (&json!(1), &json!(0)));

    let nowhere = run(&["backtest", "--rules", missing.to_str().unwrap(), "-"], b"");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("cannot be read"));
    assert_eq!(run(&["backtest", "-"], b"").status.code(), Some(2), "--rules is required");
}

#[test]
fn standard_input_is_replayed_and_a_set_against_itself_differs_in_nothing() {
    let world = world();
    let new = world.path().join("new");
    let new = new.to_str().unwrap();
    let logs = std::fs::read(world.path().join("logs/a.json")).unwrap();
    let output = run(&["backtest", "--rules", new, "--baseline", new, "-"], &logs);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("3 events on 1 day, 2026-03-02T10:00:00Z to 2026-03-02T10:02:00Z\n"), "{text}");
    assert!(text.ends_with("\nNo alert is gained or lost.\n"), "{text}");
}
