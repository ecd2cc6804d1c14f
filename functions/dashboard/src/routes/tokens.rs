//! API tokens for programs, for administrators.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use sentinel_model::time;
use sentinel_state::users::ApiToken;
use serde::{Deserialize, Serialize};

use super::{Body, Id, Items};
use crate::{
    Dashboard,
    auth::{Caller, token},
    error::ApiError,
};

/// The scope that `POST /api/v1/logs` asks for.
pub(super) const LOGS_WRITE: &str = "logs:write";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    name: String,
    scopes: Vec<String>,
    expires_in_days: i64,
}

/// The one answer that holds the token itself.
#[derive(Serialize)]
pub(super) struct Issued {
    token: String,
    #[serde(flatten)]
    about: ApiToken,
}

pub(super) async fn list(State(app): State<Arc<Dashboard>>) -> Result<Json<Items<ApiToken>>, ApiError> {
    Ok(Json(Items::all(app.users.tokens().await?)))
}

pub(super) async fn create(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<Issued>), ApiError> {
    let admin = caller.user()?;
    // It is part of the provenance of what the token sends, which people read.
    if new.name.trim().is_empty() || new.name.chars().count() > 100 || new.name.chars().any(char::is_control) {
        return Err(ApiError::BadRequest("name: 1 to 100 characters, none of them a control character".into()));
    }
    if new.scopes.is_empty() || new.scopes.iter().any(|s| s != LOGS_WRITE) {
        return Err(ApiError::BadRequest(format!("scopes: a list of {LOGS_WRITE:?}")));
    }
    if !(1..=token::MAX_API_TOKEN_DAYS).contains(&new.expires_in_days) {
        return Err(ApiError::BadRequest(format!("expires_in_days: 1 to {}", token::MAX_API_TOKEN_DAYS)));
    }
    let now = app.clock.now();
    let about = ApiToken {
        id: uuid::Uuid::new_v4().to_string(),
        name: new.name,
        scopes: new.scopes,
        created_by: admin.username.clone(),
        created_at: now,
        expires_at: time::plus_seconds(now, new.expires_in_days * 86_400),
    };
    app.users.put_token(&about).await?;
    tracing::info!(by = about.created_by, token = about.id, name = about.name, "API token made");
    let token = token::issue(app.signing.as_ref(), token::Kind::Api, &about.id, 0, now, about.expires_at).await?;
    Ok((StatusCode::CREATED, Json(Issued { token, about })))
}

pub(super) async fn delete(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let admin = caller.user()?;
    if !app.users.delete_token(&id).await? {
        return Err(ApiError::NotFound(format!("token {id}")));
    }
    tracing::info!(by = admin.username, token = id, "API token deleted");
    Ok(StatusCode::NO_CONTENT)
}
