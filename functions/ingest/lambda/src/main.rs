//! The Lambda of ingest: events from a bus, objects of a trail's bucket, or the CloudTrail API, by configuration.

mod bus;
mod config;
mod heartbeat;
mod objects;
mod poll;
#[cfg(test)]
mod testing;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use config::{Config, Source};
use heartbeat::Beats;
use sentinel_aws::{
    cloudtrail::CloudTrailLookup,
    connect,
    objects::{S3Objects, SqsContinuations},
};
use sentinel_ingest::{Ingest, poll::Poller};
use sentinel_lambda::{exit, serve_events, serve_queue, start};

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("ingest").await?;
    let Config { deployed, source } = start.env.read(Config::read)?;
    let table = deployed.table(&start);
    let (archive, queue) = (Arc::new(deployed.archive(&start)), Arc::new(deployed.queue(&start, None)));
    let ingest = Arc::new(Ingest::new(archive, deployed.search(&start, &table)?, queue, start.clock.clone()));
    let beats = Beats::new(table.clone(), start.clock.clone());
    match source {
        Source::Bus { bus, queue_url } => {
            let intake = Arc::new(connect::plain_queue(&start.sdk, &queue_url));
            serve_queue(start, intake, Arc::new(bus::Bus::new(ingest, beats, bus))).await
        }
        Source::Objects { queue_url, trail_buckets } => {
            let objects = Arc::new(S3Objects::connect(&start.sdk));
            let intake = Arc::new(connect::plain_queue(&start.sdk, &queue_url));
            let continuations = Arc::new(SqsContinuations::connect(&start.sdk, queue_url));
            let stop = objects::stop_before_the_end_of(start.budget.clone());
            let handler = objects::ObjectHandler::new(ingest, objects, continuations, beats, trail_buckets, stop);
            serve_queue(start, intake, Arc::new(handler)).await
        }
        Source::Poll { account, regions } => {
            let lookup = Arc::new(CloudTrailLookup::new(&start.sdk));
            let poller = Arc::new(Poller::new(lookup, ingest, table, start.clock.clone()));
            let budget = start.budget.clone();
            let round = move || {
                poll::round(Arc::clone(&poller), account.clone(), regions.clone(), poll::time_of(budget.remaining()))
            };
            serve_events(start, move |_| round()).await
        }
    }
}
