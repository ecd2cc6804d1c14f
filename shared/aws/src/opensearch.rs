//! The search port over OpenSearch: Amazon OpenSearch Service, or any cluster by its address.
//!
//! In go documents, out come pages of them. Text and queries are cut into words here, by one rule: at
//! everything that is neither letter nor digit. A query's word must occur as those words in a row, the last one
//! as a prefix, so an ARN, an address or a part of one is found as it is written, and nothing of a query is
//! syntax. The index therefore needs no analyser but the one that splits at white space, and answers the same
//! on every distribution and version.
//!
//! Events lie in an index for each UTC day, so that forgetting is deleting whole indices; no script and no
//! delete-by-query is used. Days far from now go to one further index, so that records with made-up times
//! cannot fill the cluster with indices. Alerts, which are few and may change their time, have one of their own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use opensearch::auth::Credentials;
use opensearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use sentinel_durable::{Clock, SystemClock};
use sentinel_model::Timestamp;
use sentinel_search::{Document, DocumentKind, SearchError, SearchIndex, SearchPage, SearchQuery};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::budget::Budget;

mod call;
mod document;
mod query;

use call::{CallError, Method};
use document::{Stored, day_index, name_of, template};

/// The actions that the domain's access policy and the function's role must allow (OpenSearch Service
/// Developer Guide, "Identity and Access Management"): `es:ESHttp*` by HTTP method. For Serverless it is
/// `aoss:APIAccessAll` instead.
pub const ACTIONS: &[&str] = &["es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut", "es:ESHttpDelete"];
/// What [`SearchIndex::index`] calls.
pub const WRITE: &[&str] = &["es:ESHttpPut", "es:ESHttpPost"];
/// What [`SearchIndex::search`] and [`SearchIndex::count`] call.
pub const READ: &[&str] = &["es:ESHttpPost"];
/// What [`SearchIndex::forget_before`] calls.
pub const FORGET: &[&str] = &["es:ESHttpGet", "es:ESHttpPost", "es:ESHttpDelete"];

/// Most results of one page.
const MAX_LIMIT: usize = 1_000;
/// Most ids of one query.
const MAX_IDS: usize = 100;
/// Most bytes of one bulk request, below the 10 MiB that small instances of the service take.
const BULK_BYTES: usize = 5 * 1024 * 1024;
/// Documents deleted in one bulk request.
const DELETE_BATCH: usize = 1_000;
/// Most rounds of deleting what is old in an index that has newer documents too; the next call goes on.
const DELETE_ROUNDS: usize = 10_000;

/// How requests are let in.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// Signed with the function's credentials, for the service `es` or, Serverless, `aoss`.
    Signed {
        /// Where Region and credentials come from.
        config: &'a SdkConfig,
        /// The service's name in the signature.
        service: &'a str,
    },
    /// By nothing: a cluster that only its network protects, as in tests.
    Open,
}

/// An index on OpenSearch.
#[derive(Clone)]
pub struct OpenSearch {
    transport: Transport,
    prefix: String,
    budget: Budget,
    clock: Arc<dyn Clock>,
    refresh: bool,
    prepared: Arc<OnceCell<()>>,
}

impl OpenSearch {
    /// An index at this endpoint (`https://HOST`), in indices whose names begin with `prefix` and `-`; the
    /// prefix is of lower-case letters, digits and `-`.
    pub fn new(endpoint: &str, access: Access<'_>, prefix: &str, budget: Budget) -> Result<Self, SearchError> {
        let url = endpoint.parse().map_err(|e| store(CallError::endpoint(endpoint, &e)))?;
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url));
        if let Access::Signed { config, service } = access {
            builder = builder.auth(Credentials::try_from(config).map_err(store)?).service_name(service);
        }
        let transport = builder.build().map_err(store)?;
        Ok(Self {
            transport,
            prefix: prefix.to_owned(),
            budget,
            clock: Arc::new(SystemClock),
            refresh: false,
            prepared: Arc::default(),
        })
    }

    /// Has [`SearchIndex::index`] return only when the documents can be found. Otherwise they can after the
    /// index's refresh interval, a second as a rule, which costs the cluster far less.
    #[must_use]
    pub fn found_at_once(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// With another clock, by which days are near or far.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The indices of a kind, or of all, as a request's path names them.
    fn pattern(&self, kind: Option<DocumentKind>) -> String {
        match kind {
            Some(kind) => format!("{}-{}-*", self.prefix, name_of(kind)),
            None => format!("{0}-event-*,{0}-alert-*", self.prefix),
        }
    }

    /// Makes the template by which indices are made, once a process.
    async fn prepare(&self) -> Result<(), SearchError> {
        let make = || async {
            let path = format!("_index_template/{}", self.prefix);
            self.call(Method::Put, &path, &template(&self.prefix).to_string()).await.map(drop)
        };
        self.prepared.get_or_try_init(make).await.map(drop).map_err(store)
    }

    /// Carries out a bulk request; an error when one of its operations failed.
    async fn bulk(&self, lines: &str, refresh: bool) -> Result<(), SearchError> {
        let path = format!("_bulk?refresh={refresh}");
        let answer = self.call(Method::Post, &path, lines).await.map_err(store)?;
        if answer["errors"] == json!(false) {
            return Ok(());
        }
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let operations = items.iter().filter_map(Value::as_object).flat_map(|item| item.values());
        // What is to be deleted may be gone already.
        let failed: Vec<&Value> = operations.filter(|o| !o["error"].is_null()).collect();
        match failed.first() {
            None => Ok(()),
            Some(first) => Err(store(CallError::bulk(failed.len(), first))),
        }
    }

    async fn count_in(&self, indices: &str) -> Result<u64, SearchError> {
        let path = format!("{indices}/_count?ignore_unavailable=true&allow_no_indices=true");
        let answer = self.call(Method::Post, &path, "{}").await.map_err(store)?;
        answer["count"].as_u64().ok_or_else(|| store(CallError::answer("a count without a number", &answer)))
    }

    /// Names of the indices of a kind.
    async fn indices(&self, kind: DocumentKind) -> Result<Vec<String>, SearchError> {
        let path = format!("_cat/indices/{}?format=json&h=index", self.pattern(Some(kind)));
        let answer = self.call(Method::Get, &path, "").await.map_err(store)?;
        let lists = answer.as_array().ok_or_else(|| store(CallError::answer("no list of indices", &answer)))?;
        Ok(lists.iter().filter_map(|index| index["index"].as_str()).map(str::to_owned).collect())
    }

    /// Deletes what is older than a time in an index that has newer documents too.
    async fn forget_in(&self, index: &str, time: Timestamp) -> Result<u64, SearchError> {
        let old = json!({
            "size": DELETE_BATCH, "_source": false, "sort": ["_doc"],
            "query": {"range": {"at": {"lt": time.as_microsecond()}}},
        });
        let old = old.to_string();
        let mut gone = 0;
        for _ in 0..DELETE_ROUNDS {
            let path = format!("{index}/_search?ignore_unavailable=true");
            let answer = self.call(Method::Post, &path, &old).await.map_err(store)?;
            let hits = answer["hits"]["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
            if hits.is_empty() {
                break;
            }
            let delete = |hit: &Value| format!("{}\n", json!({"delete": {"_index": hit["_index"], "_id": hit["_id"]}}));
            // Visible at once, or the next round would find them again.
            self.bulk(&hits.iter().map(delete).collect::<String>(), true).await?;
            gone += hits.len() as u64;
        }
        Ok(gone)
    }
}

#[async_trait]
impl SearchIndex for OpenSearch {
    /// As the port says, but a failure may have added a part; the same documents again replace them.
    async fn index(&self, documents: Vec<Document>) -> Result<(), SearchError> {
        if documents.is_empty() {
            return Ok(());
        }
        self.prepare().await?;
        let now = self.clock.now();
        let mut lines = String::new();
        for document in documents {
            let stored = Stored::new(document);
            let index = day_index(&self.prefix, stored.kind(), stored.time(), now);
            let (action, source) = (json!({"index": {"_index": index, "_id": stored.key()}}), stored.source());
            let line = format!("{action}\n{source}\n");
            if !lines.is_empty() && lines.len() + line.len() > BULK_BYTES {
                self.bulk(&std::mem::take(&mut lines), self.refresh).await?;
            }
            lines.push_str(&line);
        }
        self.bulk(&lines, self.refresh).await
    }

    async fn search(&self, query: SearchQuery) -> Result<SearchPage, SearchError> {
        let limit = query.limit.clamp(1, MAX_LIMIT);
        if query.ids.len() > MAX_IDS {
            return Err(SearchError::TooManyIds(query.ids.len()));
        }
        let Some(request) = query::request(&query, limit)? else {
            return Ok(SearchPage { documents: Vec::new(), next: None });
        };
        let options = "ignore_unavailable=true&allow_no_indices=true";
        let path = format!("{}/_search?{options}", self.pattern(query.kind));
        let answer = self.call(Method::Post, &path, &request.to_string()).await.map_err(store)?;
        query::page(&answer, limit).map_err(store)
    }

    async fn forget_before(&self, kind: DocumentKind, time: Timestamp) -> Result<u64, SearchError> {
        let mut gone = 0;
        for index in self.indices(kind).await? {
            if document::is_older(&index, time) {
                gone += self.count_in(&index).await?;
                self.call(Method::Delete, &format!("{index}?ignore_unavailable=true"), "").await.map_err(store)?;
            } else {
                gone += self.forget_in(&index, time).await?;
            }
        }
        Ok(gone)
    }

    async fn count(&self, kind: DocumentKind) -> Result<u64, SearchError> {
        self.count_in(&self.pattern(Some(kind))).await
    }
}

fn store(e: impl std::error::Error + Send + Sync + 'static) -> SearchError {
    SearchError::Store(Box::new(e))
}

/// Longest time that one request may take.
const REQUEST: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
