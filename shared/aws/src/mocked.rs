//! SDK clients for tests: they answer by rules and send nothing.

use aws_config::{BehaviorVersion, retry::RetryConfig};
use aws_smithy_mocks::{MockResponseInterceptor, Rule, RuleMode, create_mock_http_client};

/// A client of one service that answers by rules, in their order where several match. It tries what is worth
/// another try twice more, without rest.
macro_rules! client {
    ($name:ident, $service:ident) => {
        pub(crate) fn $name(rules: &[&Rule]) -> $service::Client {
            use $service::config::{Config, Credentials, Region};
            let answers = rules
                .iter()
                .fold(MockResponseInterceptor::new().rule_mode(RuleMode::MatchAny), |all, rule| all.with_rule(rule));
            let retries =
                RetryConfig::standard().with_max_attempts(3).with_initial_backoff(std::time::Duration::from_millis(1));
            let config = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
                .retry_config(retries)
                .http_client(create_mock_http_client())
                .interceptor(answers)
                .build();
            $service::Client::from_conf(config)
        }
    };
}

client!(s3, aws_sdk_s3);
client!(sqs, aws_sdk_sqs);
client!(scheduler, aws_sdk_scheduler);
client!(iam, aws_sdk_iam);
client!(sts, aws_sdk_sts);
client!(sns, aws_sdk_sns);
client!(secrets, aws_sdk_secretsmanager);
client!(cloudtrail, aws_sdk_cloudtrail);
