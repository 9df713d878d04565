//! kill -9 of connectors and of the server, at random during 5,000 deliveries; a connector that dies with leases; and two that
//! share the deliveries.

use std::time::Instant;

use serde_json::json;
use sqlx::Row as _;

use super::{Random, rounds};
use crate::load::{Load, Size};
use crate::mail::MailServer;
use crate::receiver::{Manner, Receiver};
use crate::sidecar::{By, Sidecar};
use crate::support::{SOON, Server, eventually};
use std::time::Duration;

/// Deliveries that are sent while processes are killed.
const DELIVERIES: usize = 5_000;
/// Duration of a lease.
const LEASE: Duration = Duration::from_secs(30);
/// Time after the end of its lease until which a delivery must be repeated.
const SLACK: Duration = Duration::from_secs(5);
/// Clients that send requests as fast as possible.
const FAST: Size = Size { clients: 12, pace: Duration::ZERO, apart: false };
/// Minimum number of kills, in the short and in the long form.
const KILLS: (usize, usize) = (12, 100);

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_deliveries_arrive_and_are_recorded_once_while_connectors_and_the_server_are_killed() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let (mut server, mut sidecars) = By::Connectors.desk(&mail).await;
    sidecars.push(Sidecar::email(&server, "email-2", &mail));
    sidecars.push(Sidecar::webhook(&server, "webhook-2"));
    let load = Load::begin(&[&server], &receiver, FAST).await;
    let mut random = Random::new();
    for _ in rounds(KILLS) {
        load.goes_on(100 + random.below(300)).await;
        match random.below(sidecars.len() + 1) {
            of if of < sidecars.len() => {
                sidecars[of].kill9();
                load.goes_on(random.below(50)).await;
                sidecars[of].begin();
            }
            _ => {
                server.kill9();
                server.restart().await;
            }
        }
    }
    eventually("the deliveries exist", SOON * 4, async || {
        (deliveries(&server).await >= DELIVERIES).then_some(())
    })
    .await;
    let ledger = load.finish().await;
    server.delivered(LEASE + SOON).await;
    let late = latest_again(&server).await;
    // A lease may have been extended once before its connector was killed, and the server may have been down when it expired.
    assert!(late <= LEASE * 2 + SLACK, "repeated {late:?} after it was leased");
    for sidecar in &mut sidecars {
        sidecar.stop().await;
    }
    ledger.holds("kill -9 of connectors and the server at random", &mut server, &receiver, &mail).await;
}

async fn deliveries(server: &Server) -> usize {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM deliveries")
        .fetch_one(&mut server.connection().await)
        .await
        .unwrap();
    usize::try_from(count).unwrap()
}

/// Returns the longest time from a lease that was lost without an extension to the next lease of the same delivery.
async fn latest_again(server: &Server) -> Duration {
    let facts = "SELECT coalesce(max(extract(epoch FROM next.started_at - lost.started_at)), 0)::float8
                 FROM delivery_attempts lost
                 CROSS JOIN LATERAL (SELECT started_at FROM delivery_attempts n
                                     WHERE n.delivery_id = lost.delivery_id AND n.lease_token > lost.lease_token
                                     ORDER BY n.lease_token LIMIT 1) next
                 WHERE lost.finished_at IS NULL AND lost.given_back_at IS NULL";
    let row = sqlx::query(facts).fetch_one(&mut server.connection().await).await.unwrap();
    Duration::from_secs_f64(row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_killed_connector_go_to_another_after_they_expire() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let (mut server, mut sidecars) = By::Connectors.desk(&mail).await;
    receiver.behave("/held", Manner::Stall, 1);
    let scrip = json!({"name": "Held", "condition_type": "OnCreate", "action_type": "Webhook",
        "action_config": {"url": format!("{}/held", receiver.url), "body": "{}"}});
    server.done("POST", "/api/scrips", &scrip).await;
    let ticket = json!({"queue": "General", "subject": "Of a connector that dies"});
    let made = server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone();
    eventually("the receiver has it", SOON, async || (receiver.stalled() > 0).then_some(())).await;
    let other = Sidecar::webhook(&server, "webhook-2");
    sidecars[1].kill9();
    let killed = Instant::now();
    server.delivered_of(&made, SOON).await;
    let took = killed.elapsed();
    assert!(took <= LEASE + SLACK, "repeated after {took:?}");
    let delivery = server.list(&format!("/api/tickets/{made}/deliveries")).await.remove(0);
    let whole = server.read(&format!("/api/deliveries/{}", delivery["id"].as_str().unwrap())).await;
    let by: Vec<_> =
        whole["attempts_made"].as_array().unwrap().iter().map(|one| one["connector"].clone()).collect();
    assert_eq!(by, ["webhook-2", "webhook"], "{whole:#}");
    drop(other);
    server.stop().await;
    server.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_connector_delays_only_the_deliveries_that_it_has_leased() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let (mut server, mut sidecars) = By::Connectors.desk(&mail).await;
    sidecars.push(Sidecar::webhook(&server, "webhook-2"));
    let scrip = json!({"name": "Fast", "condition_type": "OnCreate", "action_type": "Webhook",
        "action_config": {"url": format!("{}/fast", receiver.url), "body": "{}"}});
    server.done("POST", "/api/scrips", &scrip).await;
    sidecars[1].freeze();
    for _ in 0..60 {
        server
            .done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Of one that hangs"}))
            .await;
    }
    // The frozen one had requested a lease before, and got at most its share of the endpoint.
    eventually("the other one continues", SOON, async || (receiver.count("/fast") >= 52).then_some(())).await;
    let running = "SELECT count(*) FROM delivery_queue WHERE lease_token IS NOT NULL";
    eventually("no more than its share is left", SOON, async || {
        let running: i64 =
            sqlx::query_scalar(running).fetch_one(&mut server.connection().await).await.unwrap();
        (running <= 8).then_some(())
    })
    .await;
    server.delivered(LEASE + SOON).await;
    sidecars[1].thaw();
    server.stop().await;
    server.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connectors_share_the_deliveries_and_one_that_stops_returns_its_leases() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let (mut server, mut sidecars) = By::Connectors.desk(&mail).await;
    sidecars.push(Sidecar::webhook(&server, "webhook-2"));
    receiver.behave("/wait", Manner::Wait, usize::MAX);
    let scrip = json!({"name": "Wait", "condition_type": "OnCreate", "action_type": "Webhook",
        "action_config": {"url": format!("{}/wait", receiver.url), "body": "{}"}});
    server.done("POST", "/api/scrips", &scrip).await;
    // Each sends at most eight at a time to one endpoint.
    for _ in 0..20 {
        server.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Of two"})).await;
    }
    eventually("both are full", SOON, async || (receiver.stalled() >= 16).then_some(())).await;
    let running = "SELECT c.name, count(*) FROM delivery_queue q
                   JOIN delivery_attempts a ON a.delivery_id = q.delivery_id AND a.lease_token = q.lease_token
                   JOIN connectors c ON c.id = a.connector_id GROUP BY c.name ORDER BY c.name";
    let rows = sqlx::query(running).fetch_all(&mut server.connection().await).await.unwrap();
    let share: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(share, [("webhook".to_owned(), 8), ("webhook-2".to_owned(), 8)]);

    sidecars[1].stop().await;
    receiver.let_go();
    server.delivered(SOON).await;
    let attempts = "SELECT max(attempt) FROM delivery_attempts";
    let most: i32 = sqlx::query_scalar(attempts).fetch_one(&mut server.connection().await).await.unwrap();
    assert_eq!(most, 1, "a returned lease does not count as an attempt");
    server.stop().await;
    server.check();
}
