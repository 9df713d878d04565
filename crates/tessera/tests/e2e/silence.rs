//! A mail server that accepts mail and does not reply.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::mail::MailServer;
use crate::support::{SOON, Server, eventually};

/// Number of updates, each with a mail.
const UPDATES: usize = 100;
/// Number of concurrent updates.
const CLIENTS: usize = 8;

#[tokio::test]
async fn a_silent_mail_server_delays_no_update() {
    let mail = MailServer::start_silent().await;
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let scrip = json!({"name": "Tell the team", "condition_type": "OnComment", "action_type": "SendEmail",
        "action_config": {"to": ["team@example.net"]}, "template": "Transaction"});
    server.done("POST", "/api/scrips", &scrip).await;
    let ticket = json!({"queue": "General", "subject": "Is anybody there?"});
    let made = server.done("POST", "/api/tickets", &ticket).await;
    let path = format!("/api/tickets/{}", made["ticket"]["number"]);

    let comment = async |number: usize| {
        server.done("PATCH", &path, &json!({"comment": format!("Comment {number}")})).await
    };
    let answers: Vec<Value> = stream::iter(0..UPDATES).map(comment).buffer_unordered(CLIENTS).collect().await;
    // All responses have arrived, and the mail server has not replied to any message.
    assert!(answers.iter().all(|answer| answer["deliveries"].as_array().unwrap().len() == 1), "{answers:#?}");
    eventually("the mail server keeps Tessera waiting", SOON, async || mail.is_holding().then_some(())).await;
    assert_eq!(mail.taken().len(), 0);

    mail.let_go();
    server.delivered(SOON).await;
    let ids: Vec<String> = mail.taken().iter().map(|taken| taken.id()).collect();
    assert_eq!(ids.len(), UPDATES);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), UPDATES, "each arrived once");
    let history = server.history(&made["ticket"]["number"]).await;
    assert_eq!(history.iter().filter(|one| one["transaction_type"] == "EmailRecord").count(), UPDATES);
    server.stop().await;
    server.check();
}
