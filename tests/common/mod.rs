//! What the end-to-end tests share: running the binary, and records to feed it.

#![allow(dead_code, reason = "each test file uses what it needs of this")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

/// The binary under test.
pub(crate) fn sentinel() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sentinel"))
}

/// Runs the binary with standard input.
pub(crate) fn run(args: &[&str], stdin: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child =
        sentinel().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A scan that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// Alerts (or incidents) of a scan as JSON, and its summary.
pub(crate) fn scan(args: &[&str]) -> (Vec<Value>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.json");
    let mut all = vec!["scan", "--format", "ndjson", "--min-level", "informational", "--summary"];
    all.push(summary.to_str().unwrap());
    all.extend(args);
    let output = run(&all, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (rows, serde_json::from_str(&std::fs::read_to_string(summary).unwrap()).unwrap())
}

/// A record of an IAM user's call.
pub(crate) fn record(id: &str, time: &str, source: &str, name: &str, parameters: &Value) -> Value {
    json!({
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "IAMUser",
            "principalId": "AIDACKCEVSQ6C2EXAMPLE",
            "arn": "arn:aws:iam::111122223333:user/mallory",
            "accountId": "111122223333",
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
            "userName": "mallory"
        },
        "eventTime": time,
        "eventSource": source,
        "eventName": name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "aws-cli/2.15.0",
        "requestParameters": parameters,
        "responseElements": null,
        "requestID": "11111111-2222-4333-8444-555555555555",
        "eventID": id,
        "readOnly": false,
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": "111122223333",
        "eventCategory": "Management"
    })
}

/// A record that our rules take for an attack: the trail is stopped.
pub(crate) fn stop_logging(id: &str, time: &str) -> Value {
    let parameters = json!({"name": "arn:aws:cloudtrail:us-east-1:111122223333:trail/main"});
    record(id, time, "cloudtrail.amazonaws.com", "StopLogging", &parameters)
}

/// Writes a text into a folder.
pub(crate) fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).unwrap();
}
