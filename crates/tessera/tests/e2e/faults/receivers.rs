//! Receivers of webhooks that misbehave in every way: each delivery has the right outcome, and none delays another.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::Row as _;

use super::rounds;
use crate::load::{Load, STEADY};
use crate::mail::MailServer;
use crate::receiver::{Manner, Receiver};
use crate::sidecar::By;
use crate::support::{SOON, Server, eventually};

/// A receiver that misbehaves once.
struct Bad {
    name: &'static str,
    receiver: Receiver,
    /// The beginning of the recorded detail of the first attempt.
    told: &'static str,
    /// Whether another attempt follows, which is accepted.
    again: bool,
}

/// Maximum memory use of the server in KiB: the response of 100 MB must not be kept.
const MEMORY: u64 = 400 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_bad_receivers_have_the_right_outcome_and_delay_no_others() {
    bad_receivers(By::Workers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_bad_receivers_have_the_right_outcome_if_a_connector_delivers() {
    bad_receivers(By::Connectors).await;
}

async fn bad_receivers(by: By) {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let (mut server, _sidecars) = by.desk(&mail).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    let elsewhere = Receiver::start().await;
    let mut turns = 0;
    for round in rounds((1, 2)) {
        turn(&server, &load, &receiver, &elsewhere, round).await;
        turns += 1;
    }
    let ledger = load.finish().await;
    ledger.was_always_answered();
    let peak = peak_memory(&server);
    assert!(peak < MEMORY, "{peak} KiB");
    let fault = format!("12 kinds of bad receivers, {by:?} ({turns} times), {peak} KiB at most");
    ledger.holds(&fault, &mut server, &receiver, &mail).await;
}

async fn turn(server: &Server, load: &Load, good: &Receiver, elsewhere: &Receiver, round: usize) {
    let mut all = receivers(elsewhere).await;
    // Each round has its own queue, so that its ticket reaches only its own receivers.
    let queue = format!("Bad {round}");
    server.done("POST", "/api/queues", &json!({"name": queue, "lifecycle": "default"})).await;
    for bad in &all {
        let scrip = json!({"name": format!("{} {round}", bad.name), "queue": queue, "condition_type": "OnCreate",
            "action_type": "Webhook", "action_config": {"url": format!("{}/bad", bad.receiver.url), "body": "{\"a\": 1}"}});
        server.done("POST", "/api/scrips", &scrip).await;
    }
    let ticket = json!({"queue": queue, "subject": "To all who cannot receive"});
    let made = server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone();

    // Some receivers do not respond now, and other webhooks are still sent.
    let silent = all.iter().find(|bad| bad.name == "stall").unwrap();
    eventually("one is silent", SOON, async || (silent.receiver.stalled() > 0).then_some(())).await;
    let before = good.count("/load");
    load.goes_on(40).await;
    eventually("others are delivered", SOON, async || (good.count("/load") >= before + 10).then_some(()))
        .await;
    assert_eq!(outcomes(server, &made).await.get(&silent.receiver.url), None, "it is still silent");

    let ended = eventually("every first attempt has ended", SOON, async || {
        Some(outcomes(server, &made).await).filter(|outcomes| outcomes.len() == all.len())
    });
    let ended = ended.await;
    for bad in &mut all {
        let told = &ended[&bad.receiver.url];
        assert!(told.starts_with(bad.told), "{}: {told}", bad.name);
        if bad.name == "refuse" {
            bad.receiver.open();
        }
    }
    server.time_passes().await;
    eventually("every other attempt is made", SOON, async || {
        all.iter()
            .filter(|bad| bad.again)
            .all(|bad| bad.receiver.count("/bad") > usize::from(bad.name != "refuse"))
            .then_some(())
    })
    .await;
    server.delivered_of(&made, SOON).await;
    each_ended_as_it_should(server, &made, &all).await;
    assert_eq!(elsewhere.seen().len(), 0, "a redirect was followed");
}

/// Returns one of each kind. `elsewhere` is the target of a redirect.
async fn receivers(elsewhere: &Receiver) -> Vec<Bad> {
    let redirect = format!("307 Temporary Redirect\r\nlocation: {}/latest/meta-data", elsewhere.url);
    let metadata = "301 Moved Permanently\r\nlocation: http://169.254.169.254/latest/meta-data";
    let manners = [
        ("reset", Manner::Reset, "the request failed", true),
        ("stall", Manner::Stall, "no answer within", true),
        ("drip", Manner::Drip, "500 ", true),
        ("flood", Manner::Flood, "500 ", true),
        ("metadata", Manner::answer(metadata), "301 ", true),
        ("redirect", Manner::answer(&redirect), "307 ", true),
        ("rubbish", Manner::Say("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), "the request failed", true),
        ("half", Manner::Say("HTTP/1.1 500 Oh\r\ncontent-length: 100\r\n\r\nhalf".to_owned()), "500 ", true),
        ("gone", Manner::answer("410 Gone"), "410 ", false),
        ("slow down", Manner::answer("429 Too Many Requests\r\nretry-after: 3600"), "429 ", true),
        ("broken", Manner::answer("500 Internal Server Error"), "500 ", true),
    ];
    let mut all =
        vec![Bad { name: "refuse", receiver: Receiver::closed(), told: "could not connect", again: true }];
    for (name, manner, told, again) in manners {
        let receiver = Receiver::start().await;
        receiver.behave("/bad", manner, 1);
        all.push(Bad { name, receiver, told, again });
    }
    all
}

/// Returns the recorded details of the finished first attempts of a ticket's webhooks, by endpoint.
async fn outcomes(server: &Server, ticket: &Value) -> BTreeMap<String, String> {
    let facts = "SELECT d.endpoint, a.detail FROM deliveries d JOIN tickets t ON t.id = d.ticket_id \
                 JOIN delivery_attempts a ON a.delivery_id = d.id AND a.attempt = 1 \
                 WHERE t.number = $1 AND a.finished_at IS NOT NULL";
    let rows = sqlx::query(facts).bind(ticket.as_i64().unwrap());
    let rows = rows.fetch_all(&mut server.connection().await).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Checks each final outcome: two requests with one id and the same bytes at the receiver, or one if that was final.
async fn each_ended_as_it_should(server: &Server, ticket: &Value, all: &[Bad]) {
    let deliveries = server.deliveries(&format!("/api/tickets/{ticket}/deliveries")).await;
    let history = server.history(ticket).await;
    for bad in all {
        let is_its = |one: &&Value| one["url"] == format!("{}/bad", bad.receiver.url);
        let delivery = deliveries.iter().find(is_its).unwrap();
        let (state, record) =
            if bad.again { ("completed", "WebhookDelivery") } else { ("discarded", "DeliveryFailed") };
        assert_eq!(delivery["state"], state, "{}: {delivery:#}", bad.name);
        // A receiver that refuses connections may have been tried twice by then.
        let attempts = delivery["attempts"].as_u64().unwrap() as usize;
        let least = 1 + usize::from(bad.again);
        assert!(
            (least..=least + usize::from(bad.name == "refuse")).contains(&attempts),
            "{}: {delivery:#}",
            bad.name
        );
        let records: Vec<_> =
            history.iter().filter(|line| line["data"]["delivery"] == delivery["id"]).collect();
        assert_eq!(records.len(), 1, "{}: {records:#?}", bad.name);
        assert_eq!(records[0]["transaction_type"], record, "{}", bad.name);
        let seen = bad.receiver.seen();
        assert_eq!(seen.len(), 1 + usize::from(bad.again && bad.name != "refuse"), "{}", bad.name);
        for request in seen {
            assert_eq!(request.id(), delivery["id"].as_str().unwrap());
            assert_eq!(request.body, "{\"a\": 1}");
        }
    }
}

/// Returns the peak memory use of the process in KiB.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
