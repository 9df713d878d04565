//! Mail against a server on loopback that answers as each test wants, and writes down what it heard.

use super::super::email::build;
use super::server::Encryption;
use super::*;
use crate::models::delivery::{Delivery, Email};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::macros::datetime;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// The server's reply to a line; `None` closes the connection. `.` is the end of the message, the empty line the greeting.
type Script = fn(&str) -> Option<&'static str>;

/// A mail server that accepts bare LF as a line end wherever it comes, as careless ones do.
struct FakeServer {
    url: String,
    /// Commands, and each message as one entry, over all connections.
    heard: Arc<Mutex<Vec<String>>>,
}

impl FakeServer {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, script, Arc::clone(&ear)));
            }
        });
        Self { url, heard }
    }

    fn transport(&self) -> SmtpTransport {
        SmtpTransport::new(&self.url, "desk.example.com").unwrap()
    }

    /// The commands received so far, without the messages.
    fn commands(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().filter(|line| !line.contains('\n')).cloned().collect()
    }

    fn messages(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().filter(|line| line.contains('\n')).cloned().collect()
    }
}

async fn serve(socket: TcpStream, script: Script, heard: Arc<Mutex<Vec<String>>>) {
    let mut socket = BufReader::new(socket);
    let mut next = script("");
    loop {
        let Some(answer) = next else { return };
        if socket.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
        next = if answer.starts_with("354") {
            let mut message = String::new();
            loop {
                let mut line = String::new();
                if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if line.trim_end_matches(['\r', '\n']) == "." {
                    break;
                }
                message.push_str(line.strip_prefix('.').unwrap_or(&line));
            }
            heard.lock().unwrap().push(message);
            script(".")
        } else {
            let mut line = String::new();
            if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_owned();
            heard.lock().unwrap().push(line.clone());
            script(&line)
        };
    }
}

/// A server that takes everything.
fn willing(line: &str) -> Option<&'static str> {
    Some(match line.get(..4).unwrap_or(line) {
        "" => "220 mx.example.org ESMTP",
        "EHLO" => "250-mx.example.org\r\n250 8BITMIME",
        "DATA" => "354 go on",
        "." => "250 2.0.0 queued as 42",
        _ => "250 ok",
    })
}

fn leased(change: impl FnOnce(&mut Email)) -> Leased {
    let mut email = Email {
        from: "Desk <help@example.com>".into(),
        to: vec!["a@example.org".into(), "b@example.org".into()],
        cc: Vec::new(),
        bcc: vec!["c@example.org".into()],
        subject: "[tessera #7] It works".into(),
        headers: BTreeMap::from([("Message-ID".into(), "<tessera-7@example.com>".into())]),
        text: "Hello".into(),
        html: None,
        recipients: Vec::new(),
        as_comment: false,
    };
    change(&mut email);
    let delivery = Delivery {
        id: Uuid::from_u128(7).into(),
        ticket: Uuid::nil().into(),
        transaction: Uuid::nil().into(),
        scrip_version: Uuid::nil().into(),
        payload: Payload::Email(email),
        created_at: datetime!(2026-11-23 12:00 UTC),
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

fn bytes_of(leased: &Leased) -> String {
    let Payload::Email(email) = &leased.delivery.payload else { unreachable!() };
    String::from_utf8(build(leased.delivery.id, leased.delivery.created_at, email).unwrap().message).unwrap()
}

const CONVERSATION: [&str; 6] = [
    "EHLO desk.example.com",
    "MAIL FROM:<help@example.com>",
    "RCPT TO:<a@example.org>",
    "RCPT TO:<b@example.org>",
    "RCPT TO:<c@example.org>",
    "DATA",
];

#[tokio::test]
async fn a_mail_is_handed_over_whole_and_a_connection_serves_many() {
    let server = FakeServer::start(willing).await;
    let (transport, leased) = (server.transport(), leased(|_| {}));
    let attempt = transport.send(&leased).await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Delivered, Some(250)));
    assert_eq!(attempt.detail, "250 2.0.0 queued as 42");
    assert_eq!(attempt.recipients.len(), 3);
    assert_eq!(transport.send(&leased).await.outcome, Outcome::Delivered);
    assert_eq!(server.commands(), [&CONVERSATION[..], &CONVERSATION[1..]].concat());
    // The blank line is SMTP's own: the message ends in CRLF before its final dot.
    let mail = bytes_of(&leased);
    assert_eq!(server.messages(), [format!("{mail}\r\n"), format!("{mail}\r\n")]);
}

#[tokio::test]
async fn no_text_can_speak_to_the_server() {
    let server = FakeServer::start(willing).await;
    let hostile =
        "x\n.\nMAIL FROM:<evil@example.net>\nRCPT TO:<victim@example.net>\nDATA\n\r.\r.\r\n.\r\nQUIT\n";
    let leased = leased(|email| {
        email.subject = hostile.into();
        email.text = hostile.into();
        email.html = Some(hostile.into());
        email.headers.insert("X-Note".into(), hostile.into());
    });
    assert_eq!(server.transport().send(&leased).await.outcome, Outcome::Delivered);
    assert_eq!(server.commands(), CONVERSATION);
    assert_eq!(server.messages(), [format!("{}\r\n", bytes_of(&leased))]);
}

#[tokio::test]
async fn each_recipient_has_an_answer_and_only_open_ones_are_asked_again() {
    let server = FakeServer::start(|line| match line {
        "RCPT TO:<a@example.org>" => Some("550 5.1.1 no such user"),
        "RCPT TO:<b@example.org>" => Some("450 4.2.1 greylisted"),
        line => willing(line),
    })
    .await;
    let (transport, mut leased) = (server.transport(), leased(|_| {}));
    let attempt = transport.send(&leased).await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Retry, Some(450)));
    let outcomes = |attempt: &Attempt| -> Vec<(String, Outcome)> {
        attempt.recipients.iter().map(|answer| (answer.address.clone(), answer.outcome)).collect()
    };
    assert_eq!(
        outcomes(&attempt),
        [
            ("a@example.org".into(), Outcome::Permanent),
            ("b@example.org".into(), Outcome::Retry),
            ("c@example.org".into(), Outcome::Delivered),
        ]
    );
    for words in
        ["450 4.2.1 greylisted", "a@example.org: 550 5.1.1 no such user", "c@example.org: 250 2.0.0 queued"]
    {
        assert!(attempt.detail.contains(words), "{}", attempt.detail);
    }

    let willing = FakeServer::start(willing).await;
    leased.answered = attempt.recipients;
    let second = willing.transport().send(&leased).await;
    assert_eq!(second.outcome, Outcome::Delivered, "all have a final answer, and somebody took it");
    assert_eq!(willing.commands()[2..], ["RCPT TO:<b@example.org>", "DATA"]);
    assert_eq!(second.recipients.len(), 3);

    leased.answered = second.recipients;
    let third = willing.transport().send(&leased).await;
    assert_eq!(third.outcome, Outcome::Delivered);
    assert_eq!(willing.messages().len(), 1, "nobody is left to ask");
}

#[tokio::test]
async fn a_mail_that_every_recipient_refuses_is_given_up_and_the_connection_lives_on() {
    let server = FakeServer::start(|line| match line {
        "RCPT TO:<gone@example.org>" => Some("550 5.1.1 no such user"),
        line => willing(line),
    })
    .await;
    let transport = server.transport();
    let gone = leased(|email| (email.to, email.bcc) = (vec!["gone@example.org".into()], Vec::new()));
    let attempt = transport.send(&gone).await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Permanent, Some(550)));
    assert_eq!(attempt.detail, "550 5.1.1 no such user");
    assert_eq!(transport.send(&leased(|_| {})).await.outcome, Outcome::Delivered);
    let hellos = server.commands().iter().filter(|line| line.starts_with("EHLO")).count();
    assert_eq!(hellos, 1);
    assert!(server.commands().contains(&"RSET".to_owned()));
}

#[tokio::test]
async fn what_the_server_says_decides_whether_the_mail_waits() {
    let cases: [(&str, Script, Outcome, Option<i32>); 11] = [
        (
            "greeting 554",
            |l| if l.is_empty() { Some("554 no") } else { willing(l) },
            Outcome::Retry,
            Some(554),
        ),
        (
            "greeting 421",
            |l| if l.is_empty() { Some("421 busy") } else { willing(l) },
            Outcome::Retry,
            Some(421),
        ),
        (
            "no SMTP",
            |l| if l.is_empty() { Some("HTTP/1.1 400 Bad Request") } else { willing(l) },
            Outcome::Retry,
            None,
        ),
        (
            "MAIL 451",
            |l| if l.starts_with("MAIL") { Some("451 later") } else { willing(l) },
            Outcome::Retry,
            Some(451),
        ),
        (
            "MAIL 550",
            |l| if l.starts_with("MAIL") { Some("550 no") } else { willing(l) },
            Outcome::Permanent,
            Some(550),
        ),
        (
            "MAIL 530",
            |l| if l.starts_with("MAIL") { Some("530 log in") } else { willing(l) },
            Outcome::Retry,
            Some(530),
        ),
        ("DATA 452", |l| if l == "DATA" { Some("452 full") } else { willing(l) }, Outcome::Retry, Some(452)),
        (
            "message 552",
            |l| if l == "." { Some("552 too big") } else { willing(l) },
            Outcome::Permanent,
            Some(552),
        ),
        ("message 451", |l| if l == "." { Some("451 later") } else { willing(l) }, Outcome::Retry, Some(451)),
        ("hangs up at RCPT", |l| if l.starts_with("RCPT") { None } else { willing(l) }, Outcome::Retry, None),
        ("hangs up before 250", |l| if l == "." { None } else { willing(l) }, Outcome::Retry, None),
    ];
    for (name, script, outcome, code) in cases {
        let server = FakeServer::start(script).await;
        let attempt = server.transport().send(&leased(|_| {})).await;
        assert_eq!((attempt.outcome, attempt.status_code), (outcome, code), "{name}: {attempt:?}");
        assert!(!attempt.detail.is_empty(), "{name}");
        assert!(!name.contains("at RCPT") || attempt.recipients.is_empty(), "nobody was answered for");
    }
}

#[tokio::test]
async fn a_mail_that_an_idle_connection_refuses_is_refused_and_not_asked_about_again() {
    let server = FakeServer::start(|line| match line {
        "MAIL FROM:<bad@example.com>" => Some("550 no"),
        line => willing(line),
    })
    .await;
    let transport = server.transport();
    assert_eq!(transport.send(&leased(|_| {})).await.outcome, Outcome::Delivered);
    let attempt = transport.send(&leased(|email| email.from = "bad@example.com".into())).await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Permanent, Some(550)));
    let asked = server.commands().iter().filter(|line| line.contains("bad@")).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_server_that_closes_an_idle_connection_with_421_is_dialled_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let closing: Script =
        |line| if line.starts_with("MAIL FROM:<again") { Some("421 idle too long") } else { willing(line) };
    tokio::spawn(async move {
        for script in [closing, willing] {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, script, Arc::default()));
        }
    });
    let transport = SmtpTransport::new(&url, "").unwrap();
    assert_eq!(transport.send(&leased(|_| {})).await.outcome, Outcome::Delivered);
    let attempt = transport.send(&leased(|email| email.from = "again@example.com".into())).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
}

#[tokio::test]
async fn an_address_that_is_not_ascii_goes_only_to_a_server_that_takes_such() {
    let foreign = || leased(|email| email.bcc = vec!["ü@example.org".into()]);
    let attempt = FakeServer::start(willing).await.transport().send(&foreign()).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "the others get it");
    assert!(attempt.detail.contains("ü@example.org: the address is not ASCII"), "{}", attempt.detail);
    assert!(attempt.detail.contains("SMTPUTF8"), "{}", attempt.detail);

    let server = FakeServer::start(|line| {
        if line.starts_with("EHLO") { Some("250-mx\r\n250 SMTPUTF8") } else { willing(line) }
    });
    let server = server.await;
    assert_eq!(server.transport().send(&foreign()).await.outcome, Outcome::Delivered);
    assert!(server.commands().contains(&"MAIL FROM:<help@example.com> SMTPUTF8".to_owned()));
}

#[tokio::test]
async fn encryption_that_is_offered_is_taken() {
    let server = FakeServer::start(|line| match line.get(..4) {
        Some("EHLO") => Some("250-mx\r\n250 STARTTLS"),
        Some("STAR") => Some("454 not now"),
        _ => willing(line),
    })
    .await;
    let attempt = server.transport().send(&leased(|_| {})).await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Retry, Some(454)));
    assert_eq!(server.commands()[..2], ["EHLO desk.example.com", "STARTTLS"]);
    assert!(!server.commands().iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn a_connection_that_died_while_idle_costs_no_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let tired: Script = |line| if line.starts_with("MAIL FROM:<again") { None } else { willing(line) };
    tokio::spawn(async move {
        for script in [tired, willing] {
            let (socket, _) = listener.accept().await.unwrap();
            serve(socket, script, Arc::default()).await;
        }
    });
    let transport = SmtpTransport::new(&url, "").unwrap();
    assert_eq!(transport.send(&leased(|_| {})).await.outcome, Outcome::Delivered);
    let attempt = transport.send(&leased(|email| email.from = "again@example.com".into())).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
}

#[tokio::test]
async fn a_silent_or_absent_server_costs_an_attempt_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1]).await;
    });
    let mut transport = SmtpTransport::new(&url, "").unwrap();
    transport.dialogue = Duration::from_millis(300);
    let attempt = transport.send(&leased(|_| {})).await;
    assert_eq!(
        (attempt.outcome, attempt.detail.as_str()),
        (Outcome::Retry, "the mail server 127.0.0.1 did not answer in time")
    );
    silent.await.unwrap();

    let attempt = transport.send(&leased(|_| {})).await;
    assert_eq!(attempt.outcome, Outcome::Retry);
    assert!(attempt.detail.contains("refused"), "{}", attempt.detail);
}

#[tokio::test]
async fn required_encryption_that_is_not_offered_sends_nothing() {
    let server = FakeServer::start(willing).await;
    let transport = SmtpTransport::new(&format!("{}?tls=required", server.url), "desk.example.com").unwrap();
    let attempt = transport.send(&leased(|_| {})).await;
    assert_eq!(attempt.outcome, Outcome::Retry);
    assert!(attempt.detail.contains("STARTTLS is not supported"), "{}", attempt.detail);
    assert_eq!(server.commands(), ["EHLO desk.example.com"]);
}

#[tokio::test]
async fn a_user_logs_in_and_a_wrong_password_makes_the_mail_wait() {
    fn asking(line: &str) -> Option<&'static str> {
        match line {
            // base64 of NUL user@x NUL p:w
            "AUTH PLAIN AHVzZXJAeABwOnc=" => Some("235 welcome"),
            line if line.starts_with("AUTH") => Some("535 5.7.8 wrong"),
            line if line.starts_with("EHLO") => Some("250-mx\r\n250 AUTH PLAIN LOGIN"),
            line => willing(line),
        }
    }
    let server = FakeServer::start(asking).await;
    let with = |user: &str| SmtpTransport::new(&server.url.replace("//", &format!("//{user}@")), "").unwrap();
    assert_eq!(with("user%40x:p%3Aw").send(&leased(|_| {})).await.outcome, Outcome::Delivered);
    let attempt = with("user%40x:canary").send(&leased(|_| {})).await;
    assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Retry, Some(535)));
    assert!(!format!("{attempt:?}").contains("canary"));
}

#[test]
fn the_url_says_how_to_connect() {
    let of = |url: &str| SmtpTransport::new(url, "desk").unwrap();
    let way = |transport: &SmtpTransport| match transport.server.encryption {
        Encryption::None => "none",
        Encryption::Opportunistic(_) => "opportunistic",
        Encryption::Required(_) => "required",
        Encryption::Wrapped(_) => "wrapped",
    };
    for (url, host, port, tls) in [
        ("smtp://mail.example.org", "mail.example.org", 25, "opportunistic"),
        ("smtp://mail.example.org:2525/", "mail.example.org", 2525, "opportunistic"),
        ("smtp://mail.example.org?tls=required", "mail.example.org", 25, "required"),
        ("smtp://mail.example.org?tls=none", "mail.example.org", 25, "none"),
        ("smtps://mail.example.org", "mail.example.org", 465, "wrapped"),
        ("smtp://u:p@mail.example.org", "mail.example.org", 587, "required"),
        ("smtp://u:p@mail.example.org?tls=opportunistic", "mail.example.org", 587, "opportunistic"),
        ("smtp://u:p@127.0.0.1:2525", "127.0.0.1", 2525, "opportunistic"),
        ("smtp://[::1]:2525", "::1", 2525, "opportunistic"),
    ] {
        let transport = of(url);
        assert_eq!(
            (transport.server.host.as_str(), transport.server.port, way(&transport)),
            (host, port, tls),
            "{url}"
        );
    }
    for (url, words) in [
        ("mail.example.org", "smtp://host:port"),
        ("http://mail.example.org", "begins with http:"),
        ("smtp://", "host"),
        ("smtp://mail.example.org/path", "more than a host"),
        ("smtp://mail.example.org?tls=maybe", "tls=maybe"),
        ("smtps://mail.example.org?tls=none", "always encrypted"),
        ("smtp://mail.example.org?ssl=1", "\"ssl\""),
        ("smtp://canary@mail.example.org", "a user and a password"),
        ("smtp://:canary@mail.example.org", "a user and a password"),
    ] {
        let error = SmtpTransport::new(url, "desk").err().unwrap().to_string();
        assert!(
            error.starts_with("mail.smtp_url: ") && error.contains(words) && !error.contains("canary"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_says_whether_the_server_works_or_only_refuses_this_mail() {
    let table: [(Script, Health); 10] = [
        (willing, Health::Works),
        (|line| if line.is_empty() { Some("421 too busy") } else { willing(line) }, Health::Fails),
        (|line| if line.is_empty() { Some("554 go away") } else { willing(line) }, Health::Fails),
        (|line| if line.starts_with("MAIL") { Some("451 later") } else { willing(line) }, Health::Fails),
        (|line| if line.starts_with("MAIL") { Some("550 not you") } else { willing(line) }, Health::Works),
        (
            |line| if line.starts_with("RCPT") { Some("550 no such user") } else { willing(line) },
            Health::Works,
        ),
        (|line| if line.starts_with("RCPT") { Some("450 greylisted") } else { willing(line) }, Health::Works),
        (|line| if line.starts_with("RCPT") { Some("421 closing") } else { willing(line) }, Health::Fails),
        (|line| if line == "." { Some("552 too large") } else { willing(line) }, Health::Works),
        (|line| if line == "." { None } else { willing(line) }, Health::Fails),
    ];
    for (n, (script, health)) in table.into_iter().enumerate() {
        let attempt = FakeServer::start(script).await.transport().send(&leased(|_| {})).await;
        assert_eq!(attempt.health, health, "script {n}: {attempt:?}");
    }
}

/// A server whose last words for the message are these bytes, after which it closes the connection.
async fn last_words(words: &'static [u8]) -> Attempt {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}?tls=none", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        socket.write_all(b"220 x\r\n").await.unwrap();
        let (mut line, mut is_message) = (String::new(), false);
        while socket.read_line(&mut line).await.unwrap_or(0) > 0 {
            let answer: &[u8] = match (is_message, line.as_str()) {
                (true, ".\r\n") => words,
                (true, _) => b"",
                (false, "DATA\r\n") => b"354\r\n",
                (false, _) => b"250\r\n",
            };
            is_message |= line == "DATA\r\n";
            socket.write_all(answer).await.unwrap();
            if line == ".\r\n" {
                return;
            }
            line.clear();
        }
    });
    SmtpTransport::new(&url, "").unwrap().send(&leased(|_| {})).await
}

#[tokio::test]
async fn a_message_that_the_server_took_is_taken_however_its_answer_ends() {
    for words in
        [&b"250"[..], b"250\n", b"250 ok\n", b"250-ok\r\n", b"250-ok\r\n250-and\r\n", b"250 \xc4\xe3\xba\xc3"]
    {
        let attempt = last_words(words).await;
        assert_eq!((attempt.outcome, attempt.status_code), (Outcome::Delivered, Some(250)), "{words:?}");
    }
    for words in [&b""[..], b"\r\n", b"25", b"ok\r\n", b"354\r\n"] {
        assert_eq!(last_words(words).await.outcome, Outcome::Retry, "{words:?}");
    }
}
