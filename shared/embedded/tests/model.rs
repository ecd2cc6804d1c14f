//! The table against a map: whatever is written in whatever order, both hold and list the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use sentinel_durable::{ManualClock, SystemClock};
use sentinel_embedded::Database;
use sentinel_model::{Timestamp, time::plus_seconds};
use sentinel_search::SearchQuery;
use sentinel_state::{Condition, Key, Put, Query, SkRange, TableError, Write};
use serde_json::json;

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, String, Action)>),
    Pass(i64),
}

#[derive(Debug, Clone)]
enum Action {
    Put { value: i64, seconds: Option<i64>, condition: Condition },
    Delete(Condition),
    Check(Condition),
}

/// What the map holds: value, version, expiry.
type Entry = (i64, u64, Option<Timestamp>);
type Model = BTreeMap<(String, String), Entry>;

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        3 => Just(Condition::None),
        1 => Just(Condition::Absent),
        2 => (1_u64..4).prop_map(Condition::Version)
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (any::<i64>(), prop::option::of(1_i64..20), condition())
            .prop_map(|(value, seconds, condition)| Action::Put { value, seconds, condition }),
        1 => condition().prop_map(Action::Delete),
        1 => condition().prop_map(Action::Check),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0_u8..2, "[abé😀]{1,2}", action()), 1..5).prop_map(Step::Write),
        1 => (0_i64..15).prop_map(Step::Pass),
    ]
}

fn holds(model: &Model, key: &(String, String), condition: Condition) -> bool {
    match condition {
        Condition::None => true,
        Condition::Absent => !model.contains_key(key),
        Condition::Version(version) => model.get(key).is_some_and(|entry| entry.1 == version),
    }
}

/// Carries out a transaction on the map, or says which conditions failed.
fn apply(model: &mut Model, now: Timestamp, writes: &[(u8, String, Action)]) -> Vec<usize> {
    let key = |pk: u8, sk: &str| (pk.to_string(), sk.to_owned());
    let failed: Vec<usize> = writes
        .iter()
        .enumerate()
        .filter(|(_, (pk, sk, action))| {
            let (Action::Put { condition, .. } | Action::Delete(condition) | Action::Check(condition)) = action;
            !holds(model, &key(*pk, sk), *condition)
        })
        .map(|(position, _)| position)
        .collect();
    if !failed.is_empty() {
        return failed;
    }
    for (pk, sk, action) in writes {
        match action {
            Action::Put { value, seconds, .. } => {
                let version = model.get(&key(*pk, sk)).map_or(1, |entry| entry.1 + 1);
                model.insert(key(*pk, sk), (*value, version, seconds.map(|s| plus_seconds(now, s))));
            }
            Action::Delete(_) => drop(model.remove(&key(*pk, sk))),
            Action::Check(_) => {}
        }
    }
    failed
}

fn write(now: Timestamp, (pk, sk, action): &(u8, String, Action)) -> Write {
    let key = Key::new(pk.to_string(), sk.clone());
    match action {
        Action::Put { value, seconds, condition } => Write::Put(
            Put::new(key, &json!({ "n": value }))
                .unwrap()
                .when(*condition)
                .expiring(seconds.map(|s| plus_seconds(now, s))),
        ),
        Action::Delete(condition) => Write::Delete(key, *condition),
        Action::Check(condition) => Write::Check(key, *condition),
    }
}

async fn run(steps: Vec<Step>) {
    let mut now = Timestamp::from_second(1_704_067_200).unwrap();
    let clock = Arc::new(ManualClock::new(now));
    let table = Database::in_memory(clock.clone()).unwrap().table();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Pass(seconds) => {
                clock.advance(seconds);
                now = plus_seconds(now, seconds);
                model.retain(|_, entry| entry.2.is_none_or(|at| at > now));
            }
            Step::Write(mut writes) => {
                writes.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
                writes.dedup_by(|a, b| (a.0, &a.1) == (b.0, &b.1));
                let expected = apply(&mut model, now, &writes);
                match table.write(writes.iter().map(|w| write(now, w)).collect()).await {
                    Ok(()) => assert!(expected.is_empty(), "{expected:?} should have failed"),
                    Err(TableError::ConditionFailed(at)) => assert_eq!(at, expected),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
    for pk in ["0", "1"] {
        for range in [SkRange::All, SkRange::Prefix("a".into()), SkRange::Between("a".into(), "é".into())] {
            let within = |sk: &str| match &range {
                SkRange::All => true,
                SkRange::Prefix(prefix) => sk.starts_with(prefix.as_str()),
                SkRange::Between(from, to) => from.as_str() <= sk && sk <= to.as_str(),
            };
            let expected: Vec<_> = model
                .iter()
                .filter(|((p, sk), _)| p == pk && within(sk))
                .map(|((_, sk), entry)| (sk.clone(), *entry))
                .collect();
            let mut query = Query::partition(pk, 3).range(range.clone());
            let mut found = Vec::new();
            loop {
                let page = table.query(query.clone()).await.unwrap();
                found.extend(
                    page.items
                        .into_iter()
                        .map(|item| (item.key.sk, (item.body["n"].as_i64().unwrap(), item.version, item.expires_at))),
                );
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{pk} {range:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_a_map(steps in prop::collection::vec(step(), 0..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }

    #[test]
    fn no_words_are_a_syntax_error(words in any::<String>()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let search = Database::in_memory(Arc::new(SystemClock)).unwrap().search();
            let query = SearchQuery { words, limit: 10, ..SearchQuery::default() };
            search.search(query).await.unwrap();
        });
    }
}
