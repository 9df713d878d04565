//! The API documentation in a browser, served from this program alone, without other servers.

use crate::error::Problem;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use flate2::read::GzDecoder;
use std::io::{self, Read as _};
use std::sync::{Arc, LazyLock};
use tessera_core::Error;
use utoipa_swagger_ui::Config;

/// The committed document; a test compares it with the routes.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");
/// The path of the document.
const DOCUMENT_PATH: &str = "/api/openapi.json";
/// The content security policy: only this server's scripts and styles, nothing inline, no requests to other servers, no
/// frames. The style sheet's images are `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The files change only with the program.
const CACHE: &str = "max-age=3600";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from(DOCUMENT_PATH)
        // Would send the document to a validator on the internet.
        .validator_url("none")
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .doc_expansion("none")
        .default_models_expand_depth(0)
        .filter(true)
        // The default layout has a bar for loading documents of other servers.
        .use_base_layout();
    Arc::new(config)
});

/// Returns the OpenAPI document.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, CACHE)], DOCUMENT).into_response()
}

/// Redirects to the page with a slash at the end, because its parts have relative paths.
pub async fn redirect() -> Redirect {
    Redirect::permanent("/api/docs/")
}

/// Returns the page.
pub async fn page(headers: HeaderMap) -> Response {
    part(Path(String::new()), headers).await
}

/// Returns a part of the page.
pub async fn part(Path(path): Path<String>, headers_sent: HeaderMap) -> Response {
    let file = match utoipa_swagger_ui::serve(&path, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => file,
        Ok(None) => return Problem::from(Error::not_found("resource", path)).into_response(),
        Err(error) => {
            let cause = error.to_string();
            return Problem::from(Error::internal("Cannot create the page.", cause)).into_response();
        }
    };
    // The encoding layer keeps this header only for clients that accept gzip.
    let is_compressed = file.gzpipped && headers_sent.contains_key(header::ACCEPT_ENCODING);
    let bytes =
        if file.gzpipped && !is_compressed { decompress(&file.bytes) } else { Ok(file.bytes.into_owned()) };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(cause) => {
            return Problem::from(Error::internal("Cannot create the page.", cause)).into_response();
        }
    };
    let headers: [(HeaderName, HeaderValue); 5] = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_str(&file.content_type)
                .unwrap_or(HeaderValue::from_static("application/octet-stream")),
        ),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static(CACHE)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    let mut response = (StatusCode::OK, headers, bytes).into_response();
    if is_compressed {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Decompresses a part, for the few clients that do not accept gzip.
fn decompress(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut bytes)?;
    Ok(bytes)
}
