//! A real receiver of webhooks: a server on the loopback that keeps its requests and behaves as configured.

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

/// Interval between the bytes of a receiver that drips.
const DRIP: Duration = Duration::from_millis(50);
/// Size of the response of a receiver that floods, in bytes.
const FLOOD: usize = 100 * 1024 * 1024;
/// Maximum number of connections that wait to be accepted.
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

/// A receiver's behavior after it has received a request.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Sends these bytes, and continues if they are a complete response without a body.
    Say(String),
    /// Sends the beginning of a response's head, and resets the connection.
    Reset,
    /// Sends nothing until the client closes the connection.
    Stall,
    /// Sends nothing until [`Receiver::let_go`], and then accepts.
    Wait,
    /// Responds 500 with the head of the request as the body.
    Echo,
    /// Sends a body that never ends, byte by byte.
    Drip,
    /// Sends a body of 100 MB.
    Flood,
}

impl Manner {
    /// Returns a response with this status line and these headers, and no body.
    pub fn answer(head: &str) -> Self {
        Self::Say(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"))
    }
}

/// The receiver, which runs as long as the test's runtime.
pub struct Receiver {
    /// Its URL, `http://127.0.0.1:port`, also while it is closed.
    pub url: String,
    closed: Option<TcpSocket>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Received>>,
    /// Number of requests that were left without a response.
    stalled: AtomicUsize,
    /// Whether waiting requests are accepted.
    let_go: watch::Sender<bool>,
    /// By prefix of the path: the behavior, and how many times it applies.
    manners: Mutex<Vec<(String, Manner, usize)>>,
}

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub async fn start() -> Self {
        let mut receiver = Self::closed();
        receiver.open();
        receiver
    }

    /// Creates a receiver that refuses connections until it is opened: its address is bound, but not listening.
    pub fn closed() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        Self { url, closed: Some(socket), state: Arc::default() }
    }

    /// Starts to listen.
    pub fn open(&mut self) {
        let listener = self.closed.take().expect("a receiver that is closed").listen(BACKLOG).unwrap();
        tokio::spawn(accept(listener, Arc::clone(&self.state)));
    }

    /// Sets the behavior for the next `times` requests whose path begins with `path`; the default is a response 200.
    pub fn behave(&self, path: &str, manner: Manner, times: usize) {
        self.state.manners.lock().unwrap().push((path.to_owned(), manner, times));
    }

    /// Returns every request so far, in order.
    pub fn seen(&self) -> Vec<Received> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Returns the number of requests whose path begins with `path`.
    pub fn count(&self, path: &str) -> usize {
        self.state.seen.lock().unwrap().iter().filter(|one| one.uri.path().starts_with(path)).count()
    }

    /// Returns the number of requests that were left without a response.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Accepts the waiting requests, and later ones.
    pub fn let_go(&self) {
        self.state.let_go.send_replace(true);
    }

    /// Returns the bodies of every attempt, by delivery.
    pub fn bodies(&self) -> HashMap<String, Vec<Bytes>> {
        let mut bodies: HashMap<String, Vec<Bytes>> = HashMap::new();
        for received in self.seen() {
            bodies.entry(received.id()).or_default().push(received.body);
        }
        bodies
    }
}

impl State {
    /// Stores a request, and returns the behavior for it.
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

/// Handles the requests of a connection, one after the other. An error means that the client closed it.
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
                // It fails only if the receiver was dropped.
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

/// Reads the next request completely; `None` if the client closed the connection.
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
