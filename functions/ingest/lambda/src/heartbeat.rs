//! Heartbeats of the sources that this function takes in.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sentinel_durable::Clock;
use sentinel_state::{
    Table,
    sources::{Heartbeats, Source},
};
use tokio::time::timeout;

/// Longest that heartbeats may hold up the answer for what was taken in: a table that hangs or is throttled must
/// not have events come again that are safe.
const LONGEST: Duration = Duration::from_secs(3);

/// Heartbeats on a clock.
pub(crate) struct Beats {
    heartbeats: Heartbeats,
    clock: Arc<dyn Clock>,
    longest: Duration,
}

impl Beats {
    pub(crate) fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Self {
        Self { heartbeats: Heartbeats::new(table), clock, longest: LONGEST }
    }

    /// Notes that these delivered. What they delivered is safe already, so a heartbeat that is missed is no
    /// reason to take it in again: it is told, and the next one follows.
    pub(crate) async fn note(&self, sources: BTreeSet<Source>) {
        if timeout(self.longest, self.note_each(sources)).await.is_err() {
            sentinel_telemetry::error("heartbeat");
            tracing::warn!("heartbeats were not written in time");
        }
    }

    async fn note_each(&self, sources: BTreeSet<Source>) {
        for source in sources {
            let (account, region) = (source.account.clone(), source.region.clone());
            if let Err(e) = self.heartbeats.note(source, self.clock.now()).await {
                sentinel_telemetry::error("heartbeat");
                tracing::warn!(account, region, error = %e, "a heartbeat was not written");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use sentinel_durable::SystemClock;
    use sentinel_state::{Item, Key, Page, Query, TableError, Write, sources::Delivery};

    use super::*;

    /// A table that never answers.
    struct Hanging;

    #[async_trait]
    impl Table for Hanging {
        async fn get(&self, _: &Key) -> Result<Option<Item>, TableError> {
            std::future::pending().await
        }
        async fn get_many(&self, _: &[Key]) -> Result<Vec<Item>, TableError> {
            std::future::pending().await
        }
        async fn write(&self, _: Vec<Write>) -> Result<(), TableError> {
            std::future::pending().await
        }
        async fn query(&self, _: Query) -> Result<Page, TableError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_table_that_hangs_holds_nothing_up() {
        let source =
            |region: &str| Source { account: "111122223333".into(), region: region.into(), delivery: Delivery::Bus };
        let longest = Duration::from_millis(50);
        let beats = Beats { longest, ..Beats::new(Arc::new(Hanging), Arc::new(SystemClock)) };
        let all = ["eu-west-1", "us-east-1", "us-west-2"].map(source).into();
        timeout(Duration::from_secs(10), beats.note(all)).await.expect("it gives up by itself");
    }
}
