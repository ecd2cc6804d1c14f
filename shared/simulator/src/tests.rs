//! The simulation is reproducible, in order, and writes records that look like `CloudTrail`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{
    AttackOptions, Company, CompanyOptions, ScenarioOptions, compromised_key, day_with_attack, scenario::event_time,
};
use sentinel_model::{Timestamp, time};
use serde_json::Value;

fn options(seed: u64) -> CompanyOptions {
    let start = time::parse_event_time("2025-03-03T00:00:00Z").unwrap();
    CompanyOptions { seed, people: 12, start, days: 9, ..CompanyOptions::default() }
}

fn text(records: &[Value]) -> String {
    records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let once: Vec<Value> = Company::new(options(7)).events().collect();
    let again: Vec<Value> = Company::new(options(7)).events().collect();
    let other: Vec<Value> = Company::new(options(8)).events().collect();
    assert!(once.len() > 3_000, "{}", once.len());
    assert_eq!(text(&once), text(&again));
    assert_ne!(text(&once), text(&other));
    let attack = AttackOptions::default();
    assert_eq!(text(&compromised_key(&attack)), text(&compromised_key(&attack)));
}

#[test]
fn records_come_in_order_of_time_with_unique_ids() {
    let mut ids = BTreeSet::new();
    let mut last = Timestamp::MIN;
    for record in Company::new(options(3)).events() {
        let t = event_time(&record).unwrap();
        assert!(t >= last, "{record}");
        last = t;
        assert!(ids.insert(record["eventID"].as_str().unwrap().to_owned()));
    }
}

fn is_documentation_address(text: &str) -> bool {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(a)) => {
            let [x, y, z, _] = a.octets();
            matches!((x, y, z), (192, 0, 2) | (198, 51, 100) | (203, 0, 113)) || x == 10
        }
        Ok(IpAddr::V6(a)) => a.segments()[..2] == [0x2001, 0xdb8],
        Err(_) => text.ends_with(".amazonaws.com"),
    }
}

#[test]
fn every_record_has_the_fields_and_forms_of_cloudtrail() {
    let mut kinds = BTreeMap::<String, usize>::new();
    let records = Company::new(options(5)).events().chain(compromised_key(&AttackOptions::default()));
    let mut refused = 0;
    for record in records {
        for field in ["eventVersion", "eventID", "eventTime", "eventSource", "eventName", "awsRegion", "requestID"] {
            assert!(record[field].as_str().is_some_and(|v| !v.is_empty()), "{field} in {record}");
        }
        assert!(record["eventSource"].as_str().unwrap().ends_with(".amazonaws.com"));
        assert!(record["readOnly"].is_boolean() && record["managementEvent"].is_boolean());
        assert_eq!(record["recipientAccountId"], "123456789012");
        assert!(is_documentation_address(record["sourceIPAddress"].as_str().unwrap()), "{record}");
        let key = record["userIdentity"]["accessKeyId"].as_str();
        assert!(key.is_none_or(|k| k.ends_with("EXAMPLE") && k.len() >= 20), "{record}");
        // Success leaves the field out; it is never null.
        assert!(record.get("errorCode").is_none_or(Value::is_string));
        refused += usize::from(record.get("errorCode").is_some());
        *kinds.entry(record["userIdentity"]["type"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let kinds: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["AWSService", "AssumedRole", "IAMUser", "WebIdentityUser"]);
    assert!(refused > 10);
}

#[test]
fn weekends_are_quiet_for_people() {
    let mut by_day = BTreeMap::<String, usize>::new();
    for record in Company::new(options(2)).events() {
        if record["userIdentity"]["principalId"].as_str().is_some_and(|p| p.contains('@')) {
            *by_day.entry(time::utc_day(event_time(&record).unwrap())).or_default() += 1;
        }
    }
    let count = |day: &str| by_day.get(day).copied().unwrap_or(0);
    let weekend = count("2025-03-08") + count("2025-03-09");
    let working = count("2025-03-04") + count("2025-03-05");
    assert!(working > 4 * weekend, "{by_day:?}");
}

#[test]
fn the_attack_hops_over_three_identities_that_lineage_can_link_and_lasts_minutes() {
    let records = compromised_key(&AttackOptions::default());
    let arns: BTreeSet<&str> = records.iter().filter_map(|r| r["userIdentity"]["arn"].as_str()).collect();
    assert_eq!(arns.len(), 3, "{arns:?}");
    let find = |name: &str| records.iter().find(|r| r["eventName"] == name).unwrap();
    let new_key = find("CreateAccessKey")["responseElements"]["accessKey"]["accessKeyId"].as_str().unwrap();
    assert!(records.iter().any(|r| r["userIdentity"]["accessKeyId"] == new_key), "the new key is used");
    let session = find("AssumeRole")["responseElements"]["assumedRoleUser"]["arn"].as_str().unwrap();
    assert!(arns.contains(session), "the session is used");
    let first = event_time(&records[0]).unwrap();
    let last = event_time(records.last().unwrap()).unwrap();
    assert!((60..1_800).contains(&time::seconds_between(first, last)));
    assert!(records.windows(2).all(|w| event_time(&w[0]) <= event_time(&w[1])));
}

#[test]
fn a_scenario_ends_when_it_is_told_to_and_holds_the_attack() {
    for end in ["2025-06-11T10:17:42Z", "2025-06-15T00:30:00Z"] {
        let end = time::parse_event_time(end).unwrap();
        let scenario = day_with_attack(&ScenarioOptions { end, ..ScenarioOptions::default() });
        let times: Vec<_> = scenario.records.iter().filter_map(event_time).collect();
        assert!(times.windows(2).all(|w| w[0] <= w[1]));
        assert!(*times.last().unwrap() <= end);
        assert!(time::seconds_between(times[0], end) <= 86_400);
        assert!(time::seconds_between(scenario.attack_start, end) < 1_800);
        let attacked = scenario
            .records
            .iter()
            .filter(|r| r["eventID"].as_str().is_some_and(|id| scenario.attack_event_ids.iter().any(|a| a == id)));
        assert_eq!(attacked.count(), scenario.attack_event_ids.len());
        assert!(scenario.iam_users.contains(&scenario.victim));
        assert!(scenario.records.len() > scenario.attack_event_ids.len() + 300);
    }
}
