//! Webhooks against receivers on loopback: well behaved, hostile, and slow.

use super::*;
use crate::models::delivery::Delivery;
use reqwest::dns::{Addrs, Name, Resolving};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-23 12:00 UTC);
/// Long enough for any answer over loopback, short enough to wait for a receiver that never gives one.
const SHORT: Duration = Duration::from_millis(400);

/// An edit of a harmless webhook.
type Edit = Box<dyn FnOnce(&mut Webhook)>;

/// A name server that knows one address.
struct Knows(&'static str);

impl Resolve for Knows {
    fn resolve(&self, _: Name) -> Resolving {
        let address = SocketAddr::new(self.0.parse().unwrap(), 0);
        Box::pin(async move { Ok(Box::new([address].into_iter()) as Addrs) })
    }
}

fn leased(url: &str, change: impl FnOnce(&mut Webhook)) -> Leased {
    let mut webhook = Webhook {
        method: "POST".into(),
        url: url.into(),
        headers: BTreeMap::new(),
        body: "{\"ticket\":1,\"subject\":\"ü\"}".into(),
        secret: None,
    };
    change(&mut webhook);
    let delivery = Delivery {
        id: Uuid::from_u128(7).into(),
        ticket: Uuid::nil().into(),
        transaction: Uuid::nil().into(),
        scrip_version: Uuid::nil().into(),
        payload: Payload::Webhook(webhook),
        created_at: NOW,
    };
    Leased {
        endpoint: delivery.payload.endpoint(),
        delivery,
        attempt: 1,
        in_schedule: 1,
        token: 1,
        answered: Vec::new(),
    }
}

fn transport(deadline: Duration) -> WebhookTransport {
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    WebhookTransport::with_resolver(guard, Arc::new(Knows("127.0.0.1")), deadline).unwrap()
}

/// Takes one connection, reads a request with its body, and hands the socket to `answer`. Gives the port and the request.
async fn receiver<F, Fut>(answer: F) -> (u16, tokio::task::JoinHandle<String>)
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !complete(&got) {
            assert_ne!(socket.read_buf(&mut got).await.unwrap(), 0, "the request broke off");
        }
        answer(socket).await;
        String::from_utf8(got).unwrap()
    });
    (port, request)
}

/// Listens without waiting: `accept` fails at once unless somebody has connected by then.
fn silent_listener() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

async fn answers(answer: impl Into<String>) -> (u16, tokio::task::JoinHandle<String>) {
    let answer = answer.into();
    receiver(|mut socket| async move { socket.write_all(answer.as_bytes()).await.unwrap() }).await
}

fn reply(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn the_official_library_verifies_what_a_receiver_gets() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    #[expect(clippy::disallowed_methods, reason = "the official verifier compares with the machine's clock")]
    let now = OffsetDateTime::now_utc();
    let (port, request) = answers(reply("202 Accepted", "thanks")).await;
    let leased = leased(&format!("http://hooks.example:{port}/in?q=1"), |webhook| {
        webhook.secret = Some("sign".into())
    });
    let secrets = Secrets::from([("sign".into(), Secret::new(SECRET))]);

    let attempt = transport(DEADLINE).send(&leased, &secrets, now).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
    assert_eq!((attempt.status_code, attempt.detail.as_str()), (Some(202), "202 Accepted"));
    assert_eq!(attempt.response.as_deref(), Some("thanks"));

    let request = request.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /in?q=1 HTTP/1.1\r\n"), "{head}");
    let headers: HeaderMap = head
        .lines()
        .skip(1)
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["user-agent"], USER_AGENT);
    assert_eq!(headers["webhook-id"], leased.delivery.id.to_string());
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(body.as_bytes(), &headers).unwrap();
    assert!(standardwebhooks::Webhook::new(SECRET).unwrap().verify(b"{}", &headers).is_err());
}

#[tokio::test]
async fn a_status_decides_what_an_attempt_came_to() {
    for (status, outcome) in [
        ("200 OK", Outcome::Delivered),
        ("204 No Content", Outcome::Delivered),
        ("301 Moved Permanently", Outcome::Retry),
        ("307 Temporary Redirect", Outcome::Retry),
        ("400 Bad Request", Outcome::Retry),
        ("404 Not Found", Outcome::Retry),
        ("408 Request Timeout", Outcome::Retry),
        ("410 Gone", Outcome::Permanent),
        ("429 Too Many Requests", Outcome::Retry),
        ("500 Internal Server Error", Outcome::Retry),
        ("503 Service Unavailable", Outcome::Retry),
    ] {
        let (port, _request) = answers(reply(status, "")).await;
        let attempt = transport(DEADLINE)
            .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
            .await;
        assert_eq!(attempt.outcome, outcome, "{status}: {attempt:?}");
        assert!(attempt.detail.starts_with(&status[..3]), "{}", attempt.detail);
        assert_eq!(attempt.detail.contains("redirects"), status.starts_with('3'), "{}", attempt.detail);
    }
}

#[tokio::test]
async fn a_redirect_to_a_metadata_address_is_not_followed() {
    let elsewhere = silent_listener();
    let answer = format!(
        "HTTP/1.1 301 Moved Permanently\r\nlocation: http://{}/latest/meta-data\r\ncontent-length: 0\r\n\r\n",
        elsewhere.local_addr().unwrap()
    );
    let (port, request) = answers(answer).await;
    let attempt = transport(DEADLINE)
        .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!(attempt.outcome, Outcome::Retry);
    assert!(attempt.detail.contains("redirects are not followed"), "{}", attempt.detail);
    request.await.unwrap();
    assert!(elsewhere.accept().is_err(), "somebody followed the redirect");
}

#[tokio::test]
async fn the_guard_refuses_literal_addresses_and_resolved_names() {
    let listener = silent_listener();
    let port = listener.local_addr().unwrap().port();
    let transport =
        WebhookTransport::with_resolver(Guard::default(), Arc::new(Knows("127.0.0.1")), DEADLINE).unwrap();
    for host in ["127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "rebind.example", "127.0.0.1.nip.example"] {
        let attempt =
            transport.send(&leased(&format!("http://{host}:{port}/"), |_| {}), &Secrets::new(), NOW).await;
        assert_eq!(attempt.outcome, Outcome::Retry, "{host}");
        assert!(
            attempt.detail.contains("add \"127.0.0.1/32\" to webhook.allow"),
            "{host}: {}",
            attempt.detail
        );
    }
    assert!(listener.accept().is_err(), "a refused address was dialled");
}

#[tokio::test]
async fn a_refused_connection_says_so_in_a_sentence() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let attempt = transport(DEADLINE)
        .send(&leased(&format!("http://127.0.0.1:{port}/?key=1"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Retry, None));
    assert!(
        attempt.detail.starts_with("could not connect: ") && attempt.detail.contains("refused"),
        "{}",
        attempt.detail
    );
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_left_at_the_deadline() {
    let (port, request) = receiver(|mut socket| async move {
        // Waits for the other side to hang up.
        let _ = socket.read(&mut [0; 1]).await;
    })
    .await;
    let attempt = transport(SHORT)
        .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!(attempt.outcome, Outcome::Retry);
    assert_eq!(attempt.detail, "no answer within 0.4 s");
    request.await.unwrap();
}

#[tokio::test]
async fn a_body_that_drips_for_ever_is_left_at_the_deadline() {
    for (status, outcome) in [("200 OK", Outcome::Delivered), ("500 Oh", Outcome::Retry)] {
        let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
        let (port, request) = receiver(|mut socket| async move {
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while socket.write_all(b"1\r\nx\r\n").await.is_ok() {
                tick.tick().await;
            }
        })
        .await;
        let attempt = transport(SHORT)
            .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
            .await;
        assert_eq!(attempt.outcome, outcome);
        assert!(attempt.detail.ends_with("; the response body did not end in time"), "{}", attempt.detail);
        assert!(attempt.response.unwrap().starts_with('x'));
        request.await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_is_read_no_further_than_the_limit() {
    let (port, request) = receiver(|mut socket| async move {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
        while socket.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
    })
    .await;
    let attempt = transport(DEADLINE)
        .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert_eq!(attempt.detail, "200 OK; the response body exceeds the read limit");
    assert_eq!(attempt.response.unwrap().len(), crate::models::delivery::EXCERPT_MAX);
    request.await.unwrap();
}

#[tokio::test]
async fn a_body_is_read_to_the_limit_and_to_no_byte_beyond() {
    for (length, cut) in
        [(READ_MAX - 1, ""), (READ_MAX, ""), (READ_MAX + 9, "; the response body exceeds the read limit")]
    {
        let (port, _request) = answers(reply("200 OK", &"x".repeat(length))).await;
        let request = Request::new(Method::GET, format!("http://127.0.0.1:{port}/").parse().unwrap());
        let response = transport(DEADLINE).client.execute(request).await.unwrap();
        let (body, said) = read(response, Moment::now() + DEADLINE).await;
        assert_eq!((body.len(), said), (length.min(READ_MAX), cut));
    }
}

#[tokio::test]
async fn rubbish_and_a_broken_body_are_answers_of_a_kind() {
    let (port, _request) = answers("SSH-2.0-OpenSSH_9.2\r\n").await;
    let attempt = transport(DEADLINE)
        .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!(attempt.outcome, Outcome::Retry);
    assert!(attempt.detail.starts_with("the request failed: "), "{}", attempt.detail);

    let (port, _request) = answers("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    let attempt = transport(DEADLINE)
        .send(&leased(&format!("http://127.0.0.1:{port}/"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!(
        (attempt.outcome, attempt.detail.as_str()),
        (Outcome::Delivered, "200 OK; the response body is incomplete")
    );
}

#[tokio::test]
async fn secrets_are_put_in_place_and_appear_in_no_record() {
    let canary = "Bearer ca\"nary";
    let echo = reply(
        "500 Oh",
        "you sent Bearer ca\"nary, as JSON \"Bearer ca\\\"nary\", and MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    let (port, request) = answers(echo).await;
    let leased = leased(&format!("http://127.0.0.1:{port}/"), |webhook| {
        webhook.headers.insert("Authorization".into(), HeaderValue::Secret { secret: "token".into() });
        webhook.headers.insert("Content-Type".into(), HeaderValue::Text("text/plain".into()));
        webhook.secret = Some("sign".into());
    });
    let secrets = Secrets::from([
        ("token".into(), Secret::new(canary)),
        ("sign".into(), Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
    ]);
    let attempt = transport(DEADLINE).send(&leased, &secrets, NOW).await;
    let request = request.await.unwrap();
    assert!(
        request.contains("authorization: Bearer ca\"nary\r\n")
            && request.contains("content-type: text/plain\r\n"),
        "{request}"
    );
    let record = format!("{attempt:?}");
    assert!(!record.contains("nary") && !record.contains("MfKQ9r8"), "{record}");
    assert_eq!(
        attempt.response.as_deref(),
        Some("you sent (secret token), as JSON \"(secret token)\", and (secret sign)")
    );
}

#[tokio::test]
async fn what_cannot_be_sent_says_why_and_whether_waiting_helps() {
    let text = |text: &str| HeaderValue::Text(text.into());
    let token = || HeaderValue::Secret { secret: "token".into() };
    let secrets = Secrets::from([("token".into(), Secret::new("a\r\nX-Injected: 1"))]);
    let cases: [(&str, Edit, Outcome, &str); 7] = [
        (
            "missing",
            Box::new(|w| w.secret = Some("gone".into())),
            Outcome::Retry,
            "secret \"gone\" does not exist",
        ),
        ("unusable", Box::new(|w| w.secret = Some("token".into())), Outcome::Retry, "\"whsec_\""),
        (
            "broken secret",
            Box::new(move |w| drop(w.headers.insert("A".into(), token()))),
            Outcome::Retry,
            "line break",
        ),
        (
            "injection",
            Box::new(move |w| drop(w.headers.insert("A".into(), text("1\r\nB: 2")))),
            Outcome::Permanent,
            "control",
        ),
        (
            "reserved",
            Box::new(move |w| drop(w.headers.insert("HOST".into(), text("x")))),
            Outcome::Permanent,
            "HOST",
        ),
        ("method", Box::new(|w| w.method = "GE T".into()), Outcome::Permanent, "GE T"),
        ("url", Box::new(|w| w.url = "http://".into()), Outcome::Permanent, "URL"),
    ];
    for (name, change, outcome, words) in cases {
        let attempt = transport(DEADLINE).send(&leased("http://127.0.0.1:9/", change), &secrets, NOW).await;
        assert_eq!(attempt.outcome, outcome, "{name}");
        assert!(
            attempt.detail.contains(words) && !attempt.detail.contains("Injected"),
            "{name}: {}",
            attempt.detail
        );
    }
}

#[tokio::test]
async fn an_answer_says_how_the_endpoint_is_and_how_long_to_leave_it_alone() {
    let minute = TROUBLE_WAIT.as_secs();
    let table = [
        ("200 OK", "", Health::Works, 0),
        ("204 No Content", "retry-after: 9\r\n", Health::Works, 9),
        ("302 Found", "", Health::Works, 0),
        ("400 Bad Request", "", Health::Works, 0),
        ("401 Unauthorized", "", Health::Works, 0),
        ("404 Not Found", "", Health::Works, 0),
        ("408 Request Timeout", "", Health::Fails, 0),
        ("410 Gone", "", Health::Works, 0),
        ("429 Too Many Requests", "", Health::Fails, minute),
        ("429 Too Many Requests", "retry-after: 5\r\n", Health::Fails, minute),
        ("429 Too Many Requests", "retry-after: 7200\r\n", Health::Fails, 7_200),
        ("500 Internal Server Error", "", Health::Fails, 0),
        ("503 Service Unavailable", "retry-after: 120\r\n", Health::Fails, 120),
        ("503 Service Unavailable", "retry-after: Mon, 23 Nov 2026 12:01:30 GMT\r\n", Health::Fails, 90),
        ("503 Service Unavailable", "retry-after: soon\r\n", Health::Fails, 0),
    ];
    for (status, header, health, wait) in table {
        let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
        let (port, _) =
            answers(format!("HTTP/1.1 {status}\r\n{header}{length}connection: close\r\n\r\n")).await;
        let leased = leased(&format!("http://h.example:{port}/"), |_| {});
        let attempt = transport(DEADLINE).send(&leased, &Secrets::new(), NOW).await;
        assert_eq!(
            (attempt.health, attempt.wait.as_secs()),
            (health, wait),
            "{status} {header}: {attempt:?}"
        );
    }
}

#[tokio::test]
async fn no_answer_is_the_endpoints_fault_and_what_was_not_sent_is_not() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let to_nobody = leased(&format!("http://h.example:{nobody}/"), |_| {});
    let attempt = transport(DEADLINE).send(&to_nobody, &Secrets::new(), NOW).await;
    assert_eq!((attempt.health, attempt.wait), (Health::Fails, Duration::ZERO), "{attempt:?}");

    let silent = silent_listener();
    let port = silent.local_addr().unwrap().port();
    let attempt = transport(SHORT)
        .send(&leased(&format!("http://h.example:{port}/"), |_| {}), &Secrets::new(), NOW)
        .await;
    assert_eq!((attempt.health, attempt.wait), (Health::Fails, TROUBLE_WAIT), "{attempt:?}");

    let without_secret = leased("http://h.example/", |webhook| webhook.secret = Some("none".into()));
    for leased in [leased("http://10.0.0.1/", |_| {}), without_secret, leased("no url", |_| {})] {
        let attempt = transport(DEADLINE).send(&leased, &Secrets::new(), NOW).await;
        assert_eq!(attempt.health, Health::Unknown, "{attempt:?}");
    }
    let guard = Guard::new(Vec::new());
    let strict = WebhookTransport::with_resolver(guard, Arc::new(Knows("10.0.0.1")), DEADLINE).unwrap();
    let attempt = strict.send(&leased("http://h.example/", |_| {}), &Secrets::new(), NOW).await;
    assert_eq!(attempt.health, Health::Unknown, "the guard refused what it resolved to: {attempt:?}");
}

#[tokio::test]
async fn a_response_with_many_headers_is_a_response() {
    for (count, size) in [(150, 1), (3_000, 40)] {
        let headers: String = (0..count).map(|n| format!("X-H{n}: {}\r\n", "v".repeat(size))).collect();
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
        let (port, _) = answers(answer).await;
        let leased = leased(&format!("http://127.0.0.1:{port}/"), |_| {});
        let attempt = transport(DEADLINE).send(&leased, &Secrets::new(), NOW).await;
        assert_eq!(
            (attempt.outcome, attempt.status_code),
            (Outcome::Delivered, Some(200)),
            "{count}: {}",
            attempt.detail
        );
    }
}
