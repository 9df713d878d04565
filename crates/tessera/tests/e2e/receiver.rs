//! A real receiver of webhooks: an HTTP server on the loopback that keeps what it was sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use tokio::net::TcpListener;

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

/// The receiver, as long as the test's runtime lives.
pub struct Receiver {
    /// Where it listens, as `http://127.0.0.1:port`.
    pub url: String,
    seen: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// One that accepts whatever it is sent.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::default();
        let router = Router::new().fallback(keep).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
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

async fn keep(State(seen): State<Arc<Mutex<Vec<Received>>>>, uri: Uri, headers: HeaderMap, body: Bytes) {
    seen.lock().unwrap().push(Received { uri, headers, body });
}
