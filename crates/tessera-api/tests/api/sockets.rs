//! Hostile and clumsy clients on real sockets: each has a limit, and none is in the way of another.

use super::desk::{Desk, TOKEN};
use super::wire::{Client, LONG, SHORT, SOON, Served, gated};
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures::stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tessera_api::app::Load;
use tessera_api::server::{Limits, Streamed};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// As many as one attacker opens with ease, and fewer than there may be.
const DRIBBLERS: usize = 1_000;

#[tokio::test]
async fn a_thousand_connections_that_dribble_do_not_keep_a_healthy_client_waiting() {
    // Both ends of each connection are in this process.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    let (router, _gate) = gated();
    let server = Served::start(router, LONG).await;
    let mut dribblers = Vec::new();
    for _ in 0..DRIBBLERS {
        let mut client = server.connect().await;
        client.say("GET / HTTP/1.1\r\nHost: d").await;
        dribblers.push(client);
    }
    let mut healthy = server.connect().await;
    for _ in 0..10 {
        healthy.ask("/").await;
        assert_eq!(healthy.hear().await.1, "here");
        for dribbler in &mut dribblers {
            dribbler.say("r").await;
        }
    }
    // They were there all the time.
    assert!(dribblers.iter().all(Client::is_waiting));
    for dribbler in dribblers.iter_mut().take(3) {
        dribbler.say("\r\n\r\n").await;
        assert!(dribbler.hear().await.0.starts_with("http/1.1 200"));
    }
}

#[tokio::test]
async fn a_head_that_never_ends_has_its_time_however_it_comes() {
    let (router, _gate) = gated();
    let server = Served::start(router, Limits { header: SHORT, ..LONG }).await;
    // Nothing; the beginning of what may be HTTP/2; a head without an end; HTTP/2 without a request.
    for text in ["", "PRI * HT", "GET / HTTP/1.1\r\nHost: desk\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = server.connect().await;
        client.say(text).await;
        let mut rest = Vec::new();
        let mut stream = client.into_stream();
        // HTTP/2 greets; what counts is that it ends.
        let end = timeout(SOON, tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest)).await;
        assert!(end.is_ok(), "{text:?} was kept");
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{text:?} was answered");
    }
    // Byte after byte, which would put off a limit on silence for ever.
    let mut client = server.connect().await;
    client.say("GET / HTTP/1.1\r\nX: ").await;
    let dribble = async {
        while client.try_say("x").await {
            tokio::task::yield_now().await
        }
    };
    timeout(SOON, dribble).await.expect("the server ends it");
}

#[tokio::test]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let (router, _gate) = gated();
    let server = Served::start(router, Limits { header: SHORT, ..LONG }).await;
    let mut idle = server.connect().await;
    idle.ask("/").await;
    idle.hear().await;
    let mut slow = server.connect().await;
    slow.ask("/").await;
    slow.hear().await;
    slow.say("GET / HT").await;
    assert!(slow.is_dropped().await, "the head of a second request has the same time as that of the first");
    idle.ask("/").await;
    assert_eq!(idle.hear().await.1, "here");
}

#[tokio::test]
async fn an_idle_connection_is_ended_in_its_time() {
    let (router, _gate) = gated();
    let server = Served::start(router, Limits { idle: SHORT, ..LONG }).await;
    let mut client = server.connect().await;
    client.ask("/").await;
    client.hear().await;
    assert!(client.is_dropped().await);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_has_too_many_lines_is_refused() {
    let (router, _gate) = gated();
    let server = Served::start(router, LONG).await;
    let many: String = (0..101).map(|number| format!("x-{number}: y\r\n")).collect();
    for headers in [format!("x: {}\r\n", "y".repeat(40_000)), many] {
        let mut client = server.connect().await;
        client.try_say(&format!("GET / HTTP/1.1\r\nHost: desk\r\n{headers}\r\n")).await;
        let (head, _) = client.hear().await;
        assert!(head.starts_with("http/1.1 431"), "{head}");
    }
}

#[tokio::test]
async fn one_connection_too_many_takes_the_place_of_an_idle_one_or_waits_for_it() {
    let (router, gate) = gated();
    let server = Served::start(router, Limits { connections: 2, ..LONG }).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    busy.ask("/gate").await;
    gate.reached().await;
    idle.ask("/").await;
    idle.hear().await;
    let mut third = server.connect().await;
    third.ask("/gate").await;
    assert!(idle.is_dropped().await, "the idle one gives way");
    gate.reached().await;
    // Now both places are at work: nobody is cut off, and the next one waits in line.
    let mut fourth = server.connect().await;
    fourth.ask("/").await;
    gate.open();
    assert_eq!(busy.hear().await.1, "through");
    assert_eq!(fourth.hear().await.1, "here");
    assert!(third.is_waiting());
    gate.open();
    assert_eq!(third.hear().await.1, "through");
}

/// Rings when the body that holds it is dropped.
struct Rings(Arc<Notify>);

impl Drop for Rings {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_let_go() {
    let (dropped, streamed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let endless = |bell: &Arc<Notify>| {
        let rings = Rings(Arc::clone(bell));
        Body::from_stream(stream::iter(std::iter::repeat_with(move || {
            let _ = &rings;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16_384]))
        })))
    };
    let bells = [Arc::clone(&dropped), Arc::clone(&streamed)];
    let [whole, parts] = bells.map(|bell| move || async move { endless(&bell) });
    let router = Router::new()
        .route("/whole", get(whole))
        .route("/parts", get(async move || (Extension(Streamed), parts().await)));
    let server = Served::start(router, Limits { request: SHORT, ..LONG }).await;
    for (path, bell) in [("/whole", dropped), ("/parts", streamed)] {
        let mut client = server.connect().await;
        client.ask(path).await;
        timeout(SOON, bell.notified()).await.expect("the answer is given up");
    }
}

#[tokio::test]
async fn an_answer_that_is_made_while_it_is_sent_may_take_longer_than_others() {
    // Parts come until twice the time of a request is over.
    let long = || {
        let begun = Instant::now();
        let parts = std::iter::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1_024])));
        Body::from_stream(stream::iter(parts.take_while(move |_| begun.elapsed() < SHORT * 2)))
    };
    let router = Router::new()
        .route("/whole", get(async move || long()))
        .route("/parts", get(async move || (Extension(Streamed), long())));
    let server = Served::start(router, Limits { request: SHORT, ..LONG }).await;
    for (path, is_whole) in [("/whole", false), ("/parts", true)] {
        let mut client = server.connect().await;
        client.ask(path).await;
        let (mut stream, mut part, mut end) = (client.into_stream(), [0; 65_536], Vec::new());
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            end.extend_from_slice(&part[..length]);
            end.drain(..end.len().saturating_sub(5));
            if end == b"0\r\n\r\n" {
                break;
            }
        }
        assert_eq!(end == b"0\r\n\r\n", is_whole, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_ends_with_the_time_of_the_handler() {
    let load = Load { handler: SHORT, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    let server = Served::start(desk.router(), LONG).await;
    let mut client = server.connect().await;
    client
        .say(&format!(
            "POST /api/tickets HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"queue\":"
        ))
        .await;
    let (head, body) = client.hear().await;
    assert!(head.starts_with("http/1.1 408") && head.contains("connection: close"), "{head}");
    assert!(body.contains("\"code\":\"body_too_slow\""), "{body}");
    assert!(client.is_dropped().await);
}

#[tokio::test]
async fn searches_whose_clients_hang_up_end_in_postgresql_and_keep_nobody_waiting() {
    let desk = Desk::open().await;
    desk.create(serde_json::json!({})).await;
    let server = Served::start(desk.router(), LONG).await;
    // A search that waits for a lock takes as long as one that works.
    let mut busy = desk.pool().begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE tickets").execute(&mut *busy).await.unwrap();
    let waiting = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(desk.pool()).await.unwrap()
    };
    let searches = i64::try_from(desk.db.pools.searches.max()).unwrap();
    for _ in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..2 * searches {
            let mut client = server.connect().await;
            let head =
                format!("GET /api/tickets HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
            client.say(&head).await;
            clients.push(client);
        }
        while waiting().await < searches {}
        let mut other = server.connect().await;
        other.ask("/api/health").await;
        assert!(other.hear().await.0.starts_with("http/1.1 200"));
        drop(clients);
        while waiting().await > 0 {}
    }
    drop(busy);
    let taken = async {
        while desk.db.pools.searches.count().1 > 0 {
            tokio::task::yield_now().await
        }
    };
    timeout(SOON, taken).await.unwrap();
    desk.get("/api/tickets").await.expect(200);
}

#[tokio::test]
async fn a_body_that_arrives_slowly_takes_no_place_that_others_need() {
    let load = Load { at_work: 1, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    let server = Served::start(desk.router(), LONG).await;
    let head = |length: usize| {
        format!(
            "POST /api/tickets HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let body = r#"{"queue": "Support", "subject": "Late"}"#;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.say(&head(body.len())).await;
        // The server is reading the body.
        assert!(client.hear().await.0.starts_with("http/1.1 100"));
        client.say(&body[..10]).await;
        slow.push(client);
    }
    desk.post("/api/tickets", json!({ "queue": "Support", "subject": "At once" })).await.expect(201);
    for client in &mut slow {
        assert!(client.is_waiting());
        client.say(&body[10..]).await;
        assert!(client.hear().await.0.starts_with("http/1.1 201"));
    }
}

/// A client of HTTP/2 that lets the server send no byte of a body.
async fn reads_nothing(server: &Served) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = TokioIo::new(server.connect().await.into_stream());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (client, connection) = builder.initial_stream_window_size(0).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn unread_responses_are_limited_and_who_does_not_read_gives_way() {
    let load = Load { answers: 100 * 1024, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    desk.create(json!({ "content": "x".repeat(40_000) })).await;
    let server = Served::start(desk.router(), Limits { unread: SHORT, ..LONG }).await;
    let ask = || {
        let request = Request::get("http://desk/api/tickets/1/transactions")
            .header("authorization", format!("Bearer {TOKEN}"));
        request.body(Body::empty()).unwrap()
    };
    let mut client = reads_nothing(&server).await;
    let mut unread = Vec::new();
    for expected in [200, 200, 503, 503] {
        let response = timeout(SOON, client.send_request(ask())).await.unwrap().unwrap();
        assert_eq!(response.status(), expected);
        unread.push(response);
    }
    // Somebody else is refused as well, and that ends the connection that holds the memory.
    let told = async {
        loop {
            let mut other = reads_nothing(&server).await;
            if other.send_request(ask()).await.unwrap().status() == 200 {
                break;
            }
        }
    };
    timeout(SOON, told).await.expect("the memory is given back");
    let ended = timeout(SOON, axum::body::to_bytes(Body::new(unread.remove(0).into_body()), usize::MAX))
        .await
        .unwrap();
    assert!(ended.is_err(), "the connection was closed");
    // Small responses need no memory.
    desk.get("/api/tickets/1").await.expect(200);
}

#[tokio::test]
async fn the_unread_responses_of_one_connection_hold_up_only_its_own_requests() {
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let large = move || async move {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Bytes::from(vec![b'x'; 2 * 1024 * 1024])
    };
    let router = Router::new().route("/", get(large)).route("/small", get(|| async { "here" }));
    let server = Served::start(router, LONG).await;
    let mut client = reads_nothing(&server).await;
    let ask = |path: &str| Request::get(format!("http://desk{path}")).body(Body::empty()).unwrap();
    let mut unread = Vec::new();
    for _ in 0..16 {
        unread.push(timeout(SOON, client.send_request(ask("/"))).await.unwrap().unwrap());
    }
    let waiting = tokio::spawn(client.send_request(ask("/")));
    let mut other = server.connect().await;
    other.ask("/small").await;
    assert_eq!(other.hear().await.1, "here");
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 16);
    assert!(!waiting.is_finished());
    unread.truncate(15);
    timeout(SOON, waiting).await.expect("its turn has come").unwrap().unwrap();
}
