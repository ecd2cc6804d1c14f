//! The AWS adapters of the ports, and the only crate that names AWS SDK types.
//!
//! One module for each port: the table on `DynamoDB`, queues on SQS with a claim-check for large bodies, timers
//! on EventBridge Scheduler, the archive on S3, IAM, `LookupEvents`, SNS, Secrets Manager, operators' rules in a
//! bucket, and search on OpenSearch. Each passes the same conformance suite as its embedded counterpart.
//! [`budget`] and [`sdk`] are what all of them share: how long a call may take, and how it is tried again.

pub mod archive;
pub mod budget;
pub mod claims;
pub mod cloudtrail;
pub mod connect;
pub mod dynamodb;
pub mod iam;
pub mod late;
#[cfg(test)]
mod mocked;
pub mod notify;
pub mod objects;
pub mod opensearch;
pub mod rules;
pub mod sdk;
pub mod secrets;
pub mod sqs;
pub mod timer;

pub use aws_config::SdkConfig;
