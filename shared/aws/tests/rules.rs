//! Operators' rules in a bucket of the emulator, kept in force by detect's keeper.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::sync::Arc;

use aws_sdk_s3::{
    Client,
    types::{BucketVersioningStatus, VersioningConfiguration},
};
use common::{Fixture, emulator, unique};
use sentinel_aws::rules::S3Rules;
use sentinel_detect::{RuleKeeper, RuleSource, RuleSourceError, SharedRules, keeper::Records};

fn rule(title: &str) -> Vec<u8> {
    let detection = "detection:\n  s:\n    eventName: X\n  condition: s\n";
    format!("title: {title}\nid: {title}\nlogsource:\n  product: aws\n{detection}").into_bytes()
}

struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    async fn put(&self, key: &str, body: Vec<u8>) {
        self.client.put_object().bucket(&self.name).key(key).body(body.into()).send().await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.client.delete_object().bucket(&self.name).key(key).send().await.unwrap();
    }

    fn rules(&self) -> S3Rules {
        S3Rules::new(self.client.clone(), &self.name, "rules/")
    }
}

async fn bucket(config: &aws_config::SdkConfig) -> Bucket {
    let client = Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(true).build());
    let name = unique("rules");
    client.create_bucket().bucket(&name).send().await.unwrap();
    let versioned = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(&name).versioning_configuration(versioned).send().await.unwrap();
    Bucket { client, name }
}

#[tokio::test]
async fn versions_are_listed_and_read_even_after_they_were_deleted() {
    let Some(config) = emulator().await else { return };
    let bucket = bucket(&config).await;
    let rules = bucket.rules();
    assert!(rules.list().await.unwrap().is_empty());
    bucket.put("rules/a.yml", b"one".to_vec()).await;
    bucket.put("rules/team/b.yml", b"b".to_vec()).await;
    bucket.put("other/c.yml", b"c".to_vec()).await;
    let first = rules.list().await.unwrap();
    let names: Vec<_> = first.iter().map(|o| (o.name.as_str(), o.size)).collect();
    assert_eq!(names, [("a.yml", 3), ("team/b.yml", 1)]);
    bucket.put("rules/a.yml", b"two".to_vec()).await;
    let second = rules.list().await.unwrap();
    assert_ne!(second[0].version_id, first[0].version_id);
    bucket.delete("rules/a.yml").await;
    assert_eq!(rules.list().await.unwrap(), first[1..]);
    assert_eq!(rules.read(&first[0]).await.unwrap(), "one");
    assert_eq!(rules.read(&second[0]).await.unwrap(), "two");
    let mut never = first[0].clone();
    never.name = "never.yml".into();
    assert!(matches!(rules.read(&never).await, Err(RuleSourceError::Object { .. })));
    let missing = S3Rules::new(bucket.client.clone(), unique("no-bucket"), "rules/");
    assert!(matches!(missing.list().await, Err(RuleSourceError::Unreadable(_))));
}

#[tokio::test]
async fn an_emptied_prefix_leaves_the_recorded_versions_in_force_after_a_cold_start() {
    let Some(config) = emulator().await else { return };
    let bucket = bucket(&config).await;
    let fixture = Fixture::new(&config).await;
    let table = Arc::new(fixture.adapter());
    let instance = || {
        let rules = Arc::new(SharedRules::default());
        let source = Arc::new(bucket.rules());
        (RuleKeeper::new(source, table.clone(), fixture.clock.clone(), Arc::clone(&rules)), rules)
    };
    bucket.put("rules/a.yml", rule("A")).await;
    bucket.put("rules/bad.yml", b"title: Bad\ndetection: 5\nlogsource: {}\n".to_vec()).await;
    let (keeper, rules) = instance();
    keeper.look().await;
    assert_eq!(rules.current().len(), 1);
    let recorded = Records::new(table.clone()).recent(10).await.unwrap();
    assert_eq!((recorded.len(), recorded[0].objects.len(), recorded[0].refused[0].file.as_str()), (1, 2, "bad.yml"));
    bucket.delete("rules/a.yml").await;
    bucket.delete("rules/bad.yml").await;
    let (keeper, rules) = instance();
    keeper.look().await;
    assert_eq!(rules.current().len(), 1, "the recorded versions are read again");
    assert_eq!(Records::new(table.clone()).recent(10).await.unwrap(), recorded);
}
