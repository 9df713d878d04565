//! What is told of every request: its id, a span, one line in the log at its end, and the metrics.

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

/// Characters of an `X-Request-Id` that is taken over.
const REQUEST_ID_MAX: usize = 128;
/// The header that names a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route of what no route takes. The path itself is never a label: a client could make as many as it likes.
const NO_ROUTE: &str = "none";
/// Routes that machines ask all day long, and of which the log tells only to who wants to know.
const QUIET: [&str; 2] = ["/api/health", "/metrics"];

/// Follows one request from its head to its answer's head.
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
    tell(&response, method, route, &id, took.as_micros() as f64 / 1_000.0);
    metrics::counter!(
        names::HTTP_REQUESTS,
        "method" => method, "route" => route.to_owned(), "status" => response.status().as_str().to_owned()
    )
    .increment(1);
    metrics::histogram!(names::HTTP_REQUEST_SECONDS, "route" => route.to_owned()).record(took);
    response
}

/// The client's own id where it is usable, or one of ours.
fn id_of(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_usable = |id: &&str| {
        !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    given.filter(is_usable).map_or_else(|| clock::ids().draw::<Uuid>().to_string(), str::to_owned)
}

/// A client may send any word as a method; a label has a few.
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

/// The one line. A fault of ours stands in it with its causes, which never reach the client.
fn tell(response: &Response, method: &'static str, route: &str, request_id: &str, ms: f64) {
    let status = response.status().as_u16();
    let fault = response.extensions().get::<Fault>();
    let (code, causes) = fault.map_or(("", ""), |fault| (fault.code, fault.causes.as_str()));
    let detail = fault.map_or("", |fault| fault.detail.as_str());
    match status {
        503 if !QUIET.contains(&route) => {
            tracing::warn!(method, route, status, ms, request_id, code, causes, detail, "turned away");
        }
        500.. if status != 503 => {
            tracing::error!(method, route, status, ms, request_id, code, causes, detail, "failed");
        }
        _ if QUIET.contains(&route) => tracing::debug!(method, route, status, ms, request_id, "answered"),
        _ => tracing::info!(method, route, status, ms, request_id, "answered"),
    }
}
