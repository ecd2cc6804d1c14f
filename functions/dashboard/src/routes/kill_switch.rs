//! The kill switch: the one way to stop every action of a deployment at once, and to see who did and why.

use std::sync::Arc;

use axum::{Json, extract::State};
use sentinel_state::responses::KillSwitch;
use serde::Deserialize;

use super::{Body, responses::checked_note};
use crate::{Dashboard, auth::Caller, error::ApiError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    on: bool,
    reason: Option<String>,
}

pub(super) async fn show(State(app): State<Arc<Dashboard>>) -> Result<Json<KillSwitch>, ApiError> {
    Ok(Json(app.respond.kill_switch().await?))
}

/// Setting it as it stands already is no conflict: whoever stops everything must not be told to look again.
pub(super) async fn set(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(setting): Body<Setting>,
) -> Result<Json<KillSwitch>, ApiError> {
    let by = &caller.user()?.username;
    let reason = setting.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    let reason = checked_note("reason", reason)?;
    Ok(Json(app.respond.set_kill_switch(setting.on, by, reason).await?))
}
