//! Polling the CloudTrail API of an account that has no trail to deliver its records.
//!
//! In: pages of `LookupEvents` behind the port [`TrailLookup`]. Out: records handed to [`Ingest`], and a cursor
//! ([`PollCursor`]) that says how far the poll has come.
//!
//! The API shows an event up to [`OVERLAP_SECONDS`] after it happened, in no order. So each run reads, in slices
//! of time from old to new, everything from where events can still arrive up to now; what was handed on before
//! is known by its hash in the cursor. A slice is handed on when all of it was read, and the cursor is written
//! after that: a run that is cut anywhere loses nothing, and one that is not cut hands on nothing twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_durable::{Clock, lease};
use sentinel_model::{Channel, Timestamp, time};
use sentinel_state::polls::{PollCursor, Polls, StoredPoll};
use sentinel_state::{Table, TableError};
use tokio::time::Instant;

use crate::{Ingest, IngestError, Input, Report};

mod limiter;
mod seen;

use limiter::Limiter;
use seen::Seen;

/// How late, in seconds, the API may show an event ("CloudTrail typically delivers within 15 minutes").
pub const OVERLAP_SECONDS: i64 = 15 * 60;
/// How far back, in seconds, the API knows events: 90 days (CloudTrail User Guide, "Event history"), less an hour.
const HISTORY_SECONDS: i64 = 90 * 86_400 - 3600;
/// Width of the first slice in seconds.
const FIRST_SLICE: i64 = 1800;
/// Widest slice in seconds.
const WIDEST_SLICE: i64 = 6 * 3600;
/// Largest text of records, in bytes, that is held before it is handed on.
const HELD_BYTES: usize = 24 << 20;
/// Tries of a page after passing failures and throttling.
const TRIES: u32 = 4;
/// Seconds that a lease outlasts its run's time.
const LEASE_MARGIN: u32 = 120;

/// A page of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookupPage {
    /// Records as JSON, each as CloudTrail wrote it, newest first.
    pub records: Vec<String>,
    /// Token of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Why a page was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Too many requests; somebody else may be asking too.
    #[error("CloudTrail throttled the request")]
    Throttled,
    /// The page's token is not valid any more: the slice must be read from its start.
    #[error("CloudTrail does not know the page any more")]
    Restart,
    /// Refused, until somebody changes permissions.
    #[error("CloudTrail refused: {0}")]
    Denied(String),
    /// A failure that may pass.
    #[error("CloudTrail could not be asked: {0}")]
    Passing(String),
}

/// Looks up the management events of the account whose credentials the adapter has.
#[async_trait]
pub trait TrailLookup: Send + Sync {
    /// One page of a Region's events with `start <= eventTime < end` (whole seconds), by one request. `next` is
    /// the token of an earlier page of the same slice.
    async fn page(
        &self,
        region: &str,
        start: Timestamp,
        end: Timestamp,
        next: Option<String>,
    ) -> Result<LookupPage, LookupError>;
}

/// Why a run ended before its time. What it had handed on stands; the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The API.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Ingest.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The store.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Another poller has taken over: this one was paused for too long.
    #[error("another poller has taken over {0}")]
    TakenOver(String),
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollReport {
    /// Whether another poller was at work, so that nothing was done.
    pub held_elsewhere: bool,
    /// Requests made.
    pub requests: u32,
    /// Records read, those handed on before included.
    pub read: u64,
    /// Records handed on.
    pub handed_on: u64,
    /// Whether everything up to the run's start was read.
    pub complete: bool,
    /// Seconds of events that are still to be read.
    pub behind_seconds: i64,
    /// What became of the records handed on.
    pub ingested: Vec<Report>,
}

/// The poller, over its ports. One for a process: it holds the request rate.
pub struct Poller {
    lookup: Arc<dyn TrailLookup>,
    ingest: Arc<Ingest>,
    polls: Polls,
    clock: Arc<dyn Clock>,
    owner: Option<String>,
    limiters: Mutex<HashMap<(String, String), Arc<Limiter>>>,
}

/// A run under way.
struct Run<'a> {
    account: &'a str,
    region: &'a str,
    limiter: Arc<Limiter>,
    report: PollReport,
    stored: StoredPoll,
    seen: Seen,
    /// Events up to here are asked for: the run's start.
    until: Timestamp,
    deadline: Instant,
    /// Whether a slice did not fit.
    narrowed: bool,
}

/// What reading a slice came to.
enum Slice {
    /// All of it.
    Whole(Vec<String>),
    /// It does not fit the time, or the memory.
    TooMuch,
}

impl Poller {
    /// Over these ports.
    pub fn new(
        lookup: Arc<dyn TrailLookup>,
        ingest: Arc<Ingest>,
        table: Arc<dyn Table>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { lookup, ingest, polls: Polls::new(table), clock, owner: None, limiters: Mutex::default() }
    }

    /// Under a name of its own, for a process that is the only one of this name and never polls a Region twice
    /// at once: started again, it need not wait for the end of the lease that it left.
    #[must_use]
    pub fn named(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Polls a Region of an account for about so long: at least one slice is read, however little time there
    /// is, unless a slice of several seconds does not fit; then the next run takes half of it. Allow a run a
    /// minute beyond `budget` before ending it by force.
    pub async fn poll(&self, account: &str, region: &str, budget: Duration) -> Result<PollReport, PollError> {
        let deadline = Instant::now() + budget;
        let name = format!("poll#{account}#{region}");
        let owner = self.owner.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let seconds = u32::try_from(budget.as_secs()).unwrap_or(u32::MAX - LEASE_MARGIN).saturating_add(LEASE_MARGIN);
        let (table, clock) = (self.polls.table().as_ref(), self.clock.as_ref());
        // Where the poll begins stands before anything else, the lease too: who dies after this, however early,
        // leaves a start that the next one goes on from, however late that comes.
        self.cursor(account, region).await?;
        let Some(held) = lease::acquire(table, &name, &owner, clock, seconds).await? else {
            return Ok(PollReport { held_elsewhere: true, ..PollReport::default() });
        };
        let done = self.run(account, region, deadline).await;
        lease::release(table, &held, clock).await?;
        done
    }

    async fn run(&self, account: &str, region: &str, deadline: Instant) -> Result<PollReport, PollError> {
        let stored = self.cursor(account, region).await?;
        let now = whole_second(self.clock.now());
        let limiter = self.limiter(account, region);
        let seen = Seen::read(&stored.cursor.seen);
        let report = PollReport::default();
        let mut run = Run { account, region, limiter, report, stored, seen, until: now, deadline, narrowed: false };
        let done = self.ranges(&mut run).await;
        run.report.behind_seconds = time::seconds_between(run.stored.cursor.through, now).max(0);
        if let Err(e) = &done {
            self.note_error(&mut run, e).await;
        }
        done.map(|()| run.report)
    }

    /// The cursor as stored; the first one is written when there is none.
    async fn cursor(&self, account: &str, region: &str) -> Result<StoredPoll, PollError> {
        if let Some(stored) = self.polls.get(account, region).await? {
            return Ok(stored);
        }
        let cursor = first(account, region, whole_second(self.clock.now()));
        match self.polls.put(&cursor, None).await {
            Ok(version) => Ok(StoredPoll { cursor, version }),
            // Another poller began at the same moment: its start counts.
            Err(e) if e.is_condition() => {
                let found = self.polls.get(account, region).await?;
                found.ok_or_else(|| PollError::TakenOver(format!("{account} {region}")))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Reads everything from where events may still arrive up to the run's start. After a run that did not come
    /// to its end, what will not be read again comes first, then what is new, then the rest of the overlap: so
    /// under load new events are as prompt as they can be, and late ones wait.
    async fn ranges(&self, run: &mut Run<'_>) -> Result<(), PollError> {
        let oldest = time::plus_seconds(run.until, -HISTORY_SECONDS);
        let (settled, through) = (run.stored.cursor.settled, run.stored.cursor.through);
        if settled < oldest {
            tracing::warn!(account = run.account, region = run.region, "events older than the API knows were missed");
            run.stored.cursor.settled = oldest;
        }
        let (settled, through) = (settled.max(oldest), through.max(oldest));
        let arrived = time::plus_seconds(run.until, -OVERLAP_SECONDS).clamp(settled, through.max(settled));
        let was_complete = std::mem::replace(&mut run.stored.cursor.complete, false);
        let ranges = if was_complete {
            vec![(settled, run.until)]
        } else {
            vec![(settled, arrived), (through, run.until), (arrived, through)]
        };
        for (from, to) in ranges {
            let width = run.stored.cursor.slice_seconds;
            if !self.slices(run, from, to).await? {
                return Ok(());
            }
            if !was_complete {
                // A quiet range says nothing of the next one. Widened by it, a busy second there would be met too
                // wide by each run anew, and never be passed.
                run.stored.cursor.slice_seconds = run.stored.cursor.slice_seconds.min(width);
            }
        }
        run.report.complete = true;
        run.stored.cursor.complete = true;
        self.write(run).await
    }

    /// Reads slice by slice; `false` when the time is over before the end.
    async fn slices(&self, run: &mut Run<'_>, mut from: Timestamp, end: Timestamp) -> Result<bool, PollError> {
        while from < end {
            let (begun, requests, read) = (Instant::now(), run.report.requests, run.report.read);
            if begun >= run.deadline && requests > 0 {
                return Ok(false);
            }
            let width = run.stored.cursor.slice_seconds.clamp(1, WIDEST_SLICE);
            let to = time::plus_seconds(from, width).min(end);
            let narrowest = time::seconds_between(from, to) <= 1;
            // Half of what is left, so that a slice that does not fit leaves time for half of it.
            let allowed = run.deadline.saturating_duration_since(begun) / 2;
            let slice = self.slice(run, from, to, (!narrowest).then_some(begun + allowed)).await;
            if slice.is_err() && run.report.read > read {
                // Fewer requests may come through where many did not.
                run.stored.cursor.slice_seconds = (time::seconds_between(from, to) / 2).max(1);
            }
            match slice? {
                Slice::Whole(records) => {
                    self.hand_on(run, &records, to).await?;
                    let easy = run.report.requests <= requests + 1 || begun.elapsed() < allowed / 8;
                    if easy && !run.narrowed {
                        run.stored.cursor.slice_seconds = (width * 2).min(WIDEST_SLICE);
                    }
                    self.advance(run, from, to).await?;
                    from = to;
                }
                Slice::TooMuch => {
                    run.narrowed = true;
                    run.stored.cursor.slice_seconds = (time::seconds_between(from, to) / 2).max(1);
                    self.write(run).await?;
                }
            }
        }
        Ok(true)
    }

    /// Reads all pages of a slice, before `end` when that is given.
    async fn slice(
        &self,
        run: &mut Run<'_>,
        from: Timestamp,
        to: Timestamp,
        end: Option<Instant>,
    ) -> Result<Slice, PollError> {
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, None);
        loop {
            let first_page = next.is_none() && records.is_empty();
            if !first_page && end.is_some_and(|end| Instant::now() >= end) {
                return Ok(Slice::TooMuch);
            }
            // What cannot be made any narrower is not given up for want of time either: the next run would meet
            // the same throttling at the same place, and never pass it.
            let give_up = end.map(|_| run.deadline);
            let page = self.page(run, from, to, next, give_up).await?;
            run.report.read += page.records.len() as u64;
            for record in page.records {
                bytes += record.len();
                records.push(record);
            }
            if bytes > HELD_BYTES {
                if end.is_some() {
                    return Ok(Slice::TooMuch);
                }
                // The narrowest slice is handed on in parts: the cursor will know them as handed on.
                self.hand_on(run, &std::mem::take(&mut records), to).await?;
                bytes = 0;
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(Slice::Whole(records)),
            }
        }
    }

    /// One page, tried again after what may pass, until `give_up` when that is given.
    async fn page(
        &self,
        run: &mut Run<'_>,
        from: Timestamp,
        to: Timestamp,
        next: Option<String>,
        give_up: Option<Instant>,
    ) -> Result<LookupPage, PollError> {
        let mut tried = 0;
        loop {
            run.limiter.turn().await;
            run.report.requests += 1;
            let error = match self.lookup.page(run.region, from, to, next.clone()).await {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            tried += 1;
            let may_pass = matches!(error, LookupError::Throttled | LookupError::Passing(_));
            if !may_pass || tried >= TRIES || give_up.is_some_and(|end| Instant::now() >= end) {
                return Err(error.into());
            }
            tracing::debug!(account = run.account, region = run.region, %error, tried, "asked again");
            tokio::time::sleep(Duration::from_secs(1 << tried)).await;
        }
    }

    /// Hands on what was not handed on before, and remembers it.
    async fn hand_on(&self, run: &mut Run<'_>, records: &[String], to: Timestamp) -> Result<(), PollError> {
        let mut text = String::new();
        let mut fresh = HashMap::new();
        for record in records {
            let (hash, minute) = seen::of_record(record, to);
            if run.seen.knows(hash) || fresh.insert(hash, minute).is_some() {
                continue;
            }
            // One record a line; JSON holds line breaks only between its tokens.
            text.extend(record.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
            text.push('\n');
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let channel = Channel::CloudTrailApi { account: run.account.to_owned(), region: run.region.to_owned() };
        let input = Input::new("LookupEvents", text.as_bytes(), channel);
        let report = self.ingest.accept(input).await?;
        run.report.handed_on += fresh.len() as u64;
        run.report.ingested.push(report);
        for (hash, minute) in fresh {
            run.seen.note(hash, minute);
        }
        Ok(())
    }

    /// Moves the cursor behind a slice that was handed on. Its events that can not arrive any later are done
    /// with, if all older ones are.
    async fn advance(&self, run: &mut Run<'_>, from: Timestamp, to: Timestamp) -> Result<(), PollError> {
        let cursor = &mut run.stored.cursor;
        cursor.through = cursor.through.max(to);
        if from <= cursor.settled {
            let arrived = time::plus_seconds(run.until, -OVERLAP_SECONDS);
            cursor.settled = cursor.settled.max(to.min(arrived));
        }
        cursor.last_success = self.clock.now();
        cursor.error = None;
        run.seen.forget_before(cursor.settled);
        self.write(run).await
    }

    async fn write(&self, run: &mut Run<'_>) -> Result<(), PollError> {
        run.stored.cursor.seen = run.seen.write();
        match self.polls.put(&run.stored.cursor, Some(run.stored.version)).await {
            Ok(version) => {
                run.stored.version = version;
                Ok(())
            }
            Err(e) if e.is_condition() => Err(PollError::TakenOver(format!("{} {}", run.account, run.region))),
            Err(e) => Err(e.into()),
        }
    }

    /// Leaves word of a failure in the cursor, for whoever watches; the failure itself goes up.
    async fn note_error(&self, run: &mut Run<'_>, error: &PollError) {
        if matches!(error, PollError::Table(_) | PollError::TakenOver(_)) {
            return;
        }
        run.stored.cursor.error = Some(error.to_string());
        if let Err(e) = self.write(run).await {
            tracing::warn!(account = run.account, region = run.region, error = %e, "the failure could not be noted");
        }
    }

    fn limiter(&self, account: &str, region: &str) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(limiters.entry((account.to_owned(), region.to_owned())).or_default())
    }
}

/// The first cursor: events that may still arrive are read.
fn first(account: &str, region: &str, now: Timestamp) -> PollCursor {
    let start = time::plus_seconds(now, -OVERLAP_SECONDS);
    PollCursor {
        account: account.to_owned(),
        region: region.to_owned(),
        through: start,
        settled: start,
        slice_seconds: FIRST_SLICE,
        complete: true,
        last_success: now,
        error: None,
        seen: Vec::new(),
    }
}

fn whole_second(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

#[cfg(test)]
mod tests;
