//! Health for load balancers and people, and metrics for Prometheus.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use sentinel_durable::{QueueDepth, Stage};
use sentinel_model::response::Mode;
use serde::Serialize;

use crate::{Dashboard, error::ApiError};

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
    response_mode: Mode,
    simulated_account: bool,
    kill_switch: bool,
    queues: BTreeMap<&'static str, QueueDepth>,
}

/// 200 when the stores answer; a store that doesn't is a 500.
pub(super) async fn health(State(app): State<Arc<Dashboard>>) -> Result<Json<Health>, ApiError> {
    let mut queues = BTreeMap::new();
    for stage in Stage::ALL {
        queues.insert(stage.as_str(), app.queue.depth(stage).await.map_err(ApiError::internal)?);
    }
    Ok(Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        response_mode: app.info.mode,
        simulated_account: app.info.simulated_account,
        kill_switch: app.responses.kill_switch().await?.on,
        queues,
    }))
}

pub(super) async fn metrics(State(app): State<Arc<Dashboard>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (app.metrics)()).into_response()
}
