//! The stores that the functions of one deployment share, by the names that its template gives them.
//!
//! In: settings. Out: ports over them. Each function names the queues it cannot do without; the others it may
//! not even know.

use std::sync::Arc;

use sentinel_aws::{
    archive::S3Archive,
    connect,
    sqs::{Queues, SqsQueue},
};
use sentinel_durable::Stage;
use sentinel_model::OwnRoles;
use sentinel_search::{KeySearch, SearchError, SearchIndex};
use sentinel_state::{Table, alerts::Alerts};

use crate::{Reader, Start};

/// Names of what is deployed once for all functions.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The table's name (`SENTINEL_TABLE`).
    pub table: String,
    /// The bucket of archive and large messages (`SENTINEL_DATA_BUCKET`).
    pub data_bucket: String,
    /// The queues (`SENTINEL_DETECT_QUEUE_URL`, `SENTINEL_DETECT_DEAD_QUEUE_URL` and so on).
    pub queues: Queues,
    /// Where OpenSearch is, if it is part of the deployment (`SENTINEL_OPENSEARCH_ENDPOINT`).
    pub search_endpoint: Option<String>,
}

/// The roles that our own calls of IAM are made with: `SENTINEL_OWN_ROLE` (an ARN) in the own account, and
/// `SENTINEL_MEMBER_ROLE` (a name) in every other one.
pub fn own_roles(e: &Reader<'_>) -> OwnRoles {
    let own: OwnRoles = e.optional_arn("SENTINEL_OWN_ROLE").into_iter().collect();
    own.and_in_members(e.optional("SENTINEL_MEMBER_ROLE").as_deref())
}

impl Deployed {
    /// Reads them; the queues of `needed` stages must be there.
    pub fn read(e: &Reader<'_>, needed: &[Stage]) -> Self {
        let mut queues = Queues::default();
        for stage in Stage::ALL {
            let prefix = format!("SENTINEL_{}", stage.as_str().to_ascii_uppercase());
            let url = format!("{prefix}_QUEUE_URL");
            let found = if needed.contains(&stage) { Some(e.url(&url)) } else { e.optional_url(&url) };
            if let Some(url) = found {
                queues = queues.with(stage, url);
            }
            if let Some(url) = e.optional_url(&format!("{prefix}_DEAD_QUEUE_URL")) {
                queues = queues.with_dead(stage, url);
            }
        }
        Self {
            table: e.text("SENTINEL_TABLE"),
            data_bucket: e.text("SENTINEL_DATA_BUCKET"),
            queues,
            search_endpoint: e.optional_url("SENTINEL_OPENSEARCH_ENDPOINT"),
        }
    }

    /// The table.
    pub fn table(&self, start: &Start) -> Arc<dyn Table> {
        Arc::new(connect::table(&start.sdk, &self.table, Arc::clone(&start.clock)))
    }

    /// The queues. Only a function whose queue gets timers' messages needs a table.
    pub fn queue(&self, start: &Start, table: Option<Arc<dyn Table>>) -> SqsQueue {
        connect::queue(&start.sdk, self.queues.clone(), &self.data_bucket, table)
    }

    /// The search index; without OpenSearch what the table's keys can find.
    pub fn search(&self, start: &Start, table: &Arc<dyn Table>) -> Result<Arc<dyn SearchIndex>, SearchError> {
        let Some(endpoint) = &self.search_endpoint else {
            return Ok(Arc::new(KeySearch::new(Alerts::new(Arc::clone(table)))));
        };
        let (budget, clock) = (start.budget.clone(), Arc::clone(&start.clock));
        Ok(Arc::new(connect::opensearch(&start.sdk, endpoint, budget, clock)?))
    }

    /// The archive.
    pub fn archive(&self, start: &Start) -> S3Archive {
        connect::archive(&start.sdk, &self.data_bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Env;

    const SHARED: [(&str, &str); 4] = [
        ("SENTINEL_TABLE", "sentinel"),
        ("SENTINEL_DATA_BUCKET", "data"),
        ("SENTINEL_ENRICH_QUEUE_URL", "https://sqs.example.com/1/enrich"),
        ("SENTINEL_ENRICH_DEAD_QUEUE_URL", "https://sqs.example.com/1/enrich-dead"),
    ];

    #[test]
    fn queues_are_known_by_stage() {
        let deployed = Env::of(&SHARED).read(|e| Deployed::read(e, &[Stage::Enrich])).unwrap();
        assert_eq!((deployed.table.as_str(), deployed.data_bucket.as_str()), ("sentinel", "data"));
        assert_eq!(deployed.queues.queues[&Stage::Enrich], "https://sqs.example.com/1/enrich");
        assert_eq!(deployed.queues.dead[&Stage::Enrich], "https://sqs.example.com/1/enrich-dead");
        assert_eq!((deployed.queues.queues.len(), deployed.search_endpoint), (1, None));
    }

    #[test]
    fn own_roles_are_one_here_and_one_in_every_other_account() {
        let settings =
            [("SENTINEL_OWN_ROLE", "arn:aws:iam::123456789012:role/contain"), ("SENTINEL_MEMBER_ROLE", "Member")];
        let own = Env::of(&settings).read(own_roles).unwrap();
        assert!(own.contains("arn:aws:iam::123456789012:role/contain"));
        assert!(own.contains("arn:aws:iam::444455556666:role/Member"));
        assert!(Env::of(&[]).read(own_roles).unwrap().is_empty());
    }

    #[test]
    fn what_a_function_cannot_do_without_is_missed_by_name() {
        let missed = Env::of(&[]).read(|e| Deployed::read(e, &[Stage::Respond])).unwrap_err();
        assert_eq!(
            missed.0,
            ["SENTINEL_RESPOND_QUEUE_URL is missing", "SENTINEL_TABLE is missing", "SENTINEL_DATA_BUCKET is missing"]
        );
    }
}
