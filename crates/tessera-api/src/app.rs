//! The state that handlers share, and the middleware in front of them: authentication, load shedding, time limits.

use crate::error::Problem;
use crate::pulse::Pulse;
use axum::Extension;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tessera_core::desk::Tessera;
use tessera_core::metrics as names;
use tessera_core::{Code, Error};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bytes of a request's body.
pub const BODY_MAX: usize = 1024 * 1024;
/// The time for which a body may arrive before it can be made to give way to others.
const BODY_SLOW: Duration = Duration::from_secs(1);
/// The time for which a request waits for memory before one slow body gives way, and then the next.
const DISPLACE_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a response that is small: the limit of concurrent requests of the server limits these, too.
const ANSWER_SMALL: usize = 8 * 1024;
/// Bytes in which memory is counted.
const UNIT: usize = 1024;

/// Limits on concurrent work and on its duration.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The time that a request's body may take to arrive, and then the time that the handler may take.
    pub handler: Duration,
    /// Concurrent requests whose bodies have arrived; further ones are rejected as `overloaded` before they wait for a database connection.
    pub at_work: usize,
    /// Concurrent exports, each of which holds a database connection; further ones are rejected as `busy`. At most half of the
    /// connections for searches.
    pub exports: usize,
    /// The time that an export may take until its client has received all of it.
    pub export: Duration,
    /// Bytes that the bodies of requests may take.
    pub bodies: usize,
    /// Bytes that responses may take until clients have received them, not counting responses of up to 8 KiB.
    pub answers: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            handler: Duration::from_secs(15),
            at_work: 256,
            exports: 4,
            export: Duration::from_secs(30 * 60),
            bodies: 64 * 1024 * 1024,
            answers: 64 * 1024 * 1024,
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
    bodies: Arc<Bodies>,
    answers: Arc<Semaphore>,
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
            bodies: Arc::new(Bodies::new(load.bodies)),
            answers: Arc::new(Semaphore::new(load.answers / UNIT)),
        }
    }

    /// Sets other limits.
    pub fn with_load(self, load: Load) -> Self {
        let load = Load { exports: load.exports.min(self.tessera.exports_max()), ..load };
        let [exports, places, answers] =
            [load.exports, load.at_work, load.answers / UNIT].map(|most| Arc::new(Semaphore::new(most)));
        Self { load, exports, places, answers, bodies: Arc::new(Bodies::new(load.bodies)), ..self }
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

/// Receives the whole body before the request counts as one in progress, so that a client that sends slowly takes no place that
/// others need. The memory is taken when bytes arrive, and given back after the handler.
pub async fn receive(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let is_http2 = request.version() == Version::HTTP_2;
    let (parts, body) = request.into_parts();
    let arrived =
        tokio::time::timeout(app.load.handler, app.bodies.receive(body)).await.unwrap_or_else(|_| {
            let detail = format!("The body did not arrive within {} s.", app.load.handler.as_secs_f64());
            Err(Error::new(Code::BodyTooSlow, detail))
        });
    match arrived {
        Ok((body, _memory)) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(error) => {
            if error.code() == Code::Overloaded {
                metrics::counter!(names::HTTP_SHED).increment(1);
            }
            let mut response = Problem::from(error).into_response();
            if !is_http2 {
                // The rest of the body is still to come.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

/// Rejects requests above the limit of concurrent requests. It runs after authentication and after the body has arrived, so that
/// neither requests without a token nor slow clients can use up the limit.
pub async fn shed(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(_place) = app.places.try_acquire() else {
        return overloaded("Too many requests are being processed. Retry in a moment.");
    };
    next.run(request).await
}

/// Stops a handler that takes too long.
pub async fn limit_time(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Ok(response) = tokio::time::timeout(app.load.handler, next.run(request)).await {
        return response;
    }
    let detail = "The request took too long and was stopped. It may or may not have taken effect. Retry with the same \
                  Idempotency-Key; without one, check first.";
    Problem::from(Error::new(Code::Timeout, detail)).into_response()
}

/// Takes the memory for a response, until the client has received it. While too much waits for clients that do not read, a large
/// response is replaced by a refusal.
pub async fn limit_answers(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let size = usize::try_from(response.body().size_hint().exact().unwrap_or_default()).unwrap_or(usize::MAX);
    if size <= ANSWER_SMALL || response.extensions().get::<Static>().is_some() {
        return response;
    }
    match Arc::clone(&app.answers).try_acquire_many_owned(units(size.min(app.load.answers))) {
        Ok(memory) => {
            response.extensions_mut().insert(Held(Arc::new(memory)));
            response
        }
        Err(_) => overloaded(
            "Responses that clients have not read use up the memory for responses. Retry in a moment. A change may have taken \
             effect: retry it with the same Idempotency-Key.",
        ),
    }
}

/// A refusal that makes the server close the connections of clients that do not read.
fn overloaded(detail: &str) -> Response {
    metrics::counter!(names::HTTP_SHED).increment(1);
    (Extension(Overloaded), Problem::from(Error::new(Code::Overloaded, detail))).into_response()
}

/// Returns the permits for a number of bytes: one for each KiB that is begun.
pub(crate) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// A response extension for bodies that all responses share: an unread one takes no memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Static;

/// A response extension of a refusal: what clients do not read is needed by others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overloaded;

/// A response extension with the memory that the body takes.
#[derive(Debug, Clone)]
pub(crate) struct Held(pub(crate) Arc<OwnedSemaphorePermit>);

/// The memory for the bodies of requests. When it is used up, the body that has been arriving for longest gives way.
#[derive(Debug)]
struct Bodies {
    memory: Arc<Semaphore>,
    /// The bodies that are arriving, oldest first.
    arriving: Mutex<BTreeMap<u64, Arrival>>,
    count: AtomicU64,
}

/// A body that is arriving.
#[derive(Debug)]
struct Arrival {
    since: Instant,
    give_way: Arc<Notify>,
}

impl Bodies {
    fn new(bytes: usize) -> Self {
        let memory = Arc::new(Semaphore::new(bytes / UNIT));
        Self { memory, arriving: Mutex::default(), count: AtomicU64::new(0) }
    }

    /// Receives a body, with the memory that it takes.
    async fn receive(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Error> {
        let (number, give_way) = (self.count.fetch_add(1, Ordering::Relaxed), Arc::new(Notify::new()));
        let arrival = Arrival { since: Instant::now(), give_way: Arc::clone(&give_way) };
        self.arriving().insert(number, arrival);
        let _listed = Listed { bodies: self, number };
        tokio::select! {
            biased;
            received = self.fill(body) => received,
            () = give_way.notified() => Err(Error::new(
                Code::Overloaded,
                "The body arrived slowly, and its memory was needed for other requests. Retry in a moment.",
            )),
        }
    }

    fn arriving(&self) -> MutexGuard<'_, BTreeMap<u64, Arrival>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the oldest body give way, if it is slow.
    fn displace(&self) {
        let mut arriving = self.arriving();
        if let Some(oldest) =
            arriving.first_entry().filter(|oldest| oldest.get().since.elapsed() >= BODY_SLOW)
        {
            oldest.remove().give_way.notify_one();
        }
    }

    async fn fill(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Error> {
        let mut parts = body.into_data_stream();
        let (mut bytes, mut memory) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(part) = parts.next().await {
            let part = part
                .map_err(|_| Error::new(Code::MalformedBody, "The body was cut off. Retry the request."))?;
            if bytes.len() + part.len() > BODY_MAX {
                let detail = format!("The body is larger than {BODY_MAX} bytes.");
                return Err(Error::new(Code::BodyTooLarge, detail));
            }
            let taken = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = (bytes.len() + part.len()).div_ceil(UNIT).saturating_sub(taken);
            let more = self.take(u32::try_from(more).unwrap_or(u32::MAX)).await?;
            match &mut memory {
                Some(memory) => memory.merge(more),
                None => memory = Some(more),
            }
            bytes.extend_from_slice(&part);
        }
        Ok((bytes.freeze(), memory))
    }

    /// Takes memory. While too little is free, the oldest of the slow bodies gives way, one after the other.
    async fn take(&self, units: u32) -> Result<OwnedSemaphorePermit, Error> {
        let taken = Arc::clone(&self.memory).acquire_many_owned(units);
        tokio::pin!(taken);
        loop {
            match tokio::time::timeout(DISPLACE_EVERY, &mut taken).await {
                Ok(taken) => {
                    return taken.map_err(|source| Error::internal("An internal error occurred.", source));
                }
                Err(_) => self.displace(),
            }
        }
    }
}

/// Removes a body from those that are arriving.
struct Listed<'b> {
    bodies: &'b Bodies,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.bodies.arriving().remove(&self.number);
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;
    use std::future::pending;

    /// A body of one part, after which nothing comes.
    fn stalled(bytes: usize) -> Body {
        let part = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes]))]);
        Body::from_stream(part.chain(stream::once(pending())))
    }

    #[tokio::test]
    async fn the_body_that_has_been_arriving_for_longest_gives_way_when_the_memory_is_used_up() {
        let bodies = Arc::new(Bodies::new(4 * UNIT));
        let begin = |bytes| {
            let bodies = Arc::clone(&bodies);
            tokio::spawn(async move { bodies.receive(stalled(bytes)).await.map(drop) })
        };
        let oldest = begin(UNIT);
        while bodies.memory.available_permits() == 4 {
            tokio::task::yield_now().await;
        }
        let older = begin(3 * UNIT);
        while bodies.memory.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (one, _memory) = bodies.receive(Body::from(vec![b'x'; UNIT])).await.unwrap();
        assert_eq!(one.len(), UNIT);
        assert_eq!(oldest.await.unwrap().unwrap_err().code(), Code::Overloaded);
        assert!(!older.is_finished(), "one was enough");
        older.abort();
        assert!(older.await.unwrap_err().is_cancelled());
        assert_eq!(bodies.memory.available_permits(), 3, "a body that is given up gives its memory back");
    }

    #[tokio::test]
    async fn a_body_takes_memory_as_it_arrives_and_at_most_its_limit() {
        let bodies = Bodies::new(2 * BODY_MAX);
        let parts = stream::iter((0..3).map(|_| Ok::<_, Infallible>(Bytes::from_static(b"abc"))));
        let (bytes, memory) = bodies.receive(Body::from_stream(parts)).await.unwrap();
        assert_eq!((&*bytes, memory.unwrap().num_permits()), (&b"abcabcabc"[..], 1));
        let (bytes, _memory) = bodies.receive(Body::from(vec![0; BODY_MAX])).await.unwrap();
        assert_eq!((bytes.len(), bodies.memory.available_permits()), (BODY_MAX, BODY_MAX / UNIT));
        drop(_memory);
        let refused = bodies.receive(Body::from(vec![0; BODY_MAX + 1])).await.unwrap_err();
        assert_eq!(
            (refused.code(), bodies.memory.available_permits()),
            (Code::BodyTooLarge, 2 * BODY_MAX / UNIT)
        );
    }
}
