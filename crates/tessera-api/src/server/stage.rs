//! What a connection is at, and until when it may be.

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
    /// When each request at work began, or its answer last went on.
    at_work: BTreeMap<u64, Instant>,
    begun: u64,
    /// Since when an answer waits for a client that does not take it. hyper has it whole by then, and its request is done.
    unsent: Option<Instant>,
    stopping: Option<Instant>,
    closing: Option<Instant>,
}

/// Where a connection is while no request is at work, and since when.
#[derive(Debug, Clone, Copy)]
enum Between {
    /// Open, and nothing was heard.
    New(Instant),
    /// Some of a request's head was heard.
    Head(Instant),
    /// All requests are answered.
    Idle(Instant),
}

/// Why a connection has had its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// No whole head came in time.
    Header,
    /// A request took too long; its client, as a rule, does not take the answer.
    Request,
    /// Nothing was asked.
    Idle,
    /// Nothing was asked, and another client needs the place.
    Crowded,
    /// The server stops.
    Stopping,
}

impl Over {
    /// Whether there is nothing to end in order: the client has to be cut off.
    pub(super) fn is_abrupt(self) -> bool {
        matches!(self, Self::Header | Self::Request)
    }

    /// Counts the ends that an operator wants to know of.
    pub(super) fn count(self) {
        let counter = match self {
            Self::Header => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "header"),
            Self::Request => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "request"),
            Self::Crowded => metrics::counter!(names::HTTP_CUT_OFF, "reason" => "crowded"),
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
            at_work: BTreeMap::new(),
            begun: 0,
            unsent: None,
            stopping: None,
            closing: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head is whole.
    pub(super) fn begin(&self, is_http2: bool) -> Work {
        let mut state = self.state();
        state.is_http2 = is_http2;
        state.begun += 1;
        let number = state.begun;
        state.at_work.insert(number, Instant::now());
        Work { stage: self.clone(), number }
    }

    /// Bytes came. On HTTP/2 they may be anything, so there only requests count.
    fn heard(&self) {
        let mut state = self.state();
        if !state.at_work.is_empty() {
            return;
        }
        state.between = match state.between {
            Between::New(since) => Between::Head(since),
            Between::Idle(_) if !state.is_http2 => Between::Head(Instant::now()),
            same => same,
        };
    }

    /// The client takes no more for now.
    fn is_full(&self) {
        self.state().unsent.get_or_insert_with(Instant::now);
    }

    /// Everything that there was to send has gone out.
    fn sent(&self) {
        let mut state = self.state();
        if state.unsent.take().is_some() && matches!(state.between, Between::Idle(_)) {
            state.between = Between::Idle(Instant::now());
        }
    }

    /// The server stops: who asks nothing now is soon let go.
    pub(super) fn stop(&self) {
        self.state().stopping = Some(Instant::now());
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping.is_some()
    }

    /// The end of the connection has begun.
    pub(super) fn close(&self) {
        self.state().closing = Some(Instant::now());
    }

    /// Whether all requests are answered, the answers taken, and nothing of another was heard.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.at_work.is_empty()
            && state.unsent.is_none()
            && state.closing.is_none()
            && matches!(state.between, Between::Idle(_))
    }

    /// Until when the connection may be at what it is at.
    pub(super) fn deadline(&self) -> Instant {
        self.state().end().0
    }

    /// Why the connection has had its time, if it has.
    pub(super) fn over(&self) -> Option<Over> {
        let (deadline, over) = self.state().end();
        (deadline <= Instant::now()).then_some(over)
    }
}

impl State {
    fn end(&self) -> (Instant, Over) {
        let limits = &self.limits;
        if let (Some(stopping), true, None) = (self.stopping, self.is_http2, self.closing) {
            // HTTP/2 can be told at once that no more is taken (GOAWAY), with requests at work.
            return (stopping, Over::Stopping);
        }
        let oldest = self.at_work.values().min().copied();
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

/// A request at work, until it is dropped.
#[derive(Debug)]
pub(super) struct Work {
    stage: Stage,
    number: u64,
}

impl Work {
    /// The client has taken what there was of an answer, so the next part has a time of its own.
    pub(super) fn goes_on(&self) {
        let mut state = self.stage.state();
        let now = Instant::now();
        state.at_work.insert(self.number, now);
        state.unsent = state.unsent.map(|_| now);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.stage.state();
        state.at_work.remove(&self.number);
        if state.at_work.is_empty() {
            state.between = Between::Idle(Instant::now());
        }
    }
}

/// A socket that says when something was heard, and whether what was said is taken.
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
            self.stage.is_full();
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
            self.stage.heard();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(written)
    }

    /// hyper flushes only when it has handed over all that it had.
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
    async fn a_connection_whose_answer_is_not_taken_is_not_idle_although_its_request_is_done() {
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

    /// Lets time pass.
    fn pass(stage: &Stage, seconds: u64) {
        let mut state = stage.state();
        let state = &mut *state;
        for since in state.at_work.values_mut().chain(&mut state.unsent) {
            *since -= Duration::from_secs(seconds);
        }
    }

    #[test]
    fn an_answer_that_goes_on_has_its_time_anew_also_behind_others_and_at_its_end() {
        let limits = Limits { request: Duration::from_secs(75), ..Limits::default() };
        let stage = Stage::new(limits);
        let (streamed, other) = (stage.begin(true), stage.begin(true));
        pass(&stage, 50);
        streamed.goes_on();
        stage.is_full();
        pass(&stage, 25);
        assert_eq!(stage.over(), Some(Over::Request), "the other one has no more time");
        drop(other);
        assert_eq!(stage.over(), None);
        pass(&stage, 49);
        assert_eq!(stage.over(), None);
        streamed.goes_on();
        drop(streamed);
        pass(&stage, 74);
        assert_eq!(stage.over(), None, "the last part has as much time as any");
        pass(&stage, 1);
        assert_eq!(stage.over(), Some(Over::Request));
    }
}
