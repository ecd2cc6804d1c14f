//! Heartbeats of the sources that this function takes in.

use std::{collections::BTreeSet, sync::Arc};

use sentinel_durable::Clock;
use sentinel_state::{
    Table,
    sources::{Heartbeats, Source},
};

/// Heartbeats on a clock.
pub(crate) struct Beats {
    heartbeats: Heartbeats,
    clock: Arc<dyn Clock>,
}

impl Beats {
    pub(crate) fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Self {
        Self { heartbeats: Heartbeats::new(table), clock }
    }

    /// Notes that these delivered. What they delivered is safe already, so a heartbeat that is missed is no
    /// reason to take it in again: it is told, and the next one follows.
    pub(crate) async fn note(&self, sources: BTreeSet<Source>) {
        for source in sources {
            let (account, region) = (source.account.clone(), source.region.clone());
            if let Err(e) = self.heartbeats.note(source, self.clock.now()).await {
                sentinel_telemetry::error("heartbeat");
                tracing::warn!(account, region, error = %e, "a heartbeat was not written");
            }
        }
    }
}
