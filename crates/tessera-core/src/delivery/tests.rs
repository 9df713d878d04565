//! Scenarios in which the workers in the binary and the connectors in Go must behave the same: both run the same tables. The Go
//! side is in `integrations/internal/scenarios`.

use super::guard::Guard;
use super::smtp::SmtpTransport;
use super::webhook::{Secrets, WebhookTransport};
use super::{Attempt, Leased};
use crate::models::delivery::{Delivery, Email, HeaderValue, Payload, Webhook};
use crate::models::secret::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const SMTP: &str = include_str!("../../../../integrations/testdata/smtp.json");
const WEBHOOK: &str = include_str!("../../../../integrations/testdata/webhook.json");

/// The expected attempt. A text that ends in `*` is a prefix; the rest comes from an operating system or a library.
#[derive(Deserialize)]
struct Expected {
    outcome: String,
    status: i32,
    health: String,
    wait: u64,
    detail: String,
}

impl Expected {
    /// Compares the attempt, after replacing the placeholders in braces.
    fn check(&self, name: &str, attempt: &Attempt, fill: &[(&str, &str)]) {
        let got = (
            attempt.outcome.as_str(),
            attempt.status_code.unwrap_or(0),
            attempt.health.as_str(),
            attempt.wait.as_secs(),
        );
        let wanted = (self.outcome.as_str(), self.status, self.health.as_str(), self.wait);
        assert_eq!(got, wanted, "{name}: {attempt:?}");
        assert!(is_like(&attempt.detail, &self.detail, fill), "{name}: {}", attempt.detail);
    }
}

fn is_like(text: &str, pattern: &str, fill: &[(&str, &str)]) -> bool {
    let pattern = fill.iter().fold(pattern.to_owned(), |pattern, (key, value)| pattern.replace(key, value));
    match pattern.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => text == pattern,
    }
}

/// Each character is one byte, so that answers can be no UTF-8.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

fn leased(payload: Payload) -> Leased {
    let delivery = Delivery {
        id: Uuid::from_u128(7).into(),
        ticket: Uuid::nil().into(),
        transaction: Uuid::nil().into(),
        scrip_version: Uuid::nil().into(),
        payload,
        created_at: time::macros::datetime!(2026-11-23 12:00 UTC),
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

#[derive(Deserialize)]
struct Mail {
    name: String,
    /// The server's replies by prefix of the command; `None` closes the connection.
    answers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    query: String,
    to: Option<Vec<String>>,
    #[serde(flatten)]
    expected: Expected,
    recipients: Vec<(String, String, String)>,
    commands: Option<Vec<String>>,
}

impl Mail {
    /// Returns the reply to a line: that of the longest prefix in the table, or else the reply of a server that accepts everything.
    fn answer(&self, line: &str) -> Option<Vec<u8>> {
        let is_named = |key: &str| line == key || !matches!(key, "" | ".") && line.starts_with(key);
        let named = self.answers.iter().filter(|(key, _)| is_named(key)).max_by_key(|(key, _)| key.len());
        let answer = match (named, line.get(..4).unwrap_or(line)) {
            (Some((_, answer)), _) => answer.as_deref()?,
            (None, "") => "220 mx.example.org ESMTP",
            (None, "EHLO") => "250-mx.example.org\r\n250 8BITMIME",
            (None, "DATA") => "354 go on",
            (None, ".") => "250 2.0.0 queued as 42",
            (None, _) => "250 ok",
        };
        Some([bytes(answer), b"\r\n".to_vec()].concat())
    }

    async fn serve(&self, socket: TcpStream, heard: &Mutex<Vec<String>>) {
        let mut socket = BufReader::new(socket);
        let mut next = self.answer("");
        while let Some(answer) = next {
            if socket.write_all(&answer).await.is_err() {
                return;
            }
            let is_message = answer.starts_with(b"354");
            let mut line = String::new();
            loop {
                line.clear();
                if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if !is_message || line.trim_end() == "." {
                    break;
                }
            }
            if !is_message {
                heard.lock().unwrap().push(line.trim_end().to_owned());
            }
            next = self.answer(line.trim_end());
        }
    }
}

#[tokio::test]
async fn a_mail_comes_to_what_the_table_says() {
    let table: Vec<Mail> = serde_json::from_str(SMTP).unwrap();
    assert!(table.len() > 40);
    for scenario in table.into_iter().map(Arc::new) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (script, ear) = (Arc::clone(&scenario), Arc::clone(&heard));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                script.serve(socket, &ear).await;
            }
        });
        let url = format!("smtp://{}{server}{}", scenario.user, scenario.query);
        let to = scenario.to.clone();
        let attempt = SmtpTransport::new(&url, "desk.example.com")
            .unwrap()
            .send(&leased(Payload::Email(Email {
                from: "help@example.com".into(),
                to: to.unwrap_or_else(|| {
                    ["a@example.org", "b@example.org", "c@example.org"].map(str::to_owned).into()
                }),
                cc: Vec::new(),
                bcc: Vec::new(),
                subject: "[tessera #7] It works".into(),
                headers: BTreeMap::new(),
                text: "Hello".into(),
                html: None,
                recipients: Vec::new(),
                as_comment: false,
            })))
            .await;
        let (name, fill) = (&scenario.name, [("{server}", server.as_str())]);
        scenario.expected.check(name, &attempt, &fill);
        let is_alike = attempt.recipients.len() == scenario.recipients.len()
            && attempt.recipients.iter().zip(&scenario.recipients).all(
                |(got, (address, outcome, answer))| {
                    got.address == *address
                        && got.outcome.as_str() == outcome
                        && is_like(&got.answer, answer, &fill)
                },
            );
        assert!(is_alike, "{name}: {:?}", attempt.recipients);
        if let Some(commands) = &scenario.commands {
            assert_eq!(*heard.lock().unwrap(), *commands, "{name}");
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Secret { secret: String },
}

#[derive(Deserialize)]
struct Hook {
    name: String,
    /// The receiver's response; `None` if the receiver must not be contacted.
    answer: Option<String>,
    /// The complete URL; otherwise `target` at the receiver.
    url: Option<String>,
    #[serde(default)]
    target: String,
    method: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Value)>,
    secret: Option<String>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(flatten)]
    expected: Expected,
    response: String,
    /// Lines that the receiver must have heard, and the first of all.
    #[serde(default)]
    heard: Vec<String>,
    line: Option<String>,
}

impl Hook {
    fn webhook(&self, server: &str) -> Webhook {
        let header = |(name, value): &(String, Value)| {
            let value = match value {
                Value::Text(text) => HeaderValue::Text(text.clone()),
                Value::Secret { secret } => HeaderValue::Secret { secret: secret.clone() },
            };
            (name.clone(), value)
        };
        Webhook {
            method: self.method.clone().unwrap_or_else(|| "POST".into()),
            url: self.url.clone().unwrap_or_else(|| format!("http://{server}{}", self.target)),
            headers: self.headers.iter().map(header).collect(),
            body: "{\"ticket\":1,\"subject\":\"ü\"}".into(),
            secret: self.secret.clone(),
        }
    }
}

/// Reads a request with its body, answers, and gives what it heard: its lines with the names of headers in small letters.
async fn receive(listener: TcpListener, answer: Vec<u8>) -> Vec<String> {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"}") || !got.windows(4).any(|end| end == b"\r\n\r\n") {
        if socket.read_buf(&mut got).await.unwrap_or(0) == 0 {
            break;
        }
    }
    let _ = socket.write_all(&answer).await;
    let _ = socket.shutdown().await;
    let text = String::from_utf8_lossy(&got).into_owned();
    let line = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn a_webhook_comes_to_what_the_table_says() {
    let table: Vec<Hook> = serde_json::from_str(WEBHOOK).unwrap();
    assert!(table.len() > 60);
    for scenario in table {
        let name = &scenario.name;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let receiver = match &scenario.answer {
            Some(answer) => Some(tokio::spawn(receive(listener, bytes(answer)))),
            // Nobody listens where nobody is to be asked.
            None => {
                drop(listener);
                None
            }
        };
        let transport = WebhookTransport::new(Guard::new(vec!["127.0.0.0/8".parse().unwrap()])).unwrap();
        let leased = leased(Payload::Webhook(scenario.webhook(&server)));
        let secrets: Secrets = scenario
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), Secret::new(value.as_str())))
            .collect();
        let attempt = transport.send(&leased, &secrets, leased.delivery.created_at).await;
        let fill = [("{allow}", "webhook.allow (TESSERA_WEBHOOK__ALLOW)")];
        scenario.expected.check(name, &attempt, &fill);
        assert_eq!(attempt.response.unwrap_or_default(), scenario.response, "{name}");
        let Some(receiver) = receiver else { continue };
        let heard = receiver.await.unwrap();
        if let Some(line) = &scenario.line {
            assert_eq!(heard.first(), Some(line), "{name}");
        }
        for wanted in &scenario.heard {
            assert!(heard.iter().any(|line| is_like(line, wanted, &[])), "{name}: {wanted} in {heard:?}");
        }
    }
}
