//! A newcomer's first steps: builds a process, previews a change, makes exactly that change, and asks why it happened.

use serde_json::{Value, json};

use crate::mail::{MailServer, Taken};
use crate::receiver::Receiver;
use crate::same::same;
use crate::support::{SOON, Server, eventually};

/// The secret that signs the webhooks.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn the_walk_through_of_a_newcomer() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    build(&server, &receiver).await;

    let ticket = json!({"queue": "Workshop", "subject": "Kettle leaks", "owner": "olga",
        "requestors": ["eve@example.net"], "custom_fields": {"Warranty": "yes"}});
    let made = server.done("POST", "/api/tickets", &ticket).await;
    let number = made["ticket"]["number"].clone();
    assert_eq!(made["ticket"]["status"], "reported");
    let path = format!("/api/tickets/{number}");
    workshop_was_notified(&server, &mail, &number).await;
    server.done("PATCH", &path, &json!({"status": "in repair"})).await;
    server.delivered(SOON).await;

    // Preview the change; nothing happens.
    let change = json!({"status": "fixed", "reply": "It is tight again."});
    let before = (server.done("GET", &path, &Value::Null).await, server.history(&number).await);
    let preview = server.done("POST", &format!("{path}/preview"), &change).await;
    preview_is_complete(&preview, &receiver);
    let after = (server.done("GET", &path, &Value::Null).await, server.history(&number).await);
    assert_eq!(before, after);

    // Commit exactly the previewed plan.
    let mails = mail.taken().len();
    let hash = preview["plan_hash"].as_str().unwrap();
    let committed = server.try_api("PATCH", &path, &change, &[("If-Plan", hash)]).await.unwrap();
    assert_eq!(committed.status, 200, "{:#}", committed.body);
    let version = &committed.body["ticket"]["version"];
    assert_eq!(committed.headers["etag"].to_str().unwrap(), format!("\"{version}\""));
    same(&preview, &committed.body);

    server.delivered(SOON).await;
    the_webhook_arrived(&receiver, &preview, &committed.body);
    the_mails_arrived(&mail.taken(), mails, &preview, &committed.body);
    everything_is_recorded_once(&server, &number).await;
    why(&server, &number).await;
    server.stop().await;
    server.check();
}

/// Creates a lifecycle, a queue, a field, a user, a secret, templates and scrips.
async fn build(server: &Server, receiver: &Receiver) {
    let lifecycle = json!({"initial": ["reported"], "active": ["in repair"], "inactive": ["fixed", "scrapped"],
        "transitions": {"": ["reported"], "reported": ["in repair", "scrapped"],
            "in repair": ["fixed", "scrapped"], "fixed": ["in repair"]}});
    let steps = [
        ("POST", "/api/lifecycles", json!({"name": "repair", "definition": lifecycle})),
        (
            "POST",
            "/api/queues",
            json!({"name": "Workshop", "lifecycle": "repair",
            "correspond_address": "workshop@example.org"}),
        ),
        (
            "POST",
            "/api/custom-fields",
            json!({"name": "Warranty", "field_type": "SelectSingle",
            "values": ["yes", "no", "expired"]}),
        ),
        ("PUT", "/api/queues/Workshop/custom-fields", json!({"custom_fields": ["Warranty"]})),
        ("POST", "/api/users", json!({"username": "olga", "email": "olga@example.org", "privileged": true})),
        ("PUT", "/api/secrets/shop", json!({"value": SECRET})),
        (
            "POST",
            "/api/templates",
            json!({"name": "New repair", "subject_template": "New: {$ticket.subject}",
            "body_template": "{{ actor.username }} reported it.\n{{ ticket.url }}\n"}),
        ),
        (
            "POST",
            "/api/templates",
            json!({"name": "Summary", "subject_template": "{{ batch | length }} changes",
            "body_template": "{% for one in batch %}{% if one.type != \"Set\" %}- {{ one.description }}\n{% endif %}{% endfor %}"}),
        ),
        (
            "POST",
            "/api/scrips",
            json!({"name": "Tell the workshop", "queue": "Workshop",
            "condition_type": "OnCreate", "action_type": "SendEmail",
            "action_config": {"to": ["team@example.org"]}, "template": "New repair"}),
        ),
        (
            "POST",
            "/api/scrips",
            json!({"name": "Warranty is used up", "queue": "Workshop",
            "condition_type": "OnStatusChange", "condition_config": {"to": "fixed"},
            "action_type": "SetCustomField", "action_config": {"field": "Warranty", "value": "expired"}}),
        ),
        (
            "POST",
            "/api/scrips",
            json!({"name": "Tell the shop", "queue": "Workshop",
            "condition_type": "OnStatusChange", "condition_config": {"to": "fixed"}, "action_type": "Webhook",
            "action_config": {"url": format!("{}/repairs/{{{{ ticket.number }}}}", receiver.url), "secret": "shop",
                "body": "{\"repair\": {{ ticket.number }}, \"what\": \"{{ ticket.subject }}\"}"}}),
        ),
        (
            "POST",
            "/api/scrips",
            json!({"name": "Summary to the team", "queue": "Workshop",
            "condition_type": "OnTransaction", "applicable_types": ["Status"], "action_type": "SendEmail",
            "action_config": {"to": ["team@example.org"]}, "template": "Summary", "stage": "TransactionBatch"}),
        ),
    ];
    for (method, path, body) in &steps {
        server.done(method, path, body).await;
    }
}

/// Checks that the first scrip's mail arrived at the mail server as planned.
async fn workshop_was_notified(server: &Server, mail: &MailServer, number: &Value) {
    let subject = format!("[tessera #{number}] New: Kettle leaks");
    let taken = eventually("the mail to the workshop", SOON, async || {
        mail.taken().into_iter().find(|taken| taken.message().subject() == Some(&subject))
    });
    let taken = taken.await;
    assert_eq!(taken.to, ["team@example.org"]);
    let message = taken.message();
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("team@example.org"));
    assert_eq!(message.from().unwrap().first().unwrap().address(), Some("workshop@example.org"));
    assert!(message.body_text(0).unwrap().contains("reported it."), "{message:?}");
    let deliveries = server.deliveries(&format!("/api/tickets/{number}/deliveries")).await;
    let delivery = deliveries.iter().find(|one| one["scrip"]["name"] == "Tell the workshop").unwrap();
    assert_eq!(delivery["headers"]["Message-ID"], format!("<{}>", taken.id()));
}

/// Checks that a preview has the transactions, the complete deliveries, and every scrip with its verdict and its reasons.
fn preview_is_complete(preview: &Value, receiver: &Receiver) {
    let all = |list: &str, member: &str| -> Vec<Value> {
        preview[list].as_array().unwrap().iter().map(|one| one[member].clone()).collect()
    };
    let types = all("transactions", "transaction_type");
    for kind in ["Correspond", "Status", "CustomField"] {
        assert_eq!(types.iter().filter(|one| *one == kind).count(), 1, "{kind} in {types:?}");
    }
    assert_eq!(preview["ticket"]["status"], "fixed");
    assert_eq!(preview["ticket"]["custom_fields"]["Warranty"], "expired");

    let deliveries = preview["deliveries"].as_array().unwrap();
    let of = |scrip: &str| deliveries.iter().find(|one| one["scrip"]["name"] == scrip).unwrap();
    let webhook = of("Tell the shop");
    let number = &preview["ticket"]["number"];
    assert_eq!(webhook["url"], format!("{}/repairs/{number}", receiver.url));
    assert_eq!(webhook["body"], format!("{{\"repair\": {number}, \"what\": \"Kettle leaks\"}}"));
    let summary = of("Summary to the team");
    assert_eq!(summary["to"], json!(["team@example.org"]));
    assert!(
        summary["text"].as_str().unwrap().contains("Status changed from in repair to fixed"),
        "{summary:#}"
    );
    let reply = of("On Correspond Notify Requestors and Ccs");
    let recipient = &reply["recipients"][0];
    assert_eq!(
        (&recipient["address"], &recipient["outcome"]),
        (&json!("eve@example.net"), &json!("included"))
    );
    assert!(reply["text"].as_str().unwrap().contains("It is tight again."), "{reply:#}");

    let considered = preview["scrips_considered"].as_array().unwrap();
    for scrip in ["Warranty is used up", "Tell the shop", "Summary to the team"] {
        let fired = considered.iter().find(|one| one["scrip"]["name"] == scrip && one["verdict"] == "fired");
        assert!(fired.is_some_and(|one| !one["why"].is_null()), "{scrip} in {considered:#?}");
    }
    assert_eq!(receiver.seen().len(), 0);
}

/// Checks that the receiver has the previewed bytes, once, and that an official library accepts the signature.
fn the_webhook_arrived(receiver: &Receiver, preview: &Value, committed: &Value) {
    let seen = receiver.seen();
    let [webhook] = seen.as_slice() else { panic!("{seen:?}") };
    let planned = |answer: &Value| -> Value {
        let all = answer["deliveries"].as_array().unwrap();
        all.iter().find(|one| one["kind"] == "webhook").unwrap().clone()
    };
    assert_eq!(planned(committed)["id"], webhook.id());
    let previewed = planned(preview);
    assert_eq!(previewed["url"], format!("{}{}", receiver.url, webhook.uri));
    assert_eq!(previewed["body"].as_str().unwrap().as_bytes(), webhook.body);
    let official = standardwebhooks::Webhook::new(SECRET).unwrap();
    official.verify(&webhook.body, &webhook.headers).unwrap();
    let other = standardwebhooks::Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    other.verify(&webhook.body, &webhook.headers).unwrap_err();
}

/// Checks that each planned mail arrived once, with the previewed subject, recipients and text. Both responses list the same
/// deliveries in the same order.
fn the_mails_arrived(taken: &[Taken], before: usize, preview: &Value, committed: &Value) {
    let list = |answer: &Value| answer["deliveries"].as_array().unwrap().clone();
    let pairs = list(preview).into_iter().zip(list(committed));
    let mails: Vec<_> = pairs.filter(|(_, made)| made["kind"] == "email").collect();
    assert_eq!(taken.len() - before, mails.len());
    for (planned, made) in mails {
        let id = made["id"].as_str().unwrap();
        let arrived: Vec<_> = taken.iter().filter(|taken| taken.id().contains(id)).collect();
        let [arrived] = arrived.as_slice() else { panic!("{arrived:?} of {planned:#}") };
        assert_eq!(arrived.message().subject(), planned["subject"].as_str());
        let addressees = ["to", "cc", "bcc"].into_iter().flat_map(|list| planned[list].as_array().unwrap());
        assert_eq!(json!(arrived.to), Value::from_iter(addressees.cloned()));
        let lines = |text: &str| text.trim_end().lines().map(str::to_owned).collect::<Vec<_>>();
        let text = arrived.message().body_text(0).unwrap().into_owned();
        assert_eq!(lines(&text), lines(planned["text"].as_str().unwrap()));
    }
}

/// Checks that each delivery is recorded once in the history.
async fn everything_is_recorded_once(server: &Server, number: &Value) {
    let history = server.history(number).await;
    let deliveries = server.list(&format!("/api/tickets/{number}/deliveries")).await;
    let kinds = [("email", "EmailRecord"), ("webhook", "WebhookDelivery")];
    for (kind, record) in kinds {
        let made: Vec<_> = deliveries.iter().filter(|one| one["kind"] == kind).collect();
        assert!(!made.is_empty(), "no {kind} in {deliveries:#?}");
        assert_eq!(history.iter().filter(|one| one["transaction_type"] == record).count(), made.len());
        for delivery in made {
            assert_eq!(delivery["state"], "completed", "{delivery:#}");
            let records = history.iter().filter(|one| one["data"]["delivery"] == delivery["id"]);
            assert_eq!(records.count(), 1, "{delivery:#}");
        }
    }
}

/// Checks that a transaction of a scrip leads to the scrip, to the transaction that triggered it, and to the actor.
async fn why(server: &Server, number: &Value) {
    let history = server.history(number).await;
    let written = history.iter().rfind(|one| one["new_value"] == "expired").unwrap();
    let id = written["id"].as_str().unwrap();
    let why = server.done("GET", &format!("/api/transactions/{id}/why"), &Value::Null).await;
    assert_eq!(why["scrip"]["name"], "Warranty is used up", "{why:#}");
    assert_eq!(why["evaluation"]["verdict"], "fired");
    let cause = &why["caused_by"];
    assert_eq!(cause["transaction"]["transaction_type"], "Status");
    assert_eq!((&cause["scrip"], &cause["caused_by"]), (&Value::Null, &Value::Null));
    assert_eq!(why["request"]["actor"], cause["transaction"]["creator"]);
    assert_eq!(why["request"]["actor"], "admin");
}
