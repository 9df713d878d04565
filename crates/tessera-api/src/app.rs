//! The state that handlers share, and the middleware in front of them: authentication, load shedding, time limits.

use crate::error::Problem;
use crate::pulse::Pulse;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use sha2::{Digest, Sha256};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tessera_core::desk::Tessera;
use tessera_core::metrics as names;
use tessera_core::{Code, Error};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Bytes of a request's body.
pub const BODY_MAX: usize = 1024 * 1024;

/// Limits on concurrent work and on its duration.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The time that a handler may take, including the arrival of the request's body.
    pub handler: Duration,
    /// Concurrent requests; further ones are rejected as `overloaded` before they wait for a database connection.
    pub at_work: usize,
    /// Concurrent exports, each of which holds a database connection; further ones are rejected as `busy`. At most half of the
    /// connections for searches.
    pub exports: usize,
    /// The time that an export may take until its client has received all of it.
    pub export: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            handler: Duration::from_secs(15),
            at_work: 256,
            exports: 4,
            export: Duration::from_secs(30 * 60),
        }
    }
}

/// The state that handlers share.
#[derive(Debug, Clone)]
pub struct App {
    /// The desk.
    pub tessera: Arc<Tessera>,
    /// Cancelled when the process shuts down.
    pub stop: CancellationToken,
    /// The source of `/metrics`; `None` = the route does not exist.
    pub scrape: Option<Scrape>,
    pub(crate) pulse: Arc<Pulse>,
    /// One permit for each export that may run.
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) load: Load,
    token: TokenHash,
    places: Arc<Semaphore>,
}

impl App {
    /// Creates an application that accepts this administrator token.
    pub fn new(tessera: Arc<Tessera>, token: &str) -> Self {
        let load = Load::default();
        let load = Load { exports: load.exports.min(tessera.exports_max()), ..load };
        Self {
            tessera,
            stop: CancellationToken::new(),
            scrape: None,
            pulse: Arc::default(),
            exports: Arc::new(Semaphore::new(load.exports)),
            load,
            token: TokenHash::of(token),
            places: Arc::new(Semaphore::new(load.at_work)),
        }
    }

    /// Sets other limits.
    pub fn with_load(self, load: Load) -> Self {
        let load = Load { exports: load.exports.min(self.tessera.exports_max()), ..load };
        let [exports, places] = [load.exports, load.at_work].map(|most| Arc::new(Semaphore::new(most)));
        Self { load, exports, places, ..self }
    }

    /// Sets the cancellation token that makes `/api/health` report `stopping`.
    pub fn with_stop(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// Serves metrics at `/metrics`.
    pub fn with_scrape(self, scrape: Scrape) -> Self {
        Self { scrape: Some(scrape), ..self }
    }

    /// Whether a request has the administrator's bearer token.
    pub fn is_administrator(&self, headers: &HeaderMap) -> bool {
        self.token.is_in(headers)
    }
}

/// The source of the metrics, and a token that can read nothing else.
#[derive(Clone)]
pub struct Scrape {
    render: Arc<dyn Fn() -> String + Send + Sync>,
    token: Option<TokenHash>,
}

impl Scrape {
    /// Creates a source that renders Prometheus' text format, for the administrator and for holders of `token`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static, token: Option<&str>) -> Self {
        Self { render: Arc::new(render), token: token.map(TokenHash::of) }
    }

    /// Renders the current metrics.
    pub fn render(&self) -> String {
        (self.render)()
    }

    /// Whether a request has the bearer token for metrics.
    pub fn is_reader(&self, headers: &HeaderMap) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_in(headers))
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

/// SHA-256 of a token. Comparing hashes takes a time that reveals nothing about the token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether this is the bearer token of a request.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        *self == Self::of(token.map_or("", |(_, token)| token.trim()))
    }
}

/// Rejects requests without a valid token, and attaches the [`Caller`](tessera_core::desk::Caller) to the others. This is the
/// one place of this edge that decides as whom a request is made.
pub async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if !app.is_administrator(request.headers()) {
        return unauthenticated(
            "Send the header Authorization: Bearer <token>. `tessera token` prints the administrator's token.",
        );
    }
    match app.tessera.administrator() {
        Ok(caller) => drop(request.extensions_mut().insert(caller)),
        Err(error) => return Problem::from(error).into_response(),
    }
    next.run(request).await
}

/// The response to a missing or invalid token.
pub fn unauthenticated(detail: &str) -> Response {
    let mut response = Problem::from(Error::new(Code::Unauthenticated, detail)).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Rejects requests above the limit of concurrent requests. It runs after authentication, so that requests without a token
/// cannot use up the limit.
pub async fn shed(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(_place) = app.places.try_acquire() else {
        metrics::counter!(names::HTTP_SHED).increment(1);
        let detail = "Too many requests are being processed. Retry in a moment.";
        return Problem::from(Error::new(Code::Overloaded, detail)).into_response();
    };
    next.run(request).await
}

/// Stops a handler that takes too long. The response distinguishes a handler that was slow from a body that had not arrived.
pub async fn limit_time(State(app): State<App>, request: Request, next: Next) -> Response {
    let has_arrived = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let is_http2 = request.version() == Version::HTTP_2;
    let request = if has_arrived.load(Ordering::Relaxed) {
        request
    } else {
        request.map(|body| Body::new(Arriving { body, has_arrived: Arc::clone(&has_arrived) }))
    };
    if let Ok(response) = tokio::time::timeout(app.load.handler, next.run(request)).await {
        return response;
    }
    if has_arrived.load(Ordering::Relaxed) {
        let detail = "The request took too long and was stopped. It may or may not have taken effect. Retry with the same \
                      Idempotency-Key; without one, check first.";
        return Problem::from(Error::new(Code::Timeout, detail)).into_response();
    }
    let detail = format!("The body did not arrive within {} s.", app.load.handler.as_secs_f64());
    let mut response = Problem::from(Error::new(Code::BodyTooSlow, detail)).into_response();
    if !is_http2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request body that records when it has arrived completely.
struct Arriving {
    body: Body,
    has_arrived: Arc<AtomicBool>,
}

impl HttpBody for Arriving {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.has_arrived.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response to a panic: that of any other internal error.
pub fn on_panic(panic: Box<dyn std::any::Any + Send + 'static>) -> Response<Body> {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned();
    Problem::from(Error::internal("An internal error occurred.", message)).into_response()
}
