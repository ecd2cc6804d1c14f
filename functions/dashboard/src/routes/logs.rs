//! Logs posted to us: any wrapping that the reader knows, plain or gzipped, into ingest.
//!
//! A sender is an administrator or a token with the scope for it, and is named in the provenance of every
//! record. What is posted here never by itself justifies an automatic action.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
};
use sentinel_ingest::{IngestError, Input, MalformedEntry, ReadError, Report};
use sentinel_model::Channel;
use serde::Serialize;
use std::collections::BTreeMap;
use tokio::{runtime::Handle, sync::Semaphore};

use super::request::read_body;
use crate::{Dashboard, auth::Caller, error::ApiError};

/// Largest body as sent: 5 MB.
const LARGEST_BODY_BYTES: usize = 5_000_000;
/// Bodies read at the same time: each may become 25 times as large when it is decompressed.
static READERS: Semaphore = Semaphore::const_new(4);
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What became of a body.
#[derive(Serialize)]
pub(super) struct Counts {
    records: u64,
    accepted: u64,
    duplicates: u64,
    conflicting: u64,
    /// The first hundred; `malformed_count` counts all.
    malformed: Vec<MalformedEntry>,
    malformed_count: u64,
    unknown: BTreeMap<String, u64>,
    set_aside: u64,
}

impl From<Report> for Counts {
    fn from(r: Report) -> Self {
        Self {
            records: r.records,
            accepted: r.accepted,
            duplicates: r.duplicates,
            conflicting: r.conflicting,
            malformed: r.malformed,
            malformed_count: r.malformed_count,
            unknown: r.unknown,
            set_aside: r.set_aside,
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(e: IngestError) -> Self {
        match e {
            IngestError::Read { error, report, .. } => {
                let detail = format!("the body {error}; {} events before that were accepted", report.accepted);
                match error {
                    ReadError::TooLarge { .. } => Self::TooLarge(detail),
                    ReadError::Decompress(_) | ReadError::Input(_) => Self::BadRequest(detail),
                }
            }
            other => Self::internal(other),
        }
    }
}

pub(super) async fn accept(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Counts>), ApiError> {
    let gzip = is_gzip(request.headers())?;
    let body = read_body(request, LARGEST_BODY_BYTES).await?;
    if body.is_empty() {
        return Err(ApiError::BadRequest("the body is empty".into()));
    }
    if gzip && !body.starts_with(&GZIP_MAGIC) {
        return Err(ApiError::BadRequest("the body is not gzip, as Content-Encoding says".into()));
    }
    let _turn = READERS.acquire().await.map_err(ApiError::internal)?;
    // The reader tells gzip by its content, and bounds what comes out of it.
    let channel = Channel::Api { user: caller.name() };
    // Decompressing and parsing would hold up the thread that answers others.
    let (ingest, handle) = (Arc::clone(&app.ingest), Handle::current());
    let read = tokio::task::spawn_blocking(move || {
        handle.block_on(ingest.accept(Input::new("body", body.as_slice(), channel)))
    });
    let report = read.await.map_err(ApiError::internal)??;
    Ok((StatusCode::ACCEPTED, Json(report.into())))
}

/// Whether the header says gzip. Other codings are refused (RFC 9110, section 8.4).
fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut gzip = false;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let codings = value.to_str().unwrap_or("?");
        for coding in codings.split(',').map(str::trim).filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case("identity"))
        {
            if !coding.eq_ignore_ascii_case("gzip") && !coding.eq_ignore_ascii_case("x-gzip") {
                return Err(ApiError::UnsupportedMedia(format!("Content-Encoding: gzip or none, not {coding}")));
            }
            gzip = true;
        }
    }
    Ok(gzip)
}
