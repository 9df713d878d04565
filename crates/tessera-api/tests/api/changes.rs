//! Creating and changing tickets, and reading their history and deliveries.

use super::desk::{Desk, each};
use serde_json::{Value, json};

#[tokio::test]
async fn a_create_answers_the_ticket_its_history_and_what_leaves() {
    let desk = Desk::open().await;
    let body = json!({
        "queue": "support", "subject": "Printer on fire", "owner": "ada", "priority": 3, "due_at": "2027-01-02T04:04:05+01:00",
        "requestors": ["eve", "zoe@example.org"], "cc": ["bob@desk.example"], "admin_cc": [],
        "custom_fields": { "Severity": "HIGH", "components": ["db", "web"], "Build": 17 }, "content": "It burns."
    });
    let reply = desk.post("/api/tickets", body).await;
    assert_eq!(reply.header("etag"), "\"1\"");
    let made = reply.expect(201);
    let ticket = &made["ticket"];
    let expected = json!({
        "id": ticket["id"], "number": 1, "version": 1, "subject": "Printer on fire", "status": "new", "owner": "ada", "creator": "admin",
        "queue": { "id": "00000000-0000-7000-8000-0000000000c1", "name": "Support" }, "priority": 3,
        "requestors": [{ "address": "eve@example.net", "username": "eve" }, { "address": "zoe@example.org", "username": null }],
        "cc": [{ "address": "bob@desk.example", "username": "bob" }], "admin_cc": [],
        "custom_fields": { "Severity": "high", "Components": ["db", "web"], "Build": "17" },
        "created_at": ticket["created_at"], "updated_at": ticket["created_at"], "started_at": null, "resolved_at": null,
        "due_at": "2027-01-02T03:04:05Z", "told_at": null,
    });
    assert_eq!(ticket, &expected);
    assert_eq!(each(&made["transactions"], "/transaction_type"), ["Create"]);
    let scrip = json!({ "id": "00000000-0000-7000-8000-0000000000f1", "name": "Autoreply", "version": 1 });
    let delivery =
        json!({ "id": made["deliveries"][0]["id"], "kind": "email", "scrip": scrip, "state": "available" });
    assert_eq!(made["deliveries"], json!([delivery]));
    let fired = &made["scrips_fired"];
    assert_eq!(each(fired, "/scrip"), [&scrip]);
    assert_eq!(each(fired, "/version"), [1]);
    assert_eq!(each(fired, "/stage"), ["TransactionCreate"]);
    assert_eq!(each(fired, "/action_type"), ["SendEmail"]);
    assert_eq!(each(fired, "/verdict"), ["fired"]);
    assert_eq!(each(fired, "/delivery_ids"), [&json!([delivery["id"]])]);
    let hash = made["plan_hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()));

    // What is read is what was answered, by number and by id.
    for name in ["1", ticket["id"].as_str().unwrap()] {
        let read = desk.get(&format!("/api/tickets/{name}")).await;
        assert_eq!(read.header("etag"), "\"1\"");
        assert_eq!(read.expect(200), expected);
    }
    assert_eq!(desk.get("/api/tickets/1/transactions").await.expect(200)["items"], made["transactions"]);
}

#[tokio::test]
async fn an_update_changes_all_that_it_names_and_reads_back_the_same() {
    let desk = Desk::open().await;
    desk.create(json!({
        "requestors": ["eve"], "cc": ["old@example.org"],
        "custom_fields": { "Severity": "low", "Components": ["web", "db"], "Build": "1" }
    }))
    .await;
    let body = json!({
        "subject": "Printer, again", "status": "open", "owner": "bob", "priority": 2, "due_at": "2027-05-06T07:08:09Z",
        "requestors": { "add": ["zoe@example.org"], "remove": ["eve@example.net"] }, "cc": { "remove": ["OLD@example.org"] },
        "admin_cc": { "add": ["ada"] },
        "custom_fields": { "Severity": null, "Components": { "add": ["mail"], "remove": ["db"] }, "Build": ["23"] },
        "comment": "for us", "reply": { "content": "<p>for you</p>", "content_type": "text/html" }
    });
    let reply = desk.patch("/api/tickets/1", body).await;
    let etag = reply.header("etag");
    let changed = reply.expect(200);
    let ticket = &changed["ticket"];
    assert_eq!(etag, format!("\"{}\"", ticket["version"]));
    for (member, expected) in [
        ("subject", json!("Printer, again")),
        ("status", json!("open")),
        ("owner", json!("bob")),
        ("due_at", json!("2027-05-06T07:08:09Z")),
        ("requestors", json!([{ "address": "zoe@example.org", "username": null }])),
        ("cc", json!([])),
        ("admin_cc", json!([{ "address": "ada@desk.example", "username": "ada" }])),
        ("custom_fields", json!({ "Severity": null, "Components": ["web", "mail"], "Build": "23" })),
        // The request said 2, and the scrip that sees the status change says 7.
        ("priority", json!(7)),
    ] {
        assert_eq!(ticket[member], expected, "{member}");
    }
    assert!(ticket["started_at"].is_string() && ticket["told_at"].is_string());
    assert_eq!(&desk.get("/api/tickets/1").await.expect(200), ticket);

    let history = desk.get("/api/tickets/1/transactions").await.expect(200);
    let (new, old) = (changed["transactions"].as_array().unwrap(), history["items"].as_array().unwrap());
    assert_eq!(&old[1..], new.as_slice(), "history has what the update answered");
    assert_eq!(each(&history["items"], "/seq"), (1..=old.len()).collect::<Vec<_>>());
    let by_scrip = new.iter().find(|one| one["scrip"]["name"] == "Urgent when open").unwrap();
    let status = new.iter().find(|one| one["transaction_type"] == "Status").unwrap();
    assert_eq!(by_scrip["caused_by"], status["id"]);
    assert_eq!((&by_scrip["creator"], &status["creator"]), (&json!("tessera"), &json!("admin")));
    assert_eq!((&status["old_value"], &status["new_value"]), (&json!("new"), &json!("open")));
}

#[tokio::test]
async fn nothing_to_change_is_no_change_and_null_clears() {
    let desk = Desk::open().await;
    desk.create(json!({ "owner": "ada", "due_at": "2027-01-02T03:04:05Z" })).await;
    let same =
        desk.patch("/api/tickets/1", json!({ "owner": "ADA", "subject": "Printer" })).await.expect(200);
    assert_eq!((same["transactions"].clone(), &same["ticket"]["version"]), (json!([]), &json!(1)));
    let empty = desk.patch("/api/tickets/1", json!({})).await.expect(200);
    assert_eq!(empty["ticket"]["version"], 1);
    let cleared = desk.patch("/api/tickets/1", json!({ "owner": null, "due_at": null })).await.expect(200);
    assert_eq!((&cleared["ticket"]["owner"], &cleared["ticket"]["due_at"]), (&Value::Null, &Value::Null));
    desk.patch("/api/tickets/1", json!({ "owner": "ada" })).await.expect(200);
    let nobody = desk.patch("/api/tickets/1", json!({ "owner": "nobody" })).await.expect(200);
    assert_eq!(nobody["ticket"]["owner"], Value::Null);
    let moved = desk.patch("/api/tickets/1", json!({ "queue": "Sales" })).await.expect(200);
    assert_eq!(
        (&moved["ticket"]["queue"]["name"], &moved["ticket"]["custom_fields"]),
        (&json!("Sales"), &json!({}))
    );
}

#[tokio::test]
async fn comments_and_replies_are_made_by_routes_of_their_own() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let comment = desk.post("/api/tickets/1/comment", json!({ "content": "hm" })).await;
    assert_eq!(comment.header("etag"), "\"2\"");
    let comment = comment.expect(201);
    assert_eq!(each(&comment["transactions"], "/transaction_type"), ["Comment"]);
    assert!(
        comment["plan_hash"].is_string()
            && comment["scrips_fired"].is_array()
            && comment["deliveries"].is_array()
    );
    let reply = json!({ "content": "<b>hello</b>", "content_type": "text/html" });
    let reply = desk.post("/api/tickets/1/correspond", reply).await.expect(201);
    assert_eq!(reply["transactions"][0]["transaction_type"], "Correspond");
    let told = &reply["transactions"][0];
    assert_eq!((&told["content"], &told["content_type"]), (&json!("hello"), &json!("text/html")));
    desk.post("/api/tickets/9/comment", json!({ "content": "hm" })).await.problem(404, "not_found");
}

#[tokio::test]
async fn why_walks_from_a_change_to_the_person_who_set_it_off() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let changed = desk.patch("/api/tickets/1", json!({ "status": "open" })).await.expect(200);
    let transactions = changed["transactions"].as_array().unwrap();
    let priority = transactions.iter().find(|one| one["field"] == "Priority").unwrap();
    let status = transactions.iter().find(|one| one["transaction_type"] == "Status").unwrap();
    let why =
        desk.get(&format!("/api/transactions/{}/why", priority["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(&why["transaction"], priority);
    assert_eq!(
        why["scrip"],
        json!({ "id": "00000000-0000-7000-8000-0000000000f5", "name": "Urgent when open", "version": 1 })
    );
    assert_eq!(why["evaluation"]["verdict"], "fired");
    assert_eq!(&why["caused_by"]["transaction"], status);
    assert_eq!((&why["caused_by"]["scrip"], &why["caused_by"]["caused_by"]), (&Value::Null, &Value::Null));
    let request = &why["request"];
    assert_eq!(
        (&request["id"], &request["actor"], &request["channel"]),
        (&status["request"], &json!("admin"), &json!("rest"))
    );
    assert_eq!((&request["plan_hash"], &request["config_version"]), (&changed["plan_hash"], &json!(1)));

    sqlx::query("DELETE FROM request_traces").execute(desk.pool()).await.unwrap();
    let why =
        desk.get(&format!("/api/transactions/{}/why", priority["id"].as_str().unwrap())).await.expect(200);
    assert_eq!((&why["evaluation"], &why["scrip"]["name"]), (&Value::Null, &json!("Urgent when open")));
}
