//! The Lambda of enrich: detections from its queue; alerts and incidents in the table; raised alerts to respond's.

mod config;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use async_trait::async_trait;
use config::Config;
use sentinel_durable::Stage;
use sentinel_enrich::{Enrich, OwnActions, OwnActionsError, Ports, Settings, Sources};
use sentinel_lambda::{StageQueue, exit, serve_queue, start};
use sentinel_model::Member;
use sentinel_state::responses::{OwnActivity, Responses};

// One thread: at its memory the function has a fraction of a processor, which more threads would only share.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("enrich").await?;
    let config = start.env.read(Config::read)?;
    let table = config.deployed.table(&start);
    let queue = config.deployed.queue(&start, None);
    let ports = Ports {
        table: table.clone(),
        queue: Arc::new(queue.clone()),
        search: config.deployed.search(&start, &table)?,
        clock: start.clock.clone(),
        own: Arc::new(Own(OwnActivity::new(Responses::new(table), config.own_roles.clone()))),
    };
    let settings = Settings { own_roles: config.own_roles, sources: Sources::default() };
    serve_queue(start, StageQueue::new(Stage::Enrich, queue), Arc::new(Enrich::new(ports, settings))).await
}

/// Enrich asks respond's records which events are our own.
struct Own(OwnActivity);

#[async_trait]
impl OwnActions for Own {
    async fn is_ours(&self, account: &str, member: &Member) -> Result<bool, OwnActionsError> {
        self.0.is_ours(account, member).await.map_err(OwnActionsError::new)
    }

    async fn note_ours(&self, account: &str, member: &Member) -> Result<bool, OwnActionsError> {
        self.0.note_ours(account, member).await.map_err(OwnActionsError::new)
    }
}
