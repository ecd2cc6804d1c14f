//! Users, for administrators.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use sentinel_model::Timestamp;
use sentinel_state::{
    Condition,
    users::{Role, User},
};
use serde::{Deserialize, Serialize};

use super::{Body, Items};
use crate::{
    Dashboard,
    auth::{Caller, accounts, password},
    error::ApiError,
};

#[derive(Serialize)]
pub(super) struct UserView {
    username: String,
    role: Role,
    created_at: Timestamp,
    disabled: bool,
    principals: Vec<String>,
}

impl From<User> for UserView {
    fn from(u: User) -> Self {
        Self {
            username: u.username,
            role: u.role,
            created_at: u.created_at,
            disabled: u.disabled,
            principals: u.principals,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    username: String,
    role: Role,
    password: String,
    #[serde(default)]
    principals: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    role: Option<Role>,
    disabled: Option<bool>,
    principals: Option<Vec<String>>,
}

pub(super) async fn list(State(app): State<Arc<Dashboard>>, caller: Caller) -> Result<Json<Items<UserView>>, ApiError> {
    caller.require(Role::Admin)?;
    Ok(Json(Items { items: app.users.list().await?.into_iter().map(Into::into).collect(), next_cursor: None }))
}

pub(super) async fn create(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    caller.require(Role::Admin)?;
    if !accounts::valid_username(&new.username) {
        return Err(ApiError::BadRequest("username: 1 to 64 letters, digits or ._@+-".into()));
    }
    let user = User {
        password_hash: password::hash(new.password).await?,
        username: new.username,
        role: new.role,
        must_change_password: true,
        created_at: app.clock.now(),
        disabled: false,
        principals: new.principals,
        session_epoch: 1,
    };
    match app.users.put(&user, Condition::Absent).await {
        Err(e) if e.is_condition() => Err(ApiError::Conflict(format!("user {} exists already", user.username))),
        other => {
            other?;
            Ok((StatusCode::CREATED, Json(user.into())))
        }
    }
}

pub(super) async fn change(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Path(username): Path<String>,
    Body(change): Body<UserChange>,
) -> Result<Json<UserView>, ApiError> {
    let admin = caller.require(Role::Admin)?;
    if admin.username == username && (change.disabled == Some(true) || change.role.is_some_and(|r| r != Role::Admin)) {
        return Err(ApiError::Conflict("administrators cannot disable or demote themselves".into()));
    }
    if admin.username == username && change.principals.is_some() {
        return Err(ApiError::Conflict("another administrator must change which AWS principals are you".into()));
    }
    let stored = app.users.get(&username).await?.ok_or_else(|| ApiError::NotFound(format!("user {username}")))?;
    let mut user = stored.value;
    user.role = change.role.unwrap_or(user.role);
    user.principals = change.principals.unwrap_or(user.principals);
    if let Some(disabled) = change.disabled {
        user.session_epoch += u64::from(disabled);
        user.disabled = disabled;
    }
    app.users.put(&user, Condition::Version(stored.version)).await?;
    Ok(Json(user.into()))
}
