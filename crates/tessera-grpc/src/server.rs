//! The accept loop: HTTP/2 with limits on all resources that a client can use, and a graceful stop.
//!
//! tonic's own server cannot limit connections or their idle time, and cannot close those that outlive a stop.

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
use tessera_core::delivery::connector::Unsent;
use tessera_core::metrics as names;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};

/// Maximum size of a call's metadata, in bytes.
const METADATA_MAX: u32 = 16 * 1024;
/// Calls that one connection may have in progress.
const STREAMS_MAX: u32 = 64;
/// Streams that a client may reset before they are processed; one more closes the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that we may reset because of a client's errors; one more closes the connection.
const RESETS_OWN_MAX: usize = 64;
/// Flow-control windows in bytes: of a call, and of a connection.
const WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);
/// Interval of keep-alive pings, and the time limit for the response.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Wait after the operating system refuses a connection, usually because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The resources that clients may use, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Simultaneous connections; further ones wait. A connector has one.
    pub connections: usize,
    /// Time limit from the opening of a connection to its first call.
    pub first_call: Duration,
    /// Maximum time between two calls of a connection; calls without a token do not count. A connector always has one waiting.
    pub idle: Duration,
    /// Time limit for a client to close a connection after it was asked to, once no call is in progress.
    pub close: Duration,
    /// Time that a stop waits for calls in progress.
    pub drain: Duration,
    /// Calls in progress on all connections. A further one is rejected, before it needs a connection to the database.
    pub calls: usize,
    /// Calls of `Lease` in addition to these; nearly all of them wait.
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

/// The accept loop and the state that its connections share.
pub(crate) struct Server {
    pub calls: Arc<Calls>,
    pub limits: Limits,
    /// Cancelled when no further calls are accepted.
    pub stop: CancellationToken,
    /// Cancelled a moment later, when streams must end.
    pub ending: CancellationToken,
}

impl Server {
    /// Serves until the stop, and then until every accepted call has ended or the drain time is over. Returns the number of
    /// connections that were closed by force.
    pub async fn serve(self: Arc<Self>, listener: Listener) -> usize {
        let mut connections = JoinSet::new();
        self.accept(&listener, &mut connections).await;
        // From now on clients are refused immediately, and a socket's file is removed.
        drop(listener);
        let _ = timeout(self.limits.drain, all_of(&mut connections)).await;
        let cut_off = connections.len();
        self.calls.cut().await;
        // The cancelled calls send their status.
        let _ = timeout(self.limits.close, all_of(&mut connections)).await;
        connections.shutdown().await;
        metrics::gauge!(names::GRPC_CONNECTIONS).set(0.0);
        cut_off
    }

    async fn accept(self: &Arc<Self>, listener: &Listener, connections: &mut JoinSet<()>) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut is_failing = false;
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (listener.accept().await, slot)
            };
            let (accepted, slot) = tokio::select! {
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
                        let _slot = slot;
                        server.connection(stream, tls).await;
                    });
                    metrics::gauge!(names::GRPC_CONNECTIONS).set(connections.len() as f64);
                }
                Err(error) if is_client_error(&error) => {}
                Err(error) => {
                    // Logged once, until a connection is accepted again.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "cannot accept connections of connectors; retrying every {} s", ACCEPT_PAUSE.as_secs());
                    }
                    let _ = timeout(ACCEPT_PAUSE, self.stop.cancelled()).await;
                }
            }
        }
    }

    /// Serves one connection until it closes, after the TLS handshake if there is one.
    async fn connection(self: Arc<Self>, stream: Incoming, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else { return self.http2(stream).await };
        let handshake = tokio::select! {
            handshake = timeout(self.limits.first_call, tls.accept(stream)) => handshake,
            () = self.stop.cancelled() => return,
        };
        match handshake {
            Ok(Ok(stream)) => self.http2(Box::new(stream)).await,
            // Nothing else reports why a connector with a wrong certificate cannot connect.
            Ok(Err(error)) => tracing::info!(%error, "the TLS handshake with a connector failed"),
            Err(_) => {}
        }
    }

    async fn http2(self: Arc<Self>, stream: Incoming) {
        let (active, mut calls) = watch::channel(0_usize);
        let active = Arc::new(active);
        let service = service_fn({
            let server = Arc::clone(&self);
            move |request: Request<Requested>| {
                // Calls without a token do not keep a connection open.
                let counts = !is_open(request.uri().path());
                let (server, call) = (Arc::clone(&server), ActiveCall::begin(&active, counts));
                async move { Ok::<_, Infallible>(server.handle(request, call).await) }
            }
        });
        let mut served = pin!(builder().serve_connection(TokioIo::new(stream), service));
        let (mut is_closing, mut quiet) = (false, self.limits.first_call);
        let mut since = Instant::now();
        loop {
            let is_idle = *calls.borrow_and_update() == 0;
            let limit = if is_closing { self.limits.close } else { quiet };
            tokio::select! {
                // An error here is the client's: it closed the connection or did not send HTTP/2.
                _ = served.as_mut() => return,
                () = self.stop.cancelled(), if !is_closing => {
                    (is_closing, since) = (true, Instant::now());
                    served.as_mut().graceful_shutdown();
                }
                () = sleep_until(since + limit), if is_idle => {
                    if is_closing {
                        return;
                    }
                    (is_closing, since) = (true, Instant::now());
                    served.as_mut().graceful_shutdown();
                }
                changed = calls.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (quiet, since) = (self.limits.idle, Instant::now());
                }
            }
        }
    }

    async fn handle(&self, request: Request<Requested>, call: ActiveCall) -> Response<CallBody> {
        let mut response = self.calls.handle(request.map(Body::new)).await;
        let ending = Box::pin(self.ending.clone().cancelled_owned());
        let leases = response.extensions_mut().remove::<Arc<Unsent>>();
        response.map(|body| CallBody { body, ending: Some(ending), leases, _call: call })
    }
}

async fn all_of(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Returns whether a connection failed before it was accepted, which is not an error of ours.
fn is_client_error(error: &io::Error) -> bool {
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

/// A call in progress on a connection, which stays open until the client has received the response. A call that does not
/// count does not keep it open.
struct ActiveCall {
    active: Arc<watch::Sender<usize>>,
    counts: bool,
}

impl ActiveCall {
    fn begin(active: &Arc<watch::Sender<usize>>, counts: bool) -> Self {
        active.send_modify(|count| *count += usize::from(counts));
        Self { active: Arc::clone(active), counts }
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.active.send_modify(|count| *count -= usize::from(self.counts));
    }
}

/// The body of a response. An endless stream ends when the server stops.
struct CallBody {
    body: Body,
    /// `None` once it has ended.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The leases in it, which are given back if it is not sent to its end.
    leases: Option<Arc<Unsent>>,
    _call: ActiveCall,
}

impl HttpBody for CallBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(mut ending) = self.ending.take() else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.ending = Some(ending);
            // The trailers follow the last byte of the message.
            let is_last = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
            if let (true, Some(leases)) = (is_last, &self.leases) {
                leases.sent();
            }
            return Poll::Ready(frame);
        }
        if ending.as_mut().poll(cx).is_ready() {
            let mut trailers = HeaderMap::new();
            let stopping = Status::unavailable("Tessera is stopping. Retry in a moment.");
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
