//! Bad input, a line each: what is refused, where the answer points, and that nothing was written.

use super::desk::Desk;
use axum::http::Method;
use serde_json::{Value, json};

/// What `POST /api/tickets` refuses: the members that differ from a good body, the field at fault, and words of the message.
fn creates() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({ "subjekt": "x" }), "subjekt", "unknown field"),
        (json!({ "priority": "high" }), "priority", "high"),
        (json!({ "priority": 2_147_483_648_i64 }), "priority", ""),
        (json!({ "priority": 1.5 }), "priority", ""),
        (json!({ "subject": 5 }), "subject", "string"),
        (json!({ "subject": "" }), "subject", "empty"),
        (json!({ "subject": "x".repeat(1_001) }), "subject", "1000"),
        (json!({ "subject": "a\u{0}b" }), "subject", ""),
        (json!({ "subject": "a\r\nBcc: eve@example.net" }), "subject", "line"),
        (json!({ "queue": "Nowhere" }), "queue", "\"Support\""),
        (json!({ "queue": null }), "queue", "string"),
        (json!({ "status": "stalled" }), "status", "\"new\""),
        (json!({ "owner": "carol" }), "owner", "\"ada\""),
        (json!({ "owner": "eve" }), "owner", "privileged"),
        (json!({ "owner": "a\u{0}" }), "owner", "\"ada\""),
        (json!({ "due_at": "tomorrow" }), "due_at", "2026-11-23T10:00:00Z"),
        (json!({ "due_at": 17 }), "due_at", ""),
        (json!({ "requestors": "eve" }), "requestors", ""),
        (json!({ "requestors": ["carol"] }), "requestors", "carol"),
        (json!({ "requestors": ["a@b\r\nBcc: c@d"] }), "requestors", "address"),
        (json!({ "cc": ["a\u{0}@example.org"] }), "cc", "address"),
        (json!({ "cc": [7] }), "cc[0]", "string"),
        (json!({ "custom_fields": { "Color": "red" } }), "custom_fields.Color", "\"Severity\""),
        (json!({ "custom_fields": { "Severity": "medium" } }), "custom_fields.Severity", "\"low\""),
        (json!({ "custom_fields": { "Severity": ["low", "high"] } }), "custom_fields.Severity", ""),
        (json!({ "custom_fields": { "Severity": true } }), "custom_fields.Severity", ""),
        (json!({ "custom_fields": { "Severity": { "add": ["low"] } } }), "custom_fields.Severity", ""),
        (
            json!({ "custom_fields": { "Components": ["web", "db", "mail"] } }),
            "custom_fields.Components",
            "2",
        ),
        (json!({ "custom_fields": { "Build": "one" } }), "custom_fields.Build", "[0-9]"),
        (json!({ "custom_fields": { "Build": "1".repeat(2_001) } }), "custom_fields.Build", "2000"),
        (json!({ "custom_fields": { "Build": "1\u{0}" } }), "custom_fields.Build", ""),
        (json!({ "custom_fields": ["Severity"] }), "custom_fields", ""),
        (json!({ "content": "a\u{0}b" }), "content", "U+0000"),
        (
            json!({ "content": { "content": "x", "content_type": "text/rtf" } }),
            "content.content_type",
            "text/html",
        ),
        (json!({ "content": { "text": "x" } }), "content", "unknown field"),
        (json!({ "due_at": "0000-01-01T00:00:00+23:59" }), "due_at", "years 1 to 9999"),
        (json!({ "due_at": "9999-12-31T23:59:59-01:00" }), "due_at", "years 1 to 9999"),
        (json!({ "requestors": vec!["a@example.net"; 201] }), "requestors", "at most 200"),
    ]
}

#[tokio::test]
async fn a_create_that_cannot_be_right_says_where_and_writes_nothing() {
    let desk = Desk::open().await;
    let before = desk.rows().await;
    for (difference, field, says) in creates() {
        for path in ["/api/tickets", "/api/tickets/preview"] {
            let mut body = json!({ "queue": "Support", "subject": "Printer" });
            body.as_object_mut().unwrap().extend(difference.as_object().unwrap().clone());
            desk.post(path, body).await.fault(field, says);
        }
    }
    // A refused create may leave a gap in the numbers, and nothing else.
    let mut after = desk.rows().await;
    after.insert("ticket_number", before["ticket_number"]);
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_body_that_is_no_object_or_lacks_what_it_needs_is_refused() {
    let desk = Desk::open().await;
    desk.post("/api/tickets", json!({ "subject": "x" })).await.fault("queue", "is missing");
    desk.post("/api/tickets", json!({ "queue": "Support" })).await.fault("subject", "is missing");
    for body in [json!(["Support", "x"]), json!("x"), json!(1), Value::Null] {
        desk.post("/api/tickets", body).await.problem(422, "invalid");
    }
    desk.create(json!({})).await;
    desk.patch("/api/tickets/1", json!(["x"])).await.problem(422, "invalid");
    desk.post("/api/tickets/1/comment", json!({})).await.fault("content", "is missing");
    desk.post("/api/tickets/1/comment", json!({ "content": " " })).await.problem(422, "invalid");
    desk.post("/api/tickets/1/correspond", json!({ "content": "x", "content_type": "text/rtf" }))
        .await
        .problem(422, "invalid");
    assert_eq!(desk.get("/api/tickets/1").await.expect(200)["version"], 1);
}

/// What `PATCH /api/tickets/{ref}` refuses.
fn updates() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({ "number": 5 }), "number", "unknown field"),
        (json!({ "content": "x" }), "content", "unknown field"),
        (json!({ "subject": null }), "subject", "string"),
        (json!({ "status": null }), "status", "string"),
        (json!({ "queue": "Nowhere" }), "queue", "\"Sales\""),
        (json!({ "priority": null }), "priority", ""),
        (json!({ "requestors": ["eve"] }), "requestors", "{\"add\""),
        (json!({ "requestors": { "set": ["eve"] } }), "requestors.set", "unknown field"),
        (json!({ "requestors": [["eve"], ["ada"]] }), "requestors", "{\"add\""),
        (json!({ "cc": { "add": "eve" } }), "cc.add", "sequence"),
        (json!({ "cc": { "add": ["carol"] } }), "cc", "carol"),
        (
            json!({ "custom_fields": { "Severity": { "set": "low" } } }),
            "custom_fields.Severity",
            "unknown field",
        ),
        (
            json!({ "custom_fields": { "Severity": { "add": ["medium"] } } }),
            "custom_fields.Severity",
            "\"low\"",
        ),
        (json!({ "comment": 5 }), "comment", ""),
        (
            json!({ "comment": { "content": "x", "content_type": "text/rtf" } }),
            "comment.content_type",
            "text/plain",
        ),
        (json!({ "reply": "a\u{0}" }), "reply", "U+0000"),
    ]
}

#[tokio::test]
async fn an_update_that_cannot_be_right_says_where_and_writes_nothing() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let before = desk.rows().await;
    for (mut body, field, says) in updates() {
        // Beside it stands something that would be right: nothing is ever half applied.
        body["priority"] = body.get("priority").cloned().unwrap_or(json!(9));
        for (method, path) in [("PATCH", "/api/tickets/1"), ("POST", "/api/tickets/1/preview")] {
            let reply = if method == "PATCH" {
                desk.patch(path, body.clone()).await
            } else {
                desk.post(path, body.clone()).await
            };
            reply.fault(field, says);
        }
    }
    assert_eq!(desk.rows().await, before);
}

#[tokio::test]
async fn a_transition_that_is_not_allowed_says_which_are() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let problem = desk
        .patch("/api/tickets/1", json!({ "status": "resolved", "priority": 9 }))
        .await
        .problem(409, "transition_denied");
    assert_eq!(problem["allowed"], json!(["open", "deleted"]));
    assert_eq!(desk.get("/api/tickets/1").await.expect(200)["version"], 1);
}

#[tokio::test]
async fn a_repeated_member_is_refused_in_every_body_at_every_depth() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let content = r#"{"content": "a", "content": "b"}"#;
    let update =
        |member: &str, value: &str| (Method::PATCH, "/api/tickets/1", format!(r#"{{"{member}": {value}}}"#));
    let create = |more: &str| {
        (Method::POST, "/api/tickets", format!(r#"{{"queue": "Support", "subject": "x", {more}}}"#))
    };
    let scrip = |more: &str| (Method::POST, "/api/scrips", format!(r#"{{"name": "x", {more}}}"#));
    for ((method, path, body), field) in [
        (create(r#""queue": "Sales""#), "queue"),
        (create(r#""custom_fields": {"Severity": "low", "Severity": "high"}"#), "custom_fields.Severity"),
        (create(&format!(r#""content": {content}"#)), "content.content"),
        (update("comment", content), "comment.content"),
        (update("reply", content), "reply.content"),
        (update("requestors", r#"{"add": [], "add": []}"#), "requestors.add"),
        (update("cc", r#"{"remove": ["a@b.example"], "remove": []}"#), "cc.remove"),
        (
            update("custom_fields", r#"{"Components": {"add": ["web"], "add": ["db"]}}"#),
            "custom_fields.Components",
        ),
        ((Method::POST, "/api/tickets/1/comment", content.to_owned()), "content"),
        ((Method::POST, "/api/tickets/1/correspond", content.to_owned()), "content"),
        (
            (
                Method::POST,
                "/api/tickets/search",
                r#"{"order": [{"field": "id", "field": "id"}]}"#.to_owned(),
            ),
            "order[0].field",
        ),
        (
            (
                Method::POST,
                "/api/tickets/search",
                r#"{"filter": {"Status": "new", "Status": "open"}}"#.to_owned(),
            ),
            "filter.Status",
        ),
        (scrip(r#""action_config": {"headers": {"X-A": "a", "X-A": "b"}}"#), "action_config.headers.X-A"),
        (scrip(r#""condition_config": {"to": "open", "to": "new"}"#), "condition_config.to"),
        (scrip(r#""unknown": [[{"a": {"b": 1, "b": 2}}]]"#), "unknown[0][0].a.b"),
        (
            (
                Method::POST,
                "/api/lifecycles",
                r#"{"name": "x", "definition": {"transitions": {"new": [], "new": []}}}"#.to_owned(),
            ),
            "definition.transitions.new",
        ),
        ((Method::PATCH, "/api/queues/Support", r#"{"cc": [], "cc": ["ada"]}"#.to_owned()), "cc"),
        ((Method::PUT, "/api/secrets/pager", r#"{"value": "a", "value": "b"}"#.to_owned()), "value"),
    ] {
        let mut asked = super::desk::request(method, path, Some(json!({})), &[]);
        *asked.body_mut() = axum::body::Body::from(body.clone());
        let problem = desk.send(asked).await.problem(422, "invalid");
        let fault = &problem["errors"][0];
        assert_eq!(fault["field"], field, "{path} {body}: {problem:#}");
        let message = fault["message"].as_str().unwrap();
        assert!(
            message.starts_with('"') && message.ends_with("\" is repeated; keep one"),
            "{path} {body}: {message}"
        );
    }
    assert_eq!(desk.get("/api/tickets/1").await.expect(200)["version"], 1);
}

#[tokio::test]
async fn one_field_in_two_spellings_and_one_person_added_and_removed_are_refused() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let spelled = json!({ "Severity": "low", "severity": "high" });
    let create = json!({ "queue": "Support", "subject": "x", "custom_fields": spelled });
    desk.post("/api/tickets", create)
        .await
        .fault("custom_fields.severity", "is the same field as \"Severity\"");
    for (body, field, told) in [
        (json!({ "custom_fields": spelled }), "custom_fields.severity", "is the same field as"),
        (
            json!({ "cc": { "add": ["x@example.net"], "remove": ["X@example.net"] } }),
            "cc",
            "both added and removed",
        ),
        (
            json!({ "cc": { "add": ["ada"], "remove": ["Ada <ada@desk.example>"] } }),
            "cc",
            "both added and removed",
        ),
        (
            json!({ "custom_fields": { "Components": { "add": ["web"], "remove": ["WEB"] } } }),
            "custom_fields.Components",
            "both added and removed",
        ),
    ] {
        desk.patch("/api/tickets/1", body).await.fault(field, told);
    }
}
