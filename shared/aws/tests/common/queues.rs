//! Queues, timers and a table in the emulator, made anew for each test.

#![allow(dead_code, unreachable_pub, reason = "a module of several test binaries, of which each uses a part")]
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use sentinel_aws::claims::Claims;
use sentinel_aws::dynamodb::{DynamoTable, create_table};
use sentinel_aws::sqs::{Queues, SqsQueue};
use sentinel_aws::timer::{ScheduledTimer, Schedules};
use sentinel_durable::{Clock, Queue, Stage, SystemClock, Timer, conformance::Setup, queue::MAX_RECEIVES};
use sentinel_state::Table;
use serde_json::json;

use crate::common::unique;

/// What the template makes: queues with their dead-letter queues, a bucket, a table, a schedule group.
pub struct Fixture {
    /// How the emulator is reached.
    pub config: SdkConfig,
    /// The queues' URLs.
    pub queues: Queues,
    /// The queues' ARNs.
    pub arns: BTreeMap<Stage, String>,
    /// The bucket that claims lie in.
    pub bucket: String,
    /// The table's name.
    pub table: String,
    /// The schedule group.
    pub group: String,
}

impl Fixture {
    /// Makes all of it.
    pub async fn new(config: &SdkConfig) -> Self {
        let (bucket, table, group) = (unique("data"), unique("table"), unique("group"));
        let s3 = aws_sdk_s3::Client::new(config);
        s3.create_bucket().bucket(&bucket).send().await.expect("a bucket");
        create_table(&aws_sdk_dynamodb::Client::new(config), &table).await.expect("a table");
        let scheduler = aws_sdk_scheduler::Client::new(config);
        scheduler.create_schedule_group().name(&group).send().await.expect("a group");
        let mut made =
            Self { config: config.clone(), queues: Queues::default(), arns: BTreeMap::new(), bucket, table, group };
        let sqs = aws_sdk_sqs::Client::new(config);
        for stage in Stage::ALL {
            let (dead, dead_arn) = queue(&sqs, None).await;
            let (url, arn) = queue(&sqs, Some(&dead_arn)).await;
            made.queues = made.queues.with(stage, url).with_dead(stage, dead);
            made.arns.insert(stage, arn);
        }
        made
    }

    /// The adapter of the queues.
    pub fn sqs(&self) -> SqsQueue {
        let claims = Claims::new(aws_sdk_s3::Client::new(&self.config), &self.bucket);
        SqsQueue::new(aws_sdk_sqs::Client::new(&self.config), self.queues.clone(), claims, Some(self.table()))
    }

    /// The adapter of the timers.
    pub fn scheduled(&self) -> ScheduledTimer {
        let schedules = Schedules {
            client: aws_sdk_scheduler::Client::new(&self.config).into(),
            group: self.group.clone(),
            role_arn: "arn:aws:iam::123456789012:role/schedules".into(),
            queue_arns: self.arns.clone(),
            dead_arn: None,
        };
        ScheduledTimer::new(self.sqs(), self.table(), Some(schedules))
    }
}

/// Makes a queue; returns its URL and ARN.
async fn queue(sqs: &aws_sdk_sqs::Client, dead_arn: Option<&str>) -> (String, String) {
    let mut call = sqs.create_queue().queue_name(unique("queue"));
    if let Some(arn) = dead_arn {
        let redrive = json!({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES}).to_string();
        call = call.attributes(QueueAttributeName::RedrivePolicy, redrive);
    }
    let url = call.send().await.expect("a queue").queue_url.expect("its URL");
    let asked = sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn);
    let attributes = asked.send().await.expect("its attributes").attributes.expect("its ARN");
    (url, attributes[&QueueAttributeName::QueueArn].clone())
}

#[async_trait]
impl Setup for Fixture {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.sqs())
    }
    fn timer(&self) -> Arc<dyn Timer> {
        Arc::new(self.scheduled())
    }
    fn table(&self) -> Arc<dyn Table> {
        Arc::new(DynamoTable::new(aws_sdk_dynamodb::Client::new(&self.config), &self.table, self.clock()))
    }
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
    /// The service has a clock of its own, so time really passes.
    async fn pass(&self, seconds: u32) {
        tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    }
    async fn restart(&self) {}
}
