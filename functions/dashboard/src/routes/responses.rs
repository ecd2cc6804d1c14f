//! Responses: what was done, or would be done, about alerts; and people's decisions about them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use sentinel_model::response::{Response, ResponseState};
use sentinel_respond::decide::{Approver, DecideError};
use sentinel_state::{
    responses::{ListResponses, StoredResponse},
    users::{Role, User},
};
use serde::{Deserialize, Serialize};

use super::{Items, page_size, params};
use crate::{Dashboard, auth::Caller, error::ApiError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    state: Option<ResponseState>,
    account: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A response as the API shows it.
#[derive(Serialize)]
pub(super) struct View {
    #[serde(flatten)]
    response: Response,
    version: u64,
}

impl From<StoredResponse> for View {
    fn from(s: StoredResponse) -> Self {
        Self { response: s.response, version: s.version }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    note: Option<String>,
}

impl From<DecideError> for ApiError {
    fn from(e: DecideError) -> Self {
        match e {
            DecideError::NotFound(_) => Self::NotFound(e.to_string()),
            DecideError::NotAllowed(_) => Self::Forbidden(e.to_string()),
            DecideError::WrongState(_) => Self::Conflict(e.to_string()),
            other => Self::internal(other),
        }
    }
}

/// A state's name as the API writes it.
pub(super) fn state_name(state: ResponseState) -> String {
    serde_json::to_value(state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) async fn list(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    query: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Items<View>>, ApiError> {
    caller.require(Role::Viewer)?;
    let p = params(query)?;
    let wanted = ListResponses { state: p.state, account: p.account, limit: page_size(p.limit)?, cursor: p.cursor };
    let (items, next_cursor) = app.responses.list(&wanted).await?;
    Ok(Json(Items { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

async fn find(app: &Dashboard, id: &str) -> Result<StoredResponse, ApiError> {
    app.responses.find(id).await?.ok_or_else(|| ApiError::NotFound(format!("response {id}")))
}

pub(super) async fn show(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    caller.require(Role::Viewer)?;
    Ok(Json(find(&app, &id).await?.into()))
}

fn approver(user: &User) -> Approver {
    Approver { username: user.username.clone(), role: user.role, principals: user.principals.clone() }
}

/// The body may be left out; one that is there must be right.
fn note(body: &[u8]) -> Result<Option<String>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice::<Note>(body)
        .map(|n| n.note)
        .map_err(|e| ApiError::BadRequest(format!("the body is {{\"note\": text}} or nothing: {e}")))
}

pub(super) async fn approve(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(id): Path<String>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let by = approver(caller.require(Role::Admin)?);
    app.respond.approve(&id, &by, note(&body)?.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, Json(find(&app, &id).await?.into())))
}

pub(super) async fn deny(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(id): Path<String>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let by = approver(caller.require(Role::Admin)?);
    app.respond.deny(&id, &by, note(&body)?.as_deref()).await?;
    Ok((StatusCode::OK, Json(find(&app, &id).await?.into())))
}

pub(super) async fn undo(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(id): Path<String>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let by = approver(caller.require(Role::Admin)?);
    app.respond.undo(&id, &by, note(&body)?.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, Json(find(&app, &id).await?.into())))
}

/// The responses to these alerts of an account, each once.
pub(super) async fn of_alerts(app: &Dashboard, account: &str, alert_ids: &[&str]) -> Result<Vec<View>, ApiError> {
    let mut found: Vec<View> = Vec::new();
    for id in alert_ids {
        for stored in app.responses.of_alert(account, id).await? {
            if !found.iter().any(|v| v.response.response_id == stored.response.response_id) {
                found.push(stored.into());
            }
        }
    }
    Ok(found)
}

/// The newest responses, up to `most`.
pub(super) async fn newest(app: &Dashboard, most: usize) -> Result<Vec<Response>, ApiError> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let wanted = ListResponses { limit: 200, cursor, ..ListResponses::default() };
        let (page, next) = app.responses.list(&wanted).await?;
        all.extend(page.into_iter().map(|s| s.response));
        cursor = next;
        if cursor.is_none() || all.len() >= most {
            return Ok(all);
        }
    }
}
