//! The archive on S3, in the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use common::{emulator, unique};
use sentinel_archive::conformance::{Setup, event, suite};
use sentinel_archive::{Archive, FileArchive};
use sentinel_aws::archive::S3Archive;

const PREFIX: &str = "archive/";

struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    async fn new(config: &SdkConfig) -> Self {
        let made = Self { client: aws_sdk_s3::Client::new(config), name: unique("archive") };
        made.client.create_bucket().bucket(&made.name).send().await.expect("a bucket");
        // What is no part of the archive is left alone.
        made.put("claims/other", b"other").await;
        made
    }

    fn adapter(&self) -> S3Archive {
        S3Archive::new(self.client.clone(), &self.name, PREFIX)
    }

    async fn put(&self, key: &str, bytes: &[u8]) {
        self.client.put_object().bucket(&self.name).key(key).body(bytes.to_vec().into()).send().await.expect("put");
    }

    async fn keys(&self) -> Vec<String> {
        let listed = self.client.list_objects_v2().bucket(&self.name).prefix(PREFIX).send().await.expect("a listing");
        listed.contents().iter().map(|o| o.key().expect("a key").to_owned()).collect()
    }
}

#[async_trait]
impl Setup for Bucket {
    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(self.adapter())
    }
    async fn objects(&self) -> usize {
        self.keys().await.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_suite() {
    let Some(config) = emulator().await else { return };
    suite(async || Bucket::new(&config).await).await;
}

#[tokio::test]
async fn an_archive_of_files_can_be_moved_into_a_bucket() {
    let Some(config) = emulator().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = FileArchive::open(folder.path()).unwrap();
    let account = "123456789012";
    let batch = [event("a", "2024-01-05T01:00:00Z", account, "{}"), event("b", "2024-01-06T01:00:00Z", account, "{}")];
    files.put(&batch).await.unwrap();
    let bucket = Bucket::new(&config).await;
    for day in ["2024-01-05", "2024-01-06"] {
        for entry in std::fs::read_dir(folder.path().join(account).join(day)).unwrap() {
            let entry = entry.unwrap();
            let key = format!("{PREFIX}{account}/{day}/{}", entry.file_name().to_str().unwrap());
            bucket.put(&key, &std::fs::read(entry.path()).unwrap()).await;
        }
    }
    let archive = bucket.adapter();
    archive.put(&batch).await.unwrap();
    assert_eq!(bucket.keys().await.len(), 2, "the same names");
    assert_eq!(archive.days(account).await.unwrap(), ["2024-01-05", "2024-01-06"]);
    assert_eq!(archive.read(account, "2024-01-06").await.unwrap().events.len(), 1);
}

#[tokio::test]
async fn more_objects_than_a_listing_gives_are_all_read_and_all_forgotten() {
    let Some(config) = emulator().await else { return };
    let bucket = Bucket::new(&config).await;
    let account = "123456789012";
    let template = sentinel_archive::object::objects(&[event("a", "2024-01-05T01:00:00Z", account, "{}")]).unwrap();
    let puts: Vec<_> = (0..1_005)
        .map(|i| {
            let key = format!("{PREFIX}{account}/2024-01-05/{i:040}.ndjson.gz");
            let call = bucket.client.put_object().bucket(&bucket.name).key(key);
            call.body(template[0].bytes.clone().into()).send()
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
    let archive = bucket.adapter();
    let day = archive.read(account, "2024-01-05").await.unwrap();
    assert_eq!((day.events.len(), day.unreadable.len()), (1, 0), "the same event in all of them");
    assert_eq!(archive.forget_before("2024-02-01T00:00:00Z".parse().unwrap()).await.unwrap(), 1);
    assert!(bucket.keys().await.is_empty());
    let other = bucket.client.head_object().bucket(&bucket.name).key("claims/other").send().await;
    other.expect("what is beside the archive stays");
}
