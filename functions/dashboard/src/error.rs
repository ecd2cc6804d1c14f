//! What the API answers when it cannot do as asked.
//!
//! Policy: a caller's mistake is told in full, with what was expected; a failure of ours is logged in full
//! with an error id and told as that id alone, so that no internals leak. Every error is an RFC 9457 problem
//! detail. Handlers return [`ApiError`] and never build a status by hand.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An error answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request is not of the form asked.
    #[error("{0}")]
    BadRequest(String),
    /// 401: no valid credentials.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// 403: known, but not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// 403: the password must be changed first.
    #[error("the password must be changed before anything else: POST /api/v1/auth/password")]
    PasswordChangeRequired,
    /// 404.
    #[error("{0} was not found")]
    NotFound(String),
    /// 409: the thing changed meanwhile, or is not in a state that allows this.
    #[error("{0}")]
    Conflict(String),
    /// 404: there is no page.
    #[error("this binary was built without the web page: run make build")]
    NoPage,
    /// 405; the router adds the methods that there are.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// 408: the body did not come in time.
    #[error("the body did not come within {0} seconds")]
    TooSlow(u64),
    /// 413.
    #[error("{0}")]
    TooLarge(String),
    /// 415.
    #[error("{0}")]
    UnsupportedMedia(String),
    /// 429, with the seconds to wait.
    #[error("too many failed logins: try again in {0} seconds")]
    LockedOut(i64),
    /// 503: too much at once.
    #[error("too many requests of this kind at once: try again in a moment")]
    Busy,
    /// 500: ours; told as an id.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    /// Wraps a failure of ours.
    pub fn internal(e: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(e))
    }

    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request", "Bad request"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized", "Not logged in"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::PasswordChangeRequired => {
                (StatusCode::FORBIDDEN, "password-change-required", "Password change required")
            }
            Self::NotFound(_) | Self::NoPage => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
            Self::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "too-slow", "Too slow"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Self::UnsupportedMedia(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media", "Unsupported"),
            Self::LockedOut(_) => (StatusCode::TOO_MANY_REQUESTS, "locked-out", "Too many attempts"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }
}

impl From<sentinel_state::TableError> for ApiError {
    fn from(e: sentinel_state::TableError) -> Self {
        match e {
            sentinel_state::TableError::ConditionFailed(_) => {
                Self::Conflict("it was changed meanwhile: read it again".into())
            }
            sentinel_state::TableError::BadRequest(reason) => Self::BadRequest(reason),
            other => Self::internal(other),
        }
    }
}

impl From<sentinel_search::SearchError> for ApiError {
    fn from(e: sentinel_search::SearchError) -> Self {
        match e {
            sentinel_search::SearchError::BadCursor => Self::BadRequest("cursor is not one this API gave".into()),
            other => Self::internal(other),
        }
    }
}

/// The answer when a handler panicked: the same as for every failure of ours.
#[allow(clippy::needless_pass_by_value, reason = "what the layer hands over")]
pub(crate) fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    ApiError::internal(std::io::Error::other(format!("panic: {}", text.unwrap_or_default()))).into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.parts();
        let detail = if let Self::Internal(source) = &self {
            let id = uuid::Uuid::new_v4().to_string();
            tracing::error!(error = %source, error_id = %id, "request failed");
            sentinel_telemetry::error("dashboard");
            format!("The request failed on our side. Error id {id}.")
        } else {
            self.to_string()
        };
        let body =
            json!({ "type": format!("/problems/{kind}"), "title": title, "status": status.as_u16(), "detail": detail });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        match self {
            Self::LockedOut(seconds) => {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            Self::Busy => {
                headers.insert(header::RETRY_AFTER, 1.into());
            }
            Self::Unauthorized(_) => {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            // RFC 9110, section 12.5.3: tells which codings would have done.
            Self::UnsupportedMedia(_) => {
                headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("gzip"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn told(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_failure_of_ours_is_told_as_an_id_alone() {
        let secret = "disk /secret/path is full";
        let (status, text) = told(ApiError::internal(std::io::Error::other(secret)).into_response()).await;
        assert_eq!(status, 500);
        assert!(!text.contains("secret") && text.contains("Error id"), "{text}");
        let panic = std::panic::catch_unwind(|| panic!("secret {}", 1)).unwrap_err();
        let (status, text) = told(panicked(panic)).await;
        assert_eq!(status, 500);
        assert!(!text.contains("secret") && text.contains("/problems/internal"), "{text}");
    }

    #[test]
    fn what_to_wait_for_is_told() {
        let header = |e: ApiError, name| e.into_response().headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header(ApiError::LockedOut(15), header::RETRY_AFTER), "15");
        assert_eq!(header(ApiError::Busy, header::RETRY_AFTER), "1");
    }
}
