//! Polling the CloudTrail API: all Regions at once, each within its own request rate.
//!
//! A poll needs no heartbeat: its cursor says when it last succeeded, and the watch reads that.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use sentinel_ingest::poll::Poller;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How long a round may ask when so much time is left: half of it, since a slice begun goes on a while.
pub(crate) fn time_of(remaining: Duration) -> Duration {
    (remaining / 2).min(Duration::from_mins(5))
}

/// Polls each Region once. One that fails stops no other; the round then fails as a whole, after all of them.
pub(crate) async fn round(poller: Arc<Poller>, account: String, regions: Vec<String>, time: Duration) -> Result<Value> {
    let mut polls = JoinSet::new();
    for region in regions {
        let (poller, account) = (Arc::clone(&poller), account.clone());
        polls.spawn(async move { (poller.poll(&account, &region, time).await, region) });
    }
    let (mut answer, mut failed) = (json!({}), Vec::new());
    while let Some(done) = polls.join_next().await {
        match done {
            Ok((Ok(report), region)) => {
                let told = json!({"handed_on": report.handed_on, "behind_seconds": report.behind_seconds,
                    "complete": report.complete, "held_elsewhere": report.held_elsewhere});
                tracing::info!(account, region, report = %told, "polled");
                answer[region] = told;
            }
            Ok((Err(e), region)) => failed.push(format!("{region}: {e}")),
            Err(e) => failed.push(format!("a poll panicked: {e}")),
        }
    }
    if failed.is_empty() { Ok(answer) } else { bail!("polling failed: {}", failed.join("; ")) }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use sentinel_ingest::poll::{LookupError, LookupPage, TrailLookup};
    use sentinel_model::Timestamp;

    use super::*;
    use crate::testing::{ACCOUNT, bench, record};

    /// One Region answers with a record, the other refuses.
    struct Lookup;

    #[async_trait]
    impl TrailLookup for Lookup {
        async fn page(
            &self,
            region: &str,
            _: Timestamp,
            _: Timestamp,
            _: Option<String>,
        ) -> Result<LookupPage, LookupError> {
            match region {
                "eu-west-1" => Ok(LookupPage { records: vec![record("1").to_string()], next: None }),
                _ => Err(LookupError::Denied("not authorised".into())),
            }
        }
    }

    #[tokio::test]
    async fn a_region_that_fails_stops_no_other_and_fails_the_round() {
        let b = bench();
        let poller = || Arc::new(Poller::new(Arc::new(Lookup), b.ingest.clone(), b.table.clone(), b.clock.clone()));
        let regions = vec!["us-east-1".to_owned(), "eu-west-1".to_owned()];
        let failed = round(poller(), ACCOUNT.into(), regions, Duration::from_secs(1)).await.unwrap_err();
        assert!(failed.to_string().contains("us-east-1: "), "{failed}");
        assert_eq!(b.queued_ids().await, ["1"]);
        let fine = round(poller(), ACCOUNT.into(), vec!["eu-west-1".into()], Duration::from_secs(1)).await.unwrap();
        assert_eq!(fine["eu-west-1"]["held_elsewhere"], json!(false));
    }

    #[test]
    fn half_of_the_time_is_for_asking() {
        assert_eq!(time_of(Duration::from_secs(50)), Duration::from_secs(25));
        assert_eq!(time_of(Duration::MAX), Duration::from_mins(5));
    }
}
