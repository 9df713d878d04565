//! kill -9, of the server and of its PostgreSQL, in the middle of a load with deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::{Api, SOON, Server, eventually};

/// Updates in all.
const UPDATES: usize = 2_000;
/// Clients that send them at the same time.
const CLIENTS: usize = 16;
/// Tickets that they are spread over.
const TICKETS: usize = 50;
/// Where the random points of the kills begin. Another number is another test.
const SEED: u64 = 0x7e55_e1a5;
/// How long the deliveries of a killed server may take: its leases run out first.
const DELIVERED: Duration = Duration::from_secs(180);

/// What was acknowledged: the driver's own book, which no kill can reach.
type Ledger = Mutex<BTreeSet<usize>>;

/// The death signal, which PostgreSQL takes for an order to stop.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_killed_server_takes_its_postgresql_with_it_in_order() {
    let mut server = Server::start(&[]).await;
    let first = server.postmaster();
    server.kill9();
    // The next start need not wait for the other's end: it does so itself.
    server.restart().await;
    assert_ne!(server.postmaster(), first);
    let log = server.postgres_log();
    assert!(
        log.contains("received fast shutdown request") && log.contains("database system is shut down"),
        "{log}"
    );
    assert!(!log.contains("was not properly shut down"), "{log}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let tickets = build(&server, &receiver).await;

    let ledger = Ledger::default();
    let (next, api) = (AtomicUsize::new(0), server.client());
    let clients = join_all((0..CLIENTS).map(|_| client(&api, &tickets, &next, &ledger)));
    tokio::join!(clients, disturb(&mut server, &ledger));
    assert_eq!(ledger.lock().unwrap().len(), UPDATES);

    server.delivered(DELIVERED).await;
    let histories = join_all(tickets.iter().map(|ticket| server.history(ticket))).await;
    every_change_is_there_once(&histories, &ledger.into_inner().unwrap());
    let deliveries = server.list("/api/deliveries").await;
    every_delivery_arrived_and_is_recorded_once(&deliveries, &histories, &receiver, &mail);
    server.stop().await;
    server.check();
}

/// Scrips that make a webhook of a change of priority, and a mail of a comment; and the tickets.
async fn build(server: &Server, receiver: &Receiver) -> Vec<Value> {
    let webhook = json!({"name": "Tell the hook", "condition_type": "OnPriorityChange", "action_type": "Webhook",
        "action_config": {"url": format!("{}/{{{{ ticket.number }}}}", receiver.url),
            "body": "{\"priority\": {{ transaction.new_value }}, \"at\": \"{{ now }}\"}"}});
    let mail = json!({"name": "Tell the team", "condition_type": "OnComment", "action_type": "SendEmail",
        "action_config": {"to": ["team@example.net"]}, "template": "Transaction"});
    for scrip in [webhook, mail] {
        server.done("POST", "/api/scrips", &scrip).await;
    }
    let mut tickets = Vec::new();
    for number in 1..=TICKETS {
        let ticket = json!({"queue": "General", "subject": format!("Ticket {number}")});
        tickets.push(server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone());
    }
    tickets
}

/// The body of an update. Each can be told from all others by its subject; every tenth makes a mail, every other a webhook.
fn update(number: usize) -> Value {
    let subject = format!("change {number}");
    match number {
        mail if mail % 10 == 0 => json!({"subject": subject, "comment": "Look at this."}),
        webhook if webhook % 2 == 1 => json!({"subject": subject, "priority": number}),
        _ => json!({"subject": subject}),
    }
}

/// Sends updates until none is left, each again and again until it is acknowledged.
async fn client(api: &Api, tickets: &[Value], next: &AtomicUsize, ledger: &Ledger) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= UPDATES {
            return;
        }
        let (path, body) = (format!("/api/tickets/{}", tickets[number % TICKETS]), update(number));
        let key = format!("update-{number}");
        eventually("an update is acknowledged", SOON, async || {
            match api.try_api("PATCH", &path, &body, &[("Idempotency-Key", &key)]).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => None,
                Ok(answer) => {
                    assert_eq!(answer.status, StatusCode::OK, "{path} {body}: {:#}", answer.body);
                    Some(())
                }
                // Nobody listens, or the server died before it had answered.
                Err(_) => None,
            }
        })
        .await;
        ledger.lock().unwrap().insert(number);
    }
}

/// Kills the server three times and PostgreSQL once, at points that lie at random between known bounds.
async fn disturb(server: &mut Server, ledger: &Ledger) {
    let mut random = SEED;
    for (turn, is_server) in [true, true, false, true].into_iter().enumerate() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = usize::try_from(random >> 33).unwrap() % (UPDATES / 5);
        let point = UPDATES / 10 + turn * UPDATES / 5 + share;
        eventually("the load goes on", SOON, async || (ledger.lock().unwrap().len() >= point).then_some(()))
            .await;
        if is_server {
            server.kill9();
            server.restart().await;
        } else {
            let killed = server.postmaster().expect("a PostgreSQL that runs");
            kill(killed, Signal::SIGKILL).unwrap();
            eventually("PostgreSQL is started again", SOON, async || {
                server.postmaster().filter(|postmaster| *postmaster != killed)
            })
            .await;
        }
    }
}

/// I1, and once: a retry of what was written before a kill was recognised by its key.
fn every_change_is_there_once(histories: &[Vec<Value>], ledger: &BTreeSet<usize>) {
    let mut written = BTreeMap::new();
    for line in histories.iter().flatten() {
        let number = line["new_value"].as_str().and_then(|value| value.strip_prefix("change "));
        if let Some(number) = number {
            *written.entry(number.parse().unwrap()).or_insert(0) += 1;
        }
    }
    assert_eq!(written.keys().copied().collect::<BTreeSet<usize>>(), *ledger);
    let twice: Vec<_> = written.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "written more than once: {twice:?}");
}

/// At least once at the receiver, with the same bytes at each attempt; exactly once in the history.
fn every_delivery_arrived_and_is_recorded_once(
    deliveries: &[Value],
    histories: &[Vec<Value>],
    receiver: &Receiver,
    mail: &MailServer,
) {
    let mut records: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in histories.iter().flatten() {
        if let Some(delivery) = line["data"]["delivery"].as_str() {
            records.entry(delivery).or_default().push(line["transaction_type"].as_str().unwrap());
        }
    }
    let bodies = receiver.bodies();
    let mails: BTreeSet<String> = mail.taken().iter().map(|taken| format!("<{}>", taken.id())).collect();
    let (mut webhooks_made, mut mails_made) = (0, 0);
    for delivery in deliveries {
        let id = delivery["id"].as_str().unwrap();
        assert_eq!(delivery["state"], "completed", "{delivery:#}");
        let recorded = records.remove(id).unwrap_or_default();
        if delivery["kind"] == "webhook" {
            webhooks_made += 1;
            let [first, others @ ..] = bodies.get(id).map_or(&[][..], Vec::as_slice) else {
                panic!("{delivery:#} never arrived");
            };
            assert!(others.iter().all(|other| other == first), "{id}: {first:?} {others:?}");
            assert_eq!(delivery["body"].as_str().unwrap().as_bytes(), first);
            assert_eq!(recorded, ["WebhookDelivery"], "{delivery:#}");
        } else {
            mails_made += 1;
            assert!(mails.contains(delivery["headers"]["Message-ID"].as_str().unwrap()), "{delivery:#}");
            assert_eq!(recorded, ["EmailRecord"], "{delivery:#}");
        }
    }
    assert_eq!(
        (webhooks_made, mails_made),
        (UPDATES / 2, UPDATES / 10),
        "one for each change that asks for it"
    );
    assert_eq!(
        (bodies.len(), mails.len()),
        (webhooks_made, mails_made),
        "nothing came that was not committed"
    );
    assert!(records.is_empty(), "outcomes of no delivery: {records:?}");
}
