//! Adapters made from the configuration that all clients share, so that whoever wires a function names no SDK
//! type.
//!
//! In: [`SdkConfig`] and names. Out: adapters. Making one asks nothing of AWS.

use std::sync::Arc;

use aws_config::SdkConfig;
use sentinel_durable::{Clock, Stage};
use sentinel_search::SearchError;
use sentinel_state::Table;

use crate::{
    archive::S3Archive,
    budget::Budget,
    claims::Claims,
    dynamodb::DynamoTable,
    late::Late,
    opensearch::{Access, OpenSearch},
    rules::S3Rules,
    secrets::{self, Secret, SecretError, SecretSigningKeys},
    sqs::{PlainQueue, Queues, SqsQueue},
    timer::{ScheduledTimer, Schedules},
};

/// What the names of our indices in OpenSearch begin with.
const INDEX_PREFIX: &str = "cloudsentinel";
/// Prefix of the archive in the data bucket.
const ARCHIVE_PREFIX: &str = "archive/";

/// The table of this name.
pub fn table(sdk: &SdkConfig, name: &str, clock: Arc<dyn Clock>) -> DynamoTable {
    DynamoTable::new(aws_sdk_dynamodb::Client::new(sdk), name, clock)
}

/// Queues, with large bodies in the data bucket. Only a function whose queue gets timers' messages needs a table.
pub fn queue(sdk: &SdkConfig, queues: Queues, data_bucket: &str, table: Option<Arc<dyn Table>>) -> SqsQueue {
    let for_claims = sdk.clone();
    let claims = Claims::new(Late::new(move || aws_sdk_s3::Client::new(&for_claims)), data_bucket);
    SqsQueue::new(aws_sdk_sqs::Client::new(sdk), queues, claims, table)
}

/// A queue that other services fill.
pub fn plain_queue(sdk: &SdkConfig, url: &str) -> PlainQueue {
    PlainQueue::new(aws_sdk_sqs::Client::new(sdk), url)
}

/// The archive in the data bucket.
pub fn archive(sdk: &SdkConfig, data_bucket: &str) -> S3Archive {
    S3Archive::new(aws_sdk_s3::Client::new(sdk), data_bucket, ARCHIVE_PREFIX)
}

/// Operators' rules.
pub fn rules(sdk: &SdkConfig, bucket: &str, prefix: &str) -> S3Rules {
    S3Rules::new(aws_sdk_s3::Client::new(sdk), bucket, prefix)
}

/// Names of what a function makes schedules with.
#[derive(Debug, Clone)]
pub struct ScheduleNames {
    /// The schedule group.
    pub group: String,
    /// ARN of the role that schedules send with.
    pub role_arn: String,
    /// The queue that they send to, by its ARN.
    pub queue_arns: Vec<(Stage, String)>,
    /// ARN of the queue that takes what could not be delivered.
    pub dead_arn: Option<String>,
}

/// Timers over a queue and its table. Without names none can be due later than 15 minutes from now.
pub fn timer(sdk: &SdkConfig, queue: SqsQueue, table: Arc<dyn Table>, names: Option<ScheduleNames>) -> ScheduledTimer {
    let sdk = sdk.clone();
    let schedules = names.map(|names| Schedules {
        client: Late::new(move || aws_sdk_scheduler::Client::new(&sdk)),
        group: names.group,
        role_arn: names.role_arn,
        queue_arns: names.queue_arns.into_iter().collect(),
        dead_arn: names.dead_arn,
    });
    ScheduledTimer::new(queue, table, schedules)
}

/// A secret of text by its ARN or name.
pub async fn secret(sdk: &SdkConfig, id: &str) -> Result<Secret, SecretError> {
    secrets::read_secret(&secrets::client(sdk), id).await
}

/// The keys that sign tokens, in the secret of this ARN or name.
pub fn signing_keys(sdk: &SdkConfig, id: &str, clock: Arc<dyn Clock>) -> SecretSigningKeys {
    SecretSigningKeys::new(secrets::client(sdk), id, clock)
}

/// The search index at an endpoint of OpenSearch Service, or of OpenSearch Serverless.
pub fn opensearch(
    sdk: &SdkConfig,
    endpoint: &str,
    budget: Budget,
    clock: Arc<dyn Clock>,
) -> Result<OpenSearch, SearchError> {
    let service = if endpoint.contains(".aoss.") { "aoss" } else { "es" };
    let access = Access::Signed { config: sdk, service };
    Ok(OpenSearch::new(endpoint, access, INDEX_PREFIX, budget)?.with_clock(clock))
}
