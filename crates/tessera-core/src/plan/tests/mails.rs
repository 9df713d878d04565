//! Mail and webhooks: recipients and content.

use super::*;
use crate::models::delivery::{Email, HeaderValue, Payload, RecipientOutcome};

fn mail_desk(config: Value) -> Catalog {
    Desk::new()
        .template("T", "About {{ ticket.subject }}", "Dear all,\n{{ transaction.description }}")
        .scrip("Mail", ("OnCreate", json!({})), ("SendEmail", config), json!({"template": "T"}))
        .open()
}

fn mail(plan: &Plan) -> &Email {
    match &plan.deliveries[0].payload {
        Payload::Email(email) => email,
        other => panic!("a mail was expected: {other:?}"),
    }
}

fn asked_by(requestors: &[&str]) -> CreateTicket {
    CreateTicket { requestors: requestors.iter().map(|one| (*one).to_owned()).collect(), ..new_ticket() }
}

#[test]
fn every_address_considered_is_listed_with_its_reason() {
    let catalog = mail_desk(json!({
        "to": ["requestor", "owner"], "cc": ["cc", "x@example.net"], "bcc": ["admin_cc", "queue_admin_cc", "creator", "{{ ticket.requestor_addresses }}"]
    }));
    let command = CreateTicket {
        owner: Some("ann".to_owned()),
        cc: vec!["EVE@example.net".to_owned(), "billing@desk.example".to_owned()],
        ..asked_by(&["eve@example.net", "admin"])
    };
    let plan = create(&catalog, command).unwrap();
    let email = mail(&plan);
    let considered: Vec<_> = email
        .recipients
        .iter()
        .map(|one| {
            format!(
                "{} {} {} ({})",
                one.address,
                one.role,
                if one.outcome == RecipientOutcome::Included { "+" } else { "-" },
                one.reason
            )
        })
        .collect();
    insta::assert_snapshot!(considered.join("\n"));
    assert_eq!((email.to.len(), email.cc.len(), email.bcc.len()), (2, 1, 1));
}

#[test]
fn a_mail_without_recipients_is_declined_and_says_who_was_left_out() {
    let plan = create(&mail_desk(json!({"to": ["requestor"]})), asked_by(&["admin"])).unwrap();
    assert_eq!(verdict_of(&plan, "Mail"), Verdict::Declined);
    assert!(
        why_of(&plan, "Mail").contains("admin@desk.example: made this change, and notify_actor is false")
    );
    let plan =
        create(&mail_desk(json!({"to": ["requestor"], "notify_actor": true})), asked_by(&["admin"])).unwrap();
    assert_eq!(mail(&plan).to, ["admin@desk.example"]);
}

#[test]
fn a_template_that_renders_nothing_silences_its_scrip() {
    let catalog = Desk::new()
        .template("T", "s", "{% if ticket.priority > 3 %}loud{% endif %}\n")
        .scrip(
            "Mail",
            ("OnCreate", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"template": "T"}),
        )
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdict_of(&plan, "Mail"), Verdict::Declined);
    assert!(why_of(&plan, "Mail").contains("template rendered nothing"));
}

#[test]
fn a_mail_carries_number_thread_loop_guard_and_the_queues_address() {
    let plan = create(&mail_desk(json!({"to": ["requestor"]})), asked_by(&["eve@example.net"])).unwrap();
    let email = mail(&plan);
    assert_eq!(email.subject, "[tessera #42] About Printer on fire");
    assert_eq!(email.from, "\"Support\" <support@desk.example>");
    assert_eq!(email.text, "Dear all,\nTicket created");
    let delivery = plan.deliveries[0].id;
    assert_eq!(email.headers["Message-ID"], format!("<ticket-42.{delivery}@tessera>"));
    assert_eq!(email.headers["References"], format!("<ticket-{}@tessera>", plan.ticket.id));
    let rest =
        ["Auto-Submitted", "Precedence", "X-Tessera-Loop-Prevention", "X-Tessera-Scrip", "X-Tessera-Ticket"];
    assert_eq!(
        rest.map(|name| email.headers[name].as_str()),
        ["auto-replied", "bulk", "tessera", "Mail v3", "42"]
    );
}

#[test]
fn only_cc_left_becomes_to() {
    let plan = create(&mail_desk(json!({"to": ["owner"], "cc": ["x@example.net"]})), new_ticket()).unwrap();
    let email = mail(&plan);
    assert_eq!((email.to.as_slice(), email.cc.is_empty()), (&["x@example.net".to_owned()][..], true));
}

#[test]
fn an_address_gets_one_mail_of_a_scrip_per_request() {
    let catalog = Desk::new()
        .template("T", "s", "b")
        .scrip(
            "Mail",
            ("OnTransaction", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"template": "T"}),
        )
        .open();
    let made = create(&Desk::new().open(), new_ticket()).unwrap();
    let change = UpdateTicket { priority: Some(1), subject: Some("y".to_owned()), ..UpdateTicket::default() };
    let plan = update(&catalog, &made.ticket, change).unwrap();
    assert_eq!(plan.deliveries.len(), 1);
    assert_eq!(verdicts(&plan), ["Mail: fired", "Mail: declined"]);
}

#[test]
fn a_webhook_stays_at_its_origin_and_escapes_what_it_carries() {
    let config = json!({
        "url": "https://hooks.example:8443/t/{$ticket.subject}?s={{ ticket.status }}",
        "headers": {"X-Subject": "{{ ticket.priority }}", "Authorization": {"secret": "crm"}},
        "body": r#"{"subject": "{{ ticket.subject }}", "number": {{ ticket.number }}}"#,
        "secret": "signing"
    });
    let catalog = Desk::new().scrip("Hook", ("OnCreate", json!({})), ("Webhook", config), json!({})).open();
    let subject = "a/b..?c#d \"quoted\" \\ @evil.example".to_owned();
    let plan = create(&catalog, CreateTicket { subject: subject.clone(), ..new_ticket() }).unwrap();
    let Payload::Webhook(webhook) = &plan.deliveries[0].payload else { panic!("a webhook was expected") };
    assert!(webhook.url.starts_with("https://hooks.example:8443/t/a%2F"), "{}", webhook.url);
    assert!(webhook.url.ends_with("?s=new"), "{}", webhook.url);
    let body: Value = serde_json::from_str(&webhook.body).unwrap();
    assert_eq!(body, json!({ "subject": subject, "number": 42 }));
    assert_eq!(webhook.headers["Authorization"], HeaderValue::Secret { secret: "crm".to_owned() });
    assert_eq!(webhook.headers["Content-Type"], HeaderValue::Text("application/json".to_owned()));
    assert_eq!(plan.deliveries[0].payload.endpoint(), "https://hooks.example:8443");
}

#[test]
fn a_webhook_without_words_carries_the_event() {
    let catalog = Desk::new()
        .scrip(
            "Hook",
            ("OnCreate", json!({})),
            ("Webhook", json!({"url": "https://hooks.example"})),
            json!({}),
        )
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    let Payload::Webhook(webhook) = &plan.deliveries[0].payload else { panic!("a webhook was expected") };
    let body: Value = serde_json::from_str(&webhook.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["ticket"]["number"]), (&json!("ticket.create"), &json!(42)));
    assert_eq!(webhook.url, "https://hooks.example/");
}

#[test]
fn a_mail_is_a_reply_to_who_just_wrote_and_else_generated() {
    let kind = |to: &str, on: &str| {
        let catalog = Desk::new()
            .template("T", "s", "b")
            .scrip("Mail", (on, json!({})), ("SendEmail", json!({ "to": [to] })), json!({"template": "T"}))
            .open();
        let made = create(&catalog, asked_by(&["eve@example.net"])).unwrap();
        let comment = UpdateTicket { comment: Some(text("hm")), ..UpdateTicket::default() };
        let plan = if on == "OnCreate" { made } else { update(&catalog, &made.ticket, comment).unwrap() };
        mail(&plan).headers["Auto-Submitted"].clone()
    };
    assert_eq!(kind("requestor", "OnCreate"), "auto-replied");
    assert_eq!(kind("x@example.net", "OnCreate"), "auto-generated");
    assert_eq!(kind("requestor", "OnComment"), "auto-generated");
}

#[test]
fn who_became_to_is_listed_there_and_who_was_left_out_is_not() {
    let config = json!({"to": ["owner"], "cc": ["x@example.net", "X@example.net"], "bcc": ["b@example.net"]});
    let plan = create(&mail_desk(config), new_ticket()).unwrap();
    let reasons: Vec<_> = mail(&plan).recipients.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["To", "is already in Cc", "Bcc"]);
}

#[test]
fn the_right_side_of_a_message_id_is_a_host_whatever_the_desk_is_called() {
    for (name, host) in
        [("Desk.One-2", "desk.one-2"), ("My desk_ü!", "my-desk"), ("..", "tessera"), ("", "tessera")]
    {
        let mut desk = Desk::new().template("T", "s", "b").scrip(
            "Mail",
            ("OnCreate", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"template": "T"}),
        );
        desk.parts.installation.name = name.to_owned();
        let plan = create(&desk.open(), new_ticket()).unwrap();
        assert_eq!(mail(&plan).headers["References"], format!("<ticket-{}@{host}>", plan.ticket.id));
    }
}

#[test]
fn a_message_of_html_is_text_in_a_plain_mail_and_cleaned_html_in_an_html_mail() {
    let scrip = ("SendEmail", json!({"to": ["eve@example.net"]}));
    let on = ("OnCreate", json!({}));
    let query = (
        "OnCreate",
        json!({"query": "Transaction.Content LIKE '<p>' OR Transaction.Content MATCHES 'style'"}),
    );
    let plain = "{{ transaction.content }}";
    let catalog = Desk::new()
        .template("Plain", "s", plain)
        .html_template("Html", "s", "<h1>News</h1>{{ transaction.content }}")
        .scrip("A", on.clone(), scrip.clone(), json!({"template": "Plain"}))
        .scrip("B", on, scrip.clone(), json!({"template": "Html"}))
        .scrip("C", query, scrip, json!({"template": "Plain"}))
        .open();
    let sent = "<p style=\"color:red\" onclick=\"x()\">Hello <b>Eve</b>,</p><p>it is ready &amp; paid.</p>";
    let created =
        |content: Content| create(&catalog, CreateTicket { content: Some(content), ..new_ticket() }).unwrap();
    let email = |plan: &Plan, n: usize| match &plan.deliveries[n].payload {
        Payload::Email(email) => email.clone(),
        other => panic!("a mail was expected: {other:?}"),
    };

    let plan = created(Content::html(sent.to_owned()));
    assert_eq!(
        plan.transactions[0].content.as_ref().unwrap().html.as_deref(),
        Some(sent),
        "kept as it was sent"
    );
    let (one, two) = (email(&plan, 0), email(&plan, 1));
    assert_eq!((one.text.as_str(), one.html), ("Hello Eve,\n\nit is ready & paid.", None));
    assert_eq!(two.text, "News\n\nHello Eve,\n\nit is ready & paid.");
    let cleaned = "<h1>News</h1><p style=\"color:red\">Hello <b>Eve</b>,</p><p>it is ready &amp; paid.</p>";
    assert_eq!(two.html.as_deref(), Some(cleaned));
    assert_eq!(verdict_of(&plan, "C"), Verdict::NotApplicable, "a condition reads the text");

    let other = created(Content::html(sent.replace("red", "blue")));
    assert_ne!(plan.hash, other.hash, "the hash covers what is sent");
    assert_eq!(plan.hash, created(Content::html(sent.to_owned())).hash);

    let plan = created(Content::plain("line one\nline two\n\n<end>".to_owned()));
    assert_eq!(email(&plan, 0).text, "line one\nline two\n\n<end>");
    let two = email(&plan, 1);
    assert_eq!(two.html.as_deref(), Some("<h1>News</h1>line one<br>line two<br><br>&lt;end&gt;"));
    assert_eq!(two.text, "News\n\nline one\nline two\n\n<end>");
}

#[test]
fn a_mail_comes_from_the_queue_or_the_desk_by_name() {
    let config = json!({"to": ["x@example.net"], "as_comment": true});
    let plan = create(&mail_desk(config), new_ticket()).unwrap();
    assert_eq!(mail(&plan).from, "Desk <desk@desk.example>", "the queue has no address for comments");
}
