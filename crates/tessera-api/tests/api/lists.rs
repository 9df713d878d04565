//! Lists: tickets by a filter, histories, deliveries; their order, their pages, and what they refuse.

use super::desk::{Desk, each};
use serde_json::{Value, json};
use uuid::Uuid;

/// The numbers that a search finds, in its order.
async fn found(desk: &Desk, filter: Value) -> Vec<i64> {
    let page = desk.post("/api/tickets/search", json!({ "filter": filter })).await.expect(200);
    each(&page["items"], "/number").iter().map(|number| number.as_i64().unwrap()).collect()
}

/// Five tickets that differ; the last is deleted.
async fn tickets(desk: &Desk) {
    let fields =
        |severity: &str, components: &[&str]| json!({ "Severity": severity, "Components": components });
    desk.create(json!({ "subject": "Printer 100%", "owner": "ada", "requestors": ["eve"], "custom_fields": fields("high", &["web"]) })).await;
    desk.create(json!({ "subject": "PRINTER_2", "priority": 5, "cc": ["zoe@example.org"], "custom_fields": fields("low", &["web", "db"]) })).await;
    desk.create(json!({ "subject": "Straße", "status": "open", "admin_cc": ["bob"] })).await;
    let sale = json!({ "queue": "Sales", "subject": "Buy a printer", "requestors": ["Zoe@Example.org"] });
    desk.post("/api/tickets", sale).await.expect(201);
    desk.create(json!({ "subject": "gone" })).await;
    desk.patch("/api/tickets/5", json!({ "status": "deleted" })).await.expect(200);
}

#[tokio::test]
async fn a_flat_filter_finds_what_it_says() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let cases = [
        (json!({}), vec![4, 3, 2, 1]),
        (json!({ "id": 2 }), vec![2]),
        (json!({ "id": [1, 3, 99] }), vec![3, 1]),
        (json!({ "Subject": "printer" }), vec![4, 2, 1]),
        (json!({ "Subject": "%" }), vec![1]),
        (json!({ "Subject": "R_2" }), vec![2]),
        (json!({ "Subject": ["straße", "buy"] }), vec![4, 3]),
        (json!({ "Status": "new" }), vec![4, 2, 1]),
        (json!({ "Status": ["Open", "deleted"] }), vec![5, 3]),
        (json!({ "Queue": "sales" }), vec![4]),
        (json!({ "Queue": "00000000-0000-7000-8000-0000000000c2" }), vec![4]),
        (json!({ "Owner": "ada" }), vec![1]),
        (json!({ "Owner": "Nobody" }), vec![4, 3, 2]),
        (json!({ "Owner": null, "Queue": "Support" }), vec![3, 2]),
        (json!({ "Owner": ["ada", null] }), vec![4, 3, 2, 1]),
        (json!({ "Creator": "admin" }), vec![4, 3, 2, 1]),
        (json!({ "Creator": "bob" }), vec![]),
        (json!({ "Requestor": "eve" }), vec![1]),
        (json!({ "Requestor": "EVE@example.net" }), vec![1]),
        (json!({ "Requestor": ["eve", "zoe@example.org"] }), vec![4, 1]),
        (json!({ "Cc": "ZOE@example.org" }), vec![2]),
        (json!({ "AdminCc": "bob" }), vec![3]),
        (json!({ "Priority": [5, 7] }), vec![2]),
        (json!({ "CF.{Severity}": "HIGH" }), vec![1]),
        (json!({ "CF.severity": ["low", "high"] }), vec![2, 1]),
        (json!({ "CF.{Components}": "web", "CF.{Severity}": "low" }), vec![2]),
        (json!({ "CF.{Severity}": null }), vec![4, 3]),
        (json!({ "CF.{Severity}": [null, "low"], "Queue": "Support" }), vec![3, 2]),
        (json!({ "Subject": "'; DROP TABLE tickets; --" }), vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&desk, filter.clone()).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn a_filter_that_cannot_be_understood_says_what_exists() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let cases = [
        (json!({ "Sverity": "high" }), "Queue"),
        (json!({ "CF.{Color}": "red" }), "Severity"),
        (json!({ "Queue": "Nowhere" }), "Support"),
        (json!({ "Status": "stalled" }), "resolved"),
        (json!({ "Owner": "carol" }), "ada"),
        (json!({ "Creator": "carol" }), "carol"),
        (json!({ "id": "seven" }), "id"),
        (json!({ "Priority": "high" }), "Priority"),
        (json!({ "Subject": true }), "Subject"),
        (json!({ "Subject": { "like": "x" } }), "Subject"),
        (json!({ "Subject": null }), "Subject"),
        (json!({ "Subject": "a\u{0}" }), "Subject"),
        (json!({ "Status": [] }), "Status"),
        (json!({ "Status": "new", "status": "open" }), "twice"),
        (json!({ "CF.Severity": "low", "CF.{severity}": "high" }), "twice"),
        (json!({ "Creator": null }), "null"),
        (json!({ "id": (1..=1_000).collect::<Vec<_>>() }), "id"),
    ];
    for (filter, says) in cases {
        let problem =
            desk.post("/api/tickets/search", json!({ "filter": filter })).await.problem(422, "invalid");
        assert!(problem["errors"].to_string().contains(says), "{filter}: {problem}");
    }
    desk.post("/api/tickets/search", json!({ "filters": {} })).await.fault("filters", "unknown field");
}

#[tokio::test]
async fn the_list_of_tickets_takes_the_same_words_from_the_url() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    for (query, expected) in [
        ("", vec![4, 3, 2, 1]),
        ("?queue=Support&status=new", vec![2, 1]),
        ("?owner=Nobody&queue=sales", vec![4]),
        ("?status=deleted", vec![5]),
        ("?limit=2", vec![4, 3]),
    ] {
        let page = desk.get(&format!("/api/tickets{query}")).await.expect(200);
        assert_eq!(each(&page["items"], "/number"), expected, "{query}");
    }
    assert_eq!(
        desk.get("/api/tickets?limit=1").await.expect(200)["items"][0],
        desk.get("/api/tickets/4").await.expect(200)
    );
    desk.get("/api/tickets?queue=Nowhere").await.problem(422, "invalid");
    desk.get("/api/tickets?colour=red").await.problem(400, "malformed_query");
}

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
    desk.get("/api/deliveries?kind=pigeon").await.problem(422, "invalid");
    desk.get("/api/tickets/9/deliveries").await.problem(404, "not_found");
}
