//! The web page, embedded in the binary: built from `web/` into `web/dist` before the crate is compiled.

use axum::{
    http::{HeaderValue, Method, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

use crate::error::ApiError;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Page;

/// Serves a file of the page; every path without a file gets the page itself, which routes by its fragment.
/// Paths of the API that lead nowhere come here too.
pub(crate) async fn serve(method: Method, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") {
        return ApiError::NotFound("this path".into()).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return ([(header::ALLOW, "GET,HEAD")], ApiError::MethodNotAllowed).into_response();
    }
    let (name, file) = match Page::get(path) {
        Some(file) if !path.is_empty() => (path, Some(file)),
        _ if path.starts_with("assets/") => return ApiError::NotFound("this path".into()).into_response(),
        _ => ("index.html", Page::get("index.html")),
    };
    let Some(file) = file else {
        return ApiError::NoPage.into_response();
    };
    // Vite names assets by their content, so they never change; the page itself names them and must be fresh.
    let cache = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    let charset = if mime.type_() == "text" { "; charset=utf-8" } else { "" };
    let mime = HeaderValue::from_str(&format!("{mime}{charset}"));
    let mime = mime.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    ([(header::CONTENT_TYPE, mime), (header::CACHE_CONTROL, HeaderValue::from_static(cache))], file.data)
        .into_response()
}
