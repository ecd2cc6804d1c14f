//! Logging in, changing one's password, and who one is.

use std::sync::Arc;

use axum::{Json, extract::State};
use sentinel_model::{Timestamp, time};
use sentinel_state::users::{Role, User};
use serde::{Deserialize, Serialize};

use super::Body;
use crate::{
    Dashboard,
    auth::{Caller, accounts, token},
    error::ApiError,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    current_password: String,
    new_password: String,
}

#[derive(Serialize)]
pub(super) struct Me {
    username: String,
    role: Role,
    must_change_password: bool,
}

#[derive(Serialize)]
pub(super) struct Session {
    token: String,
    expires_at: Timestamp,
    user: Me,
}

impl From<&User> for Me {
    fn from(u: &User) -> Self {
        Self { username: u.username.clone(), role: u.role, must_change_password: u.must_change_password }
    }
}

async fn open(app: &Dashboard, user: &User) -> Result<Json<Session>, ApiError> {
    let now = app.clock.now();
    let expires_at = time::plus_seconds(now, token::SESSION_SECONDS);
    let token =
        token::issue(app.signing.as_ref(), token::Kind::Session, &user.username, user.session_epoch, now, expires_at)
            .await?;
    Ok(Json(Session { token, expires_at, user: user.into() }))
}

pub(super) async fn log_in(
    State(app): State<Arc<Dashboard>>,
    Body(login): Body<Login>,
) -> Result<Json<Session>, ApiError> {
    let user = accounts::log_in(&app.users, &login.username, &login.password, app.clock.now()).await?;
    open(&app, &user).await
}

pub(super) async fn change_password(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(change): Body<PasswordChange>,
) -> Result<Json<Session>, ApiError> {
    let name = &caller.user()?.username;
    let user =
        accounts::change_password(&app.users, name, &change.current_password, &change.new_password, app.clock.now())
            .await?;
    open(&app, &user).await
}

pub(super) async fn me(caller: Caller) -> Result<Json<Me>, ApiError> {
    Ok(Json(caller.user()?.into()))
}
