//! The API documentation in a browser, served from this program alone, without other servers.

use crate::app::Static;
use crate::encoding;
use crate::error::Problem;
use axum::Extension;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tessera_core::Error;
use utoipa_swagger_ui::{Config, SwaggerFile};

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

static OPENAPI: LazyLock<Document> = LazyLock::new(|| {
    Document::new(HeaderValue::from_static("application/json"), Bytes::from_static(DOCUMENT.as_bytes()))
});

/// The parts of the page that were asked for, by their paths. Only parts that exist are kept, so their number is limited.
static PARTS: LazyLock<Mutex<HashMap<String, Arc<Document>>>> = LazyLock::new(Mutex::default);

/// A document that is the same for everybody. It is compressed once, and all responses share its bytes: a client that does not
/// read them holds no memory.
struct Document {
    content_type: HeaderValue,
    plain: Bytes,
    packed: Option<Bytes>,
}

impl Document {
    fn new(content_type: HeaderValue, plain: Bytes) -> Self {
        let packed = encoding::gzip(&plain).ok().filter(|packed| packed.len() < plain.len());
        Self { content_type, plain, packed }
    }

    fn of(file: SwaggerFile<'_>) -> io::Result<Self> {
        let content_type = HeaderValue::from_str(&file.content_type);
        let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        let bytes = Bytes::from(file.bytes.into_owned());
        if !file.gzpipped {
            return Ok(Self::new(content_type, bytes));
        }
        let mut plain = Vec::new();
        GzDecoder::new(&*bytes).read_to_end(&mut plain)?;
        Ok(Self { content_type, plain: plain.into(), packed: Some(bytes) })
    }

    /// Returns the document in a form that the client of a request accepts.
    fn response(&self, request: &HeaderMap) -> Response {
        // The encoding layer keeps this header only for clients that accept gzip.
        let packed = self.packed.as_ref().filter(|_| request.contains_key(header::ACCEPT_ENCODING));
        let headers = [
            (header::CONTENT_TYPE, self.content_type.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static(CACHE)),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        let bytes = packed.unwrap_or(&self.plain).clone();
        let mut response = (Extension(Static), headers, bytes).into_response();
        if packed.is_some() {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Returns the OpenAPI document.
pub async fn openapi(headers: HeaderMap) -> Response {
    OPENAPI.response(&headers)
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
pub async fn part(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let document = match find(&path) {
        Ok(Some(document)) => document,
        Ok(None) => return Problem::from(Error::not_found("resource", path)).into_response(),
        Err(cause) => {
            return Problem::from(Error::internal("Cannot create the page.", cause)).into_response();
        }
    };
    let mut response = document.response(&headers);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn find(path: &str) -> Result<Option<Arc<Document>>, String> {
    let mut parts = PARTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(document) = parts.get(path) {
        return Ok(Some(Arc::clone(document)));
    }
    let file = utoipa_swagger_ui::serve(path, Arc::clone(&CONFIG)).map_err(|error| error.to_string())?;
    let Some(file) = file else { return Ok(None) };
    let document = Arc::new(Document::of(file).map_err(|error| error.to_string())?);
    parts.insert(path.to_owned(), Arc::clone(&document));
    Ok(Some(document))
}
