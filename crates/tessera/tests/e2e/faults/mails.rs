//! A mail server that rejects, defers, accepts some recipients, or closes the connection after the message: each mail has the
//! right outcome, and each recipient receives it as often as the server's replies imply.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rounds;
use crate::load::{Load, STEADY};
use crate::mail::{MailServer, Manner};
use crate::receiver::Receiver;
use crate::sidecar::By;
use crate::support::{SOON, Server, eventually};

/// Enough for every round.
const EACH_TIME: usize = usize::MAX;

/// Returns the behavior of the server at the first attempts of each recipient.
fn manners(times: usize) -> [Manner; 8] {
    let at = |at, having, answer, then| Manner { at, having, answer, times, then };
    [
        at("RCPT", "closing@example.net", "421 4.3.2 closing", ""),
        at("RCPT", "greylisted@example.net", "450 4.2.1 later", ""),
        at("DATA", "To: large@example.net", "552 5.3.4 too large", ""),
        at("DATA", "To: full@example.net", "452 4.3.1 full", ""),
        at("DATA", "To: hangup@example.net", "", "hang up"),
        Manner { times: EACH_TIME, ..at("RCPT", "nobody@example.net", "550 5.1.1 no such user", "") },
        at("RCPT", "later@example.net", "451 4.7.1 later", ""),
        Manner { times: EACH_TIME, ..at("RCPT", "never@example.net", "550 5.1.1 no such user", "") },
    ]
}

/// For each mail: the recipients, its final state, the number of attempts, and the copies that each recipient receives.
const MAILS: [(&[&str], &str, usize, &[usize]); 7] = [
    (&["closing@example.net"], "completed", 2, &[1]),
    (&["greylisted@example.net"], "completed", 2, &[1]),
    (&["large@example.net"], "discarded", 1, &[0]),
    (&["full@example.net"], "completed", 2, &[1]),
    // The server accepted it, but Tessera cannot know that: the same mail arrives twice, with one Message-ID.
    (&["hangup@example.net"], "completed", 2, &[2]),
    (&["nobody@example.net"], "discarded", 1, &[0]),
    (&["ready@example.net", "later@example.net", "never@example.net"], "completed", 2, &[1, 1, 0]),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_mail_to_a_bad_server_has_the_right_outcome() {
    bad_mail_server(By::Workers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mail_to_a_bad_server_has_the_right_outcome_if_a_connector_delivers() {
    bad_mail_server(By::Connectors).await;
}

async fn bad_mail_server(by: By) {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let (mut server, _sidecars) = by.desk(&mail).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    server.done("POST", "/api/queues", &json!({"name": "Bad", "lifecycle": "default"})).await;
    for (to, ..) in MAILS {
        let scrip = json!({"name": to[0], "queue": "Bad", "condition_type": "OnCreate", "action_type": "SendEmail",
            "action_config": {"to": to}, "template": "Transaction"});
        server.done("POST", "/api/scrips", &scrip).await;
    }
    let mut turns = 0;
    for _ in rounds((1, 5)) {
        turns += 1;
        mail.behave(&manners(turns));
        let ticket = json!({"queue": "Bad", "subject": "To all who cannot receive"});
        let made = server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone();
        turn(&server, &mail, &made).await;
    }
    load.goes_on(20).await;
    let ledger = load.finish().await;
    ledger.was_always_answered();
    let fault = format!("SMTP 421, 450, 452, 552, 550, partial, hang-up before 250, {by:?} ({turns} times)");
    ledger.holds(&fault, &mut server, &receiver, &mail).await;
}

async fn turn(server: &Server, mail: &MailServer, ticket: &Value) {
    let path = format!("/api/tickets/{ticket}/deliveries");
    let all_tried = async || {
        let mails = server.list(&path).await;
        let is_tried = |one: &Value| !one["last_attempt"].is_null();
        (mails.len() == MAILS.len() && mails.iter().all(is_tried)).then_some(())
    };
    eventually("every first attempt has ended", SOON, all_tried).await;
    server.time_passes().await;
    server.delivered_of(ticket, SOON).await;

    let (mails, history) = (server.list(&path).await, server.history(ticket).await);
    for (to, state, attempts, copies) in MAILS {
        let delivery = mails.iter().find(|one| one["scrip"]["name"] == to[0]).unwrap();
        assert_eq!(delivery["state"], state, "{delivery:#}");
        assert_eq!(delivery["attempts"], attempts, "{delivery:#}");
        let records: Vec<_> =
            history.iter().filter(|line| line["data"]["delivery"] == delivery["id"]).collect();
        assert_eq!(records.len(), 1, "{records:#?}");
        let record = if state == "completed" { "EmailRecord" } else { "DeliveryFailed" };
        assert_eq!(records[0]["transaction_type"], record);
        let whole = server.read(&format!("/api/deliveries/{}", delivery["id"].as_str().unwrap())).await;
        let had = copies_by_recipient(mail, whole["headers"]["Message-ID"].as_str().unwrap());
        for (recipient, copies) in to.iter().zip(copies) {
            assert_eq!(
                had.get(*recipient).copied().unwrap_or_default(),
                *copies,
                "{recipient}: {delivery:#}"
            );
        }
    }
}

/// Returns how many copies of a mail each recipient has; all copies are the same, byte for byte.
fn copies_by_recipient(mail: &MailServer, id: &str) -> BTreeMap<String, usize> {
    let mut had = BTreeMap::new();
    let taken: Vec<_> = mail.taken().into_iter().filter(|taken| format!("<{}>", taken.id()) == id).collect();
    for copy in &taken {
        assert_eq!(copy.text(), taken[0].text());
        for recipient in &copy.to {
            *had.entry(recipient.clone()).or_default() += 1;
        }
    }
    had
}
