//! The backtest stage: does what waits where no process stays to do it.
//!
//! In: a look every minute, and the time that there is for it. Out: what [`sentinel_replay::Runner`] writes of one backtest,
//! or nothing. A look while another one works finds its lease and ends; neither that nor a look that finds nothing reads a
//! rule. Which rules are in force is what detect recorded ([`StoredRules`]).

mod stored;

use std::{sync::Arc, time::Duration};

use sentinel_archive::Archive;
use sentinel_durable::Clock;
use sentinel_replay::{InForce, JobError, Limits, Runner};
use sentinel_state::{Table, backtests::Backtests};
use tokio::sync::watch;
use uuid::Uuid;

pub use stored::StoredRules;

/// Time of a turn that no backtest gets: to begin, and to write how it ended.
pub const KEPT_BACK: Duration = Duration::from_mins(1);

/// Does backtests, one a turn.
pub struct Worker {
    store: Backtests,
    archive: Arc<dyn Archive>,
    clock: Arc<dyn Clock>,
    in_force: Arc<dyn InForce>,
}

impl Worker {
    /// A worker over a table, an archive, and whoever knows which rules are in force.
    pub fn new(
        table: Arc<dyn Table>,
        archive: Arc<dyn Archive>,
        clock: Arc<dyn Clock>,
        in_force: Arc<dyn InForce>,
    ) -> Self {
        Self { store: Backtests::new(table), archive, clock, in_force }
    }

    /// Does the first backtest that waits; `false` when there is none, or another turn is at work. One that takes longer than
    /// `time`, less [`KEPT_BACK`], fails and says so. What is cut short after `time` is begun anew by a later turn.
    pub async fn turn(&self, time: Duration) -> Result<bool, JobError> {
        let (store, archive, clock) = (self.store.clone(), Arc::clone(&self.archive), Arc::clone(&self.clock));
        // A name of its own: two turns of one process must not take each other's lease.
        let owner = format!("turn-{}", Uuid::new_v4().simple());
        let runner = Runner::new(store, archive, clock, Arc::clone(&self.in_force), &owner).with_limits(limits(time));
        // Nobody tells a turn to end early: its time is its limit.
        let (_going, stop) = watch::channel(false);
        runner.run_once(&stop).await
    }
}

/// What bounds a backtest in this time.
fn limits(time: Duration) -> Limits {
    let usual = Limits::default();
    let seconds = i64::try_from(time.saturating_sub(KEPT_BACK).as_secs()).unwrap_or(i64::MAX);
    Limits { seconds: seconds.min(usual.seconds), ..usual }
}

#[cfg(test)]
mod tests;
