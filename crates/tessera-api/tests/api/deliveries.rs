//! Deliveries: one with everything, what people do to them, and the endpoints they go to.

use super::desk::{Desk, each, request};
use axum::http::Method;
use serde_json::{Value, json};

const PAGER: &str = "https://pager.example";

/// A desk with a mail and a webhook that wait, and their ids.
async fn desk() -> (Desk, String, String) {
    let desk = Desk::open().await;
    desk.create(json!({ "requestors": ["eve"], "status": "open" })).await;
    desk.patch("/api/tickets/1", json!({ "status": "resolved" })).await.expect(200);
    let of = async |kind: &str| {
        let page = desk.get(&format!("/api/deliveries?kind={kind}")).await.expect(200);
        page["items"][0]["id"].as_str().unwrap().to_owned()
    };
    let (mail, hook) = (of("email").await, of("webhook").await);
    (desk, mail, hook)
}

/// Ends a delivery, as a worker would.
async fn end(desk: &Desk, id: &str, kind: &str) {
    let sql = format!(
        "INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
         SELECT ticket_id, request_id, 0, '{kind}', '{{\"reason\": \"permanent\"}}', creator_id, '{id}' FROM transactions WHERE seq = 1;
         INSERT INTO delivery_attempts (delivery_id, lease_token, attempt, started_at, finished_at, outcome, status_code, detail,
                                        response, recipients, duration_ms)
         VALUES ('{id}', nextval('delivery_lease'), 1, now(), now(), 'permanent', 550, '550 no', 'said', '[{{\"address\": \"eve@example.net\",
                 \"outcome\": \"permanent\", \"answer\": \"550 no\"}}]', 12);
         DELETE FROM delivery_queue WHERE delivery_id = '{id}';"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(desk.pool()).await.unwrap();
}

#[tokio::test]
async fn a_delivery_is_shown_with_its_message_its_attempts_and_what_people_did() {
    let (desk, mail, hook) = desk().await;
    end(&desk, &mail, "DeliveryFailed").await;
    desk.post(&format!("/api/deliveries/{mail}/resend"), json!({})).await.expect(200);
    let seen = desk.get(&format!("/api/deliveries/{mail}")).await.expect(200);
    assert_eq!(
        (&seen["kind"], &seen["state"], &seen["endpoint"]),
        (&json!("email"), &json!("available"), &json!("smtp"))
    );
    assert_eq!(seen["to"], json!(["eve@example.net"]));
    assert_eq!(seen["headers"]["Tessera-Depth"], "1");
    let attempt = &seen["attempts_made"][0];
    assert_eq!(
        (&attempt["number"], &attempt["outcome"], &attempt["status_code"]),
        (&json!(1), &json!("permanent"), &json!(550))
    );
    assert_eq!((&attempt["duration_ms"], &attempt["response"]), (&json!(12), &json!("said")));
    assert_eq!(attempt["recipients"][0]["address"], "eve@example.net");
    assert!(attempt["started_at"].is_string());
    assert_eq!(
        (&seen["actions"][0]["action"], &seen["actions"][0]["actor"]),
        (&json!("resend"), &json!("admin"))
    );

    let seen = desk.get(&format!("/api/deliveries/{hook}")).await.expect(200);
    assert_eq!((&seen["method"], &seen["url"]), (&json!("POST"), &json!("https://pager.example/hook")));
    assert_eq!(seen["headers"]["X-Key"], json!({ "secret": "pager" }), "a secret is named, never shown");
    assert_eq!(
        (&seen["attempts_made"], &seen["actions"], &seen["hold"]),
        (&json!([]), &json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn a_delivery_is_held_released_and_cancelled() {
    let (desk, mail, _) = desk().await;
    let act = async |what: &str| desk.post(&format!("/api/deliveries/{mail}/{what}"), json!({})).await;
    let held = act("hold").await.expect(200);
    assert_eq!(
        (&held["state"], &held["hold"]["reason"], &held["hold"]["by"]),
        (&json!("held"), &json!("operator"), &json!("admin"))
    );
    assert!(held["hold"]["detail"].is_string() && held["hold"]["until"].is_null());
    let page = desk.get("/api/deliveries?state=held").await.expect(200);
    assert_eq!(each(&page["items"], "/id"), [&json!(mail)]);
    assert_eq!(act("release").await.expect(200)["state"], "available");
    act("resend").await.problem(409, "delivery_unfinished");
    let cancelled = act("cancel").await.expect(200);
    assert_eq!((&cancelled["state"], &cancelled["next_attempt_at"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(each(&cancelled["actions"], "/action"), ["cancel", "release", "hold"]);
    let page = desk.get("/api/deliveries?state=cancelled").await.expect(200);
    assert_eq!(each(&page["items"], "/id"), [&json!(mail)]);
    for what in ["hold", "release", "cancel"] {
        act(what).await.problem(409, "delivery_finished");
    }
    let history = desk.get("/api/tickets/1/transactions").await.expect(200);
    let line = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["transaction_type"] == "DeliveryFailed")
        .unwrap();
    assert_eq!((&line["data"]["reason"], &line["creator"]), (&json!("cancelled"), &json!("admin")));
}

#[tokio::test]
async fn a_message_that_is_no_longer_kept_is_not_sent_again_and_still_listed() {
    let (desk, mail, _) = desk().await;
    end(&desk, &mail, "EmailRecord").await;
    sqlx::query("UPDATE deliveries SET payload = NULL, body = NULL WHERE kind = 'email'")
        .execute(desk.pool())
        .await
        .unwrap();
    desk.post(&format!("/api/deliveries/{mail}/resend"), json!({})).await.problem(409, "payload_gone");
    let page = desk.get("/api/tickets/1/deliveries").await.expect(200);
    let item = page["items"].as_array().unwrap().iter().find(|one| one["id"] == mail).unwrap();
    assert_eq!((&item["kind"], &item["state"]), (&json!("email"), &json!("completed")));
    let whole = desk.get(&format!("/api/deliveries/{mail}")).await.expect(200);
    assert_eq!((&whole["kind"], &whole["missing"]), (&json!("email"), &json!("gone")));
}

#[tokio::test]
async fn an_endpoint_is_listed_held_and_released() {
    let (desk, _, hook) = desk().await;
    let body = json!({ "endpoint": PAGER });
    let held = desk.post("/api/deliveries/endpoints/hold", body.clone()).await.expect(200);
    assert_eq!(
        (&held["state"], &held["held"], &held["held_by"]),
        (&json!("held"), &json!(1), &json!("admin"))
    );
    desk.post(&format!("/api/deliveries/{hook}/release"), json!({})).await.problem(409, "endpoint_held");
    let list = desk.get("/api/deliveries/endpoints").await.expect(200);
    assert_eq!(each(&list["items"], "/endpoint"), [PAGER, "smtp"], "the worst first");
    assert_eq!(each(&list["items"], "/state"), ["held", "fine"]);
    let page = desk.get(&format!("/api/deliveries?endpoint={PAGER}")).await.expect(200);
    assert_eq!(each(&page["items"], "/hold/reason"), ["endpoint"]);
    let released = desk.post("/api/deliveries/endpoints/release", body).await.expect(200);
    assert_eq!((&released["state"], &released["waiting"]), (&json!("fine"), &json!(1)));
    let nowhere = json!({ "endpoint": "https://nowhere.example" });
    desk.post("/api/deliveries/endpoints/hold", nowhere.clone()).await.problem(404, "not_found");
    desk.post("/api/deliveries/endpoints/release", nowhere).await.problem(404, "not_found");
    desk.post("/api/deliveries/endpoints/hold", json!({})).await.problem(422, "invalid");
    for hours in ["0", "169", "-1"] {
        desk.get(&format!("/api/deliveries/endpoints?hours={hours}")).await.fault("hours", "1 to 168");
    }
    desk.get("/api/deliveries/endpoints?hours=168").await.expect(200);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let desk = Desk::open().await;
    for id in ["00000000-0000-7000-8000-000000000000", "17"] {
        desk.get(&format!("/api/deliveries/{id}")).await.problem(404, "not_found");
        for what in ["hold", "release", "cancel", "resend"] {
            desk.post(&format!("/api/deliveries/{id}/{what}"), json!({})).await.problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn a_request_says_how_deep_it_is_and_its_preview_too() {
    let desk = Desk::open().await;
    let body = json!({ "queue": "Support", "subject": "Ping", "requestors": ["eve"] });
    let send = async |path: &str, depth: &str| {
        desk.send(request(Method::POST, path, Some(body.clone()), &[("Tessera-Depth", depth)])).await
    };
    let preview = send("/api/tickets/preview", "3").await.expect(200);
    assert_eq!(preview["deliveries"][0]["headers"]["Tessera-Depth"], "4");
    assert_eq!(send("/api/tickets", "3").await.expect(201)["plan_hash"], preview["plan_hash"]);
    let preview = send("/api/tickets/preview", "5").await.expect(200);
    assert_eq!(each(&preview["scrips_fired"], "/verdict"), ["stopped"]);
    assert_eq!(send("/api/tickets", "5").await.expect(201)["plan_hash"], preview["plan_hash"]);
    for bad in ["", "-1", "+1", "1.0", "five", "1001", "99999999999", "1, 2"] {
        send("/api/tickets", bad).await.problem(400, "malformed_header");
        send("/api/tickets/preview", bad).await.problem(400, "malformed_header");
    }
    let update = json!({ "status": "open" });
    let deep = request(Method::PATCH, "/api/tickets/1", Some(update), &[("Tessera-Depth", "x")]);
    desk.send(deep).await.problem(400, "malformed_header");
}

#[tokio::test]
async fn the_ticket_in_the_default_body_of_a_webhook_is_the_one_that_the_api_returns() {
    let desk = Desk::open().await;
    let scrip = json!({"name": "Shape", "condition_type": "OnTransaction", "action_type": "Webhook",
        "action_config": {"url": "https://shape.example/in"}});
    desk.post("/api/scrips", scrip).await.expect(201);
    desk.create(json!({ "requestors": ["eve"], "cc": ["kim@example.net"], "priority": 3 })).await;
    desk.patch("/api/tickets/1", json!({ "status": "open" })).await.expect(200);
    let read = desk.get("/api/tickets/1").await.expect(200);
    let page = desk.get("/api/deliveries?kind=webhook").await.expect(200);
    let mut versions = Vec::new();
    for item in page["items"].as_array().unwrap() {
        let seen = desk.get(&format!("/api/deliveries/{}", item["id"].as_str().unwrap())).await.expect(200);
        if seen["url"] == "https://shape.example/in" {
            let body: Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap();
            let ticket = &body["data"]["ticket"];
            let version = ticket["version"].as_i64().unwrap();
            assert_eq!(*ticket, desk.get(&format!("/api/tickets/1/at/{version}")).await.expect(200));
            versions.push(version);
        }
    }
    assert_eq!(versions.iter().max(), Some(&read["version"].as_i64().unwrap()));
}
