//! API tokens for programs, for administrators.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use sentinel_model::time;
use sentinel_state::users::{ApiToken, Role};
use serde::{Deserialize, Serialize};

use super::{Body, Items};
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

#[derive(Serialize)]
pub(super) struct Issued {
    token: String,
    #[serde(flatten)]
    about: ApiToken,
}

pub(super) async fn list(State(app): State<Arc<Dashboard>>, caller: Caller) -> Result<Json<Items<ApiToken>>, ApiError> {
    caller.require(Role::Admin)?;
    Ok(Json(Items { items: app.users.tokens().await?, next_cursor: None }))
}

pub(super) async fn create(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<Issued>), ApiError> {
    let admin = caller.require(Role::Admin)?;
    if new.name.trim().is_empty() || new.name.len() > 100 {
        return Err(ApiError::BadRequest("name: 1 to 100 characters".into()));
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
    let token = token::issue(&app.users, token::Kind::Api, &about.id, 0, now, about.expires_at).await?;
    Ok((StatusCode::CREATED, Json(Issued { token, about })))
}

pub(super) async fn delete(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Role::Admin)?;
    app.users.delete_token(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
