//! Where the scorer keeps what it remembers of principals: in memory for a scan, in the state table else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sentinel_behaviour::{Lessons, PrincipalState};
use sentinel_durable::Clock;
use sentinel_state::{Table, TableError, baselines::Baselines};
use serde::{Deserialize, Serialize};

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

    /// Writes a state in place of the version read, from which it differs by what it `learned`. `false`: somebody
    /// else wrote in between, and nothing was written.
    async fn write(
        &self,
        who: &Who,
        state: PrincipalState,
        version: Option<u64>,
        learned: Lessons,
    ) -> Result<bool, TableError>;
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

    async fn write(
        &self,
        who: &Who,
        state: PrincipalState,
        version: Option<u64>,
        _: Lessons,
    ) -> Result<bool, TableError> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.get(who).map(|(_, version)| *version) != version {
            return Ok(false);
        }
        states.insert(who.clone(), (state, version.unwrap_or(0) + 1));
        Ok(true)
    }
}

/// A state as the table has it: [`PrincipalState::pack`]'s bytes as base64. A body without it is of another form.
#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default)]
    state: String,
}

impl Body {
    fn of(state: &PrincipalState) -> Result<Self, TableError> {
        Ok(Self { state: STANDARD_NO_PAD.encode(state.pack().map_err(TableError::store)?) })
    }

    fn state(&self) -> Result<PrincipalState, String> {
        let packed = STANDARD_NO_PAD.decode(&self.state).map_err(|e| e.to_string())?;
        PrincipalState::unpack(&packed).map_err(|e| e.to_string())
    }
}

/// States in the state table: one read and one conditional write a principal and batch. One that cannot be read,
/// for being of another version of the product, counts as fresh, and is replaced by what is learned from then on.
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
        let Some(stored) = self.baselines.get::<Body>(&who.account, &who.actor, &self.model).await? else {
            return Ok(Default::default());
        };
        let state = stored.state.state().unwrap_or_else(|reason| {
            tracing::warn!(
                account = who.account,
                actor = who.actor,
                reason,
                "a baseline begins anew: it cannot be read"
            );
            PrincipalState::default()
        });
        Ok((state, Some(stored.version)))
    }

    async fn write(
        &self,
        who: &Who,
        state: PrincipalState,
        version: Option<u64>,
        _: Lessons,
    ) -> Result<bool, TableError> {
        let now = self.clock.now();
        match self.baselines.put(&who.account, &who.actor, &self.model, &Body::of(&state)?, version, now).await {
            Ok(()) => Ok(true),
            Err(e) if e.is_condition() => Ok(false),
            Err(e) => Err(e),
        }
    }
}
