//! A server on a real socket, and clients that write byte by byte.

use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tessera_api::server::{Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Only a test that fails waits so long.
pub const SOON: Duration = Duration::from_secs(60);
/// A limit that a test waits for.
pub const SHORT: Duration = Duration::from_millis(300);
/// Limits that no test reaches.
pub const LONG: Limits = Limits {
    header: SOON,
    idle: SOON,
    request: SOON,
    unread: SOON,
    connections: 1_024,
    linger: SOON,
    drain: SOON,
};

/// A server that runs.
pub struct Served {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    task: JoinHandle<usize>,
}

impl Served {
    pub async fn start(router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self { address, stop, task }
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap() }
    }

    /// How many connections were cut off when it stopped.
    pub async fn ended(self) -> usize {
        timeout(SOON, self.task).await.unwrap().unwrap()
    }
}

/// Two routes: `/` answers at once, `/gate` when the gate lets it through, one for each permit.
pub fn gated() -> (Router, Gate) {
    let gate = Gate { open: Arc::new(Semaphore::new(0)), reached: Arc::new(Semaphore::new(0)) };
    let (open, reached) = (Arc::clone(&gate.open), Arc::clone(&gate.reached));
    let wait = move || async move {
        reached.add_permits(1);
        open.acquire().await.unwrap().forget();
        "through"
    };
    (Router::new().route("/", get(|| async { "here" })).route("/gate", get(wait)), gate)
}

/// Holds requests back.
pub struct Gate {
    open: Arc<Semaphore>,
    reached: Arc<Semaphore>,
}

impl Gate {
    /// Waits until one more request stands before it.
    pub async fn reached(&self) {
        timeout(SOON, self.reached.acquire()).await.unwrap().unwrap().forget();
    }

    /// Lets one request through.
    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

/// A client of HTTP/1, in bytes.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Writes to a peer that may be gone.
    pub async fn try_say(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    pub async fn ask(&mut self, path: &str) {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: desk\r\n\r\n")).await;
    }

    /// One answer, whose length stands in its head: head and body.
    pub async fn hear(&mut self) -> (String, String) {
        timeout(SOON, async {
            let mut heard = Vec::new();
            let (head, body) = loop {
                let text = String::from_utf8_lossy(&heard).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    break (head.to_lowercase(), body.to_owned());
                }
                heard.push(self.stream.read_u8().await.expect("an answer"));
            };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut rest = vec![0; length.unwrap_or(0) - body.len()];
            self.stream.read_exact(&mut rest).await.unwrap();
            (head, body + &String::from_utf8(rest).unwrap())
        })
        .await
        .expect("an answer in time")
    }

    /// Whether the server has ended the connection without a further word; waits for it.
    pub async fn is_dropped(&mut self) -> bool {
        let mut rest = Vec::new();
        let end = timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("an end");
        end.is_err() || rest.is_empty()
    }

    /// Whether the server has kept the connection so far, and has said nothing.
    pub fn is_waiting(&self) -> bool {
        let nothing = self.stream.try_read(&mut [0; 1]);
        nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
