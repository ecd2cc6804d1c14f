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
    polls::{Polls, Stall},
    sources::{Sources, StoredHeartbeat},
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
        let mut news = Vec::new();
        match self.look_for_silence(&mut news).await {
            Ok((sources, silent)) => {
                (round.sources, round.silent) = (sources, silent);
                metrics::silent_sources(silent as u64);
            }
            Err(e) => failed.push(PartError::Sources(e)),
        }
        match self.look_for_stalled_polls(&mut news).await {
            Ok(stalled) => {
                round.stalled = stalled;
                metrics::stalled_polls(stalled as u64);
            }
            Err(e) => failed.push(PartError::Polls(e)),
        }
        // After the gauges: whoever delivers notices may be slow.
        self.tell(news, &mut failed).await;
        // Last: it may take what is left of the time.
        if let Some((search, days)) = &self.forgets {
            match forget::once_a_day(self.table.as_ref(), search.as_ref(), *days, self.clock.now()).await {
                Ok(forgotten) => round.forgotten = forgotten,
                Err(e) => failed.push(PartError::Forget(e)),
            }
        }
        if failed.is_empty() { Ok(round) } else { Err(WatchError(failed)) }
    }

    async fn look_for_silence(&self, news: &mut Vec<News>) -> Result<(usize, usize), TableError> {
        let now = self.clock.now();
        let all = Sources::new(Arc::clone(&self.table)).list().await?;
        let (count, mut silent) = (all.len(), 0);
        for stored in all {
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
            news.push(News { notice, of: Of::Source(Box::new(stored), is_silent.then_some(now)) });
        }
        Ok((count, silent))
    }

    async fn look_for_stalled_polls(&self, news: &mut Vec<News>) -> Result<usize, TableError> {
        let (polls, now) = (Polls::new(Arc::clone(&self.table)), self.clock.now());
        let mut count = 0;
        for poll in &self.settings.polls {
            let stored = polls.get(&poll.account, &poll.region).await?;
            let cursor = stored.as_ref().map(|s| &s.cursor);
            let goes_on = cursor.is_some_and(|c| time::seconds_between(c.last_success, now) <= STALLED_SECONDS);
            count += usize::from(!goes_on);
            let known = polls.stall(&poll.account, &poll.region).await?;
            match (known, goes_on) {
                (None, true) => {}
                (Some(stall), true) if stall.told => {
                    let notice = notice::polls_again(poll, stall.since);
                    news.push(News { notice, of: Of::Poll(poll.clone(), None) });
                }
                (Some(_), true) => polls.note_stall(&poll.account, &poll.region, None).await?,
                (Some(stall), false) if stall.told => {}
                (known, false) => {
                    let since = known.as_ref().map_or(now, |stall| stall.since);
                    // A poll that was never made has its first minutes still before it.
                    if cursor.is_some() || time::seconds_between(since, now) > STALLED_SECONDS {
                        let told = Stall { since, told: true };
                        let notice = notice::stalled(poll, cursor);
                        news.push(News { notice, of: Of::Poll(poll.clone(), Some(told)) });
                    } else if known.is_none() {
                        let seen = Stall { since, told: false };
                        polls.note_stall(&poll.account, &poll.region, Some(&seen)).await?;
                    }
                }
            }
        }
        Ok(count)
    }

    /// Tells operators, and the log with them, and remembers it.
    async fn tell(&self, news: Vec<News>, failed: &mut Vec<PartError>) {
        for News { notice: Notice { title, text }, of } in &news {
            if of.is_bad() {
                tracing::error!(%text, "{title}");
            } else {
                tracing::warn!(%text, "{title}");
            }
        }
        let at_once = if news.len() > notice::ONE_BY_ONE { news.len() } else { 1 };
        for together in news.chunks(at_once) {
            let notice = match together {
                [one] => one.notice.clone(),
                many => notice::many(&many.iter().map(|news| news.notice.clone()).collect::<Vec<_>>()),
            };
            if let Err(e) = self.operators.tell(&notice).await {
                failed.push(PartError::Tell(e));
                continue;
            }
            for news in together {
                if let Err(e) = self.remember(&news.of).await {
                    failed.push(e);
                }
            }
        }
    }

    async fn remember(&self, of: &Of) -> Result<(), PartError> {
        match of {
            Of::Source(stored, silent_since) => {
                let sources = Sources::new(Arc::clone(&self.table));
                let marked = sources.mark(stored, *silent_since).await.map_err(PartError::Sources)?;
                if marked || silent_since.is_none() {
                    return Ok(());
                }
                // Another round told it too, or the source delivered at the same moment: that nobody would tell later.
                let now = sources.get(&stored.heartbeat.source).await.map_err(PartError::Sources)?;
                if let Some(now) = now.filter(|now| now.last_seen > stored.heartbeat.last_seen) {
                    self.operators.tell(&notice::delivers_again(&now)).await?;
                }
                Ok(())
            }
            Of::Poll(poll, stall) => {
                let polls = Polls::new(Arc::clone(&self.table));
                polls.note_stall(&poll.account, &poll.region, stall.as_ref()).await.map_err(PartError::Polls)
            }
        }
    }
}

/// What a round found that operators do not know yet.
struct News {
    notice: Notice,
    of: Of,
}

/// What it is of, and what is to be remembered once it was told.
enum Of {
    Source(Box<StoredHeartbeat>, Option<Timestamp>),
    Poll(Poll, Option<Stall>),
}

impl Of {
    fn is_bad(&self) -> bool {
        matches!(self, Self::Source(_, Some(_)) | Self::Poll(_, Some(_)))
    }
}

#[cfg(test)]
pub(crate) mod tests;
