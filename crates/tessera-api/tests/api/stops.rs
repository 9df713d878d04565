//! Shutdown: accepted requests are answered, new connections are refused, and clients are notified.

use super::desk::Desk;
use super::wire::{LONG, SHORT, SOON, Served, gated};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tessera_api::server::Limits;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_request_at_work_is_answered_and_the_next_client_is_refused() {
    let (router, gate) = gated();
    let server = Served::start(router, Limits { linger: SHORT, ..LONG }).await;
    let address = server.address;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    idle.ask("/").await;
    assert!(!idle.hear().await.0.contains("connection: close"));
    busy.ask("/gate").await;
    gate.reached().await;
    server.stop.cancel();
    assert!(idle.is_dropped().await, "an idle connection is closed");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    gate.open();
    let (head, body) = busy.hear().await;
    assert!(head.contains("connection: close") && body == "through", "{head}");
    assert!(busy.is_dropped().await);
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_stop_comes_is_answered() {
    let (router, _gate) = gated();
    let server = Served::start(router, LONG).await;
    let (mut idle, mut begun, mut new) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.ask("/").await;
    idle.hear().await;
    begun.say("GET / HTTP/1.1\r\n").await;
    server.stop.cancel();
    idle.ask("/").await;
    new.ask("/").await;
    begun.say("Host: desk\r\n\r\n").await;
    for client in [&mut idle, &mut new, &mut begun] {
        let (head, body) = client.hear().await;
        assert!(head.contains("connection: close") && body == "here", "{head}");
    }
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn a_request_that_does_not_end_holds_up_the_stop_for_a_while_only() {
    let (router, gate) = gated();
    let server = Served::start(router, Limits { drain: SHORT, ..LONG }).await;
    let mut stuck = server.connect().await;
    stuck.ask("/gate").await;
    gate.reached().await;
    server.stop.cancel();
    assert_eq!(server.ended().await, 1);
    assert!(stuck.is_dropped().await);
}

#[tokio::test]
async fn http_2_is_served_on_the_same_port_and_stops_without_losing_a_request() {
    let (router, gate) = gated();
    let server = Served::start(router, LONG).await;
    let stream = TokioIo::new(server.connect().await.into_stream());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = |path: &str| Request::get(format!("http://desk{path}")).body(Body::empty()).unwrap();
    // Side by side on one connection: the second is answered while the first is at work.
    let first = tokio::spawn(client.send_request(ask("/gate")));
    gate.reached().await;
    let second = timeout(SOON, client.send_request(ask("/"))).await.unwrap().unwrap();
    assert_eq!((second.status(), second.version()), (StatusCode::OK, axum::http::Version::HTTP_2));
    server.stop.cancel();
    gate.open();
    let first = timeout(SOON, first).await.unwrap().unwrap().unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let body = axum::body::to_bytes(Body::new(first.into_body()), 100).await.unwrap();
    assert_eq!(body, "through");
    // The client was told (GOAWAY): the connection ends in order, although its time to linger has not passed.
    timeout(SOON / 2, connection).await.unwrap().unwrap().unwrap();
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn health_says_that_the_end_is_near() {
    let stop = CancellationToken::new();
    let desk = Desk::open_with(|app| app.with_stop(stop.clone())).await;
    assert_eq!(desk.get("/api/health").await.expect(200)["status"], "ok");
    stop.cancel();
    let health = desk.get("/api/health").await.expect(503);
    assert_eq!((&health["status"], &health["database"]), (&"stopping".into(), &"ok".into()));
}
