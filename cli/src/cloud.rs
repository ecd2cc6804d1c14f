//! One real account, watched and answered for from this machine: who the process is at AWS, the poll of its
//! CloudTrail, and its IAM.
//!
//! In: the credentials as the AWS SDK finds them, the Regions to poll, respond's settings. Out: polls that feed
//! ingest, and the IAM port; a mistake in either is named before anything is served.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use sentinel_aws::{SdkConfig, budget::Budget, cloudtrail::CloudTrailLookup, iam, sdk};
use sentinel_durable::Clock;
use sentinel_ingest::poll::{PollReport, Poller};
use sentinel_model::response::Mode;
use sentinel_respond::Iam;
use tokio::{sync::watch, task::JoinSet};

use crate::{args::AccountPort, config::RespondConfig, pipeline::Pipeline};

/// Pause between two polls of a Region, from one's start to the next one's.
const POLLING: Duration = Duration::from_mins(1);
/// How long one poll may take.
const BUDGET: Duration = Duration::from_secs(50);

/// The account behind the credentials.
pub(crate) struct Cloud {
    sdk: SdkConfig,
    caller: iam::Caller,
}

impl Cloud {
    /// Finds out who the process is, when an account is to be connected or polled; checks that a mode that acts
    /// does so under the role that own calls are known by.
    pub(crate) async fn reach(account: AccountPort, poll: &[String], respond: &RespondConfig) -> Result<Option<Self>> {
        if account != AccountPort::Aws && poll.is_empty() {
            return Ok(None);
        }
        let sdk = sdk::load(Budget::unlimited(), sdk::Trust::Machine, sdk::Credentials::Anywhere).await;
        let caller = iam::caller(&sdk).await.context("asking AWS who this process is")?;
        if account == AccountPort::Aws
            && let Some(role) = &respond.own_role
            && respond.mode != Mode::Observe
        {
            caller.check_role(role)?;
        }
        Ok(Some(Self { sdk, caller }))
    }

    /// The account's IAM.
    pub(crate) fn iam(&self, clock: Arc<dyn Clock>) -> Arc<dyn Iam> {
        Arc::new(iam::AwsIam::new(&self.sdk, &self.caller.account, None, clock))
    }

    /// Says what is connected.
    pub(crate) fn tell(&self, account: AccountPort, poll: &[String]) {
        let iam::Caller { account: id, arn } = &self.caller;
        if account == AccountPort::Aws {
            println!("Connected to account {id} as {arn}.");
        }
        if !poll.is_empty() {
            println!("Asking CloudTrail of account {id} every minute in {}.", poll.join(", "));
        }
    }

    /// Polls each Region every minute until `stop` says so.
    pub(crate) fn start_polls(
        &self,
        pipeline: &Pipeline,
        regions: &[String],
        tasks: &mut JoinSet<()>,
        stop: &watch::Receiver<bool>,
    ) {
        let poller = Poller::new(
            Arc::new(CloudTrailLookup::new(&self.sdk)),
            Arc::clone(&pipeline.ingest),
            pipeline.database.table(),
            Arc::clone(&pipeline.clock),
        );
        // One process holds the data folder.
        let poller = Arc::new(poller.named("serve"));
        for region in regions {
            tasks.spawn(poll(Arc::clone(&poller), self.caller.account.clone(), region.clone(), stop.clone()));
        }
    }
}

async fn poll(poller: Arc<Poller>, account: String, region: String, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(POLLING);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !*stop.borrow() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => return,
        }
        // A run that is dropped in the middle is one that was cut: the next one takes up what it left.
        let outcome = tokio::select! {
            outcome = poller.poll(&account, &region, BUDGET) => outcome,
            _ = stop.changed() => return,
        };
        match outcome {
            Ok(report) => tell(&account, &region, &report),
            Err(e) => {
                sentinel_telemetry::error("ingest");
                tracing::error!(account, region, error = %e, "the poll failed; the next one goes on from there");
            }
        }
    }
}

fn tell(account: &str, region: &str, report: &PollReport) {
    let PollReport { requests, read, handed_on, behind_seconds, .. } = report;
    if report.held_elsewhere {
        tracing::info!(account, region, "another process polls, or did until it was killed minutes ago");
    } else if *behind_seconds > 0 {
        tracing::warn!(account, region, requests, read, handed_on, behind_seconds, "the poll is behind");
    } else {
        tracing::debug!(account, region, requests, read, handed_on, "polled");
    }
}
