//! Events and rules that this crate's tests are made of.

use std::sync::Arc;

use sentinel_model::{
    Action, Channel, Event, Network, Outcome, Principal, PrincipalKind, Provenance, RawRecord, SourceKind,
};
use serde_json::json;

use crate::rules::{LoadOptions, RuleSet};

/// A set of the rules in a YAML text.
pub(crate) fn rules(yaml: &str) -> RuleSet {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, yaml).unwrap();
    let (set, report) = RuleSet::load(&LoadOptions { dirs: vec![file], ..LoadOptions::default() }).unwrap();
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    set
}

/// A call of IAM by user `dana`.
pub(crate) fn event(id: &str, time: &str, name: &str) -> Event {
    let arn = "arn:aws:iam::111122223333:user/dana";
    let record = json!({
        "eventID": id, "eventTime": time, "eventName": name, "eventSource": "iam.amazonaws.com",
        "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.45",
        "userIdentity": {"type": "IAMUser", "arn": arn, "accountId": "111122223333", "userName": "dana"},
    });
    Event {
        id: id.into(),
        content: sentinel_model::hash::content_hash(&record),
        time: time.parse().unwrap(),
        time_text: Some(time.into()),
        source: SourceKind::CloudTrail,
        account: "111122223333".into(),
        region: Some("us-east-1".into()),
        action: Action { service: "iam.amazonaws.com".into(), name: name.into(), read_only: Some(false) },
        principal: Principal {
            id: arn.into(),
            kind: PrincipalKind::IamUser,
            account: Some("111122223333".into()),
            role: None,
            name: Some("dana".into()),
            actor: arn.into(),
            inferred: false,
        },
        access_key_id: Some("AKIAIOSFODNN7EXAMPLE".into()),
        invoked_by: None,
        targets: Vec::new(),
        network: Network { source_ip: Some("203.0.113.45".parse().unwrap()), ..Network::default() },
        outcome: Outcome::Success,
        lineage: Vec::new(),
        provenance: vec![Provenance {
            channel: Channel::Folder { path: "test".into() },
            received_at: time.parse().unwrap(),
        }],
        raw: RawRecord(Arc::from(serde_json::value::to_raw_value(&record).unwrap())),
    }
}
