//! The background job of backtests: takes those that wait, one at a time, and replays the archive for them.
//!
//! In: requests in the store ([`sentinel_state::backtests`]), the archive, and the rules in force, which are asked for once
//! there is something to do and nobody else does it. Out: progress while it
//! runs, and a result or the reason why there is none. A lease keeps a second runner away, and every write is conditional
//! on the version that was read: who was cancelled, or overtaken, notices and leaves. One that was interrupted is begun
//! anew; what cannot be ended in several tries is given up. Between two slices of events it looks whether it may go on.

use std::{io, sync::Arc, time::Duration};

use sentinel_archive::{Archive, ArchiveError};
use sentinel_detect::LoadError;
use sentinel_durable::{Clock, lease};
use sentinel_enrich::IndicatorList;
use sentinel_json::Document;
use sentinel_model::{Event, Timestamp, time};
use sentinel_state::{
    TableError,
    backtests::{Backtest, BacktestState, Backtests, Progress, RESULT_BYTES, StoredBacktest},
};
use tokio::{sync::watch, task, time::timeout};
use tracing::{info, warn};

use crate::{InForce, InForceError, Pair, Pass, Report, compare, in_force::load};

/// Name of the lease.
const LEASE: &str = "BACKTESTS";
/// Bytes of matches held in memory.
const BUDGET: usize = 16 << 20;
/// Things that could not be read that a report lists.
const UNREADABLE: usize = 100;

/// What bounds a run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Seconds that one run may take: one that takes longer fails, and is not begun again.
    pub seconds: i64,
    /// How often one is begun before it is given up.
    pub attempts: u32,
    /// Events replayed between two looks whether to go on.
    pub slice: usize,
    /// Seconds that the lease is held for; it is renewed at half of that.
    pub lease_seconds: u32,
    /// Seconds between two writes of progress.
    pub progress_seconds: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { seconds: 3600, attempts: 3, slice: 2_000, lease_seconds: 300, progress_seconds: 2 }
    }
}

/// Why a run came to no result, beside what is told to whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The store failed; the backtest is tried again.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// How a run ended without a report.
enum Ended {
    /// Somebody cancelled it, or another runner has it.
    Overtaken,
    /// The process is to end.
    Stopped,
    /// It cannot be done.
    Failed(String),
    /// The store failed.
    Table(TableError),
}

impl From<TableError> for Ended {
    fn from(e: TableError) -> Self {
        if e.is_condition() { Self::Overtaken } else { Self::Table(e) }
    }
}

impl From<ArchiveError> for Ended {
    fn from(e: ArchiveError) -> Self {
        Self::Failed(e.to_string())
    }
}

impl From<LoadError> for Ended {
    fn from(e: LoadError) -> Self {
        Self::Failed(e.to_string())
    }
}

impl From<InForceError> for Ended {
    fn from(e: InForceError) -> Self {
        match e {
            InForceError::Table(e) => Self::Table(e),
            InForceError::Source(e) => Self::Failed(e.to_string()),
        }
    }
}

impl From<io::Error> for Ended {
    fn from(e: io::Error) -> Self {
        Self::Failed(format!("temporary files: {e}"))
    }
}

impl From<task::JoinError> for Ended {
    fn from(e: task::JoinError) -> Self {
        Self::Failed(format!("the replay broke off: {e}"))
    }
}

/// Does backtests.
pub struct Runner {
    store: Backtests,
    archive: Arc<dyn Archive>,
    clock: Arc<dyn Clock>,
    in_force: Arc<dyn InForce>,
    owner: String,
    limits: Limits,
}

/// A run under way.
struct Run<'a> {
    stored: StoredBacktest,
    lease: lease::Lease,
    started: Timestamp,
    /// When progress was last written, and the lease renewed.
    told: Timestamp,
    renewed: Timestamp,
    stop: &'a watch::Receiver<bool>,
}

impl Runner {
    /// A runner under a name that no other runner over the same table has at the same time.
    pub fn new(
        store: Backtests,
        archive: Arc<dyn Archive>,
        clock: Arc<dyn Clock>,
        in_force: Arc<dyn InForce>,
        owner: &str,
    ) -> Self {
        Self { store, archive, clock, in_force, owner: owner.to_owned(), limits: Limits::default() }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Does what waits until `stop` turns true; looks for more this often.
    pub async fn run(self, every: Duration, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.run_once(&stop).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(e) => {
                    sentinel_telemetry::error("backtest");
                    tracing::error!(error = %e, "a backtest was interrupted; it is begun anew");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Does the first that waits; `false` when there is none, or another runner is at work.
    pub async fn run_once(&self, stop: &watch::Receiver<bool>) -> Result<bool, JobError> {
        let Some(id) = self.store.open(1).await?.pop() else { return Ok(false) };
        let (table, clock, seconds) = (self.store.table(), self.clock.as_ref(), self.limits.lease_seconds);
        let Some(lease) = lease::acquire(table, LEASE, &self.owner, clock, seconds).await? else { return Ok(false) };
        let done = self.one(&id, lease.clone(), stop).await;
        let (lease, result) = match done {
            Ok(lease) => (lease, Ok(true)),
            Err(e) => (lease, Err(e)),
        };
        lease::release(table, &lease, clock).await?;
        result
    }

    async fn one(&self, id: &str, lease: lease::Lease, stop: &watch::Receiver<bool>) -> Result<lease::Lease, JobError> {
        let stored = match self.store.find(id).await? {
            Some(stored) if stored.backtest.state.is_open() => stored,
            _ => {
                self.store.forget_mark(id).await?;
                return Ok(lease);
            }
        };
        let now = self.clock.now();
        let begun = Backtest {
            state: BacktestState::Running,
            started_at: Some(now),
            attempts: stored.backtest.attempts + 1,
            progress: Progress::default(),
            ..stored.backtest.clone()
        };
        let stored = match self.store.update(&stored, begun).await {
            Ok(stored) => stored,
            // Cancelled at the same moment.
            Err(e) if e.is_condition() => return Ok(lease),
            Err(e) => return Err(e.into()),
        };
        let mut run = Run { stored, lease, started: now, told: now, renewed: now, stop };
        let ended = if run.stored.backtest.attempts > self.limits.attempts {
            Err(Ended::Failed(format!("it was interrupted {} times and is given up", self.limits.attempts)))
        } else {
            self.replayed(&mut run).await
        };
        self.end(&mut run, ended).await?;
        Ok(run.lease)
    }

    /// Writes how it ended.
    async fn end(&self, run: &mut Run<'_>, ended: Result<Report, Ended>) -> Result<(), JobError> {
        let (id, known) = (run.stored.backtest.id.clone(), run.stored.backtest.clone());
        let finished_at = Some(self.clock.now());
        let ended = match ended {
            Ok(mut report) => match report.fit(RESULT_BYTES).and_then(|()| serde_json::to_value(&report)) {
                Ok(result) => {
                    let to = Backtest { state: BacktestState::Done, finished_at, ..known.clone() };
                    match self.store.finish(&run.stored, to, Some(&result)).await {
                        Ok(_) => {
                            info!(backtest = id, gained = report.gained, lost = report.lost, "backtest done");
                            return Ok(());
                        }
                        Err(e) => Ended::from(e),
                    }
                }
                Err(e) => Ended::Failed(format!("the result cannot be written: {e}")),
            },
            Err(ended) => ended,
        };
        let to = match ended {
            Ended::Overtaken => {
                info!(backtest = id, "backtest left: it was cancelled, or another runner has it");
                return Ok(());
            }
            Ended::Table(e) => return Err(e.into()),
            // An orderly end is no failed try.
            Ended::Stopped => Backtest {
                state: BacktestState::Queued,
                attempts: known.attempts.saturating_sub(1),
                progress: Progress::default(),
                ..known
            },
            Ended::Failed(reason) => {
                warn!(backtest = id, reason, "backtest failed");
                Backtest { state: BacktestState::Failed, finished_at, error: Some(reason), ..known }
            }
        };
        match self.store.finish(&run.stored, to, None).await {
            Err(e) if !e.is_condition() => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Replays the history asked for.
    async fn replayed(&self, run: &mut Run<'_>) -> Result<Report, Ended> {
        let asked = run.stored.backtest.clone();
        let files = self.store.rules(&asked.id).await?;
        let in_force = self.in_force.rules().await?;
        let (baseline, on_top) = (asked.baseline, asked.on_top);
        let pair = task::spawn_blocking(move || load(&in_force, baseline, on_top, &files)).await??;
        let pair = Arc::new(pair);
        let loaded = &pair.candidate;
        if loaded.rules.is_empty() && loaded.rules.correlation_metas().next().is_none() {
            let first = loaded.report.refused.first();
            let why = first.map(|r| format!("{}: line {}: {}", r.file, r.line, r.reason));
            let why = why.unwrap_or_else(|| String::from("the texts hold no Sigma rule"));
            return Err(Ended::Failed(format!("no rule could be loaded: {why}")));
        }
        let parts = self.parts(&asked).await?;
        let mut progress = Progress { days_total: parts.len() as u64, ..Progress::default() };
        self.tell(run, progress, true).await?;
        let mut unreadable = Vec::new();
        let mut pass = Pass::new(BUDGET, 0);
        for (account, day) in parts {
            self.may_go_on(run).await?;
            let read = self.in_time(run, self.archive.read(&account, &day)).await??;
            unreadable.extend(read.unreadable.iter().map(ToString::to_string));
            let mut events = read.events.into_iter().filter(|e| (asked.from..=asked.to).contains(&e.time)).peekable();
            while events.peek().is_some() {
                let slice: Vec<Event> = events.by_ref().take(self.limits.slice.max(1)).collect();
                let pair = Arc::clone(&pair);
                let (back, bad) = task::spawn_blocking(move || add(pass, &pair, slice)).await??;
                pass = back;
                unreadable.extend(bad);
                progress.events = pass.events();
                unreadable.truncate(UNREADABLE);
                self.may_go_on(run).await?;
                self.tell(run, progress, false).await?;
            }
            progress.days_done += 1;
            self.tell(run, progress, false).await?;
        }
        self.tell(run, progress, true).await?;
        self.renew(run).await?;
        let compared = task::spawn_blocking(move || compare(&pair, vec![pass], &Arc::<IndicatorList>::default(), 1));
        let mut report = self.in_time(run, compared).await???;
        report.unreadable = unreadable;
        Ok(report)
    }

    /// The days of accounts that are to be read.
    async fn parts(&self, asked: &Backtest) -> Result<Vec<(String, String)>, Ended> {
        let accounts = if asked.accounts.is_empty() { self.archive.accounts().await? } else { asked.accounts.clone() };
        // What is before 1970 lies with its first day.
        let day = |at: Timestamp| time::utc_day(at.max(Timestamp::UNIX_EPOCH));
        let (first, last) = (day(asked.from), day(asked.to));
        let mut parts = Vec::new();
        for account in accounts {
            let days = self.archive.days(&account).await?;
            let wanted = days.into_iter().filter(|day| (&first..=&last).contains(&day));
            parts.extend(wanted.map(|day| (account.clone(), day)));
        }
        Ok(parts)
    }

    /// Whether to go on: nobody said stop, there is time left, and the lease is still held.
    async fn may_go_on(&self, run: &mut Run<'_>) -> Result<(), Ended> {
        if *run.stop.borrow() {
            return Err(Ended::Stopped);
        }
        let now = self.clock.now();
        if time::seconds_between(run.started, now) >= self.limits.seconds {
            return Err(self.too_long());
        }
        if time::seconds_between(run.renewed, now) >= i64::from(self.limits.lease_seconds / 2) {
            self.renew(run).await?;
        }
        Ok(())
    }

    fn too_long(&self) -> Ended {
        let minutes = self.limits.seconds / 60;
        Ended::Failed(format!("it took longer than {minutes} minutes: ask for fewer days"))
    }

    /// Waits for what cannot look by itself whether it may go on, while there is time left.
    async fn in_time<T>(&self, run: &Run<'_>, work: impl Future<Output = T>) -> Result<T, Ended> {
        let left = self.limits.seconds - time::seconds_between(run.started, self.clock.now());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
        timeout(left, work).await.map_err(|_| self.too_long())
    }

    async fn renew(&self, run: &mut Run<'_>) -> Result<(), Ended> {
        let (table, clock) = (self.store.table(), self.clock.as_ref());
        let renewed = lease::renew(table, &run.lease, clock, self.limits.lease_seconds).await?;
        run.lease = renewed.ok_or(Ended::Overtaken)?;
        run.renewed = self.clock.now();
        Ok(())
    }

    /// Writes the progress when it is time, or in any case.
    async fn tell(&self, run: &mut Run<'_>, progress: Progress, now: bool) -> Result<(), Ended> {
        let at = self.clock.now();
        if !now && time::seconds_between(run.told, at) < self.limits.progress_seconds {
            return Ok(());
        }
        let to = Backtest { progress, ..run.stored.backtest.clone() };
        run.stored = self.store.update(&run.stored, to).await?;
        run.told = at;
        Ok(())
    }
}

/// Adds events to a pass; tells of records that cannot be read.
fn add(mut pass: Pass, pair: &Pair, events: Vec<Event>) -> io::Result<(Pass, Vec<String>)> {
    let mut unreadable = Vec::new();
    for event in events {
        match Document::parse(event.raw.text()) {
            Ok(record) => pass.add(pair, record.root(), event.time, || Some(event.clone()))?,
            Err(e) => unreadable.push(format!("event {}: {e}", event.id)),
        }
    }
    Ok((pass, unreadable))
}

#[cfg(test)]
mod tests;
