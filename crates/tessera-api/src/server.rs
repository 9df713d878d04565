//! The accept loop: HTTP/1 and HTTP/2 on one port, with limits on all resources that a client can use, and a graceful stop.
//!
//! `axum::serve` has none of these limits. One task per connection polls it together with the deadline of its stage:
//! waiting for a request, processing requests, or idle between them.

mod stage;

use crate::app::{Held, Overloaded, units};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use stage::{ActiveRequest, Over, Stage, Watched};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tessera_core::metrics as names;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Maximum size of a request's head in bytes; a larger one gets 431. hyper itself accepts at most 100 headers.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Requests that one HTTP/2 connection may have in progress, including those whose responses the client has not read.
const STREAMS_MAX: u32 = 64;
/// Requests that all HTTP/2 connections may have in progress, including those whose responses the clients have not read.
const STREAMS_ALL_MAX: usize = 4_096;
/// Bytes that the unread responses of one HTTP/2 connection may take; further requests wait until the client reads.
const CONNECTION_ANSWERS_MAX: usize = 16 * 1024 * 1024;
/// Bytes that a request of an HTTP/2 connection takes of these until the size of its response is known.
const ANSWER_RESERVED: usize = 1024 * 1024;
/// Streams that an HTTP/2 client may reset before they are processed; one more closes the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that we may reset because of an HTTP/2 client's errors; one more closes the connection.
const RESETS_OWN_MAX: usize = 64;
/// HTTP/2 flow-control windows in bytes: of a stream, and of a connection.
const WINDOWS: (u32, u32) = (128 * 1024, 256 * 1024);
/// Interval of HTTP/2 keep-alive pings, and the time limit for the response.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Wait after the operating system refuses a connection, usually because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The resources that a client may use, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time limit from the opening of a connection, or the first byte of a further request, to the end of the request's head.
    pub header: Duration,
    /// Maximum time between two requests of a connection.
    pub idle: Duration,
    /// Time limit from a request's head until the client has received the whole response, including the handler's time. For a
    /// response with [`Streamed`], until it has received the next part.
    pub request: Duration,
    /// Time for which a response may wait for a client that does not read it before the connection is closed when others need the
    /// memory.
    pub unread: Duration,
    /// Simultaneous connections. A further one replaces the one that was idle longest, or waits while none is idle.
    pub connections: usize,
    /// Time that a stop waits for a request that may be on its way on an idle connection.
    pub linger: Duration,
    /// Time that a stop waits for requests in progress.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            request: Duration::from_secs(75),
            unread: Duration::from_secs(5),
            connections: 1_024,
            linger: Duration::from_millis(250),
            drain: Duration::from_secs(10),
        }
    }
}

/// A response extension for bodies that are generated while they are sent: the time limit restarts whenever the client has
/// received a part.
#[derive(Debug, Clone, Copy)]
pub struct Streamed;

/// Serves until `stop` is cancelled, and then until every accepted request is finished or the drain time is over. Returns the
/// number of connections that were closed by force.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) -> usize {
    let shared = Shared {
        crowd: Notify::new(),
        memory: Notify::new(),
        streams: Arc::new(Semaphore::new(STREAMS_ALL_MAX)),
    };
    let (shared, connections) = (Arc::new(shared), JoinSet::new());
    let mut server = Server { router, limits, stop, shared, connections, is_crowded: false };
    server.accept(&listener).await;
    server.accept_pending(listener);
    server.drain().await
}

struct Server {
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    shared: Arc<Shared>,
    connections: JoinSet<()>,
    is_crowded: bool,
}

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    /// Notified once for each connection that waits for a slot; wakes the connection that was idle longest.
    crowd: Notify,
    /// Notified when memory has run out; wakes the connections whose clients do not read.
    memory: Notify,
    /// A permit for each request in progress on HTTP/2. On HTTP/1 a connection has one request at a time.
    streams: Arc<Semaphore>,
}

impl Server {
    async fn accept(&mut self, listener: &TcpListener) {
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(_) = self.connections.join_next() => {
                    self.count();
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    is_failing = false;
                    self.make_room().await;
                    self.begin(stream);
                }
                Err(error) if is_client_error(&error) => {}
                Err(error) => {
                    // Logged once, until a connection is accepted again.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "cannot accept connections; retrying every {} s", ACCEPT_PAUSE.as_secs());
                    }
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, self.stop.cancelled()).await;
                }
            }
        }
    }

    /// Waits until there is a slot for one more connection.
    async fn make_room(&mut self) {
        let is_crowded = self.connections.len() >= self.limits.connections;
        // Logged once, until there are free slots again.
        if is_crowded && !self.is_crowded {
            tracing::warn!(
                connections = self.limits.connections,
                "the limit of connections is reached (http.connections_max); closing idle ones"
            );
        }
        self.is_crowded = is_crowded;
        while self.connections.len() >= self.limits.connections && !self.stop.is_cancelled() {
            self.shared.crowd.notify_one();
            tokio::select! {
                _ = self.connections.join_next() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Accepts the connections that the kernel has already accepted, as closing the listener would reset them. Reads them from
    /// the kernel, because Tokio may not have been notified of the last ones yet.
    fn accept_pending(&mut self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while self.connections.len() < self.limits.connections {
            let Ok((stream, _)) = listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.begin(stream);
            }
        }
    }

    fn begin(&mut self, stream: TcpStream) {
        let served =
            connection(stream, self.router.clone(), self.limits, self.stop.clone(), Arc::clone(&self.shared));
        self.connections.spawn(served);
        self.count();
    }

    fn count(&self) {
        metrics::gauge!(names::HTTP_CONNECTIONS).set(self.connections.len() as f64);
    }

    async fn drain(mut self) -> usize {
        let ended = async { while self.connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.limits.drain, ended).await;
        let cut_off = self.connections.len();
        self.connections.shutdown().await;
        self.count();
        cut_off
    }
}

/// Returns whether a connection failed before it was accepted, which is not an error of ours.
fn is_client_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection until the client closes it, the server stops, or a time limit is over.
async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    shared: Arc<Shared>,
) {
    // Responses are written whole, so there is nothing to wait for. It fails only if the socket was closed.
    let _ = stream.set_nodelay(true);
    let stage = Stage::new(limits);
    let service = service_fn({
        let unread = Arc::new(Semaphore::new(units(CONNECTION_ANSWERS_MAX) as usize));
        let served = Served { stage: stage.clone(), stop: stop.clone(), shared: Arc::clone(&shared), unread };
        move |request| served.clone().handle(router.clone(), request)
    });
    let builder = builder();
    let served = builder.serve_connection(TokioIo::new(Watched::new(stream, stage.clone())), service);
    let (mut served, mut stopped) = (pin!(served), pin!(stop.cancelled()));
    let mut timer = pin!(sleep_until(stage.deadline()));
    let (mut evicted, mut pressed) = (pin!(None), pin!(None));
    let mut is_closing = false;
    poll_fn(|cx| {
        // An error here is the client's: it closed the connection or did not send HTTP. hyper has responded if possible.
        if served.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !stage.is_stopping() && stopped.as_mut().poll(cx).is_ready() {
            stage.stop();
        }
        // A notification of the crowd wakes the connection that was idle longest.
        let mut over = stage.over();
        if over.is_none() && stage.is_idle() {
            if evicted.is_none() {
                evicted.set(Some(shared.crowd.notified()));
            }
            if evicted.as_mut().as_pin_mut().is_some_and(|notified| notified.poll(cx).is_ready()) {
                evicted.set(None);
                over = Some(Over::Crowded);
            }
        } else {
            evicted.set(None);
        }
        if over.is_none() && stage.is_slow() {
            if pressed.is_none() {
                pressed.set(Some(shared.memory.notified()));
            }
            over = pressed
                .as_mut()
                .as_pin_mut()
                .is_some_and(|notified| notified.poll(cx).is_ready())
                .then_some(Over::Unread);
        } else {
            pressed.set(None);
        }
        if let Some(over) = over {
            over.count();
            if over.is_abrupt() || is_closing {
                return Poll::Ready(());
            }
            is_closing = true;
            stage.close();
            served.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        poll_timer(timer.as_mut(), &stage, cx);
        Poll::Pending
    })
    .await;
}

/// Wakes this task at the stage's deadline. The deadline moves with each request, but resetting the timer each time would
/// be expensive, so it is only compared when the old one is reached.
fn poll_timer(mut timer: Pin<&mut Sleep>, stage: &Stage, cx: &mut Context<'_>) {
    loop {
        let deadline = stage.deadline();
        if deadline < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return;
        }
        if stage.deadline() <= timer.deadline() {
            cx.waker().wake_by_ref();
            return;
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's own limit on the head would also count the time between two requests.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_OWN_MAX)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

/// The parts of a connection that its requests use.
#[derive(Clone)]
struct Served {
    stage: Stage,
    stop: CancellationToken,
    shared: Arc<Shared>,
    /// The memory of the connection's unread responses.
    unread: Arc<Semaphore>,
}

impl Served {
    /// Handles one request. While the server stops, the response tells an HTTP/1 client to close the connection.
    async fn handle(
        self,
        router: Router,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let is_http2 = request.version() == Version::HTTP_2;
        let work = self.stage.begin(is_http2);
        let (stream, mut own) = if is_http2 {
            let Ok(stream) = Arc::clone(&self.shared.streams).try_acquire_owned() else {
                self.shared.memory.notify_waiters();
                return Ok(refusal(work));
            };
            (Some(stream), Arc::clone(&self.unread).acquire_many_owned(units(ANSWER_RESERVED)).await.ok())
        } else {
            (None, None)
        };
        let Ok(mut response) = router.oneshot(request.map(Body::new)).await;
        if self.stop.is_cancelled() && !is_http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if response.extensions().get::<Overloaded>().is_some() {
            self.shared.memory.notify_waiters();
        }
        let mut held =
            response.extensions_mut().remove::<Held>().and_then(|Held(memory)| Arc::into_inner(memory));
        if let Some(size) = response.body().size_hint().exact() {
            let size = units(usize::try_from(size).unwrap_or(usize::MAX)) as usize;
            // A compressed response takes less than was held for it.
            for memory in [&mut own, &mut held].into_iter().flatten() {
                drop(memory.split(memory.num_permits().saturating_sub(size)));
            }
        }
        let is_streamed = response.extensions().get::<Streamed>().is_some();
        work.answered();
        let receipt = Arc::new(Receipt { work, _stream: stream, _own: own, _held: held });
        Ok(response.map(|body| ResponseBody { body, receipt, is_streamed }))
    }
}

/// Refuses a request of HTTP/2 without anything that waits for the client to read.
fn refusal(work: ActiveRequest) -> Response<ResponseBody> {
    let receipt = Arc::new(Receipt { work, _stream: None, _own: None, _held: None });
    let mut response = Response::new(ResponseBody { body: Body::empty(), receipt, is_streamed: false });
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The permits of a response, until the client has received all of it.
struct Receipt {
    work: ActiveRequest,
    _stream: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
    _held: Option<OwnedSemaphorePermit>,
}

/// Bytes on their way to the client. HTTP/2 takes a whole body into its own buffers as soon as the client reads one byte of it,
/// so the receipt goes with the bytes.
struct Sent {
    bytes: Bytes,
    _receipt: Arc<Receipt>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a response. Its request is in progress until the client has received it.
struct ResponseBody {
    body: Body,
    receipt: Arc<Receipt>,
    is_streamed: bool,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if self.is_streamed && frame.is_ready() {
            self.receipt.work.restart();
        }
        let sent = |bytes| Bytes::from_owner(Sent { bytes, _receipt: Arc::clone(&self.receipt) });
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(sent))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
