//! For the benchmark (scripts/bench): measures leasing and settling deliveries, and sending webhooks, each on its own.
//!
//! `settle URL COUNT` leases and settles deliveries from the queue of a database without sending them. `send PORT COUNT` sends
//! webhooks without a database. Both print the number per second. `sink` accepts webhooks on a port that it prints.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tessera_core::db::deliveries::{self, Holder, Room, Settlement};
use tessera_core::db::{PoolSizes, Pools};
use tessera_core::delivery::guard::Guard;
use tessera_core::delivery::webhook::WebhookTransport;
use tessera_core::desk::clock;
use tessera_core::models::Delivery;
use tessera_core::models::delivery::{
    Attempt, AttemptOutcome as Outcome, DeliveryKind, Leased, Payload, Webhook,
};
use tessera_core::models::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The number of attempts per batch and per lease, as for the workers.
const BATCH: usize = 64;
const LEASE: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["settle", url, count] => settle(url, count.parse()?).await,
        ["send", port, count] => send(port.parse()?, count.parse()?).await,
        ["sink"] => sink().await,
        _ => Err("usage: settle URL COUNT | send PORT COUNT | sink".into()),
    }
}

fn print_rate(count: usize, begun: Instant) {
    println!("{:.1}", count as f64 / begun.elapsed().as_secs_f64());
}

/// Leases and settles concurrently, as the workers do, until `count` deliveries are settled.
async fn settle(url: &str, count: usize) -> Result<()> {
    let pool = Pools::new(&url.parse()?, PoolSizes::DEFAULT).write;
    let (leased, mut unsettled) = mpsc::channel::<Vec<Leased>>(2);
    let room = Room {
        kinds: vec![(DeliveryKind::Email, BATCH as i64)],
        per_endpoint: vec![(DeliveryKind::Email, BATCH as i64)],
        running: Vec::new(),
    };
    let leasing = pool.clone();
    let begun = Instant::now();
    tokio::spawn(async move {
        while let Ok(batch) = deliveries::lease(&leasing, Holder::Worker, &room, LEASE).await {
            if batch.is_empty() || leased.send(batch).await.is_err() {
                break;
            }
        }
    });
    let mut settled = 0;
    while settled < count {
        let batch = unsettled.recv().await.ok_or("the queue has fewer deliveries than COUNT")?;
        let mut ids = clock::ids();
        let delivered = |leased| Settlement {
            leased: Arc::new(leased),
            attempt: Attempt::new(Outcome::Delivered, "nothing was sent").with_status(250),
            again: None,
            transaction: ids.draw(),
        };
        let batch: Vec<_> = batch.into_iter().map(delivered).collect();
        deliveries::settle(&pool, &batch).await?;
        settled += batch.len();
    }
    print_rate(settled, begun);
    Ok(())
}

/// Sends signed webhooks to eight addresses of this machine, eight at a time to each, as the workers do.
async fn send(port: u16, count: usize) -> Result<()> {
    let transport = Arc::new(WebhookTransport::new(Guard::new(vec!["127.0.0.0/8".parse()?]))?);
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let secrets = Arc::new(BTreeMap::from([("signing".to_owned(), secret)]));
    let begun = Instant::now();
    let sender = |place: usize| {
        let (transport, secrets) = (Arc::clone(&transport), Arc::clone(&secrets));
        tokio::spawn(async move {
            for _ in (place..count).step_by(BATCH) {
                let leased = webhook(format!("http://127.0.0.{}:{port}/hooks/1", 1 + place % 8));
                let attempt = transport.send(&leased, &secrets, clock::now()).await;
                if attempt.outcome != Outcome::Delivered {
                    return Err(attempt.detail);
                }
            }
            Ok(())
        })
    };
    for sending in (0..BATCH).map(sender).collect::<Vec<_>>() {
        sending.await??;
    }
    print_rate(count, begun);
    Ok(())
}

fn webhook(url: String) -> Leased {
    let mut ids = clock::ids();
    let body =
        r#"{"ticket": 4711, "subject": "The printer on the second floor is on fire again", "status": "new"}"#;
    let payload = Payload::Webhook(Webhook {
        method: "POST".to_owned(),
        url,
        headers: BTreeMap::new(),
        body: body.to_owned(),
        secret: Some("signing".to_owned()),
    });
    let delivery = Delivery {
        id: ids.draw(),
        ticket: ids.draw(),
        transaction: ids.draw(),
        scrip_version: ids.draw(),
        payload,
        created_at: clock::now(),
    };
    let endpoint = delivery.payload.endpoint();
    Leased { delivery, endpoint, attempt: 1, in_schedule: 1, token: 1, answered: Vec::new() }
}

async fn sink() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(answer(connection));
    }
}

/// Responds to each request of a connection with 204. The client sends the next request only after the response.
async fn answer(mut connection: TcpStream) -> Result<()> {
    let (mut seen, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = connection.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        seen.extend(chunk.iter().take(read));
        if is_whole(&seen) {
            connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            seen.clear();
        }
    }
}

fn is_whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
