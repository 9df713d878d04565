//! Connectors over HTTP: added, listed with their kinds, revoked.

use crate::desk::{Desk, each, request};
use axum::http::Method;
use serde_json::{Value, json};

impl Desk {
    async fn revoke(&self, path: &str) -> crate::desk::Reply {
        self.send(request(Method::DELETE, path, None, &[])).await
    }
}

#[tokio::test]
async fn a_connector_is_added_with_a_token_that_is_shown_once_and_revoked_for_good() {
    let desk = Desk::open().await;
    let body = json!({ "name": "chat-1", "kinds": ["chat", "email", "chat"], "user": "ada" });
    let added = desk.post("/api/connectors", body.clone()).await.expect(201);
    assert_eq!((&added["name"], &added["kinds"]), (&json!("chat-1"), &json!(["email", "chat"])));
    let token = added["token"].as_str().unwrap();
    assert!(token.starts_with("tsc_") && token.len() > 40, "{token}");

    let reply = desk.get("/api/connectors").await;
    assert!(!String::from_utf8_lossy(&reply.bytes).contains("tsc_"), "a token is listed");
    let listed = reply.expect(200);
    let mut seen = listed["connectors"].clone();
    let one = seen[0].as_object_mut().unwrap();
    assert!(one.remove("created_at").unwrap().is_string());
    let expected = json!([{ "id": added["id"], "name": "chat-1", "kinds": ["email", "chat"], "user": "ada",
        "software": null, "last_seen_at": null }]);
    assert_eq!(seen, expected);

    desk.post("/api/connectors", body.clone()).await.problem(409, "name_taken");
    desk.revoke("/api/connectors/chat-1").await.expect(204);
    desk.revoke("/api/connectors/chat-1").await.problem(404, "not_found");
    desk.revoke("/api/connectors/%00").await.problem(404, "not_found");
    assert_eq!(desk.get("/api/connectors").await.expect(200)["connectors"], json!([]));
    let again = desk.post("/api/connectors", body).await.expect(201);
    assert_ne!((&again["id"], &again["token"]), (&added["id"], &added["token"]), "the name is free again");
}

#[tokio::test]
async fn what_cannot_be_a_connector_is_refused_with_its_field() {
    let desk = Desk::open().await;
    let many: Vec<_> = (0..17).map(|number| format!("kind-{number}")).collect();
    for (body, field, says) in [
        (json!({ "kinds": ["chat"] }), "name", "is missing"),
        (json!({ "name": "", "kinds": ["chat"] }), "name", "empty"),
        (json!({ "name": "a\u{0}", "kinds": ["chat"] }), "name", ""),
        (json!({ "name": "a" }), "kinds", "no user is given"),
        (json!({ "name": "a", "kinds": ["Chat"] }), "kinds", "Chat"),
        (json!({ "name": "a", "kinds": many }), "kinds", "at most 16"),
        (json!({ "name": "a", "kinds": ["chat"], "user": "eve" }), "user", "no enabled privileged user"),
        (json!({ "name": "a", "kinds": ["chat"], "token": "mine" }), "token", "unknown field"),
    ] {
        desk.post("/api/connectors", body).await.fault(field, says);
    }
    assert_eq!(desk.get("/api/connectors").await.expect(200)["connectors"], json!([]));
}

#[tokio::test]
async fn the_kinds_are_listed_with_who_needs_them_and_what_waits() {
    let desk = Desk::open().await;
    desk.post("/api/connectors", json!({ "name": "chat-1", "kinds": ["chat"] })).await.expect(201);
    let kinds = desk.get("/api/connectors").await.expect(200)["kinds"].clone();
    let kind = |name: &str, scrips: Value| json!({ "name": name, "schema": null, "announced_at": null, "scrips": scrips, "unfinished": 0 });
    let expected = [
        kind("chat", json!([])),
        kind("email", json!(["Autoreply"])),
        kind("webhook", json!(["Tell the pager"])),
    ];
    assert_eq!(kinds, json!(expected));
    let scrips = desk.get("/api/scrips?name=pager").await.expect(200)["items"].clone();
    let path = format!("/api/scrips/{}", scrips[0]["id"].as_str().unwrap());
    desk.patch(&path, json!({ "state": "disabled" })).await.expect(200);
    desk.create(json!({ "requestors": ["eve@example.net"] })).await;
    let kinds = desk.get("/api/connectors").await.expect(200)["kinds"].clone();
    assert_eq!((&kinds[1]["unfinished"], &kinds[2]["scrips"]), (&json!(1), &json!([])));
}

/// A scrip that tells a chat of every new ticket in Support.
async fn tell_the_chat(desk: &Desk) -> Value {
    let scrip = json!({ "name": "Tell the chat", "queue": "Support", "condition_type": "OnCreate", "action_type": "Connector",
        "action_config": { "kind": "chat", "payload": { "text": "{{ ticket.subject }}", "urgent": "{{ ticket.priority > 5 }}" } } });
    desk.post("/api/scrips", scrip).await.expect(201)
}

#[tokio::test]
async fn a_preview_shows_what_a_connector_will_be_handed_and_that_it_is_held_until_one_comes() {
    let desk = Desk::open().await;
    let added =
        desk.post("/api/connectors", json!({ "name": "chat-1", "kinds": ["chat"] })).await.expect(201);
    tell_the_chat(&desk).await;
    let ticket = json!({ "queue": "Support", "subject": "Printer" });
    let preview = async || desk.post("/api/tickets/preview", ticket.clone()).await.expect(200);
    let before = preview().await;
    let shown = &before["deliveries"][0];
    assert_eq!(each(&before["scrips_fired"], "/scrip/name"), ["Tell the chat"]);
    assert_eq!(
        (&shown["connector"], &shown["json"]),
        (&json!("chat"), &json!({ "text": "Printer", "urgent": "false" }))
    );
    let detail = "No chat connector has connected yet. The delivery will be sent when one does.";
    assert_eq!(
        (&shown["hold"]["reason"], &shown["hold"]["detail"]),
        (&json!("no_connector"), &json!(detail))
    );

    let made = desk.post("/api/tickets", ticket.clone()).await.expect(201);
    assert_eq!(made["plan_hash"], before["plan_hash"], "what was shown is what was done");
    let delivery = &made["deliveries"][0];
    assert_eq!((&delivery["kind"], &delivery["state"]), (&json!("chat"), &json!("held")));
    let listed = desk.get("/api/deliveries?kind=chat").await.expect(200)["items"][0].clone();
    assert_eq!((&listed["kind"], &listed["connector"]), (&json!("connector"), &json!("chat")));
    assert_eq!((&listed["id"], &listed["json"]), (&delivery["id"], &Value::Null));
    let whole = format!("/api/deliveries/{}", listed["id"].as_str().unwrap());
    let whole = desk.get(&whole).await.expect(200);
    assert_eq!((&whole["connector"], &whole["json"]), (&json!("chat"), &shown["json"]));
    assert_eq!((&listed["state"], &listed["hold"]["reason"]), (&json!("held"), &json!("no_connector")));

    // A connector comes, and says what it takes.
    let connector = desk.tessera.connector(added["token"].as_str().unwrap()).await.unwrap();
    let schema = r#"{"properties": {"text": {"maxLength": 7}, "urgent": {"type": "boolean"}}}"#;
    assert!(desk.tessera.announce(&connector, "chat", schema, "chat 1").await.unwrap().is_empty());
    let after = preview().await["deliveries"][0].clone();
    assert_eq!((&after["hold"], &after["json"]["urgent"]), (&Value::Null, &json!(false)));
    let listed = desk.get("/api/connectors").await.expect(200);
    assert_eq!(listed["connectors"][0]["software"], "chat 1");
    let chat = &listed["kinds"][0];
    assert_eq!(
        (&chat["name"], &chat["scrips"], &chat["unfinished"]),
        (&json!("chat"), &json!(["Tell the chat"]), &json!(1))
    );
    assert!(chat["announced_at"].is_string() && chat["schema"]["properties"]["text"].is_object(), "{chat}");
    let types = desk.get("/api/scrip-types").await.expect(200);
    assert_eq!(types["kinds"]["chat"], json!({ "schema": chat["schema"], "is_announced": true }));

    let misfit = json!({ "queue": "Support", "subject": "Printers" });
    let preview = desk.post("/api/tickets/preview", misfit).await.expect(200);
    assert_eq!(
        (&preview["deliveries"], each(&preview["scrips_fired"], "/verdict")),
        (&json!([]), vec![&json!("failed")])
    );
    let told = preview["transactions"].to_string();
    assert!(told.contains("payload does not match the schema of") && told.contains("/text: "), "{told}");
}

#[tokio::test]
async fn a_scrip_of_a_connector_that_cannot_work_is_refused_when_it_is_saved() {
    let desk = Desk::open().await;
    let scrip = |payload: Value| {
        json!({ "name": "Tell the chat", "condition_type": "OnCreate", "action_type": "Connector",
            "action_config": { "kind": "chat", "payload": payload } })
    };
    desk.post("/api/scrips", scrip(json!({})))
        .await
        .fault("action_config.kind", "tessera connector add NAME --kind chat");
    desk.post("/api/connectors", json!({ "name": "chat-1", "kinds": ["chat"] })).await.expect(201);
    let problem = desk
        .post("/api/scrips", scrip(json!({ "list": ["", "a\n{{ nothing }}"] })))
        .await
        .problem(422, "invalid");
    let fault = &problem["errors"][0];
    assert_eq!(
        (&fault["field"], &fault["line"]),
        (&json!("action_config.payload/list/1"), &json!(2)),
        "{problem}"
    );
    desk.post("/api/scrips", scrip(json!(["any", 1, null]))).await.expect(201);
}
