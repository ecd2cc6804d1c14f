//! Events and rules that this crate's tests are made of.

use std::sync::Arc;

use sentinel_detect::{LoadOptions, RuleSet};
use sentinel_ingest::{Found, Limits, normalise};
use sentinel_json::Document;
use sentinel_model::{Channel, Event, Provenance};
use serde_json::json;

use crate::{Loaded, Pair, Pass, Report, compare};

/// A set of the rules in a YAML text.
pub(crate) fn loaded(yaml: &str) -> Loaded {
    let (rules, report) = RuleSet::from_texts(false, [("rules.yml", yaml)]);
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    Loaded { rules, report }
}

/// A rule on one action.
pub(crate) fn rule(id: &str, level: &str, action: &str) -> String {
    format!(
        "title: Rule {id}\nid: {id}\nlevel: {level}\nlogsource: {{product: aws, service: cloudtrail}}\ndetection: {{s: {{eventName: \"{action}\"}}, condition: s}}\n"
    )
}

/// Options under which no rule is in force.
pub(crate) fn no_rules() -> LoadOptions {
    LoadOptions::default()
}

/// A call of IAM in account 111122223333.
pub(crate) fn event(id: &str, time: &str, name: &str, user: &str) -> Event {
    let record = json!({
        "eventID": id, "eventTime": time, "eventName": name, "eventSource": "iam.amazonaws.com",
        "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.45", "recipientAccountId": "111122223333",
        "eventVersion": "1.11", "eventType": "AwsApiCall", "userIdentity": {
            "type": "IAMUser", "arn": format!("arn:aws:iam::111122223333:user/{user}"), "accountId": "111122223333",
            "userName": user, "principalId": "AIDACKCEVSQ6C2EXAMPLE",
        },
    });
    let mut made = None;
    let mut sink = |found: Found<'_>| {
        let Found::Record(record) = found else { panic!("{found:?}") };
        let channel = Channel::Folder { path: "f".into() };
        let provenance = Provenance { channel, received_at: time.parse().unwrap() };
        made = Some(normalise::normalise(&record, provenance).unwrap());
    };
    sentinel_ingest::read(record.to_string().as_bytes(), "f", None, &Limits::generous(), &mut sink).unwrap();
    made.unwrap()
}

/// What the pair makes of events, in passes of which each holds so many bytes.
pub(crate) fn compared(pair: &Pair, passes: &[&[Event]], budget: usize) -> Report {
    let add = |(worker, events): (usize, &&[Event])| {
        let mut pass = Pass::new(budget, u16::try_from(worker).unwrap());
        for event in *events {
            let record = Document::parse(event.raw.text()).unwrap();
            pass.add(pair, record.root(), event.time, || Some(event.clone())).unwrap();
        }
        pass.seal();
        pass
    };
    compare(pair, passes.iter().enumerate().map(add).collect(), &Arc::default(), 2).unwrap()
}
