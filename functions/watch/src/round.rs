//! One round of the watch.

use std::sync::Arc;

use sentinel_durable::{
    Clock, Queue,
    outbox::{self, OutboxError},
};
use sentinel_model::{Timestamp, time};
use sentinel_search::SearchIndex;
use sentinel_state::{
    Table, TableError,
    polls::Polls,
    sources::{Sources, StoredHeartbeat},
};
use sentinel_telemetry::metrics;
use serde::Serialize;

use crate::{
    forget::{self, ForgetError},
    silence,
};

/// Seconds after its last success at which a poll has stalled.
pub const STALLED_SECONDS: i64 = 15 * 60;

/// A poll that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The account asked.
    pub account: String,
    /// The Region asked.
    pub region: String,
}

/// What is watched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Minutes of quiet that no source has to explain.
    pub silence_minutes: u32,
    /// Polls that have to succeed.
    pub polls: Vec<Poll>,
}

/// What a round found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Round {
    /// Messages of the outbox that were sent.
    pub relayed: usize,
    /// Sources known.
    pub sources: usize,
    /// Sources that are silent.
    pub silent: usize,
    /// Polls that have stalled, or never succeeded.
    pub stalled: usize,
    /// Events that the search index forgot.
    pub forgotten: u64,
}

/// What failed of a round; the rest of it was done.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct WatchError(pub Vec<PartError>);

/// One part of a round that failed.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// What lay in the outbox was not sent, or not all of it.
    #[error("the outbox could not be sent: {0}")]
    Outbox(#[from] OutboxError),
    /// Sources could not be looked at.
    #[error("sources could not be looked at: {0}")]
    Sources(#[source] TableError),
    /// Polls could not be looked at.
    #[error("polls could not be looked at: {0}")]
    Polls(#[source] TableError),
    /// Old events are still in the search index.
    #[error("old events could not be forgotten: {0}")]
    Forget(#[from] ForgetError),
}

/// The stage over its ports.
pub struct Watch {
    table: Arc<dyn Table>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    forgets: Option<(Arc<dyn SearchIndex>, u32)>,
}

impl Watch {
    /// The stage over these ports.
    pub fn new(table: Arc<dyn Table>, queue: Arc<dyn Queue>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self { table, queue, clock, settings, forgets: None }
    }

    /// Has events forgotten that are older than `days` in this index.
    #[must_use]
    pub fn forgetting(mut self, search: Arc<dyn SearchIndex>, days: u32) -> Self {
        self.forgets = Some((search, days));
        self
    }

    /// One round. A part that fails stops no other; its gauge is then not written.
    pub async fn round(&self) -> Result<Round, WatchError> {
        let mut round = Round::default();
        let mut failed = Vec::new();
        match outbox::relay(self.table.as_ref(), self.queue.as_ref()).await {
            Ok(relayed) => {
                round.relayed = relayed;
                metrics::outbox_relayed(relayed as u64);
            }
            Err(e) => failed.push(PartError::Outbox(e)),
        }
        match self.look_for_silence().await {
            Ok((sources, silent)) => {
                (round.sources, round.silent) = (sources, silent);
                metrics::silent_sources(silent as u64);
            }
            Err(e) => failed.push(PartError::Sources(e)),
        }
        match self.look_for_stalled_polls().await {
            Ok(stalled) => {
                round.stalled = stalled;
                metrics::stalled_polls(stalled as u64);
            }
            Err(e) => failed.push(PartError::Polls(e)),
        }
        // Last: it may take what is left of the time.
        if let Some((search, days)) = &self.forgets {
            match forget::once_a_day(self.table.as_ref(), search.as_ref(), *days, self.clock.now()).await {
                Ok(forgotten) => round.forgotten = forgotten,
                Err(e) => failed.push(PartError::Forget(e)),
            }
        }
        if failed.is_empty() { Ok(round) } else { Err(WatchError(failed)) }
    }

    async fn look_for_silence(&self) -> Result<(usize, usize), TableError> {
        let (sources, now) = (Sources::new(Arc::clone(&self.table)), self.clock.now());
        let all = sources.list().await?;
        let mut silent = 0;
        for stored in &all {
            let is_silent = silence::is_silent(&stored.heartbeat, self.settings.silence_minutes, now);
            silent += usize::from(is_silent);
            if is_silent != stored.heartbeat.silent_since.is_some() {
                self.tell(&sources, stored, is_silent, now).await?;
            }
        }
        Ok((all.len(), silent))
    }

    /// Remembers that a source fell silent or came back, and tells it once.
    async fn tell(
        &self,
        sources: &Sources,
        stored: &StoredHeartbeat,
        is_silent: bool,
        now: Timestamp,
    ) -> Result<(), TableError> {
        if !sources.mark(stored, is_silent.then_some(now)).await? {
            return Ok(());
        }
        let heartbeat = &stored.heartbeat;
        let (source, last_seen) = (&heartbeat.source, heartbeat.last_seen);
        let (account, region, delivery) = (&source.account, &source.region, source.delivery.as_str());
        if is_silent {
            let quiet_minutes = time::seconds_between(last_seen, now) / 60;
            let expected_minutes = silence::threshold(heartbeat, self.settings.silence_minutes) / 60;
            tracing::error!(
                account, region, delivery, %last_seen, quiet_minutes, expected_minutes,
                "a source of logs fell silent"
            );
        } else {
            tracing::warn!(account, region, delivery, %last_seen, "a source of logs delivers again");
        }
        Ok(())
    }

    async fn look_for_stalled_polls(&self) -> Result<usize, TableError> {
        let (polls, now) = (Polls::new(Arc::clone(&self.table)), self.clock.now());
        let mut stalled = 0;
        for Poll { account, region } in &self.settings.polls {
            let stored = polls.get(account, region).await?;
            let last = stored.as_ref().map(|s| s.cursor.last_success);
            if last.is_some_and(|last| time::seconds_between(last, now) <= STALLED_SECONDS) {
                continue;
            }
            stalled += 1;
            let error = stored.as_ref().and_then(|s| s.cursor.error.as_deref()).unwrap_or("none is known");
            let last = last.map_or_else(|| "never".to_owned(), |t| t.to_string());
            tracing::error!(account, region, last_success = last, error, "a poll of the CloudTrail API has stalled");
        }
        Ok(stalled)
    }
}

#[cfg(test)]
mod tests;
