//! The Lambda of detect: event batches from its queue, detections to enrich's.

mod config;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use config::Config;
use sentinel_aws::connect;
use sentinel_detect::{
    Config as Settings, Detect, Kept, RuleKeeper, RuleSet, Scorer, SharedRules, StoredCorrelations,
    models::{CachedBaselines, Model, ModelScorer, TableBaselines},
};
use sentinel_durable::{Stage, worker::Handler};
use sentinel_lambda::{StageQueue, Start, exit, serve_queue, start};
use sentinel_state::Table;
use sentinel_telemetry::metrics;
use tokio::time::timeout;

/// Longest that the first look at operators' rules may hold up the start; the first batch looks again then.
const FIRST_LOOK: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("detect").await?;
    let config = start.env.read(Config::read)?;
    let table = config.deployed.table(&start);
    let queue = config.deployed.queue(&start, None);
    let rules = Arc::new(SharedRules::default());
    let keeper = keeper(&start, &config, &table, &rules);
    let models = config.models.then(|| tokio::task::spawn_blocking(Model::embedded));
    match &keeper {
        Some(keeper) if timeout(FIRST_LOOK, keeper.look()).await.is_ok() => {}
        Some(_) => tracing::warn!("operators' rules were not read in time; the first batch looks again"),
        None if config.default_rules => rules.replace(RuleSet::default_pack()),
        None => {}
    }
    let scorer: Option<Arc<dyn Scorer>> = match models {
        Some(loading) => Some(scorer(loading.await?.context("loading the behaviour model")?, &start, &table)),
        None => None,
    };
    let correlations = StoredCorrelations::new(Arc::clone(&table), Arc::clone(&start.clock));
    let detect = Detect::new(rules, scorer, Arc::new(queue.clone()), Settings { own_roles: config.own_roles });
    let detect = Arc::new(detect.with_correlations(correlations));
    let handler: Arc<dyn Handler> = match keeper {
        Some(keeper) => Arc::new(Kept::new(keeper, detect)),
        None => detect,
    };
    serve_queue(start, StageQueue::new(Stage::Detect, queue), handler).await
}

fn keeper(start: &Start, config: &Config, table: &Arc<dyn Table>, rules: &Arc<SharedRules>) -> Option<Arc<RuleKeeper>> {
    metrics::rules_alarm(false);
    let at = config.rules.as_ref()?;
    let source = Arc::new(connect::rules(&start.sdk, &at.bucket, &at.prefix));
    let (table, clock, rules) = (Arc::clone(table), Arc::clone(&start.clock), Arc::clone(rules));
    Some(Arc::new(RuleKeeper::new(source, table, clock, rules, config.default_rules)))
}

/// States are kept warm: not every batch writes them.
fn scorer(model: Model, start: &Start, table: &Arc<dyn Table>) -> Arc<dyn Scorer> {
    let version = model.manifest().version.clone();
    let stored = TableBaselines::new(Arc::clone(table), Arc::clone(&start.clock), version);
    Arc::new(ModelScorer::new(model, Arc::new(CachedBaselines::new(Arc::new(stored)))))
}
