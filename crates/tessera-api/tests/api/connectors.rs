//! Connectors over HTTP: added, listed with their kinds, revoked.

use crate::desk::{Desk, request};
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
        (json!({ "name": "a", "kinds": many }), "kinds", "more than 16"),
        (json!({ "name": "a", "kinds": ["chat"], "user": "eve" }), "user", "no privileged user"),
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
    let scrips = "UPDATE scrips SET state = 'disabled' WHERE name = 'Tell the pager'";
    sqlx::query(scrips).execute(desk.pool()).await.unwrap();
    desk.create(json!({ "requestors": ["eve@example.net"] })).await;
    let kinds = desk.get("/api/connectors").await.expect(200)["kinds"].clone();
    assert_eq!((&kinds[1]["unfinished"], &kinds[2]["scrips"]), (&json!(1), &json!([])));
}
