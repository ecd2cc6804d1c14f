//! IAM, signing keys and the caller against the emulator, with users, keys and secrets made there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use sentinel_aws::iam::{AwsIam, MemberRole, caller};
use sentinel_aws::secrets::{self, SecretSigningKeys, read_secret};
use sentinel_durable::{Clock, ManualClock, SystemClock};
use sentinel_model::Timestamp;
use sentinel_respond::iam::conformance::{Fixture, check};
use sentinel_respond::iam::{Iam, IamError};
use sentinel_state::conformance::signing;
use sentinel_state::signing::SigningKeys;

/// A user with a path, tags and two keys.
async fn fixture(config: &SdkConfig, account: &str) -> Fixture {
    let iam = aws_sdk_iam::Client::new(config);
    let id = uuid::Uuid::new_v4().simple().to_string();
    let user_name = format!("mallory+=,.@_-{}", &id[..20]);
    let tag = aws_sdk_iam::types::Tag::builder().key("team").value("red").build().unwrap();
    let made = iam.create_user().user_name(&user_name).path("/division/team/").tags(tag).send().await.unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let made = iam.create_access_key().user_name(&user_name).send().await.unwrap();
        keys.push(made.access_key.unwrap().access_key_id);
    }
    Fixture {
        account: account.to_owned(),
        user_arn: made.user.unwrap().arn,
        user_name,
        tag: ("team".into(), "red".into()),
        second_key: keys.pop().unwrap(),
        first_key: keys.pop().unwrap(),
        missing_key: "AKIAMISSINGMISSING99".into(),
    }
}

#[tokio::test]
async fn the_own_account_s_iam_conforms() {
    let Some(config) = common::emulator().await else { return };
    let me = caller(&config).await.unwrap();
    let fixture = fixture(&config, &me.account).await;
    let iam = AwsIam::new(&config, &me.account, None, Arc::new(SystemClock));
    check(&iam, &fixture, || tokio::time::sleep(Duration::from_millis(50))).await.unwrap();
    let elsewhere = iam.key_owner("999988887777", &fixture.first_key).await;
    assert_eq!(elsewhere, Err(IamError::NotConnected("999988887777".into())));
}

#[tokio::test]
async fn a_member_account_is_reached_through_its_role() {
    let Some(config) = common::emulator().await else { return };
    let me = caller(&config).await.unwrap();
    let client = aws_sdk_iam::Client::new(&config);
    let name = common::unique("member");
    let account = &me.account;
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{account}:root"}},"Action":"sts:AssumeRole"}}]}}"#
    );
    client.create_role().role_name(&name).assume_role_policy_document(trust).send().await.unwrap();
    let allow = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}"#;
    client.put_role_policy().role_name(&name).policy_name("iam").policy_document(allow).send().await.unwrap();
    let fixture = fixture(&config, account).await;
    // As seen from another account, this one is a member.
    let iam = AwsIam::new(&config, "999988887777", Some(MemberRole::named(&name)), Arc::new(SystemClock));
    check(&iam, &fixture, || tokio::time::sleep(Duration::from_millis(50))).await.unwrap();
    // As a deployed stack does in its own account.
    let own = AwsIam::new(&config, account, None, Arc::new(SystemClock));
    let own = own.under(Some(format!("arn:aws:iam::{account}:role/{name}")));
    assert!(own.key_owner(account, &fixture.first_key).await.unwrap().is_some());
    let without = AwsIam::new(&config, "999988887777", None, Arc::new(SystemClock));
    let refused = without.key_owner(account, &fixture.first_key).await.unwrap_err();
    assert_eq!(refused, IamError::NotConnected(account.clone()));
}

/// A secret that several processes keep keys in.
struct Shared {
    client: aws_sdk_secretsmanager::Client,
    id: String,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl signing::Setup for Shared {
    fn process(&self) -> Arc<dyn SigningKeys> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Arc::new(SecretSigningKeys::new(self.client.clone(), &self.id, clock))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn pass(&self, seconds: i64) {
        self.clock.advance(seconds);
    }
}

#[tokio::test]
async fn signing_keys_in_a_secret_conform() {
    let Some(config) = common::emulator().await else { return };
    let client = secrets::client(&config);
    signing::check(async || {
        let id = common::unique("keys");
        let made = client.create_secret().name(&id).secret_string(r#"{"keys":[]}"#).send().await.unwrap();
        Shared { client: client.clone(), id: made.arn.unwrap(), clock: common::clock() }
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_read_with_the_version_that_tells_a_new_one() {
    let Some(config) = common::emulator().await else { return };
    let client = secrets::client(&config);
    let id = common::unique("password");
    client.create_secret().name(&id).secret_string("a horse on a staple\n").send().await.unwrap();
    let first = read_secret(&client, &id).await.unwrap();
    assert_eq!(first.text, "a horse on a staple");
    client.put_secret_value().secret_id(&id).secret_string("another horse").send().await.unwrap();
    let second = read_secret(&client, &id).await.unwrap();
    assert!(second.text == "another horse" && second.version_id != first.version_id);
    assert!(read_secret(&client, "no-such-secret").await.is_err());
}
