//! `If-Match`, `If-Plan` and `Idempotency-Key`.

use super::desk::{Desk, request};
use axum::http::Method;
use serde_json::json;

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    desk.patch_with("/api/tickets/1", &[("if-match", "\"1\"")], json!({ "priority": 1 })).await.expect(200);
    let before = desk.rows().await;
    let stale = desk.patch_with("/api/tickets/1", &[("if-match", "\"1\"")], json!({ "priority": 2 })).await;
    stale.problem(412, "version_mismatch");
    assert_eq!(desk.rows().await, before);
    desk.patch_with("/api/tickets/1", &[("if-match", "*")], json!({ "priority": 3 })).await.expect(200);
    let comment = request(
        Method::POST,
        "/api/tickets/1/comment",
        Some(json!({ "content": "hm" })),
        &[("if-match", "\"1\"")],
    );
    desk.send(comment).await.problem(412, "version_mismatch");
}

#[tokio::test]
async fn a_changed_plan_is_not_written_and_the_new_one_is_shown() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let body = json!({ "status": "open" });
    let hash = desk.post("/api/tickets/1/preview", body.clone()).await.expect(200)["plan_hash"]
        .as_str()
        .unwrap()
        .to_owned();
    desk.patch("/api/tickets/1", json!({ "priority": 5 })).await.expect(200);
    let before = desk.rows().await;
    let problem = desk
        .patch_with("/api/tickets/1", &[("if-plan", &hash)], body.clone())
        .await
        .problem(409, "plan_changed");
    assert_eq!(desk.rows().await, before);
    let plan = &problem["plan"];
    assert!(plan["scrips_considered"].is_array() && plan["ticket"]["status"] == "open", "{problem}");
    let fresh = plan["plan_hash"].as_str().unwrap();
    assert_ne!(fresh, hash);
    desk.patch_with("/api/tickets/1", &[("if-plan", fresh)], body).await.expect(200);

    let create = json!({ "queue": "Support", "subject": "x" });
    let other = request(Method::POST, "/api/tickets", Some(create.clone()), &[("if-plan", fresh)]);
    desk.send(other).await.problem(409, "plan_changed");
    let shown = desk.post("/api/tickets/preview", create.clone()).await.expect(200)["plan_hash"]
        .as_str()
        .unwrap()
        .to_owned();
    desk.send(request(Method::POST, "/api/tickets", Some(create), &[("if-plan", &shown)])).await.expect(201);
}

#[tokio::test]
async fn a_key_makes_a_request_safe_to_send_again() {
    let desk = Desk::open().await;
    let create = |subject: &str| {
        let body = json!({ "queue": "Support", "subject": subject });
        request(Method::POST, "/api/tickets", Some(body), &[("idempotency-key", "k 1")])
    };
    let first = desk.send(create("one")).await;
    let before = desk.rows().await;
    let again = desk.send(create("one")).await;
    assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (String::new(), "true".to_owned())
    );
    desk.send(create("two")).await.problem(422, "idempotency_key_reused");
    assert_eq!(desk.rows().await["tickets"], before["tickets"]);
    // The path is part of what the key stands for.
    let comment = request(
        Method::POST,
        "/api/tickets/1/comment",
        Some(json!({ "content": "hm" })),
        &[("idempotency-key", "k 1")],
    );
    desk.send(comment).await.problem(422, "idempotency_key_reused");
    // What was refused is not kept: the key is free.
    let patch = |priority: &str| {
        let body = serde_json::from_str(&format!("{{\"priority\": {priority}}}")).unwrap();
        request(Method::PATCH, "/api/tickets/1", Some(body), &[("idempotency-key", "k2")])
    };
    desk.send(patch("\"high\"")).await.problem(422, "invalid");
    desk.send(patch("1")).await.expect(200);
    let replayed = desk.send(patch("1")).await;
    assert_eq!(replayed.header("idempotency-replayed"), "true");
    assert_eq!(replayed.expect(200)["ticket"]["version"], 2);
}

#[tokio::test]
async fn the_same_key_at_once_is_one_ticket() {
    let desk = Desk::open().await;
    let body = json!({ "queue": "Support", "subject": "once" });
    let send = || {
        desk.send(request(Method::POST, "/api/tickets", Some(body.clone()), &[("idempotency-key", "twin")]))
    };
    let (one, other) = tokio::join!(send(), send());
    assert_eq!(one.bytes, other.bytes);
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (201, 201));
    assert_eq!(desk.rows().await["tickets"], 1);
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_refused_and_not_ignored() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let (long, short) = ("k".repeat(256), "0".repeat(63));
    let bad = [
        ("if-match", "seven"),
        ("if-match", "\"x\""),
        ("if-plan", "abc"),
        ("if-plan", &short),
        ("idempotency-key", &long),
        ("idempotency-key", ""),
    ];
    for header in bad {
        desk.patch_with("/api/tickets/1", &[header], json!({ "priority": 1 }))
            .await
            .problem(400, "malformed_header");
    }
    assert_eq!(desk.get("/api/tickets/1").await.expect(200)["version"], 1);
}
