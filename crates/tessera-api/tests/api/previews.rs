//! Previews: the whole of what a change would do, and nothing of it done.

use super::desk::{Desk, each};
use serde_json::{Value, json};

#[tokio::test]
async fn the_preview_of_a_create_shows_the_mail_and_draws_no_number() {
    let desk = Desk::open().await;
    let before = desk.rows().await;
    let body = json!({ "queue": "Support", "subject": "Printer", "requestors": ["eve", "admin"], "cc": ["eve@example.net"] });
    let preview = desk.post("/api/tickets/preview", body.clone()).await.expect(200);
    assert_eq!(desk.rows().await, before, "a preview has no effect");
    assert_eq!(preview["ticket"]["number"], Value::Null);
    let mail = &preview["deliveries"][0];
    assert_eq!(
        (&mail["kind"], &mail["to"]),
        (&json!("email"), &json!(["eve@example.net", "admin@desk.example"]))
    );
    assert_eq!((&mail["cc"], &mail["bcc"]), (&json!([]), &json!([])));
    assert_eq!(mail["subject"], "[desk #new] We have it: Printer");
    assert!(mail["from"].as_str().unwrap().contains("support@desk.example") && mail["headers"].is_object());
    assert!(mail["text"].as_str().unwrap().contains("Thank you."));
    let recipients = &mail["recipients"];
    assert_eq!(each(recipients, "/role"), ["requestor", "requestor"]);
    assert_eq!(each(recipients, "/outcome"), ["included", "included"]);
    assert!(recipients.as_array().unwrap().iter().all(|one| one["reason"].is_string()));
    let considered = &preview["scrips_considered"];
    assert_eq!(each(considered, "/scrip/name"), ["Autoreply"]);
    assert_eq!(each(considered, "/verdict"), ["fired"]);
    assert_eq!(each(considered, "/why/result"), [true]);
    assert_eq!(each(considered, "/transaction"), [&preview["transactions"][0]["id"]]);
    assert_eq!(each(&preview["scrips_fired"], "/delivery_ids/0"), [&mail["id"]]);

    let made = desk.post("/api/tickets", body).await.expect(201);
    assert_eq!(made["plan_hash"], preview["plan_hash"], "what was shown is what was done");
}

#[tokio::test]
async fn the_preview_of_an_update_shows_the_webhook_and_never_a_secret() {
    let desk = Desk::open().await;
    sqlx::query("INSERT INTO secrets (name, value) VALUES ('pager', 'hush-canary')")
        .execute(desk.pool())
        .await
        .unwrap();
    desk.create(json!({ "status": "open" })).await;
    let before = desk.rows().await;
    let body = json!({ "status": "resolved", "priority": 4 });
    let preview = desk.post("/api/tickets/1/preview", body.clone()).await;
    assert!(!String::from_utf8_lossy(&preview.bytes).contains("hush-canary"));
    let preview = preview.expect(200);
    assert_eq!(desk.rows().await, before, "a preview has no effect");
    let hook = &preview["deliveries"][0];
    for (member, expected) in [
        ("kind", json!("webhook")),
        ("method", json!("POST")),
        ("url", json!("https://pager.example/hook")),
        (
            "headers",
            json!({ "Content-Type": "application/json", "Tessera-Depth": "1", "X-Key": { "secret": "pager" } }),
        ),
        ("body", json!("{\"n\": \"1\"}")),
        (
            "scrip",
            json!({ "id": "00000000-0000-7000-8000-0000000000f3", "name": "Tell the pager", "version": 4 }),
        ),
    ] {
        assert_eq!(hook[member], expected, "{member}");
    }
    let verdicts: Vec<_> = each(&preview["scrips_considered"], "/verdict");
    assert!(verdicts.contains(&&json!("fired")) && verdicts.contains(&&json!("not_applicable")));

    let changed = desk.patch("/api/tickets/1", body).await.expect(200);
    assert_eq!(changed["plan_hash"], preview["plan_hash"]);
    let mut masked = [preview["ticket"].clone(), changed["ticket"].clone()];
    for ticket in &mut masked {
        for member in ["updated_at", "resolved_at"] {
            ticket[member] = Value::Null;
        }
    }
    assert_eq!(masked[0], masked[1]);
}

#[tokio::test]
async fn a_preview_refuses_what_a_commit_refuses() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    desk.post("/api/tickets/1/preview", json!({ "status": "resolved" }))
        .await
        .problem(409, "transition_denied");
    desk.post("/api/tickets/preview", json!({ "queue": "Nowhere", "subject": "x" }))
        .await
        .fault("queue", "Support");
    desk.post("/api/tickets/9/preview", json!({})).await.problem(404, "not_found");
}
