//! The simulated account is held to the suite that every adapter must pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use sentinel_durable::ManualClock;
use sentinel_embedded::Database;

use super::world::{START, USER};
use crate::iam::conformance::{Fixture, check};
use crate::iam::{Iam, KeyStatus, SimulatedIam, SimulatedUser};

const ACCOUNT: &str = "444455556666";

async fn prepared(lag: i64) -> (SimulatedIam, Arc<ManualClock>, Fixture) {
    let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
    let db = Database::in_memory(clock.clone()).unwrap();
    let iam = SimulatedIam::new(db.table(), clock.clone()).with_lag(lag);
    let tag = ("team".to_owned(), "red".to_owned());
    let keys = vec!["AKIAFIRSTFIRSTFIRST1".to_owned(), "AKIASECONDSECONDSEC2".to_owned()];
    let tags = BTreeMap::from([tag.clone()]);
    let user = SimulatedUser { name: USER.into(), path: "/a/b/".into(), tags, keys: keys.clone() };
    iam.add_user(ACCOUNT, &user).await.unwrap();
    let fixture = Fixture {
        account: ACCOUNT.into(),
        user_name: USER.into(),
        user_arn: format!("arn:aws:iam::{ACCOUNT}:user/a/b/{USER}"),
        tag,
        first_key: keys[0].clone(),
        second_key: keys[1].clone(),
        missing_key: "AKIAMISSINGMISSING99".into(),
    };
    (iam, clock, fixture)
}

#[tokio::test]
async fn the_simulated_account_conforms_with_and_without_lag() {
    for lag in [0, 5] {
        let (iam, clock, fixture) = prepared(lag).await;
        check(&iam, &fixture, async || clock.advance(lag)).await.unwrap();
    }
}

#[tokio::test]
async fn the_suite_notices_an_adapter_that_does_not_wait() {
    let (iam, _, fixture) = prepared(5).await;
    let broken = check(&iam, &fixture, async || {}).await.unwrap_err();
    assert!(broken.contains("Inactive"), "{broken}");
}

#[tokio::test]
async fn reads_lag_behind_and_setting_again_is_no_change() {
    let (iam, clock, fixture) = prepared(5).await;
    let key = &fixture.first_key;
    iam.set_key_status(ACCOUNT, USER, key, KeyStatus::Inactive).await.unwrap();
    iam.set_key_status(ACCOUNT, USER, key, KeyStatus::Inactive).await.unwrap();
    assert_eq!(iam.key_status(ACCOUNT, USER, key).await.unwrap(), Some(KeyStatus::Active));
    clock.advance(5);
    assert_eq!(iam.key_status(ACCOUNT, USER, key).await.unwrap(), Some(KeyStatus::Inactive));
    assert_eq!(iam.status_changes(ACCOUNT, key).await.unwrap(), 1);
}

#[tokio::test]
async fn names_follow_iam_s_rules_and_a_second_start_keeps_what_was_changed() {
    let (iam, _, fixture) = prepared(0).await;
    for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
        let user = SimulatedUser { name: name.into(), ..SimulatedUser::default() };
        assert!(iam.add_user(ACCOUNT, &user).await.is_err(), "{name:?}");
    }
    iam.set_key_status(ACCOUNT, USER, &fixture.first_key, KeyStatus::Inactive).await.unwrap();
    let keys = vec![fixture.first_key.clone()];
    let again = SimulatedUser { name: USER.into(), path: "/a/b/".into(), keys, ..SimulatedUser::default() };
    iam.add_user(ACCOUNT, &again).await.unwrap();
    assert_eq!(iam.key_status(ACCOUNT, USER, &fixture.first_key).await.unwrap(), Some(KeyStatus::Inactive));
}
