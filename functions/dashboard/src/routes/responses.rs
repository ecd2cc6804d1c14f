//! Responses: what was done, or would be done, about alerts; and people's decisions about them.

use std::{collections::HashSet, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use sentinel_model::response::{Response, ResponseState};
use sentinel_respond::{Approver, DecideError, NOTE_LENGTH, WorkError};
use sentinel_state::responses::{ListResponses, StoredResponse};
use serde::{Deserialize, Serialize};

use super::{
    Id, Items, Params,
    request::{OptionalBody, page_size},
};
use crate::{Dashboard, auth::Caller, error::ApiError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
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
            DecideError::NotFound(id) => Self::NotFound(format!("response {id}")),
            DecideError::Forbidden(reason) => Self::Forbidden(reason),
            DecideError::Conflict(reason) => Self::Conflict(reason),
            e @ DecideError::Work(WorkError::Contended(_)) => Self::Conflict(e.to_string()),
            other @ DecideError::Work(_) => Self::internal(other),
        }
    }
}

pub(super) async fn list(
    State(app): State<Arc<Dashboard>>,
    Params(p): Params<Wanted>,
) -> Result<Json<Items<View>>, ApiError> {
    let wanted = ListResponses { state: p.state, account: p.account, limit: page_size(p.limit)?, cursor: p.cursor };
    let (items, next_cursor) = app.responses.list(&wanted).await?;
    Ok(Json(Items::page(items.into_iter().map(Into::into).collect(), next_cursor)))
}

async fn find(app: &Dashboard, id: &str) -> Result<StoredResponse, ApiError> {
    app.responses.find(id).await?.ok_or_else(|| ApiError::NotFound(format!("response {id}")))
}

pub(super) async fn show(State(app): State<Arc<Dashboard>>, Id(id): Id) -> Result<Json<View>, ApiError> {
    Ok(Json(find(&app, &id).await?.into()))
}

fn approver(caller: &Caller) -> Result<Approver, ApiError> {
    let user = caller.user()?;
    Ok(Approver { username: user.username.clone(), role: user.role, principals: user.principals.clone() })
}

impl Note {
    fn checked(&self) -> Result<Option<&str>, ApiError> {
        checked_note("note", self.note.as_deref())
    }
}

/// What a person says to a decision, in the field of this name, if it is not too long.
pub(super) fn checked_note<'a>(field: &str, note: Option<&'a str>) -> Result<Option<&'a str>, ApiError> {
    if note.is_some_and(|note| note.chars().count() > NOTE_LENGTH) {
        return Err(ApiError::BadRequest(format!("{field}: at most {NOTE_LENGTH} characters")));
    }
    Ok(note)
}

pub(super) async fn approve(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Id(id): Id,
    OptionalBody(note): OptionalBody<Note>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let decided = app.respond.approve(&id, &approver(&caller)?, note.checked()?).await?;
    Ok((StatusCode::ACCEPTED, Json(decided.into())))
}

pub(super) async fn deny(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Id(id): Id,
    OptionalBody(note): OptionalBody<Note>,
) -> Result<Json<View>, ApiError> {
    let decided = app.respond.deny(&id, &approver(&caller)?, note.checked()?).await?;
    Ok(Json(decided.into()))
}

pub(super) async fn undo(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Id(id): Id,
    OptionalBody(note): OptionalBody<Note>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let decided = app.respond.undo(&id, &approver(&caller)?, note.checked()?).await?;
    Ok((StatusCode::ACCEPTED, Json(decided.into())))
}

/// The responses to these alerts (account and id), each once.
pub(super) async fn of_alerts(app: &Dashboard, alerts: &[(String, String)]) -> Result<Vec<View>, ApiError> {
    let mut seen = HashSet::new();
    let mut found: Vec<View> = Vec::new();
    for (account, id) in alerts {
        for stored in app.responses.of_alert(account, id).await? {
            if seen.insert(stored.response.response_id.clone()) {
                found.push(stored.into());
            }
        }
    }
    Ok(found)
}

/// The newest responses, about `most`, and whether there are more.
pub(super) async fn newest(app: &Dashboard, most: usize) -> Result<(Vec<Response>, bool), ApiError> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let wanted = ListResponses { limit: 200, cursor, ..ListResponses::default() };
        let (page, next) = app.responses.list(&wanted).await?;
        all.extend(page.into_iter().map(|s| s.response));
        cursor = next;
        if cursor.is_none() || all.len() >= most {
            return Ok((all, cursor.is_some()));
        }
    }
}
