//! The Lambda of watch: every minute, what a crash left is sent, and what should have come is looked for; every
//! day, OpenSearch forgets old events.

mod config;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use config::Config;
use sentinel_aws::notify::SnsNotifier;
use sentinel_lambda::{exit, serve_events, start};
use sentinel_watch::Watch;

// One thread: at its memory the function has a fraction of a processor, which more threads would only share.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("watch").await?;
    let Config { deployed, settings, search_days, topic } = start.env.read(Config::read)?;
    let (table, queue) = (deployed.table(&start), Arc::new(deployed.queue(&start, None)));
    let operators = Arc::new(SnsNotifier::new(&start.sdk, topic));
    let mut watch = Watch::new(Arc::clone(&table), queue, operators, start.clock.clone(), settings);
    if deployed.search_endpoint.is_some() {
        watch = watch.forgetting(deployed.search(&start, &table)?, search_days);
    }
    let watch = Arc::new(watch);
    serve_events(start, move |_| {
        let watch = Arc::clone(&watch);
        async move { Ok(serde_json::to_value(watch.round().await?)?) }
    })
    .await
}
