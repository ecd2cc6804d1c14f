//! Users, for administrators.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use sentinel_model::Timestamp;
use sentinel_state::{
    Condition,
    users::{Role, User},
};
use serde::{Deserialize, Serialize};

use super::{Body, Id, Items};
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

pub(super) async fn list(State(app): State<Arc<Dashboard>>) -> Result<Json<Items<UserView>>, ApiError> {
    Ok(Json(Items::all(app.users.list().await?.into_iter().map(Into::into).collect())))
}

pub(super) async fn create(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    let admin = caller.user()?;
    if !accounts::valid_username(&new.username) {
        return Err(ApiError::BadRequest("username: 1 to 64 letters, digits or ._@+-".into()));
    }
    check_principals(&new.principals)?;
    if app.users.get(&new.username).await?.is_some() {
        return Err(exists(&new.username));
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
        Err(e) if e.is_condition() => Err(exists(&user.username)),
        other => {
            other?;
            tracing::info!(by = admin.username, username = user.username, role = user.role.as_str(), "user made");
            Ok((StatusCode::CREATED, Json(user.into())))
        }
    }
}

pub(super) async fn change(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Id(username): Id,
    Body(change): Body<UserChange>,
) -> Result<Json<UserView>, ApiError> {
    let oneself = caller.user()?.username == username;
    if oneself && (change.disabled == Some(true) || change.role.is_some_and(|r| r != Role::Admin)) {
        return Err(ApiError::Conflict("administrators cannot disable or demote themselves".into()));
    }
    if oneself && change.principals.is_some() {
        return Err(ApiError::Forbidden("another administrator must say which AWS principals are you".into()));
    }
    if let Some(principals) = &change.principals {
        check_principals(principals)?;
    }
    // Read again, with its version: the change counts only while its maker still is an administrator, so that
    // two who demote each other at the same time leave one.
    let admin = app.users.get(&caller.user()?.username).await?;
    let admin = admin.filter(|a| a.value.role == Role::Admin && !a.value.disabled);
    let admin = admin.ok_or_else(|| ApiError::Forbidden("you are no administrator any more".into()))?;
    let stored = app.users.get(&username).await?.ok_or_else(|| ApiError::NotFound(format!("user {username}")))?;
    let mut user = stored.value;
    user.role = change.role.unwrap_or(user.role);
    user.principals = change.principals.unwrap_or(user.principals);
    if let Some(disabled) = change.disabled {
        user.session_epoch += u64::from(disabled && !user.disabled);
        user.disabled = disabled;
    }
    app.users.put_as(&admin, &user, Condition::Version(stored.version)).await?;
    let (by, role, disabled) = (&admin.value.username, user.role.as_str(), user.disabled);
    tracing::info!(by, username, role, disabled, principals = ?user.principals, "user changed");
    Ok(Json(user.into()))
}

fn exists(username: &str) -> ApiError {
    ApiError::Conflict(format!("user {username} exists already"))
}

fn check_principals(principals: &[String]) -> Result<(), ApiError> {
    const MOST: usize = 100;
    const LONGEST: usize = 2_048;
    let is_arn = |p: &String| p.starts_with("arn:") && p.len() <= LONGEST && !p.contains(char::is_whitespace);
    if principals.len() <= MOST && principals.iter().all(is_arn) {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("principals: at most {MOST} ARNs")))
}
