//! `sentinel scan` as its users run it: real files in, alerts, summary and exit status out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::{io::Write as _, path::PathBuf};

use common::{record, run, scan, stop_logging, write};
use serde_json::{Value, json};

const FIELDS: [&str; 16] = [
    "alert_id",
    "time",
    "rule",
    "title",
    "category",
    "level",
    "score",
    "principal",
    "account",
    "region",
    "source_ip",
    "event_count",
    "event_ids",
    "indicators",
    "attack",
    "reasons",
];

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn ids_and_counts(alerts: &[Value]) -> Vec<String> {
    let mut keys: Vec<_> =
        alerts.iter().map(|a| format!("{} {} {}", a["alert_id"], a["level"], a["event_count"])).collect();
    keys.sort();
    keys
}

#[test]
fn a_stopped_trail_raises_an_alert_with_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let event = stop_logging("a0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(folder.path(), "log.json", json!({"Records": [event]}).to_string());
    let (alerts, summary) = scan(&[folder.path().to_str().unwrap()]);
    let alert = alerts.iter().find(|a| a["level"] == "high" || a["level"] == "critical").expect("an alert");
    for field in FIELDS {
        assert!(alert.get(field).is_some(), "{field} is missing");
    }
    assert_eq!(alert["principal"], "arn:aws:iam::111122223333:user/mallory");
    assert_eq!(alert["account"], "111122223333");
    assert_eq!(alert["source_ip"], "203.0.113.7");
    assert_eq!(alert["event_ids"], json!(["a0000000-0000-4000-8000-000000000001"]));
    assert!(alert["attack"]["techniques"][0].as_str().unwrap().starts_with('T'));
    assert_eq!(summary["records"], 1);
}

#[test]
fn order_wrapping_and_repetition_do_not_change_the_alerts() {
    let events: Vec<Value> = (0..20)
        .map(|n| stop_logging(&format!("b0000000-0000-4000-8000-{n:012}"), &format!("2026-03-02T{:02}:30:00Z", n % 12)))
        .collect();
    let plain = tempfile::tempdir().unwrap();
    write(plain.path(), "a.json", json!({"Records": events}).to_string());
    let (expected, summary) = scan(&[plain.path().to_str().unwrap()]);
    assert_eq!(summary["records"], 20);

    let other = tempfile::tempdir().unwrap();
    let lines: Vec<String> = events.iter().rev().map(Value::to_string).collect();
    write(other.path(), "x.dat", gzip(lines.join("\n").as_bytes()));
    let bus: Vec<String> = events
        .iter()
        .map(|e| {
            json!({"version": "0", "detail-type": "AWS API Call via CloudTrail", "source": "aws.cloudtrail",
                   "account": "111122223333", "region": "us-east-1", "time": e["eventTime"], "detail": e})
            .to_string()
        })
        .collect();
    write(other.path(), "y.log", bus.join("\n"));
    let (found, summary) = scan(&[other.path().to_str().unwrap()]);
    assert_eq!(summary["records"], 40);
    assert_eq!(summary["duplicates"], 20);
    assert_eq!(ids_and_counts(&found), ids_and_counts(&expected));
}

#[test]
fn one_id_with_two_contents_is_kept_twice_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let first = stop_logging("c0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    let mut second = first.clone();
    second["sourceIPAddress"] = json!("198.51.100.9");
    write(folder.path(), "log.json", json!([first, second, first]).to_string());
    let (alerts, summary) = scan(&[folder.path().to_str().unwrap()]);
    assert_eq!((&summary["conflicting"], &summary["duplicates"]), (&json!(1), &json!(1)));
    assert_eq!(alerts[0]["event_count"], 2);
}

#[test]
fn broken_lines_cost_only_themselves_and_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let good = stop_logging("d0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(folder.path(), "mixed.log", format!("{good}\n{{broken\n[1, 2]\n{good}\n"));
    write(folder.path(), "note.txt", "this is no log at all\nand neither is this\n");
    let (_, summary) = scan(&[folder.path().to_str().unwrap()]);
    assert_eq!(summary["records"], 2);
    let malformed = summary["malformed"].as_array().unwrap();
    assert_eq!(malformed.len(), 3, "{malformed:?}");
    for entry in malformed {
        for key in ["file", "position", "reason"] {
            assert!(!entry[key].as_str().unwrap().is_empty());
        }
    }
}

#[test]
fn standard_input_is_read_for_a_dash() {
    let event = stop_logging("e0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    let output = run(&["scan", "--format", "ndjson", "-"], &gzip(event.to_string().as_bytes()));
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("records      1"));
}

#[test]
fn what_cannot_be_read_is_told_by_exit_status_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let event = stop_logging("f0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(folder.path(), "good.json", event.to_string());
    let mut cut = gzip(format!("{event}\n").repeat(200).as_bytes());
    cut.truncate(cut.len() / 2);
    write(folder.path(), "cut.json.gz", cut);
    let output = run(&["scan", "--format", "ndjson", folder.path().to_str().unwrap(), "/does/not/exist"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("/does/not/exist") && told.contains("cut.json.gz"), "{told}");
}

#[test]
fn min_level_holds_alerts_back_but_the_summary_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let event = stop_logging("a1000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(folder.path(), "log.json", event.to_string());
    let logs = folder.path().to_str().unwrap();
    assert!(!scan(&[logs]).0.is_empty());
    let counts = folder.path().join("summary.json");
    let output = run(
        &["scan", "--format", "ndjson", "--min-level", "critical", "--summary", counts.to_str().unwrap(), logs],
        b"",
    );
    assert!(output.stdout.is_empty(), "nothing critical is in it");
    let summary: Value = serde_json::from_slice(&std::fs::read(counts).unwrap()).unwrap();
    assert_eq!(summary["alerts"]["high"], 1);
}

#[test]
fn a_users_rule_stands_beside_ours_or_instead_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let rules = tempfile::tempdir().unwrap();
    let rule = "title: Any call by mallory\nid: 6a0c6bd1-6a0f-4f0e-9c4e-0d3a5a0f7b11\nauthor: Ops\nlogsource:\n  product: aws\n  service: cloudtrail\ndetection:\n  selection:\n    userIdentity.userName: mallory\n  condition: selection\nlevel: critical\n";
    write(rules.path(), "mallory.yml", rule);
    write(rules.path(), "broken.yml", "title: No detection\nlogsource:\n  product: aws\n");
    let event = stop_logging("a2000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(folder.path(), "log.json", event.to_string());
    let (rules, logs) = (rules.path().to_str().unwrap(), folder.path().to_str().unwrap());
    let (both, summary) = scan(&["--rules", rules, logs]);
    assert!(both.len() >= 2);
    assert_eq!(summary["rules_refused"], 1);
    let (alone, _) = scan(&["--rules", rules, "--no-default-rules", logs]);
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0]["rule"]["author"], "Ops");
    assert_eq!(alone[0]["level"], "critical");
}

#[test]
fn one_intruder_over_three_identities_is_one_incident() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["simulate", "--attack", "--people", "8", "--days", "1"], b"");
    assert!(output.status.success());
    write(folder.path(), "day.ndjson", &output.stdout);
    let (incidents, _) = scan(&["--incidents", folder.path().to_str().unwrap()]);
    let high: Vec<_> = incidents.iter().filter(|i| i["level"] == "high" || i["level"] == "critical").collect();
    assert_eq!(high.len(), 1, "{high:#?}");
    assert!(high[0]["principals"].as_array().unwrap().len() >= 2);
    let summary = high[0]["summary"].to_string();
    assert!(summary.contains("created user svc-support"), "the identity between the two is told: {summary}");
}

#[test]
fn models_add_anomalies_and_nothing_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["simulate", "--attack", "--people", "8", "--days", "3"], b"");
    write(folder.path(), "days.ndjson", &output.stdout);
    let path = folder.path().to_str().unwrap();
    let anomaly = |a: &&Value| a["rule"]["id"].as_str().unwrap().starts_with("model:");
    assert_eq!(scan(&[path]).0.iter().filter(anomaly).count(), 0);
    let (with, _) = scan(&["--models", path]);
    let found: Vec<_> = with.iter().filter(anomaly).collect();
    assert!(!found.is_empty());
    assert!(found.iter().all(|a| a["category"] == "anomaly" && !a["reasons"].as_array().unwrap().is_empty()));
}

#[test]
fn a_terminal_table_names_level_and_principal() {
    let event = stop_logging("a3000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    let output = run(&["scan", "-"], event.to_string().as_bytes());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("mallory") && table.contains("Level"), "{table}");
}

/// The corpus beside the checkout, when there is one.
fn corpus() -> Option<PathBuf> {
    let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cloudtrail");
    if !found.is_dir() {
        eprintln!("skipped: no corpus beside the checkout");
        return None;
    }
    Some(found)
}

#[test]
fn the_corpus_is_read_whole_and_twice_is_as_once() {
    let Some(corpus) = corpus() else { return };
    let corpus = corpus.to_str().unwrap().to_owned();
    let (once, summary) = scan(&[&corpus]);
    assert_eq!(summary["records"], 1079);
    assert!((249..=251).contains(&summary["duplicates"].as_u64().unwrap()));
    let (twice, _) = scan(&[&corpus, &corpus]);
    assert_eq!(ids_and_counts(&once), ids_and_counts(&twice));
}

#[test]
fn a_record_without_an_id_is_known_again_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let mut event = record("x", "2026-03-02T10:15:00Z", "iam.amazonaws.com", "DeleteUser", &json!({"userName": "bob"}));
    event.as_object_mut().unwrap().remove("eventID");
    write(folder.path(), "log.json", json!([event, event]).to_string());
    let (_, summary) = scan(&[folder.path().to_str().unwrap()]);
    assert_eq!((&summary["records"], &summary["duplicates"]), (&json!(2), &json!(1)));
}

#[cfg(unix)]
#[test]
fn links_to_files_are_read_and_what_cannot_be_read_in_a_folder_is_told() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let event = stop_logging("f0000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(elsewhere.path(), "log.json", event.to_string());
    symlink(elsewhere.path().join("log.json"), folder.path().join("link.json")).unwrap();
    symlink(elsewhere.path(), folder.path().join("linked-folder")).unwrap();
    symlink(".", folder.path().join("loop")).unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    let (alerts, summary) = scan(&[folder.path().to_str().unwrap()]);
    assert_eq!((alerts.len(), &summary["files"]), (1, &json!(1)));
    assert_eq!(summary["skipped"].as_array().unwrap().len(), 3, "{}", summary["skipped"]);

    symlink("gone", folder.path().join("dangling")).unwrap();
    let output = run(&["scan", folder.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1), "a link to nothing is a path that cannot be opened");
    assert!(String::from_utf8_lossy(&output.stdout).contains("CloudTrail logging stopped"));
}

#[test]
fn file_names_and_kinds_do_not_drive_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a\u{1b}[2Jb.log", "no json\u{1b}[2J");
    let output = run(&["scan", folder.path().to_str().unwrap()], b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("b.log"), "{said}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
}

#[test]
fn a_million_broken_lines_are_told_in_few_entries() {
    let folder = tempfile::tempdir().unwrap();
    let event = stop_logging("f1000000-0000-4000-8000-000000000001", "2026-03-02T10:15:00Z");
    write(folder.path(), "a.log", format!("{event}\n{}{event}\n", "x\n".repeat(1_000_000)));
    let (_, summary) = scan(&[folder.path().to_str().unwrap()]);
    let malformed = summary["malformed"].as_array().unwrap();
    assert_eq!(malformed.len(), 10_001);
    let last = &malformed[10_000];
    assert!(last["position"].as_str().unwrap().starts_with("line 1000001,"), "{last}");
    assert!(last["reason"].as_str().unwrap().starts_with("990000 more"), "{last}");
    assert_eq!(summary["duplicates"], 1, "reading went on behind them");
}

#[test]
fn the_models_alerts_do_not_depend_on_the_order_of_files() {
    let simulated = run(&["simulate", "--people", "12", "--days", "2", "--attack"], b"");
    let text = String::from_utf8(simulated.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "log.ndjson", &text);
    let (straight, _) = scan(&[folder.path().to_str().unwrap(), "--models"]);
    assert!(straight.iter().any(|a| a["rule"]["id"].as_str().unwrap().starts_with("model:")));

    let regions = tempfile::tempdir().unwrap();
    for part in 0..3 {
        let some: Vec<&str> = lines.iter().rev().skip(part).step_by(3).copied().collect();
        write(regions.path(), &format!("{part}.ndjson"), some.join("\n"));
    }
    let (apart, _) = scan(&[regions.path().to_str().unwrap(), "--models"]);
    assert_eq!(apart, straight);
}

#[test]
fn neither_threads_nor_the_order_of_files_change_what_comes_out() {
    let simulated = run(&["simulate", "--people", "12", "--days", "1", "--attack"], b"");
    let text = String::from_utf8(simulated.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for part in 0..5 {
        // Each record stands in two files.
        let some = lines.iter().enumerate().filter(|(n, _)| n % 5 == part || n % 5 == (part + 1) % 5);
        let some: Vec<&str> = some.map(|(_, line)| *line).collect();
        write(folder.path(), &format!("{part}.ndjson"), format!("{}\n{{broken\n", some.join("\n")));
        files.push(folder.path().join(format!("{part}.ndjson")).to_str().unwrap().to_owned());
    }
    let told = |threads: &str, files: &[String], more: &[&str]| {
        let mut args = vec!["scan", "--format", "ndjson", "--min-level", "informational", "--threads", threads];
        args.extend(more.iter().copied().chain(files.iter().map(String::as_str)));
        let output = run(&args, b"");
        assert!(output.status.success());
        let counts = String::from_utf8(output.stderr).unwrap();
        let counts = counts.lines().filter(|l| l.starts_with("duplicates") || l.starts_with("alerts"));
        (String::from_utf8(output.stdout).unwrap(), counts.map(str::to_owned).collect::<Vec<_>>())
    };
    for more in [&[][..], &["--incidents"]] {
        let straight = told("1", &files, more);
        assert!(straight.0.lines().count() > 0);
        assert_eq!(straight.1[0], format!("duplicates   {}", lines.len()));
        for threads in ["1", "2", "7"] {
            files.reverse();
            assert_eq!(told(threads, &files, more), straight);
        }
    }
}

#[test]
fn rules_that_are_not_there_are_told_once() {
    let output = run(&["scan", "-", "--rules", "/no/such/folder"], b"");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    let output = run(&["scan", "-", "--no-default-rules"], b"");
    assert!(String::from_utf8(output.stderr).unwrap().contains("none is in force"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::{io::Read as _, process::Stdio};
    for command in [&["rules", "list", "--format", "json"][..], &["rules", "list"], &["simulate", "--days", "1"]] {
        let mut child = common::sentinel().args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_habit_is_one_alert_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let list = |n: u32| {
        let (id, time) = (format!("f2000000-0000-4000-8000-{n:012}"), format!("2026-03-02T{n:02}:30:00Z"));
        record(&id, &time, "secretsmanager.amazonaws.com", "ListSecrets", &Value::Null).to_string()
    };
    write(folder.path(), "log.ndjson", (0..24).map(list).collect::<Vec<_>>().join("\n"));
    let (alerts, _) = scan(&[folder.path().to_str().unwrap()]);
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["event_count"], 24);
}
