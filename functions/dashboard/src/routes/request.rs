//! What requests and answers share: bodies, ids in paths, query parameters and pages of rows, each refused with
//! a problem detail when it is not of the form asked.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::BodyExt;
use sentinel_search::Coverage;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

use crate::error::ApiError;

/// Largest body of an operation that takes JSON.
pub(super) const SMALL_BODY_BYTES: usize = 64 * 1024;
/// Rows of a page when the caller names no limit, and the most they may ask for.
const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
/// How much of a body that is too large is read and thrown away, and for how long: a client that is still
/// sending when its connection ends does not see the answer.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(10);

/// How long a body may take to come, so that a client that sends byte after byte ends.
const BODY_WITHIN: Duration = Duration::from_mins(2);

/// A page of rows.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Items<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<&'static str>,
}

impl<T> Items<T> {
    /// All rows there are.
    pub(super) fn all(items: Vec<T>) -> Self {
        Self::page(items, None)
    }

    /// Some of the rows.
    pub(super) fn page(items: Vec<T>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor, limited: None }
    }

    /// Found by a search: says what it cannot find, if there is such.
    pub(super) fn found_by(mut self, coverage: Coverage) -> Self {
        self.limited = coverage.limited();
        self
    }
}

pub(super) fn page_size(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        n @ 1..=LARGEST_PAGE => Ok(n),
        n => Err(ApiError::BadRequest(format!("limit: 1 to {LARGEST_PAGE}, not {n}"))),
    }
}

/// A JSON body of at most so many bytes.
pub(super) struct Body<T, const MOST: usize = SMALL_BODY_BYTES>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const MOST: usize> FromRequest<S> for Body<T, MOST> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMedia("send Content-Type: application/json".into()));
        }
        let bytes = read_body(request, MOST).await?;
        from_json(&bytes).map(Self)
    }
}

/// A JSON body that may be left out altogether; one that is there must be right.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = read_body(request, SMALL_BODY_BYTES).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(ApiError::UnsupportedMedia("send Content-Type: application/json".into()));
        }
        from_json(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| ApiError::BadRequest(format!("the body is not as expected: {e}")))
}

/// The whole body, if it has at most `most` bytes as sent, whether or not its length was announced, and comes
/// in time.
pub(super) async fn read_body(request: Request, most: usize) -> Result<Vec<u8>, ApiError> {
    let read = tokio::time::timeout(BODY_WITHIN, read_whole(request, most));
    read.await.unwrap_or(Err(ApiError::TooSlow(BODY_WITHIN.as_secs())))
}

async fn read_whole(request: Request, most: usize) -> Result<Vec<u8>, ApiError> {
    let too_large = || ApiError::TooLarge(format!("the body has more than {most} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let announced_too_large = announced.is_some_and(|length| length > most as u64);
    if announced_too_large && request.headers().contains_key(header::EXPECT) {
        // The client asks before it sends: it need not.
        return Err(too_large());
    }
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    let mut excess = announced_too_large;
    while !excess {
        let Some(frame) = body.frame().await else { return Ok(bytes) };
        let frame = frame.map_err(|e| ApiError::BadRequest(format!("the body broke off: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        excess = bytes.len() + data.len() > most;
        if !excess {
            bytes.extend_from_slice(&data);
        }
    }
    drop(bytes);
    let drained = tokio::time::timeout(DRAINED_FOR, async {
        let mut thrown_away = 0;
        while let Some(Ok(frame)) = body.frame().await {
            thrown_away += frame.data_ref().map_or(0, axum::body::Bytes::len);
            if thrown_away > DRAINED_BYTES {
                break;
            }
        }
    });
    if drained.await.is_err() {
        tracing::debug!("a client was still sending a body that is too large");
    }
    Err(too_large())
}

/// The one parameter of a path.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        const LONGEST: usize = 200;
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) if id.len() <= LONGEST => Ok(Self(id)),
            Ok(_) => Err(ApiError::NotFound("a thing of so long a name".into())),
            Err(e) => Err(ApiError::BadRequest(e.body_text())),
        }
    }
}

/// Query parameters; unknown ones are refused where `T` does.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(e) => Err(ApiError::BadRequest(e.body_text())),
        }
    }
}
