//! What every handler is given, and what stands before a handler: tokens, a place to work at, the time it has.

use crate::error::Problem;
use crate::routes::health::Pulse;
use crate::routes::ticketsql::Census;
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

/// How much is done at a time, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How long a handler may take, its request's body included.
    pub handler: Duration,
    /// Requests at work; one more is told to come again, before it waits for a connection to the database.
    pub at_work: usize,
    /// Exports at a time, each of which keeps a connection to the database; one more is told to come again.
    pub exports: usize,
    /// How long an export may take, until its client has taken all of it.
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

/// What every handler is given.
#[derive(Debug, Clone)]
pub struct App {
    /// The desk.
    pub tessera: Arc<Tessera>,
    /// Cancelled when the process is on its way out.
    pub stop: CancellationToken,
    /// Where the metrics come from.
    pub scrape: Option<Scrape>,
    /// Whether the database answers.
    pub(crate) pulse: Arc<Pulse>,
    /// How many tickets there are.
    pub(crate) census: Arc<Census>,
    /// Who may export.
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) load: Load,
    token: TokenHash,
    places: Arc<Semaphore>,
}

impl App {
    /// An application that lets in who has this token.
    pub fn new(tessera: Arc<Tessera>, token: &str) -> Self {
        let load = Load::default();
        Self {
            tessera,
            stop: CancellationToken::new(),
            scrape: None,
            pulse: Arc::default(),
            census: Arc::default(),
            exports: Arc::new(Semaphore::new(load.exports)),
            load,
            token: TokenHash::of(token),
            places: Arc::new(Semaphore::new(load.at_work)),
        }
    }

    /// With other limits.
    pub fn with_load(self, load: Load) -> Self {
        let [exports, places] = [load.exports, load.at_work].map(|most| Arc::new(Semaphore::new(most)));
        Self { load, exports, places, ..self }
    }

    /// With a stop of which health tells.
    pub fn with_stop(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// With metrics at `/metrics`.
    pub fn with_scrape(self, scrape: Scrape) -> Self {
        Self { scrape: Some(scrape), ..self }
    }

    /// Whether a request has the administrator's token.
    pub fn is_administrator(&self, headers: &HeaderMap) -> bool {
        self.token.is_in(headers)
    }
}

/// Where the metrics come from, and who besides the administrator may read them.
#[derive(Clone)]
pub struct Scrape {
    render: Arc<dyn Fn() -> String + Send + Sync>,
    token: Option<TokenHash>,
}

impl Scrape {
    /// Metrics as `render` writes them in Prometheus' text format, for the administrator and who has this token.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static, token: Option<&str>) -> Self {
        Self { render: Arc::new(render), token: token.map(TokenHash::of) }
    }

    /// The metrics of now.
    pub fn render(&self) -> String {
        (self.render)()
    }

    /// Whether a request has the token that opens the metrics alone.
    pub fn is_reader(&self, headers: &HeaderMap) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_in(headers))
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

/// SHA-256 of a token. Hashes are compared, so how long it takes says nothing of the token.
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

/// Lets in who has the token.
pub async fn authenticate(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.is_administrator(request.headers()) {
        return next.run(request).await;
    }
    unauthenticated("Send the header Authorization: Bearer <token>; `tessera token` prints it.")
}

/// The answer to who has no token, or a wrong one.
pub fn unauthenticated(detail: &str) -> Response {
    let mut response = Problem::from(Error::new(Code::Unauthenticated, detail)).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Turns away who finds no place to work at. It stands behind the token, so that nobody without one takes a place.
pub async fn shed(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(_place) = app.places.try_acquire() else {
        metrics::counter!(names::HTTP_SHED).increment(1);
        let detail = "Too many requests are at work. Send this one again in a moment.";
        return Problem::from(Error::new(Code::Overloaded, detail)).into_response();
    };
    next.run(request).await
}

/// Ends a handler that takes too long. When it is the client that still owes the request's body, it is told so.
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
        let detail = "This took too long and was stopped. It may or may not have been done. Send it again with the same \
                      Idempotency-Key; without one, look first.";
        return Problem::from(Error::new(Code::Timeout, detail)).into_response();
    }
    let detail = format!("The body did not arrive within {} s.", app.load.handler.as_secs_f64());
    let mut response = Problem::from(Error::new(Code::BodyTooSlow, detail)).into_response();
    if !is_http2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The body of a request, which tells when it has arrived whole.
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

/// What a panic is answered: the same as any other fault of ours.
pub fn on_panic(panic: Box<dyn std::any::Any + Send + 'static>) -> Response<Body> {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned();
    Problem::from(Error::internal("Something went wrong on our side.", message)).into_response()
}
