//! Objects of a trail's bucket: each message tells of one or more; each is read as a stream, and cut where the
//! invocation's time ends.
//!
//! What is left of a cut object, and objects that there was no time to begin, go to the same queue as messages
//! of our own: no receive of theirs is used up, and none is lost with this invocation.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use sentinel_aws::{budget::Budget, objects::SqsContinuations};
use sentinel_durable::{Message, Outcome, worker::Handler};
use sentinel_ingest::{
    Ingest, Input, Limits, Report, notification,
    objects::{Objects, OpenObject, Slice},
    reader::KeyHints,
};
use sentinel_model::Channel;
use sentinel_state::sources::{Delivery, Source};
use sentinel_telemetry::metrics;
use tokio::runtime::Handle;

use crate::heartbeat::Beats;

/// Time that must be left for another batch of events: for it, and for all that follows.
const MARGIN: Duration = Duration::from_secs(10);
/// Most text of one object; CloudTrail's files have some hundred megabytes at most.
const LARGEST_BYTES: u64 = 2 << 30;

/// Says when to stop.
pub(crate) type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Stops while there is time to end in order.
pub(crate) fn stop_before_the_end_of(budget: Budget) -> Stop {
    Arc::new(move || budget.remaining() < MARGIN)
}

/// Where the messages go that continue an object.
#[async_trait]
pub(crate) trait Continuations: Send + Sync {
    /// Sends one; when it returns, the message is durable.
    async fn send(&self, body: String) -> Result<()>;
}

#[async_trait]
impl Continuations for SqsContinuations {
    async fn send(&self, body: String) -> Result<()> {
        Ok(SqsContinuations::send(self, body).await?)
    }
}

/// Takes in objects.
pub(crate) struct ObjectHandler {
    ingest: Arc<Ingest>,
    objects: Arc<dyn Objects>,
    continuations: Arc<dyn Continuations>,
    beats: Beats,
    trail_buckets: BTreeSet<String>,
    stop: Stop,
}

impl ObjectHandler {
    /// `trail_buckets` are those that only CloudTrail can write.
    pub(crate) fn new(
        ingest: Arc<Ingest>,
        objects: Arc<dyn Objects>,
        continuations: Arc<dyn Continuations>,
        beats: Beats,
        trail_buckets: BTreeSet<String>,
        stop: Stop,
    ) -> Self {
        Self { ingest, objects, continuations, beats, trail_buckets, stop }
    }

    /// `begun` says whether an object was begun in this delivery: the first one always is, so that every
    /// delivery gets further.
    async fn message(&self, message: &Message, begun: &mut bool) -> Outcome {
        let notice = match notification::read(&message.body) {
            Ok(notice) => notice,
            Err(e) => return Outcome::Retry(e.to_string()),
        };
        for (why, count) in notice.skipped {
            tracing::debug!(message_id = %message.id, why = why.as_str(), count, "objects skipped");
            metrics::skipped_objects(why.as_str(), count);
        }
        let mut failed = Vec::new();
        for slice in notice.objects {
            let late = *begun && (self.stop)();
            *begun = true;
            let done = if late { self.later(&slice).await } else { self.take(slice).await };
            failed.extend(done.err().map(|e| format!("{e:#}")));
        }
        if failed.is_empty() { Outcome::Done } else { Outcome::Retry(failed.join("; ")) }
    }

    async fn later(&self, slice: &Slice) -> Result<()> {
        let body = notification::continuation(slice)?;
        self.continuations.send(body).await.context("the rest could not be put off")
    }

    async fn take(&self, slice: Slice) -> Result<()> {
        let open = self.objects.open(&slice).await?;
        // What is continued must be what was begun, even where the notification did not say what that is.
        let slice =
            Slice { version: open.version.clone().or(slice.version), etag: open.etag.clone().or(slice.etag), ..slice };
        let report = self.read(&slice, open).await?;
        if let Some(cut) = report.cut {
            tracing::info!(
                bucket = slice.bucket,
                key = slice.key,
                records = cut.records,
                "an object is continued later"
            );
            self.later(&Slice { skip_records: cut.records, ..slice.clone() }).await?;
        }
        if let Some(first) = report.malformed.first() {
            let (count, first) = (report.malformed_count, format!("{}: {}", first.position, first.reason));
            if report.records == 0 && slice.skip_records == 0 {
                bail!("nothing in {} of bucket {} can be read: {first}", slice.key, slice.bucket);
            }
            tracing::warn!(bucket = slice.bucket, key = slice.key, count, first, "an object holds what is no record");
        }
        let hints = KeyHints::of(&slice.key);
        if let (Some(account), Some(region)) = (hints.account, hints.region) {
            self.beats.note([Source { account, region, delivery: Delivery::Objects }].into()).await;
        }
        Ok(())
    }

    /// Reads an object off the threads that serve connections; ends soon after it is no longer waited for.
    async fn read(&self, slice: &Slice, open: OpenObject) -> Result<Report> {
        let only_cloudtrail_writes = self.trail_buckets.contains(&slice.bucket);
        let (bucket, key) = (slice.bucket.clone(), slice.key.clone());
        let channel = Channel::Object { bucket, key: key.clone(), only_cloudtrail_writes };
        let (ingest, stop, skip) = (Arc::clone(&self.ingest), Arc::clone(&self.stop), slice.skip_records);
        let waited_for = Abandon::default();
        let abandoned = Arc::clone(&waited_for.0);
        let handle = Handle::current();
        let read = tokio::task::spawn_blocking(move || {
            let input = Input::new(&key, open.reader, channel);
            let input = input.limits(Limits { input_bytes: LARGEST_BYTES, ..Limits::generous() });
            let mut input = input.resumable(skip, move || abandoned.load(Ordering::Relaxed) || stop());
            input.modified = open.modified;
            handle.block_on(ingest.accept(input))
        });
        Ok(read.await.context("reading panicked")??)
    }
}

/// Says, once dropped, that nobody waits any more.
#[derive(Default)]
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Handler for ObjectHandler {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut begun = false;
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in &batch {
            outcomes.push(self.message(message, &mut begun).await);
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
