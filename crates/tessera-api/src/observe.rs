//! Observability of requests: an id, a span, one line in the log at the end, and metrics.

use crate::error::{Fault, with_request_id};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;
use tessera_core::desk::clock;
use tessera_core::metrics as names;
use tracing::field::Empty;
use tracing::{Instrument as _, Level, Span};
use uuid::Uuid;

/// Maximum length of a client's `X-Request-Id`; a longer one is replaced.
const REQUEST_ID_MAX: usize = 128;
/// The header with a request's id, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route label of unknown paths. The path itself is never a label, as a client could create any number of them.
const NO_ROUTE: &str = "none";
/// Routes that machines poll, logged at debug level only.
const QUIET: [&str; 2] = ["/api/health", "/metrics"];

/// Observes one request until the head of its response.
pub async fn observe(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = id_of(&request);
    let method = method_of(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let span = span(method, route, &id);
    let mut response = with_request_id(next.run(request).instrument(span.clone()).await, &id).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    span.record("status", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    log(&response, method, route, &id, took.as_micros() as f64 / 1_000.0);
    metrics::counter!(
        names::HTTP_REQUESTS,
        "method" => method, "route" => route.to_owned(), "status" => response.status().as_str().to_owned()
    )
    .increment(1);
    metrics::histogram!(names::HTTP_REQUEST_SECONDS, "route" => route.to_owned()).record(took);
    response
}

/// Returns the client's own id if it is usable, or a new one.
fn id_of(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_usable = |id: &&str| {
        !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    given.filter(is_usable).map_or_else(|| clock::ids().draw::<Uuid>().to_string(), str::to_owned)
}

/// Returns the label of a method. A client may send any word as a method, so unknown ones share a label.
fn method_of(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn span(method: &'static str, route: &str, id: &str) -> Span {
    macro_rules! request {
        ($level:expr) => {
            tracing::span!(
                $level,
                "request",
                otel.name = %format_args!("{method} {route}"),
                otel.kind = "server",
                otel.status_code = Empty,
                method,
                route,
                status = Empty,
                request_id = id
            )
        };
    }
    if QUIET.contains(&route) { request!(Level::DEBUG) } else { request!(Level::INFO) }
}

/// Writes the log line of a request. For a server error it includes the causes, which are never sent to the client.
fn log(response: &Response, method: &'static str, route: &str, request_id: &str, ms: f64) {
    let status = response.status().as_u16();
    let fault = response.extensions().get::<Fault>();
    let (code, causes) = fault.map_or(("", ""), |fault| (fault.code, fault.causes.as_str()));
    let detail = fault.map_or("", |fault| fault.detail.as_str());
    match status {
        503 if !QUIET.contains(&route) => {
            tracing::warn!(method, route, status, ms, request_id, code, causes, detail, "rejected");
        }
        500.. if status != 503 => {
            tracing::error!(method, route, status, ms, request_id, code, causes, detail, "failed");
        }
        _ if QUIET.contains(&route) => tracing::debug!(method, route, status, ms, request_id, "finished"),
        _ => tracing::info!(method, route, status, ms, request_id, "finished"),
    }
}
