//! Where the scorer keeps what it remembers of principals: in memory for a scan, in the state table else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sentinel_behaviour::PrincipalState;
use sentinel_durable::Clock;
use sentinel_state::{Table, TableError, baselines::Baselines};

/// Whose state: the account acted in, and the person or workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// Account, 12 digits.
    pub account: String,
    /// [`sentinel_model::Principal::actor`].
    pub actor: String,
}

/// A store of states with optimistic writes.
#[async_trait]
pub trait BaselineStore: Send + Sync {
    /// The state, fresh when there is none, and the version to give back to [`write`](Self::write).
    async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError>;

    /// Writes a state in place of the version read. `false`: somebody else wrote in between.
    async fn write(&self, who: &Who, state: PrincipalState, version: Option<u64>) -> Result<bool, TableError>;
}

/// States in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryBaselines(Mutex<HashMap<Who, (PrincipalState, u64)>>);

#[async_trait]
impl BaselineStore for MemoryBaselines {
    async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(states.get(who).map_or_else(Default::default, |(state, version)| (state.clone(), Some(*version))))
    }

    async fn write(&self, who: &Who, state: PrincipalState, version: Option<u64>) -> Result<bool, TableError> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.get(who).map(|(_, version)| *version) != version {
            return Ok(false);
        }
        states.insert(who.clone(), (state, version.unwrap_or(0) + 1));
        Ok(true)
    }
}

/// States in the state table: one read and one conditional write a principal and batch.
#[derive(Clone)]
pub struct TableBaselines {
    baselines: Baselines,
    clock: Arc<dyn Clock>,
    model: String,
}

impl TableBaselines {
    /// States of one model in a table.
    pub fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>, model: impl Into<String>) -> Self {
        Self { baselines: Baselines::new(table), clock, model: model.into() }
    }
}

#[async_trait]
impl BaselineStore for TableBaselines {
    async fn read(&self, who: &Who) -> Result<(PrincipalState, Option<u64>), TableError> {
        let stored = self.baselines.get::<PrincipalState>(&who.account, &who.actor, &self.model).await?;
        Ok(stored.map_or_else(Default::default, |s| (s.state, Some(s.version))))
    }

    async fn write(&self, who: &Who, state: PrincipalState, version: Option<u64>) -> Result<bool, TableError> {
        let now = self.clock.now();
        match self.baselines.put(&who.account, &who.actor, &self.model, &state, version, now).await {
            Ok(()) => Ok(true),
            Err(e) if e.is_condition() => Ok(false),
            Err(e) => Err(e),
        }
    }
}
