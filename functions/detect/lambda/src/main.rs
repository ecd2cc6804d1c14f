//! The Lambda of detect: event batches from its queue, detections to enrich's.

mod config;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use config::Config;
use sentinel_aws::connect;
use sentinel_detect::{
    Config as Settings, Detect, Kept, PackAhead, RuleKeeper, Scorer, SharedRules, StoredCorrelations,
    models::{CachedBaselines, Model, ModelScorer, TableBaselines},
};
use sentinel_durable::{Stage, worker::Handler};
use sentinel_lambda::{StageQueue, Start, exit, serve_queue, start};
use sentinel_state::Table;
use sentinel_telemetry::metrics;
use tokio::time::timeout;

/// Loading rules makes many small pieces, which is most of a start.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest that the first look at operators' rules may hold up the start; the first batch looks again then.
const FIRST_LOOK: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("detect").await?;
    let config = start.env.read(Config::read)?;
    let pack = config.default_rules.then(PackAhead::start);
    let table = config.deployed.table(&start);
    let queue = config.deployed.queue(&start, None);
    let rules = Arc::new(SharedRules::default());
    let models = config.models.then(|| tokio::task::spawn_blocking(Model::embedded));
    let keeper = keeper(&start, &config, &table, &rules, pack);
    if let Some(keeper) = &keeper
        && timeout(FIRST_LOOK, keeper.look()).await.is_err()
    {
        tracing::warn!("operators' rules were not read in time; the first batch looks again");
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

/// Keeps operators' rules in force; without a place for them, our own pack alone is.
fn keeper(
    start: &Start,
    config: &Config,
    table: &Arc<dyn Table>,
    rules: &Arc<SharedRules>,
    pack: Option<PackAhead>,
) -> Option<Arc<RuleKeeper>> {
    metrics::rules_alarm(false);
    let Some(at) = &config.rules else {
        if let Some(pack) = pack {
            rules.replace(pack.alone());
        }
        return None;
    };
    let source = Arc::new(connect::rules(&start.sdk, &at.bucket, &at.prefix));
    let (table, clock, rules) = (Arc::clone(table), Arc::clone(&start.clock), Arc::clone(rules));
    let keeper = RuleKeeper::new(source, table, clock, rules);
    Some(Arc::new(match pack {
        Some(pack) => keeper.with_pack(pack),
        None => keeper,
    }))
}

/// States are kept warm: not every batch writes them.
fn scorer(model: Model, start: &Start, table: &Arc<dyn Table>) -> Arc<dyn Scorer> {
    let version = model.manifest().version.clone();
    let stored = TableBaselines::new(Arc::clone(table), Arc::clone(&start.clock), version);
    Arc::new(ModelScorer::new(model, Arc::new(CachedBaselines::new(Arc::new(stored)))))
}
