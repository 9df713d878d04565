//! The accept loop: HTTP/1 and HTTP/2 on one port, with a limit on everything that a client can hold, and a stop that cuts nobody off.
//!
//! `axum::serve` has none of these limits. One task a connection polls it together with the one deadline that its stage
//! has: until a request is there, while requests are at work, and between them.

mod stage;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use stage::{Over, Stage, Watched, Work};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tessera_core::metrics as names;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Bytes of a request's head; more is answered 431. hyper itself takes no more than 100 headers.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Requests that one HTTP/2 connection may have at work.
const STREAMS_MAX: u32 = 64;
/// Streams that an HTTP/2 client may reset before they were looked at; one more ends the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that we had to reset because of what an HTTP/2 client sent; one more ends the connection.
const RESETS_OWN_MAX: usize = 64;
/// Bytes of bodies that an HTTP/2 client may send ahead, a stream and a connection.
const WINDOWS: (u32, u32) = (128 * 1024, 256 * 1024);
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long the loop waits after the machine refused it a connection (no file descriptors left, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a client may hold, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the opening of a connection, or the first byte of a further request, to the end of the request's head.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// From a request's head until the client has taken the whole answer; the handler's own time is within. Of an answer
    /// that is [`Streamed`], until it has taken the next part.
    pub request: Duration,
    /// Connections at a time. One more takes the place of the one that was idle longest, and waits while none is idle.
    pub connections: usize,
    /// How long a stop waits for a request that may be on its way on an idle connection.
    pub linger: Duration,
    /// How long a stop waits for requests at work.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            request: Duration::from_secs(75),
            connections: 1_024,
            linger: Duration::from_millis(250),
            drain: Duration::from_secs(10),
        }
    }
}

/// An extension of an answer that is made while it is sent: its time begins anew whenever the client has taken some of it.
#[derive(Debug, Clone, Copy)]
pub struct Streamed;

/// Serves until `stop` is cancelled, and then until every request that was accepted is answered, or the time for that is
/// over. Answers how many connections were cut off.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) -> usize {
    let (crowd, connections) = (Arc::default(), JoinSet::new());
    let mut server = Server { router, limits, stop, crowd, connections, is_crowded: false };
    server.accept(&listener).await;
    server.take_in_waiting(listener);
    server.drain().await
}

struct Server {
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    /// Rung once for each connection that waits for a place; the connection that is idle longest hears it.
    crowd: Arc<Notify>,
    connections: JoinSet<()>,
    is_crowded: bool,
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
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    // Told once, until a connection is to be had again.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "no connection can be accepted; trying again every {} s", ACCEPT_PAUSE.as_secs());
                    }
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, self.stop.cancelled()).await;
                }
            }
        }
    }

    /// Waits until there is a place for one more connection.
    async fn make_room(&mut self) {
        let is_crowded = self.connections.len() >= self.limits.connections;
        // Told once, until there are places again.
        if is_crowded && !self.is_crowded {
            tracing::warn!(
                connections = self.limits.connections,
                "every connection that there may be is taken; idle ones give way"
            );
        }
        self.is_crowded = is_crowded;
        while self.connections.len() >= self.limits.connections && !self.stop.is_cancelled() {
            self.crowd.notify_one();
            tokio::select! {
                _ = self.connections.join_next() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Accepts what the kernel has accepted already: closing the listener would reset these clients. The kernel itself is
    /// asked, for Tokio may not have heard of the last ones yet.
    fn take_in_waiting(&mut self, listener: TcpListener) {
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
            connection(stream, self.router.clone(), self.limits, self.stop.clone(), Arc::clone(&self.crowd));
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

/// Whether a connection ended before it was accepted, which is no trouble of ours.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end: the client's, ours, or that of the time it has.
async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    crowd: Arc<Notify>,
) {
    // Answers are written whole, so there is nothing to wait for. It fails only on a socket that is gone.
    let _ = stream.set_nodelay(true);
    let stage = Stage::new(limits);
    let service = service_fn({
        let (stage, stop) = (stage.clone(), stop.clone());
        move |request| answer(router.clone(), request, stage.clone(), stop.clone())
    });
    let builder = builder();
    let served = builder.serve_connection(TokioIo::new(Watched::new(stream, stage.clone())), service);
    let (mut served, mut stopped) = (pin!(served), pin!(stop.cancelled()));
    let mut timer = pin!(sleep_until(stage.deadline()));
    let mut gives_way = pin!(None);
    let mut is_closing = false;
    poll_fn(|cx| {
        // An error is the client's, which is gone or has sent what is no HTTP; hyper has answered it where it could.
        if served.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !stage.is_stopping() && stopped.as_mut().poll(cx).is_ready() {
            stage.stop();
        }
        // The crowd's bell rings for who has been idle longest.
        let mut over = stage.over();
        if over.is_none() && stage.is_idle() {
            if gives_way.is_none() {
                gives_way.set(Some(crowd.notified()));
            }
            if gives_way.as_mut().as_pin_mut().is_some_and(|bell| bell.poll(cx).is_ready()) {
                gives_way.set(None);
                over = Some(Over::Crowded);
            }
        } else {
            gives_way.set(None);
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
        set(timer.as_mut(), &stage, cx);
        Poll::Pending
    })
    .await;
}

/// Wakes this task at the stage's deadline. One that moved away, as it does with each request, is looked at when the old one
/// is there: setting a timer for each request would cost more.
fn set(mut timer: Pin<&mut Sleep>, stage: &Stage, cx: &mut Context<'_>) {
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
    // hyper's own limit on the head would count the time between two requests, too.
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

/// Answers one request. While the server stops, an HTTP/1 client is told that this was the last one.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    stage: Stage,
    stop: CancellationToken,
) -> Result<Response<Answer>, Infallible> {
    let version = request.version();
    let work = stage.begin(version == Version::HTTP_2);
    let Ok(mut response) = router.oneshot(request.map(Body::new)).await;
    if stop.is_cancelled() && version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let is_streamed = response.extensions().get::<Streamed>().is_some();
    Ok(response.map(|body| Answer { body, work, is_streamed }))
}

/// The body of an answer. Its request is at work until the client has taken it.
struct Answer {
    body: Body,
    work: Work,
    is_streamed: bool,
}

impl HttpBody for Answer {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if self.is_streamed && frame.is_ready() {
            self.work.goes_on();
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
