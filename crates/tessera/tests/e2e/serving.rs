//! The server from an operator's view: signals, metrics, the log, traces at a collector.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Value, json};
use tessera_api::server::{Limits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::faults::postgres::Frozen;
use crate::support::{SOON, Server, eventually};

/// The largest batch of spans of a test, in bytes.
const BATCH_MAX: usize = 4 * 1024 * 1024;

/// Starts a request whose head was received, and half of whose body is missing.
async fn begin_create(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /api/tickets HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        server.token,
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server requests the body when the handler reads it.
    let mut said = [0; 25];
    timeout(SOON, stream.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&BODY.as_bytes()[..10]).await.unwrap();
    stream
}

/// The ticket to create.
const BODY: &str = r#"{"queue": "General", "subject": "Half past the end"}"#;

#[tokio::test]
async fn a_request_in_progress_at_the_signal_is_finished() {
    let mut server = Server::start(&[]).await;
    let mut stream = begin_create(&server).await;
    server.signal_stop();
    let address = server.url().trim_start_matches("http://").to_owned();
    eventually("no connection is accepted any more", SOON, async || {
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
    stream.write_all(&BODY.as_bytes()[10..]).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    let ended = server.ended().await;
    assert!(ended.success(), "{ended}");
    server.check();
    server.restart().await;
    let ticket = server.done("GET", "/api/tickets/1", &Value::Null).await;
    assert_eq!(ticket["subject"], "Half past the end");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut server = Server::start(&[]).await;
    let _stuck = begin_create(&server).await;
    server.signal_stop();
    eventually("the log says how to stop immediately", SOON, async || {
        server.log_text().contains("send a second signal to stop immediately").then_some(())
    })
    .await;
    server.signal_stop();
    assert_eq!(server.ended().await.code(), Some(1));
    assert!(server.log_text().contains("stopped immediately"));
    server.restart().await;
    server.stop().await;
    server.check();
}

#[tokio::test]
async fn metrics_have_a_token_and_the_log_a_line_of_json_for_each_request() {
    let token = "prm_0123456789abcdef";
    let server = Server::start(&[("TESSERA_METRICS__TOKEN", token.to_owned())]).await;
    let headers = [("x-request-id", "look-for-me")];
    let body = json!({ "queue": "General", "subject": "Count me" });
    server.try_api("POST", "/api/tickets", &body, &headers).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = client.get(format!("{}/metrics", server.url())).bearer_auth(token).send().await.unwrap();
    let text = metrics.text().await.unwrap();
    for part in [
        "# HELP tessera_http_requests_total HTTP requests that got a response.\n# TYPE tessera_http_requests_total counter\n",
        "tessera_changes_total{kind=\"create\",outcome=\"made\"} 1\n",
        "tessera_http_requests_total{method=\"POST\",route=\"/api/tickets\",status=\"201\"} 1\n",
        "tessera_http_request_seconds_bucket{route=\"/api/tickets\",le=\"15\"} 1\n",
        "tessera_http_connections ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let log = server.log_text();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about: Vec<&Value> =
        lines.iter().filter(|line| line["fields"]["request_id"] == "look-for-me").collect();
    assert!(matches!(about.as_slice(), [line] if line["fields"]["status"] == 201), "{about:#?}");
    assert!(!log.contains("/metrics") && !log.contains(token), "{log}");
}

#[tokio::test]
async fn refused_connections_are_logged_once_and_the_server_recovers() {
    let server = Server::start(&[]).await;
    let pid = server.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // A few more files than are open, and far fewer than there are clients.
    let limited = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--nofile={}", open + 4)])
        .status()
        .unwrap();
    assert!(limited.success());
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap());
    }
    let told = || server.log_text().matches("cannot accept connections").count();
    eventually("it is logged", SOON, async || (told() > 0).then_some(())).await;
    drop(clients);
    server.done("GET", "/api/health", &Value::Null).await;
    assert_eq!(told(), 1);
}

/// The response of a collector: an empty message, and the status OK in the trailers.
struct Accepted(u8);

impl HttpBody for Accepted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(&[0; 5])))),
            2 => {
                let mut trailers = axum::http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            _ => None,
        })
    }
}

async fn collect(State(batches): State<mpsc::UnboundedSender<Vec<u8>>>, body: Body) -> Response {
    batches.send(to_bytes(body, BATCH_MAX).await.unwrap().to_vec()).unwrap();
    Response::builder().header("content-type", "application/grpc").body(Body::new(Accepted(0))).unwrap()
}

#[tokio::test]
async fn a_request_is_a_span_at_the_collector_that_continues_the_clients_trace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let (batches, mut received) = mpsc::unbounded_channel();
    let method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let router = axum::Router::new().route(method, axum::routing::post(collect)).with_state(batches);
    let collecting = tokio::spawn(serve(listener, router, Limits::default(), CancellationToken::new()));

    let mut server = Server::start(&[("TESSERA_TELEMETRY__OTLP_ENDPOINT", collector)]).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", trace), ("x-request-id", "trace-me")];
    server.try_api("GET", "/api/tickets", &Value::Null, &headers).await.unwrap();
    // The remaining spans are sent when the server stops.
    server.stop().await;
    collecting.abort();
    let mut all = Vec::new();
    while let Some(batch) = received.recv().await {
        all.extend(batch);
    }
    let has = |part: &[u8]| all.windows(part.len()).any(|window| window == part);
    let (trace_id, parent_id) = (
        0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
        0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(),
    );
    // In protocol buffers, texts and ids are encoded unchanged.
    for part in [&b"GET /api/tickets"[..], b"trace-me", b"service.name", b"tessera", &trace_id, &parent_id] {
        assert!(has(part), "{} was not sent", String::from_utf8_lossy(part));
    }
    assert!(!has(server.token.as_bytes()));
}

#[tokio::test]
async fn an_unreachable_collector_causes_one_warning() {
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", away.local_addr().unwrap());
    drop(away);
    let mut server = Server::start(&[
        ("TESSERA_TELEMETRY__OTLP_ENDPOINT", collector),
        // Makes several batches fail before the end.
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ])
    .await;
    let warned = |log: &str| log.matches("accepts no traces").count();
    for _ in 0..5 {
        server.done("GET", "/api/tickets", &Value::Null).await;
        eventually("a batch has failed", SOON, async || (warned(&server.log_text()) > 0).then_some(())).await;
    }
    server.stop().await;
    assert_eq!(warned(&server.log_text()), 1, "{}", server.log_text());
}

/// Connections of the clients that read nothing, and the requests of each.
const UNREAD: (usize, usize) = (60, 40);
/// Memory that these may take: the 64 MiB for responses, and as much again for connections, requests and the work itself. Without
/// limits they take gigabytes.
const UNREAD_MAX_KIB: u64 = 128 * 1024;

/// Sends requests whose responses are never read, and returns how much memory the server took at most, in KiB. The clients are
/// returned as well, because dropping them ends their requests.
async fn leave_unread(
    server: &Server,
    path: &str,
    encoding: &str,
    token: Option<&str>,
) -> (u64, Vec<tokio::task::JoinSet<()>>) {
    let before = server.memory_kib();
    let mut clients = Vec::new();
    for _ in 0..UNREAD.0 {
        let builder = reqwest::Client::builder().no_proxy().no_gzip();
        let client = builder.http2_prior_knowledge().http2_initial_stream_window_size(0).build().unwrap();
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..UNREAD.1 {
            let mut request =
                client.get(format!("{}{path}", server.url())).header("accept-encoding", encoding);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            requests.spawn(async move {
                // A head arrives, and no body; or the connection was closed.
                if let Ok(response) = request.send().await {
                    let _ = response.bytes().await;
                }
            });
        }
        clients.push(requests);
    }
    let mut most = 0;
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
    for _ in 0..50 {
        looks.tick().await;
        most = most.max(server.memory_kib().saturating_sub(before));
    }
    (most, clients)
}

#[tokio::test]
async fn responses_that_nobody_reads_take_no_more_memory_than_their_limit_and_stop_nobody() {
    let server = Server::start(&[]).await;
    let ticket = json!({ "queue": "General", "subject": "Large" });
    server.done("POST", "/api/tickets", &ticket).await;
    let text = "One line of a long message about a kettle.\n".repeat(10_000);
    server.done("POST", "/api/tickets/1/comment", &json!({ "content": text })).await;
    let token = server.token.clone();
    for (path, encoding, token) in [
        ("/api/openapi.json", "gzip", None),
        ("/api/openapi.json", "identity", None),
        ("/api/docs/swagger-ui-bundle.js", "identity", None),
        ("/api/docs/nothing-of-this-name", "gzip", None),
        ("/t/1", "gzip", None),
        ("/api/tickets/1/transactions", "identity", Some(token.as_str())),
        ("/api/tickets/1/transactions", "gzip", Some(token.as_str())),
    ] {
        let (most, unread) = leave_unread(&server, path, encoding, token).await;
        assert!(most < UNREAD_MAX_KIB, "{path} {encoding}: {most} KiB");
        // Others are served meanwhile, after a while at the latest.
        for path in ["/api/health", "/api/tickets/1/transactions"] {
            eventually("others are served", SOON, async || {
                (server.api("GET", path, &Value::Null).await.status == 200).then_some(())
            })
            .await;
        }
        drop(unread);
    }
}

#[tokio::test]
async fn a_stop_ends_although_the_database_hangs() {
    let server = Server::start(&[]).await;
    let mut node = server.node(&[]).await;
    node.done("GET", "/api/tickets", &Value::Null).await;
    let frozen = Frozen::new(&server).await;
    let path = format!("{}/api/tickets", node.url());
    let waiting = tokio::spawn(
        reqwest::Client::builder().no_proxy().build().unwrap().get(path).bearer_auth(&node.token).send(),
    );
    node.signal_stop();
    let ended = node.ended().await;
    assert!(ended.success(), "{ended}");
    // A start that waits for it can be stopped, too.
    node.begin(&[]);
    eventually("it is waiting", SOON, async || {
        TcpStream::connect(node.url().trim_start_matches("http://")).await.ok()
    })
    .await;
    node.signal_stop();
    assert!(node.ended().await.success());
    waiting.abort();
    drop(frozen);
}
