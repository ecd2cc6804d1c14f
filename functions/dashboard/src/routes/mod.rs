//! The routes of the API, one module a resource, and what they share: bodies, pages, headers.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequest, Query, Request, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, header},
    routing::{delete, get, patch, post},
};
use serde::{Serialize, de::DeserializeOwned};
use tower_http::{set_header::SetResponseHeaderLayer, trace::TraceLayer};

use crate::{Dashboard, error::ApiError, page};

mod alerts;
mod events;
mod health;
mod incidents;
mod logs;
mod responses;
mod session;
mod stats;
mod tokens;
mod users;

/// Rows of a page when the caller names no limit, and the most they may ask for.
const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

/// A page of rows.
#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// A JSON body; what is wrong with one is told as a problem detail.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(match rejection.status().as_u16() {
                413 => ApiError::TooLarge("the body is too large".into()),
                415 => ApiError::UnsupportedMedia("send Content-Type: application/json".into()),
                _ => ApiError::BadRequest(rejection.body_text()),
            }),
        }
    }
}

fn params<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(p)| p).map_err(|e| ApiError::BadRequest(e.body_text()))
}

fn page_size(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        n @ 1..=LARGEST_PAGE => Ok(n),
        n => Err(ApiError::BadRequest(format!("limit: 1 to {LARGEST_PAGE}, not {n}"))),
    }
}

/// The whole HTTP surface: API, metrics and page.
pub fn router(app: Arc<Dashboard>) -> Router {
    let api = Router::new()
        .route("/auth/login", post(session::log_in))
        .route("/auth/password", post(session::change_password))
        .route("/auth/me", get(session::me))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{username}", patch(users::change))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}", delete(tokens::delete))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{id}", get(alerts::show).patch(alerts::triage))
        .route("/incidents", get(incidents::list))
        .route("/incidents/{id}", get(incidents::show))
        .route("/responses", get(responses::list))
        .route("/responses/{id}", get(responses::show))
        .route("/responses/{id}/approve", post(responses::approve))
        .route("/responses/{id}/deny", post(responses::deny))
        .route("/responses/{id}/undo", post(responses::undo))
        .route("/stats", get(stats::stats))
        .route("/events", get(events::search))
        .route("/health", get(health::health))
        .route("/logs", post(logs::accept))
        .fallback(|| async { ApiError::NotFound("this path".into()) })
        .method_not_allowed_fallback(|| async { ApiError::BadRequest("this path does not take this method".into()) });
    let router = Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(health::metrics))
        .fallback(get(page::serve))
        .with_state(app)
        .layer(TraceLayer::new_for_http());
    SECURITY_HEADERS.iter().fold(router, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::if_not_present(name.clone(), HeaderValue::from_static(value)))
    })
}

/// What the OWASP Secure Headers Project asks of a page and an API that load nothing from elsewhere.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
