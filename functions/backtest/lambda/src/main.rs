//! The Lambda of backtest: every minute, the first backtest that waits is done, if no other invocation does one.

mod config;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use config::Config;
use sentinel_aws::connect;
use sentinel_backtest::{StoredRules, Worker};
use sentinel_detect::RuleSource;
use sentinel_lambda::{exit, serve_events, start};
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("backtest").await?;
    let Config { deployed, rules, default_rules } = start.env.read(Config::read)?;
    let table = deployed.table(&start);
    let source = |(bucket, prefix): (String, String)| -> Arc<dyn RuleSource> {
        Arc::new(connect::rules(&start.sdk, &bucket, &prefix))
    };
    let in_force = Arc::new(StoredRules::new(Arc::clone(&table), rules.map(source), default_rules));
    let (archive, clock) = (Arc::new(deployed.archive(&start)), Arc::clone(&start.clock));
    let worker = Arc::new(Worker::new(table, archive, clock, in_force));
    let budget = start.budget.clone();
    serve_events(start, move |_| {
        let (worker, left) = (Arc::clone(&worker), budget.remaining());
        async move { Ok(json!({ "found": worker.turn(left).await? })) }
    })
    .await
}
