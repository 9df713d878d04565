//! The documentation in a browser, from this program alone: no byte of it comes over the network.

use crate::error::Problem;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use flate2::read::GzDecoder;
use std::io::{self, Read as _};
use std::sync::{Arc, LazyLock};
use tessera_core::Error;
use utoipa_swagger_ui::Config;

/// The committed document; a test holds it against the routes.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");
/// Where the document is served.
const DOCUMENT_PATH: &str = "/api/openapi.json";
/// Scripts and styles from here alone, nothing inline, no other address to send anything to, and no frame around it.
/// Pictures in the style sheet are `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The parts change with the program only.
const KEPT: &str = "max-age=3600";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from(DOCUMENT_PATH)
        // A service on the internet that would be asked about the document.
        .validator_url("none")
        .try_it_out_enabled(true)
        .display_request_duration(true)
        .doc_expansion("none")
        .default_models_expand_depth(0)
        .filter(true)
        // Without the bar that would load the document of another place.
        .use_base_layout();
    Arc::new(config)
});

/// The OpenAPI document.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, KEPT)], DOCUMENT).into_response()
}

/// The page's parts are named relative to it.
pub async fn to_page() -> Redirect {
    Redirect::permanent("/api/docs/")
}

/// The page.
pub async fn page(headers: HeaderMap) -> Response {
    part(Path(String::new()), headers).await
}

/// A part of the page.
pub async fn part(Path(path): Path<String>, asked: HeaderMap) -> Response {
    let file = match utoipa_swagger_ui::serve(&path, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => file,
        Ok(None) => return Problem::from(Error::not_found("resource", path)).into_response(),
        Err(error) => {
            let cause = error.to_string();
            return Problem::from(Error::internal("The page cannot be made.", cause)).into_response();
        }
    };
    // What stands around the routes leaves this header to clients that take gzip.
    let is_sent_packed = file.gzpipped && asked.contains_key(header::ACCEPT_ENCODING);
    let bytes =
        if file.gzpipped && !is_sent_packed { unpacked(&file.bytes) } else { Ok(file.bytes.into_owned()) };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(cause) => {
            return Problem::from(Error::internal("The page cannot be made.", cause)).into_response();
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
        (header::CACHE_CONTROL, HeaderValue::from_static(KEPT)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    let mut response = (StatusCode::OK, headers, bytes).into_response();
    if is_sent_packed {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A part of this program as it was before it was packed, for the few clients that do not take gzip.
fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes)?;
    Ok(bytes)
}
