//! The configuration that all clients share: Region and credentials as the SDK finds them, retries with jitter
//! inside the invocation's [`Budget`](crate::budget::Budget), and timeouts on every attempt.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};

/// Most attempts of one call, the first included.
const MAX_ATTEMPTS: u32 = 5;

/// Loads it. Region, credentials and endpoint come from where the SDK always looks for them.
pub async fn load() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(15))
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        .timeout_config(timeouts)
        .load()
        .await
}
