//! Two nodes on one database: they share the deliveries, use the newest configuration, and lose no change.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use super::rounds;
use crate::load::{Load, STEADY};
use crate::mail::MailServer;
use crate::receiver::{Manner, Receiver};
use crate::support::{SOON, Server, eventually};

/// Webhooks that one node sends to one endpoint at a time.
const PER_ENDPOINT: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_lose_nothing_when_one_is_killed() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let mut node = server.node(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server, &node], &receiver, STEADY).await;
    let mut kills = 0;
    for _ in rounds((3, 20)) {
        load.edit().await;
        load.goes_on(20).await;
        node.kill9();
        load.goes_on(20).await;
        node.restart().await;
        kills += 1;
    }
    load.goes_on(20).await;
    let ledger = load.finish().await;
    server.time_passes().await;
    server.delivered(SOON).await;
    node.stop().await;
    ledger.holds(&format!("one of two nodes killed ({kills} times)"), &mut server, &receiver, &mail).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_deliveries_and_send_each_once() {
    let (mut server, mut node, receiver) = two_nodes().await;
    let number = ticket(&server).await;
    receiver.behave("/hook", Manner::Wait, 3 * PER_ENDPOINT);
    for priority in 1..=3 * PER_ENDPOINT {
        server.done("PATCH", &format!("/api/tickets/{number}"), &json!({"priority": priority})).await;
    }
    // More than one node may send at a time; and no delivery twice.
    eventually("both send", SOON, async || (receiver.stalled() == 2 * PER_ENDPOINT).then_some(())).await;
    let ids: BTreeSet<String> = receiver.seen().iter().map(crate::receiver::Received::id).collect();
    assert_eq!(ids.len(), 2 * PER_ENDPOINT);
    receiver.let_go();
    server.delivered(SOON).await;
    let bodies = receiver.bodies();
    assert_eq!(bodies.len(), 3 * PER_ENDPOINT);
    assert!(bodies.values().all(|attempts| attempts.len() == 1), "{bodies:?}");
    end(&mut server, &mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_on_one_node_takes_effect_on_the_other_immediately() {
    let (mut server, mut node, receiver) = two_nodes().await;
    let number = ticket(&server).await;
    let scrips = server.list("/api/scrips").await;
    let id = scrips.iter().find(|one| one["name"] == "Hook").unwrap()["id"].as_str().unwrap().to_owned();
    for edition in 1..=20 {
        let (one, other) = if edition % 2 == 0 { (&server, &node) } else { (&node, &server) };
        let body = format!("{{\"edition\": {edition}}}");
        let edit = json!({"action_config": {"url": format!("{}/hook", receiver.url), "body": body},
            "description": format!("Edition {edition}")});
        one.done("PATCH", &format!("/api/scrips/{id}"), &edit).await;
        // Immediately, not within a second.
        let change = json!({"priority": edition});
        let path = format!("/api/tickets/{number}");
        let preview = other.done("POST", &format!("{path}/preview"), &change).await;
        assert_eq!(preview["deliveries"][0]["body"], body, "{preview:#}");
        let listed = other.list("/api/scrips").await;
        let listed = listed.iter().find(|one| one["id"] == id.as_str()).unwrap();
        assert_eq!(listed["description"], format!("Edition {edition}"));
        let made = other.done("PATCH", &path, &change).await;
        assert_eq!(made["scrips_fired"].as_array().unwrap().len(), 1, "{made:#}");
        let made = other.deliveries(&format!("{path}/deliveries")).await;
        assert_eq!(made[0]["body"], body);
    }
    server.delivered(SOON).await;
    end(&mut server, &mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_ticket_through_two_nodes_are_all_written_once() {
    let (mut server, mut node, _receiver) = two_nodes().await;
    let number = ticket(&server).await;
    let path = format!("/api/tickets/{number}");
    // Each is sent twice at the same time under one key: one effect, one response.
    let changes = (0..40).map(|change| {
        let (path, body, key) =
            (&path, json!({"comment": format!("Comment {change}")}), format!("key-{change}"));
        let (server, node) = (server.client(), node.client());
        async move {
            let headers = [("Idempotency-Key", key.as_str())];
            let ask = async |api: &crate::support::Api| {
                eventually("a change gets a response", SOON, async || {
                    let answer = api.try_api("PATCH", path, &body, &headers).await.unwrap();
                    (answer.status != 503).then_some(answer)
                })
                .await
            };
            let (one, other) = tokio::join!(ask(&server), ask(&node));
            assert_eq!(
                (one.status.as_u16(), other.status.as_u16()),
                (200, 200),
                "{:#} {:#}",
                one.body,
                other.body
            );
            assert_eq!(one.body, other.body);
        }
    });
    join_all(changes).await;
    let history = server.history(&number).await;
    let comments = history.iter().filter(|one| one["transaction_type"] == "Comment").count();
    assert_eq!(comments, 40);
    let ticket = node.done("GET", &path, &Value::Null).await;
    assert_eq!(ticket["version"], history.iter().filter(|one| !one["seq"].is_null()).count());
    end(&mut server, &mut node).await;
}

/// Starts two nodes, with a scrip that reports changes of priority to the receiver.
async fn two_nodes() -> (Server, Server, Receiver) {
    let receiver = Receiver::start().await;
    let server = Server::start(&[]).await;
    let node = server.node(&[]).await;
    let hook = json!({"name": "Hook", "condition_type": "OnPriorityChange", "action_type": "Webhook",
        "action_config": {"url": format!("{}/hook", receiver.url), "body": "{}"}});
    server.done("POST", "/api/scrips", &hook).await;
    (server, node, receiver)
}

async fn ticket(server: &Server) -> Value {
    let ticket = json!({"queue": "General", "subject": "Of two nodes"});
    server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone()
}

async fn end(server: &mut Server, node: &mut Server) {
    node.stop().await;
    server.stop().await;
    server.check();
}
