//! A real receiver of webhooks: a server on the loopback that keeps what it was sent, and behaves as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::interval;

/// How often a receiver that drips sends a byte.
const DRIP: Duration = Duration::from_millis(50);
/// What a receiver that floods sends, in bytes.
const FLOOD: usize = 100 * 1024 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path and query.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
}

impl Received {
    /// The delivery's id.
    pub fn id(&self) -> String {
        self.headers["webhook-id"].to_str().unwrap().to_owned()
    }
}

/// What a receiver does once it has a request.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Sends these bytes, and goes on where they let it.
    Say(String),
    /// Sends the beginning of an answer's head, and resets the connection.
    Reset,
    /// Says nothing until the other side hangs up.
    Stall,
    /// Says nothing until it is let go, and then accepts.
    Wait,
    /// Sends the head of the request back, as the body of an answer 500.
    Echo,
    /// Sends a body that never ends, byte by byte.
    Drip,
    /// Sends a body of 100 MB.
    Flood,
}

impl Manner {
    /// An answer of this status line and these lines of headers, with no body.
    pub fn answer(head: &str) -> Self {
        Self::Say(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"))
    }
}

/// The receiver, as long as the test's runtime lives.
pub struct Receiver {
    /// Where it listens, or will, as `http://127.0.0.1:port`.
    pub url: String,
    closed: Option<TcpSocket>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Received>>,
    /// Requests that are or were left without an answer.
    stalled: AtomicUsize,
    /// Whether those that wait are let go.
    let_go: watch::Sender<bool>,
    /// For paths that begin so: what is done, so often.
    manners: Mutex<Vec<(String, Manner, usize)>>,
}

impl Receiver {
    /// One that accepts whatever it is sent.
    pub async fn start() -> Self {
        let mut receiver = Self::closed();
        receiver.open();
        receiver
    }

    /// One that refuses every connection until it is opened: it has its address, and does not listen.
    pub fn closed() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        Self { url, closed: Some(socket), state: Arc::default() }
    }

    /// Begins to listen.
    pub fn open(&mut self) {
        let listener = self.closed.take().expect("a receiver that is closed").listen(BACKLOG).unwrap();
        tokio::spawn(accept(listener, Arc::clone(&self.state)));
    }

    /// What is done with the next `times` requests whose path begins with `path`, instead of an answer 200.
    pub fn behave(&self, path: &str, manner: Manner, times: usize) {
        self.state.manners.lock().unwrap().push((path.to_owned(), manner, times));
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> Vec<Received> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many requests came to paths that begin so.
    pub fn count(&self, path: &str) -> usize {
        self.state.seen.lock().unwrap().iter().filter(|one| one.uri.path().starts_with(path)).count()
    }

    /// How many requests are or were left without an answer.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Ends the silence of those that wait, now and later.
    pub fn let_go(&self) {
        self.state.let_go.send_replace(true);
    }

    /// The bodies by delivery, each attempt's.
    pub fn bodies(&self) -> HashMap<String, Vec<Bytes>> {
        let mut bodies: HashMap<String, Vec<Bytes>> = HashMap::new();
        for received in self.seen() {
            bodies.entry(received.id()).or_default().push(received.body);
        }
        bodies
    }
}

impl State {
    /// Keeps a request, and says what is to be done with it.
    fn keep(&self, received: Received) -> Manner {
        let path = received.uri.path().to_owned();
        self.seen.lock().unwrap().push(received);
        let mut manners = self.manners.lock().unwrap();
        let told = manners.iter_mut().find(|(prefix, _, times)| *times > 0 && path.starts_with(prefix));
        told.map_or_else(
            || Manner::answer("200 OK"),
            |(_, manner, times)| {
                *times -= 1;
                manner.clone()
            },
        )
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve(socket, Arc::clone(&state)));
    }
}

/// Takes the requests of a connection, one after the other. An error is the other side's hanging up.
async fn serve(mut socket: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    while let Some(received) = read(&mut socket).await? {
        let head = format!("{:?}", received.headers);
        match state.keep(received) {
            Manner::Say(bytes) => {
                socket.write_all(bytes.as_bytes()).await?;
                if !bytes.ends_with("\r\n\r\n") {
                    return Ok(());
                }
            }
            Manner::Reset => {
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-ty").await?;
                socket.set_zero_linger()?;
                return Ok(());
            }
            Manner::Stall => {
                state.stalled.fetch_add(1, Ordering::SeqCst);
                let _ = socket.read(&mut [0; 1]).await?;
                return Ok(());
            }
            Manner::Wait => {
                state.stalled.fetch_add(1, Ordering::SeqCst);
                // Fails only when the receiver is gone.
                let _ = state.let_go.subscribe().wait_for(|let_go| *let_go).await;
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            }
            Manner::Echo => {
                let answer = format!("HTTP/1.1 500 Oh\r\ncontent-length: {}\r\n\r\n{head}", head.len());
                socket.write_all(answer.as_bytes()).await?;
            }
            Manner::Drip => {
                socket.write_all(b"HTTP/1.1 500 Slow\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let mut drips = interval(DRIP);
                loop {
                    drips.tick().await;
                    socket.write_all(b"1\r\nx\r\n").await?;
                }
            }
            Manner::Flood => {
                let head = format!("HTTP/1.1 500 Much\r\ncontent-length: {FLOOD}\r\n\r\n");
                socket.write_all(head.as_bytes()).await?;
                let piece = [b'x'; 64 * 1024];
                for _ in 0..FLOOD / piece.len() {
                    socket.write_all(&piece).await?;
                }
            }
        }
    }
    Ok(())
}

/// The next request, whole; none when the other side has hung up.
async fn read(socket: &mut TcpStream) -> std::io::Result<Option<Received>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break bytes.drain(..end + 4).collect::<Vec<u8>>();
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(head).unwrap();
    let (line, lines) = head.split_once("\r\n").unwrap();
    let headers: HeaderMap = lines
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    while bytes.len() < length {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let uri = line.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Some(Received { uri, headers, body: bytes.into() }))
}
