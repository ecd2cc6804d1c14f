//! Full-text search of events, for hunting.

use std::sync::Arc;

use axum::{Json, extract::State};
use sentinel_model::{Event, Timestamp};
use sentinel_search::{Document, DocumentKind, SearchQuery};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Items, Params, request::page_size};
use crate::{Dashboard, error::ApiError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
    account: Option<String>,
    principal: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// An event as searches show it.
#[derive(Serialize)]
pub(super) struct EventView {
    event_id: String,
    time: Timestamp,
    account: String,
    region: Option<String>,
    action: String,
    principal: String,
    source_ip: Option<String>,
    raw: Box<RawValue>,
}

impl EventView {
    fn read(document: &Document) -> Result<Self, ApiError> {
        let event: Event = serde_json::from_str(&document.body).map_err(ApiError::internal)?;
        let raw = RawValue::from_string(event.raw.text().to_owned()).map_err(ApiError::internal)?;
        let service = event.action.service.trim_end_matches(".amazonaws.com");
        Ok(Self {
            time: event.time,
            account: event.account,
            region: event.region,
            action: format!("{service}:{}", event.action.name),
            principal: event.principal.id,
            source_ip: event.network.source_ip.map(|ip| ip.to_string()).or(event.network.source_host),
            raw,
            event_id: event.id,
        })
    }
}

pub(super) async fn search(
    State(app): State<Arc<Dashboard>>,
    Params(p): Params<Wanted>,
) -> Result<Json<Items<EventView>>, ApiError> {
    let page = app
        .search
        .search(SearchQuery {
            kind: Some(DocumentKind::Event),
            words: p.q,
            account: p.account,
            principal: p.principal,
            from: p.from,
            to: p.to,
            limit: page_size(p.limit)?,
            after: p.cursor,
            ..SearchQuery::default()
        })
        .await?;
    let items = page.documents.iter().map(EventView::read).collect::<Result<_, _>>()?;
    Ok(Json(Items::page(items, page.next).found_by(app.search.coverage())))
}

/// The raw records of these events, oldest first, as far as the index has them.
pub(super) async fn raw_records(
    app: &Dashboard,
    account: &str,
    ids: Vec<String>,
) -> Result<Vec<Box<RawValue>>, ApiError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let limit = ids.len();
    let query = SearchQuery {
        kind: Some(DocumentKind::Event),
        account: Some(account.to_owned()),
        ids,
        limit,
        ..SearchQuery::default()
    };
    let page = app.search.search(query).await?;
    page.documents.iter().rev().map(|d| EventView::read(d).map(|v| v.raw)).collect()
}
