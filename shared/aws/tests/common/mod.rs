//! What the tests against real stores share: where these are, and things to make in them.
//!
//! `scripts/with-stores` starts the stores and says where they are. Without it these tests print that they did not
//! run; within it a missing one is a failure.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_dynamodb::config::Credentials;
use sentinel_aws::dynamodb::{DynamoTable, create_table};
use sentinel_durable::{Clock, ManualClock};
use sentinel_model::Timestamp;
use sentinel_state::{Table, conformance};

/// How the emulator is reached: all of AWS in one.
pub async fn emulator() -> Option<SdkConfig> {
    let config = at("SENTINEL_TEST_EMULATOR").await;
    let required = std::env::var("SENTINEL_TEST_REQUIRED").is_ok_and(|v| v == "1");
    assert!(config.is_some() || !required, "the emulator is required, but SENTINEL_TEST_EMULATOR is not set");
    config
}

/// How Amazon's own DynamoDB Local is reached. It needs Java, so it may be missing.
pub async fn dynamodb_local() -> Option<SdkConfig> {
    at("SENTINEL_TEST_DYNAMODB_LOCAL").await
}

async fn at(variable: &str) -> Option<SdkConfig> {
    let Some(url) = std::env::var(variable).ok().filter(|url| !url.is_empty()) else {
        println!("NOT RUN: {variable} is not set; scripts/with-stores sets it");
        return None;
    };
    // Whatever credentials there are, they are not for a test.
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::standard().with_max_attempts(5));
    Some(config.load().await)
}

/// A name that nothing has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// A clock at a fixed time.
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse::<Timestamp>().expect("a time")))
}

/// An empty table with a clock of its own.
pub struct Fixture {
    /// The SDK's client.
    pub client: aws_sdk_dynamodb::Client,
    /// The table's name.
    pub name: String,
    /// The clock.
    pub clock: Arc<ManualClock>,
}

impl Fixture {
    /// Makes the table.
    pub async fn new(config: &SdkConfig) -> Self {
        let client = aws_sdk_dynamodb::Client::new(config);
        let name = unique("sentinel");
        create_table(&client, &name).await.expect("a table");
        Self { client, name, clock: clock() }
    }

    /// The adapter.
    pub fn adapter(&self) -> DynamoTable {
        let clock: Arc<dyn Clock> = self.clock.clone();
        DynamoTable::new(self.client.clone(), &self.name, clock)
    }
}

#[async_trait]
impl conformance::Setup for Fixture {
    fn table(&self) -> Arc<dyn Table> {
        Arc::new(self.adapter())
    }
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    async fn pass(&self, seconds: u32) {
        self.clock.advance(i64::from(seconds));
    }
    async fn restart(&self) {}
}
