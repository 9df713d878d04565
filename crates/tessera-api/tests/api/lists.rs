//! Lists: tickets, histories, deliveries; their order, their pages, and what they refuse.

use super::desk::{Desk, each};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn pages_join_up_and_bad_ones_are_refused() {
    let desk = Desk::open().await;
    for _ in 0..7 {
        desk.create(json!({})).await;
    }
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = desk
            .post("/api/tickets/search", json!({ "filter": {}, "limit": 3, "cursor": cursor }))
            .await
            .expect(200);
        seen.extend(each(&page["items"], "/number").into_iter().map(|number| number.as_i64().unwrap()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
        // What is made meanwhile is newer than the page and moves nothing.
        desk.create(json!({})).await;
    }
    assert_eq!(seen, (1..=7).rev().collect::<Vec<_>>());
    for limit in ["0", "201", "-1"] {
        desk.get(&format!("/api/tickets?limit={limit}")).await.fault("limit", "200");
        desk.get(&format!("/api/deliveries?limit={limit}")).await.fault("limit", "200");
        desk.get(&format!("/api/tickets/1/transactions?limit={limit}")).await.fault("limit", "200");
    }
    for path in ["/api/tickets", "/api/deliveries", "/api/tickets/1/transactions"] {
        desk.get(&format!("{path}?cursor=gibberish")).await.problem(400, "malformed_cursor");
    }
}

#[tokio::test]
async fn a_history_has_outcomes_among_it_and_comes_in_pages() {
    let desk = Desk::open().await;
    let made = desk.create(json!({ "requestors": ["eve"] })).await;
    // What a worker writes when the mail server has taken the mail: an outcome, without a number of its own.
    let record = "INSERT INTO transactions (id, ticket_id, request_id, batch_seq, transaction_type, data, creator_id, created_at, caused_by, delivery_id)
                  SELECT $1, ticket_id, request_id, 0, 'EmailRecord', '{}', creator_id, created_at + interval '1 ms', id, $2
                  FROM transactions WHERE seq = 1";
    let delivery = made["deliveries"][0]["id"].as_str().unwrap().parse::<Uuid>().unwrap();
    let outcome = Uuid::from_u128(0x7000_8000_0000_0000_0001);
    sqlx::query(record).bind(outcome).bind(delivery).execute(desk.pool()).await.unwrap();
    desk.patch("/api/tickets/1", json!({ "subject": "Printer!" })).await.expect(200);

    let mut types = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = desk.get(&format!("/api/tickets/1/transactions?limit=1{cursor}")).await.expect(200);
        types.push((page["items"][0]["transaction_type"].clone(), page["items"][0]["seq"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(
        types,
        [(json!("Create"), json!(1)), (json!("EmailRecord"), Value::Null), (json!("Set"), json!(2))]
    );
    desk.get("/api/tickets/9/transactions").await.problem(404, "not_found");
}

#[tokio::test]
async fn deliveries_say_where_they_stand() {
    let desk = Desk::open().await;
    desk.create(json!({ "requestors": ["eve"], "status": "open" })).await;
    desk.patch("/api/tickets/1", json!({ "status": "resolved" })).await.expect(200);
    desk.create(json!({ "requestors": ["zoe@example.org"] })).await;

    let of_ticket = desk.get("/api/tickets/1/deliveries").await.expect(200);
    let mut kinds = each(&of_ticket["items"], "/kind");
    kinds.sort_by_key(|kind| kind.to_string());
    assert_eq!(kinds, ["email", "webhook"]);
    for item in of_ticket["items"].as_array().unwrap() {
        assert_eq!((&item["state"], &item["attempts"]), (&json!("available"), &json!(0)), "{item}");
        assert!(item["scrip"]["name"].is_string() && item["created_at"].is_string());
    }
    let count = |page: &Value| page["items"].as_array().unwrap().len();
    assert_eq!(count(&desk.get("/api/deliveries").await.expect(200)), 3);
    assert_eq!(count(&desk.get("/api/deliveries?kind=webhook&state=available").await.expect(200)), 1);
    assert_eq!(count(&desk.get("/api/deliveries?state=completed").await.expect(200)), 0);
    let first = desk.get("/api/deliveries?limit=2").await.expect(200);
    let rest = desk
        .get(&format!("/api/deliveries?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()))
        .await
        .expect(200);
    assert_eq!((count(&first), count(&rest), &rest["next_cursor"]), (2, 1, &Value::Null));
    desk.get("/api/deliveries?state=lost").await.problem(422, "invalid");
    desk.get("/api/deliveries?kind=Pigeon").await.problem(422, "invalid");
    desk.get("/api/tickets/9/deliveries").await.problem(404, "not_found");
}
