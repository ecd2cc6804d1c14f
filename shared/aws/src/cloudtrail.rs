//! The account's own CloudTrail API (`LookupEvents`) behind the poller's port.
//!
//! One request a call and no retries: the poller keeps the service's limit of two requests a second for each
//! account and Region (CloudTrail API Reference, `LookupEvents`), which attempts of the client's own would break.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use aws_config::{Region, SdkConfig, retry::RetryConfig};
use aws_sdk_cloudtrail::Client;
use aws_smithy_types::DateTime;
use sentinel_ingest::poll::{LookupError, LookupPage, TrailLookup};
use sentinel_model::Timestamp;

use crate::sdk::CallError;

/// IAM actions of this module.
pub const ACTIONS: &[&str] = &[LOOKUP];

const LOOKUP: &str = "cloudtrail:LookupEvents";
/// Most events of a page.
const PAGE: i32 = 50;

/// `LookupEvents` with the process's credentials.
pub struct CloudTrailLookup {
    config: aws_sdk_cloudtrail::Config,
    clients: Mutex<HashMap<String, Client>>,
}

impl CloudTrailLookup {
    /// Over the process's credentials; Regions are named by each call.
    pub fn new(config: &SdkConfig) -> Self {
        Self::over(aws_sdk_cloudtrail::config::Builder::from(config))
    }

    fn over(config: aws_sdk_cloudtrail::config::Builder) -> Self {
        Self { config: config.retry_config(RetryConfig::disabled()).build(), clients: Mutex::default() }
    }

    fn client(&self, region: &str) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
            Client::from_conf(config)
        };
        clients.entry(region.to_owned()).or_insert_with(make).clone()
    }
}

#[async_trait]
impl TrailLookup for CloudTrailLookup {
    async fn page(
        &self,
        region: &str,
        start: Timestamp,
        end: Timestamp,
        next: Option<String>,
    ) -> Result<LookupPage, LookupError> {
        let request = self.client(region).lookup_events().max_results(PAGE).set_next_token(next);
        // The API takes whole seconds and gives events of its end too; the port's end is exclusive.
        let request = request.start_time(DateTime::from_secs(start.as_second()));
        let request = request.end_time(DateTime::from_secs(end.as_second() - 1));
        let answer = request.send().await.map_err(|e| refused(&CallError::new(LOOKUP, &e)))?;
        let events = answer.events.unwrap_or_default();
        let without = events.iter().filter(|event| event.cloud_trail_event.is_none()).count();
        if without > 0 {
            tracing::warn!(region, without, "events of LookupEvents without a record");
        }
        let records = events.into_iter().filter_map(|event| event.cloud_trail_event).collect();
        Ok(LookupPage { records, next: answer.next_token.filter(|token| !token.is_empty()) })
    }
}

fn refused(error: &CallError) -> LookupError {
    let text = error.to_string();
    match error.code.as_deref() {
        Some(
            "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "RequestThrottled"
            | "RequestThrottledException",
        ) => LookupError::Throttled,
        Some("InvalidNextTokenException") => LookupError::Restart,
        Some(
            "AccessDeniedException"
            | "AccessDenied"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "OptInRequired"
            | "OperationNotPermittedException",
        ) => LookupError::Denied(text),
        _ => LookupError::Passing(text),
    }
}

#[cfg(test)]
mod tests;
