//! The accept loop: HTTP/2 with a limit on everything that a client can hold, and a stop in order.
//!
//! tonic's own server has no limit on connections, nor on how long one may say nothing, and cannot end what outlives a stop.

use crate::calls::{Calls, is_open};
use crate::listener::{Incoming, Listener};
use hyper::body::{Body as HttpBody, Frame, Incoming as Requested, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tessera_core::metrics as names;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};

/// Bytes of a call's metadata.
const METADATA_MAX: u32 = 16 * 1024;
/// Calls that one connection may have at work.
const STREAMS_MAX: u32 = 64;
/// Streams that a client may reset before they were looked at; one more ends the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that we had to reset because of what a client sent; one more ends the connection.
const RESETS_OWN_MAX: usize = 64;
/// Bytes of requests that a client may send ahead, a call and a connection.
const WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);
/// How often a client is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long the loop waits after the machine refused it a connection (no file descriptors left, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What clients may hold, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; one more waits. A connector has one.
    pub connections: usize,
    /// From the opening of a connection to its first call.
    pub first_call: Duration,
    /// Between two calls of a connection, those without a token left aside. A connector always has one that waits.
    pub idle: Duration,
    /// How long a connection that was asked to end may take, once nothing is at work on it.
    pub close: Duration,
    /// How long a stop waits for calls at work.
    pub drain: Duration,
    /// Calls at work, of all connections; one more is told to come again, before it waits for a connection to the database.
    pub calls: usize,
    /// Calls of `Lease` beside them, nearly all of which wait.
    pub leases: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            first_call: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            close: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            calls: 128,
            leases: 512,
        }
    }
}

/// The accept loop and what its connections share.
pub(crate) struct Server {
    pub calls: Arc<Calls>,
    pub limits: Limits,
    /// Cancelled when no call is to be taken in any more.
    pub stop: CancellationToken,
    /// Cancelled a moment later, when streams are to end.
    pub ending: CancellationToken,
}

impl Server {
    /// Serves until the stop, and then until every call that was taken in has ended, or the time for that is over. Answers how
    /// many connections were cut off.
    pub async fn serve(self: Arc<Self>, listener: Listener) -> usize {
        let mut connections = JoinSet::new();
        self.accept(&listener, &mut connections).await;
        // Whoever comes now is refused at once, and a socket's file goes.
        drop(listener);
        let _ = timeout(self.limits.drain, all_of(&mut connections)).await;
        let cut_off = connections.len();
        self.calls.cut().await;
        // What was broken off is told so.
        let _ = timeout(self.limits.close, all_of(&mut connections)).await;
        connections.shutdown().await;
        metrics::gauge!(names::GRPC_CONNECTIONS).set(0.0);
        cut_off
    }

    async fn accept(self: &Arc<Self>, listener: &Listener, connections: &mut JoinSet<()>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut is_failing = false;
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(_) = connections.join_next() => {
                    metrics::gauge!(names::GRPC_CONNECTIONS).set(connections.len() as f64);
                    continue;
                }
                next = next => next,
            };
            match accepted {
                Ok(stream) => {
                    is_failing = false;
                    let (server, tls) = (Arc::clone(self), listener.tls.clone());
                    connections.spawn(async move {
                        let _place = place;
                        server.connection(stream, tls).await;
                    });
                    metrics::gauge!(names::GRPC_CONNECTIONS).set(connections.len() as f64);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    // Told once, until a connection is to be had again.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "no connection of a connector can be accepted; trying again every {} s", ACCEPT_PAUSE.as_secs());
                    }
                    let _ = timeout(ACCEPT_PAUSE, self.stop.cancelled()).await;
                }
            }
        }
    }

    /// Serves one connection to its end, TLS first.
    async fn connection(self: Arc<Self>, stream: Incoming, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else { return self.http2(stream).await };
        let opened = tokio::select! {
            opened = timeout(self.limits.first_call, tls.accept(stream)) => opened,
            () = self.stop.cancelled() => return,
        };
        match opened {
            Ok(Ok(stream)) => self.http2(Box::new(stream)).await,
            // Nobody else would say why a connector with a wrong certificate does not come in.
            Ok(Err(error)) => tracing::info!(%error, "a connection of a connector was refused by TLS"),
            Err(_) => {}
        }
    }

    async fn http2(self: Arc<Self>, stream: Incoming) {
        let (at_work, mut work) = watch::channel(0_usize);
        let at_work = Arc::new(at_work);
        let service = service_fn({
            let server = Arc::clone(&self);
            move |request: Request<Requested>| {
                // Who has no token cannot keep a place by watching.
                let counts = !is_open(request.uri().path());
                let (server, work) = (Arc::clone(&server), Work::begin(&at_work, counts));
                async move { Ok::<_, Infallible>(server.answer(request, work).await) }
            }
        });
        let mut served = pin!(builder().serve_connection(TokioIo::new(stream), service));
        let (mut is_closing, mut quiet) = (false, self.limits.first_call);
        let mut since = Instant::now();
        loop {
            let is_idle = *work.borrow_and_update() == 0;
            let most = if is_closing { self.limits.close } else { quiet };
            tokio::select! {
                // An error is the client's, which is gone or has sent what is no HTTP/2.
                _ = served.as_mut() => return,
                () = self.stop.cancelled(), if !is_closing => {
                    (is_closing, since) = (true, Instant::now());
                    served.as_mut().graceful_shutdown();
                }
                () = sleep_until(since + most), if is_idle => {
                    if is_closing {
                        return;
                    }
                    (is_closing, since) = (true, Instant::now());
                    served.as_mut().graceful_shutdown();
                }
                changed = work.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (quiet, since) = (self.limits.idle, Instant::now());
                }
            }
        }
    }

    async fn answer(&self, request: Request<Requested>, work: Work) -> Response<Answer> {
        let response = self.calls.answer(request.map(Body::new)).await;
        let ending = Box::pin(self.ending.clone().cancelled_owned());
        response.map(|body| Answer { body, ending: Some(ending), _work: work })
    }
}

async fn all_of(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Whether a connection ended before it was accepted, which is no trouble of ours.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(METADATA_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_OWN_MAX)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

/// A call at work on a connection, which keeps it until the answer is taken; unless it counts for nothing.
struct Work {
    at_work: Arc<watch::Sender<usize>>,
    counts: bool,
}

impl Work {
    fn begin(at_work: &Arc<watch::Sender<usize>>, counts: bool) -> Self {
        at_work.send_modify(|count| *count += usize::from(counts));
        Self { at_work: Arc::clone(at_work), counts }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.at_work.send_modify(|count| *count -= usize::from(self.counts));
    }
}

/// The body of an answer. A stream that would go on for ever ends with the server.
struct Answer {
    body: Body,
    /// `None` once it has ended.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _work: Work,
}

impl HttpBody for Answer {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(mut ending) = self.ending.take() else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.ending = Some(ending);
            return Poll::Ready(frame);
        }
        if ending.as_mut().poll(cx).is_ready() {
            let mut trailers = HeaderMap::new();
            let stopping = Status::unavailable("Tessera is stopping. Come again in a moment.");
            return Poll::Ready(
                stopping.add_header(&mut trailers).ok().map(|()| Ok(Frame::trailers(trailers))),
            );
        }
        self.ending = Some(ending);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.ending.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
