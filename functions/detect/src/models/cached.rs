//! States kept warm in memory, and written through only now and then: a deployed function pays for every write,
//! and most events of somebody known say nothing new of them.
//!
//! A state is written when its principal is new, when one of its events has alerted, when [`MOST_EVENTS`] have
//! been learned since the last write, and when some time of activity has gone by since the last event written:
//! [`NEWS_SECONDS`] when something new was used or the principal is not fully known yet, else up to
//! [`MOST_SECONDS`], but no more than half of what this process has seen: who has lived long may live on. What was
//! learned and is not written yet waits.
//!
//! - **Several processes** know the same principal, each by what it saw and what it last read. Who writes second
//!   is refused, reads what the other one wrote, learns what waits again on top of it, and scores its batch again:
//!   between processes that live, nothing is lost or counted twice. Until then each knows less than all together:
//!   a burst spread over two looks half as large to either.
//! - **A process that ends** takes with it what waits: fewer than [`MOST_EVENTS`] events of a principal, all of them
//!   within that time of the last that was written. They are habits: what was new and is forgotten looks new
//!   once more, which makes more alerts, not fewer, and the rates of the last hour and week are too low by them.
//!   The same holds for what makes room when more than [`MOST_STATES`] principals are warm.
//! - **An alert** never waits: a batch in which somebody alerted is stored, with all that waited, before its
//!   detections go out. When that batch comes again, to this process or one that reads the state, its scores are
//!   those it had. One without an alert that comes again to another process is scored by what that one knows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sentinel_behaviour::{Lessons, PrincipalState};
use sentinel_state::TableError;

use super::baselines::{BaselineStore, Who};

/// Events after which a state is written. Fewer than the ids that a state remembers: when what waited was written,
/// or was learned on top of what another process wrote, it is known event by event, and so is the latest of the other's.
pub const MOST_EVENTS: usize = 48;
/// Most seconds of a principal's activity, from the last event written, after which a state is written.
pub const MOST_SECONDS: i64 = 6 * 3_600;
/// The same where something new was used, or the principal is not fully known yet; and the least for all.
pub const NEWS_SECONDS: i64 = 3_600;
/// States kept, of at most 6 KB each with what waits; beyond it those that were used least lately make room, which
/// costs reads.
pub const MOST_STATES: usize = 5_000;

/// A state as it is now, and what it has learned since it was read or written.
struct Warm {
    now: PrincipalState,
    version: Option<u64>,
    /// The latest event that the store has, and how many kinds of things it knows.
    stored: i64,
    kinds: usize,
    waiting: Vec<Lessons>,
    /// Changes with `now`: what a reader gives back with what it writes.
    revision: u64,
    /// The store has something else: it must be read before this counts.
    stale: bool,
    used: u64,
}

impl Warm {
    /// What the store has, and a process that has learned nothing since.
    fn fresh(now: PrincipalState, version: Option<u64>, at: u64) -> Self {
        let (stored, kinds) = (now.latest(), now.kinds());
        Self { now, version, stored, kinds, waiting: Vec::new(), revision: at, stale: false, used: at }
    }

    /// Whether `state` must be written; without anything new after `patience` seconds.
    fn is_due(&self, state: &PrincipalState, learned: &Lessons, patience: i64) -> bool {
        let news = state.maturity() < 1.0 || state.kinds() > self.kinds;
        let events: usize = self.waiting.iter().map(Lessons::events).sum();
        self.version.is_none()
            || learned.alerted()
            || events + learned.events() >= MOST_EVENTS
            || self.waiting.len() + 1 >= MOST_EVENTS
            || state.latest().saturating_sub(self.stored) >= if news { NEWS_SECONDS } else { patience }
    }
}

#[derive(Default)]
struct States {
    warm: HashMap<Who, Warm>,
    /// Counts uses and changes.
    clock: u64,
    /// Latest event, in seconds since the epoch, of the first state learned.
    began: Option<i64>,
}

impl States {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The state of somebody, when it is warm and counts.
    fn known(&mut self, who: &Who) -> Option<(PrincipalState, Option<u64>)> {
        let used = self.tick();
        let kept = self.warm.get_mut(who).filter(|kept| !kept.stale)?;
        kept.used = used;
        Some((kept.now.clone(), Some(kept.revision)))
    }

    /// Takes in what was read, and learns again what waits and the store does not know.
    fn take_in(&mut self, who: &Who, read: PrincipalState, version: Option<u64>) -> (PrincipalState, Option<u64>) {
        // Somebody else may have read it meanwhile, and learned more.
        if let Some(known) = self.known(who) {
            return known;
        }
        let mut waiting = self.warm.remove(who).map(|kept| kept.waiting).unwrap_or_default();
        self.make_room();
        let revision = self.tick();
        let mut kept = Warm::fresh(read, version, revision);
        waiting.retain(|lessons| kept.now.relearn(lessons));
        kept.waiting = waiting;
        let answer = (kept.now.clone(), Some(revision));
        self.warm.insert(who.clone(), kept);
        answer
    }

    /// Lets half of the states go, when there are as many as may be.
    fn make_room(&mut self) {
        if self.warm.len() < MOST_STATES {
            return;
        }
        let mut used: Vec<u64> = self.warm.values().map(|kept| kept.used).collect();
        let (_, middle, _) = used.select_nth_unstable(MOST_STATES / 2);
        let middle = *middle;
        self.warm.retain(|_, kept| kept.used >= middle);
    }

    /// Lets a state wait, or says what must come of it.
    fn keep(&mut self, who: &Who, state: PrincipalState, revision: Option<u64>, learned: Lessons) -> Next {
        let next = self.tick();
        let lived = state.latest().saturating_sub(*self.began.get_or_insert(state.latest()));
        let patience = (lived / 2).clamp(NEWS_SECONDS, MOST_SECONDS);
        let kept = self.warm.get_mut(who).filter(|kept| !kept.stale && Some(kept.revision) == revision);
        let Some(kept) = kept else { return Next::ReadAgain };
        if kept.is_due(&state, &learned, patience) {
            return Next::Write(Box::new(state), kept.version);
        }
        kept.now = state;
        kept.revision = next;
        kept.waiting.push(learned);
        Next::Wait
    }

    /// What came of a write. Where it failed, or somebody changed the state meanwhile, what waits is learned again
    /// on top of what the store has: there it knows what was written.
    fn written(&mut self, who: &Who, revision: Option<u64>, written: Option<(PrincipalState, Option<u64>)>) {
        let next = self.tick();
        let Some(kept) = self.warm.get_mut(who) else { return };
        match written {
            Some((state, version)) if Some(kept.revision) == revision => {
                *kept = Warm::fresh(state, Some(version.map_or(1, |v| v + 1)), next);
            }
            _ => kept.stale = true,
        }
    }
}

enum Next {
    Wait,
    ReadAgain,
    /// Write it in place of this version of the store's.
    Write(Box<PrincipalState>, Option<u64>),
}

/// A store of states in front of another one.
pub struct CachedBaselines {
    behind: Arc<dyn BaselineStore>,
    states: Mutex<States>,
}

impl CachedBaselines {
    /// In front of `behind`.
    pub fn new(behind: Arc<dyn BaselineStore>) -> Self {
        Self { behind, states: Mutex::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut States) -> T) -> T {
        act(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl BaselineStore for CachedBaselines {
    async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError> {
        if let Some(known) = self.with(|states| states.known(who)) {
            return Ok(known);
        }
        let (state, version) = self.behind.read(who).await?;
        Ok(self.with(|states| states.take_in(who, state, version)))
    }

    async fn write(
        &self,
        who: &Who,
        state: PrincipalState,
        revision: Option<u64>,
        learned: Lessons,
    ) -> Result<bool, TableError> {
        let (state, version) = match self.with(|states| states.keep(who, state, revision, learned.clone())) {
            Next::Wait => return Ok(true),
            Next::ReadAgain => return Ok(false),
            Next::Write(state, version) => (*state, version),
        };
        let result = self.behind.write(who, state.clone(), version, learned).await;
        let written = matches!(result, Ok(true)).then_some((state, version));
        self.with(|states| states.written(who, revision, written));
        result
    }
}

#[cfg(test)]
#[path = "cached_tests.rs"]
mod tests;
