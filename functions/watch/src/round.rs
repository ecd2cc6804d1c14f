//! One round of the watch.

use std::sync::Arc;

use sentinel_durable::{
    Clock, Queue,
    outbox::{self, OutboxError},
};
use sentinel_model::time;
use sentinel_search::SearchIndex;
use sentinel_state::{
    Table, TableError,
    polls::{Polls, Stall},
    sources::Sources,
};
use sentinel_telemetry::metrics;
use serde::Serialize;

use crate::{
    forget::{self, ForgetError},
    notice::{self, Notice, Operators, TellError},
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
    /// A source or poll stopped or goes on, and operators do not know of it yet.
    #[error(transparent)]
    Tell(#[from] TellError),
    /// Old events are still in the search index.
    #[error("old events could not be forgotten: {0}")]
    Forget(#[from] ForgetError),
}

/// The stage over its ports.
pub struct Watch {
    table: Arc<dyn Table>,
    queue: Arc<dyn Queue>,
    operators: Arc<dyn Operators>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    forgets: Option<(Arc<dyn SearchIndex>, u32)>,
}

impl Watch {
    /// The stage over these ports.
    pub fn new(
        table: Arc<dyn Table>,
        queue: Arc<dyn Queue>,
        operators: Arc<dyn Operators>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        Self { table, queue, operators, clock, settings, forgets: None }
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
        match self.look_for_silence(&mut failed).await {
            Ok((sources, silent)) => {
                (round.sources, round.silent) = (sources, silent);
                metrics::silent_sources(silent as u64);
            }
            Err(e) => failed.push(PartError::Sources(e)),
        }
        match self.look_for_stalled_polls(&mut failed).await {
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

    async fn look_for_silence(&self, failed: &mut Vec<PartError>) -> Result<(usize, usize), TableError> {
        let (sources, now) = (Sources::new(Arc::clone(&self.table)), self.clock.now());
        let all = sources.list().await?;
        let mut silent = 0;
        for stored in &all {
            let heartbeat = &stored.heartbeat;
            let is_silent = silence::is_silent(heartbeat, self.settings.silence_minutes, now);
            silent += usize::from(is_silent);
            if is_silent == heartbeat.silent_since.is_some() {
                continue;
            }
            let notice = if is_silent {
                notice::fell_silent(heartbeat, now, silence::threshold(heartbeat, self.settings.silence_minutes))
            } else {
                notice::delivers_again(heartbeat)
            };
            if self.told(&notice, is_silent, failed).await {
                // Whoever wrote it meanwhile had it deliver: the next round decides anew.
                sources.mark(stored, is_silent.then_some(now)).await?;
            }
        }
        Ok((all.len(), silent))
    }

    async fn look_for_stalled_polls(&self, failed: &mut Vec<PartError>) -> Result<usize, TableError> {
        let (polls, now) = (Polls::new(Arc::clone(&self.table)), self.clock.now());
        let mut count = 0;
        for poll in &self.settings.polls {
            let stored = polls.get(&poll.account, &poll.region).await?;
            let cursor = stored.as_ref().map(|s| &s.cursor);
            let goes_on = cursor.is_some_and(|c| time::seconds_between(c.last_success, now) <= STALLED_SECONDS);
            count += usize::from(!goes_on);
            let known = polls.stall(&poll.account, &poll.region).await?;
            let next = match (&known, goes_on) {
                (None, true) => continue,
                (Some(stall), true) => {
                    if stall.told && !self.told(&notice::polls_again(poll, stall.since), false, failed).await {
                        continue;
                    }
                    None
                }
                (Some(stall), false) if stall.told => continue,
                (_, false) => {
                    let since = known.as_ref().map_or(now, |stall| stall.since);
                    // A poll that was never made has its first minutes still before it.
                    let due = cursor.is_some() || time::seconds_between(since, now) > STALLED_SECONDS;
                    let told = due && self.told(&notice::stalled(poll, cursor), true, failed).await;
                    Some(Stall { since, told })
                }
            };
            if next != known {
                polls.note_stall(&poll.account, &poll.region, next.as_ref()).await?;
            }
        }
        Ok(count)
    }

    /// Tells operators, and the log with them.
    async fn told(&self, notice: &Notice, bad: bool, failed: &mut Vec<PartError>) -> bool {
        let Notice { title, text } = notice;
        if bad {
            tracing::error!(%text, "{title}");
        } else {
            tracing::warn!(%text, "{title}");
        }
        match self.operators.tell(notice).await {
            Ok(()) => true,
            Err(e) => {
                failed.push(PartError::Tell(e));
                false
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
