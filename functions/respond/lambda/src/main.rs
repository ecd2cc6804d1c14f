//! The Lambda of respond: raised alerts, decisions and due steps from its queue; on a schedule, responses that got
//! stuck. The only function that may change anything in IAM.

mod config;
mod webhook;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use config::{Config, Webhook};
use sentinel_aws::{connect, iam::AwsIam, notify::SnsNotifier};
use sentinel_durable::Stage;
use sentinel_lambda::{StageQueue, Start, exit, serve_queue_and_events, start};
use sentinel_respond::{LogNotifier, Notifier, Playbooks, Ports, Respond};
use sentinel_state::{alerts::Alerts, responses::Responses, users::Users};
use serde_json::json;

// One thread: at its memory the function has a fraction of a processor, which more threads would only share.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("respond").await?;
    let config = start.env.read(Config::read)?;
    let table = config.deployed.table(&start);
    let queue = config.deployed.queue(&start, Some(table.clone()));
    let timer = connect::timer(&start.sdk, queue.clone(), table.clone(), Some(config.schedules));
    let iam = AwsIam::new(&start.sdk, config.account, config.member, start.clock.clone());
    let ports = Ports {
        iam: Arc::new(iam.under(config.own_role)),
        responses: Responses::new(table.clone()),
        alerts: Arc::new(Alerts::new(table.clone())),
        approvers: Arc::new(Users::new(table)),
        notifiers: notifiers(&start, config.topic, config.webhook)?,
        queue: Arc::new(queue.clone()),
        timer: Arc::new(timer),
        clock: start.clock.clone(),
    };
    let respond = Arc::new(Respond::new(ports, config.settings, Playbooks::shipped()?)?);
    let resumes = Arc::clone(&respond);
    serve_queue_and_events(start, StageQueue::new(Stage::Respond, queue), respond, move |_| {
        let respond = Arc::clone(&resumes);
        async move { Ok(json!({ "open": respond.resume_open().await? })) }
    })
    .await
}

fn notifiers(start: &Start, topic: Option<String>, webhook: Option<Webhook>) -> Result<Vec<Arc<dyn Notifier>>> {
    let mut notifiers: Vec<Arc<dyn Notifier>> = vec![Arc::new(LogNotifier)];
    if let Some(topic) = topic {
        notifiers.push(Arc::new(SnsNotifier::new(&start.sdk, topic)));
    }
    if let Some(webhook) = webhook {
        notifiers.push(webhook::notifier(start, webhook)?);
    }
    Ok(notifiers)
}
