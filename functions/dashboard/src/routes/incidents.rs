//! Incidents: list and detail.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use sentinel_model::{Incident, Level};
use sentinel_state::users::Role;
use serde::{Deserialize, Serialize};

use super::{
    Items,
    alerts::{JsonText, Row, json},
    page_size, params,
};
use crate::{Dashboard, auth::Caller, error::ApiError};

/// Alerts shown with an incident, the first ones.
const SHOWN_ALERTS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    level: Option<Level>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    incident: &'a Incident,
    alerts: Vec<Row<'a>>,
    responses: Vec<super::responses::View>,
}

pub(super) async fn list(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    query: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Items<Incident>>, ApiError> {
    caller.require(Role::Viewer)?;
    let p = params(query)?;
    let (items, next_cursor) = app.incidents.list(p.level, page_size(p.limit)?, p.cursor).await?;
    Ok(Json(Items { items, next_cursor }))
}

pub(super) async fn show(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<JsonText, ApiError> {
    caller.require(Role::Viewer)?;
    let incident = app.incidents.find(&id).await?.ok_or_else(|| ApiError::NotFound(format!("incident {id}")))?;
    let mut alerts = Vec::new();
    for alert_id in incident.alert_ids.iter().take(SHOWN_ALERTS) {
        alerts.extend(app.alerts.find(alert_id).await?);
    }
    let mut responses = Vec::new();
    let ids: Vec<&str> = incident.alert_ids.iter().map(String::as_str).collect();
    for account in &incident.accounts {
        responses.extend(super::responses::of_alerts(&app, account, &ids).await?);
    }
    json(&Detail { incident: &incident, alerts: alerts.iter().map(|(a, t)| Row::new(a, t)).collect(), responses })
}
