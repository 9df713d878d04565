//! The stage of a connection and its deadline.

use super::Limits;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tessera_core::metrics as names;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The stage of one connection, shared by its socket, its requests and the task that watches it.
#[derive(Debug, Clone)]
pub(super) struct Stage(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limits: Limits,
    between: Between,
    is_http2: bool,
    /// The requests in progress, in the order of their heads.
    active: BTreeMap<u64, Active>,
    count: u64,
    /// Since when a response waits for a client that does not receive it. By then hyper has all of it and its request is done.
    unsent: Option<Instant>,
    stopping: Option<Instant>,
    closing: Option<Instant>,
}

/// A request in progress.
#[derive(Debug, Clone, Copy)]
struct Active {
    /// Its start, or the time at which the client received the last part of its streamed response.
    since: Instant,
    /// Since when the response, or its next part, waits for the client to read it.
    unread: Option<Instant>,
}

/// The stage while no request is in progress, and since when.
#[derive(Debug, Clone, Copy)]
enum Between {
    /// Open, and nothing was received.
    New(Instant),
    /// Part of a request's head was received.
    Head(Instant),
    /// All requests are finished.
    Idle(Instant),
}

/// Why a connection must close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The head was not complete in time.
    Header,
    /// A request took too long, usually because the client does not receive the response.
    Request,
    /// No request for too long.
    Idle,
    /// Idle, and another client needs the slot.
    Crowded,
    /// The client has not read a response for a while, and others need the memory.
    Unread,
    /// The server is stopping.
    Stopping,
}

impl Over {
    /// Returns whether the connection must be closed without a graceful shutdown.
    pub(super) fn is_abrupt(self) -> bool {
        matches!(self, Self::Header | Self::Request | Self::Unread)
    }

    /// Counts the connections that were closed for a reason that matters to operators.
    pub(super) fn count(self) {
        let counter = match self {
            Self::Header => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "header"),
            Self::Request => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "request"),
            Self::Crowded => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "crowded"),
            Self::Unread => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "unread"),
            Self::Idle | Self::Stopping => return,
        };
        counter.increment(1);
    }
}

impl Stage {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
            between: Between::New(Instant::now()),
            is_http2: false,
            active: BTreeMap::new(),
            count: 0,
            unsent: None,
            stopping: None,
            closing: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a request's head is complete.
    pub(super) fn begin(&self, is_http2: bool) -> ActiveRequest {
        let mut state = self.state();
        state.is_http2 = is_http2;
        state.count += 1;
        let number = state.count;
        state.active.insert(number, Active { since: Instant::now(), unread: None });
        ActiveRequest { stage: self.clone(), number }
    }

    /// Records received bytes. On HTTP/2 they can be anything, so only requests count there.
    fn received(&self) {
        let mut state = self.state();
        if !state.active.is_empty() {
            return;
        }
        state.between = match state.between {
            Between::New(since) => Between::Head(since),
            Between::Idle(_) if !state.is_http2 => Between::Head(Instant::now()),
            same => same,
        };
    }

    /// Records that the client receives nothing more for now.
    fn blocked(&self) {
        self.state().unsent.get_or_insert_with(Instant::now);
    }

    /// Records that everything was sent.
    fn sent(&self) {
        let mut state = self.state();
        if state.unsent.take().is_some() && matches!(state.between, Between::Idle(_)) {
            state.between = Between::Idle(Instant::now());
        }
    }

    /// Records that the server is stopping; idle connections close soon.
    pub(super) fn stop(&self) {
        self.state().stopping = Some(Instant::now());
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping.is_some()
    }

    /// Records that the graceful shutdown of the connection has begun.
    pub(super) fn close(&self) {
        self.state().closing = Some(Instant::now());
    }

    /// Returns whether all requests are finished, their responses received, and nothing of another one received.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.active.is_empty()
            && state.unsent.is_none()
            && state.closing.is_none()
            && matches!(state.between, Between::Idle(_))
    }

    /// Returns when the current stage must end, or when the client becomes slow, if that is earlier.
    pub(super) fn deadline(&self) -> Instant {
        let state = self.state();
        let (end, slow) = (state.end().0, state.slow_from().filter(|slow| *slow > Instant::now()));
        slow.map_or(end, |slow| slow.min(end))
    }

    /// Returns whether a response has waited for the client for so long that others may need its memory more.
    pub(super) fn is_slow(&self) -> bool {
        self.state().slow_from().is_some_and(|slow| slow <= Instant::now())
    }

    /// Returns why the connection must close, if its deadline has passed.
    pub(super) fn over(&self) -> Option<Over> {
        let (deadline, over) = self.state().end();
        (deadline <= Instant::now()).then_some(over)
    }
}

impl State {
    /// When the client becomes slow, unless it reads until then.
    fn slow_from(&self) -> Option<Instant> {
        let unread = self.active.values().filter_map(|active| active.unread).min();
        unread.map(|since| since + self.limits.unread)
    }

    fn end(&self) -> (Instant, Over) {
        let limits = &self.limits;
        if let (Some(stopping), true, None) = (self.stopping, self.is_http2, self.closing) {
            // HTTP/2 can announce at once that it accepts no more requests (GOAWAY), even with requests in progress.
            return (stopping, Over::Stopping);
        }
        let oldest = self.active.values().map(|active| active.since).min();
        if let Some(since) = oldest.or(self.unsent) {
            return (since + limits.request, Over::Request);
        }
        if let Some(closing) = self.closing {
            return (closing + limits.header, Over::Idle);
        }
        match (self.between, self.stopping) {
            (Between::Head(since), _) | (Between::New(since), None) => (since + limits.header, Over::Header),
            (Between::New(since) | Between::Idle(since), Some(stopping)) => {
                (since.max(stopping) + limits.linger, Over::Stopping)
            }
            (Between::Idle(since), None) => (since + limits.idle, Over::Idle),
        }
    }
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    stage: Stage,
    number: u64,
}

impl ActiveRequest {
    /// Records that the response is ready.
    pub(super) fn answered(&self) {
        let unread = Some(Instant::now());
        self.stage.state().active.entry(self.number).and_modify(|active| active.unread = unread);
    }

    /// Restarts the time limit after the client has received a part of a streamed response.
    pub(super) fn restart(&self) {
        let mut state = self.stage.state();
        let now = Instant::now();
        state.active.insert(self.number, Active { since: now, unread: Some(now) });
        state.unsent = state.unsent.map(|_| now);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.stage.state();
        state.active.remove(&self.number);
        if state.active.is_empty() {
            state.between = Between::Idle(Instant::now());
        }
    }
}

/// A socket that reports to the stage when bytes are received, and whether sent ones are accepted.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    stage: Stage,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, stage: Stage) -> Self {
        Self { stream, stage }
    }

    fn watch(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.stage.blocked();
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.stage.received();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(written)
    }

    /// hyper flushes only after it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stage.sent();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_connection_with_an_unreceived_response_is_not_idle_although_its_request_is_finished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stage = Stage::new(Limits::default());
        let mut watched = Watched::new(listener.accept().await.unwrap().0, stage.clone());
        drop(stage.begin(false));
        assert!(stage.is_idle());

        let answer = vec![0; 64 * 1024];
        let mut sent = 0;
        while let Poll::Ready(written) =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut watched).poll_write(cx, &answer))).await
        {
            sent += written.unwrap();
        }
        assert!(!stage.is_idle());
        assert_eq!(stage.state().end().1, Over::Request);

        let mut taken = vec![0; sent];
        client.read_exact(&mut taken).await.unwrap();
        watched.flush().await.unwrap();
        assert!(stage.is_idle());
    }

    /// Moves all start times into the past.
    fn pass(stage: &Stage, seconds: u64) {
        let mut state = stage.state();
        let state = &mut *state;
        let active =
            state.active.values_mut().flat_map(|active| active.unread.iter_mut().chain([&mut active.since]));
        for since in active.chain(&mut state.unsent) {
            *since -= Duration::from_secs(seconds);
        }
    }

    #[test]
    fn the_time_limit_of_a_streamed_response_restarts_with_each_part_also_behind_others_and_at_its_end() {
        let limits = Limits { request: Duration::from_secs(75), ..Limits::default() };
        let stage = Stage::new(limits);
        let (streamed, other) = (stage.begin(true), stage.begin(true));
        pass(&stage, 50);
        streamed.restart();
        stage.blocked();
        pass(&stage, 25);
        assert_eq!(stage.over(), Some(Over::Request), "the other one is over its limit");
        drop(other);
        assert_eq!(stage.over(), None);
        pass(&stage, 49);
        assert_eq!(stage.over(), None);
        streamed.restart();
        drop(streamed);
        pass(&stage, 74);
        assert_eq!(stage.over(), None, "the last part has the full time");
        pass(&stage, 1);
        assert_eq!(stage.over(), Some(Over::Request));
    }

    #[test]
    fn a_client_is_slow_when_a_response_has_waited_for_it_and_not_while_the_handler_works() {
        let limits = Limits { unread: Duration::from_secs(5), ..Limits::default() };
        let stage = Stage::new(limits);
        let request = stage.begin(true);
        pass(&stage, 20);
        assert!(!stage.is_slow());
        request.answered();
        pass(&stage, 4);
        assert!(!stage.is_slow());
        assert!(
            stage.deadline() < Instant::now() + Duration::from_secs(2),
            "it is looked at when it becomes slow"
        );
        pass(&stage, 1);
        assert!(stage.is_slow());
        request.restart();
        assert!(!stage.is_slow(), "a part was received");
        pass(&stage, 5);
        assert!(stage.is_slow());
        drop(request);
        assert!(!stage.is_slow());
    }
}
