//! The past: a ticket after each of its transactions, versions of the configuration, replayed responses.

use super::desk::{Desk, each, request};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

/// Changes of every kind; each may be made after any other.
fn changes() -> Vec<Value> {
    vec![
        json!({ "subject": "Printer!" }),
        json!({ "priority": 3, "owner": "ada" }),
        json!({ "owner": null, "comment": "hm" }),
        json!({ "status": "open" }),
        json!({ "requestors": { "add": ["eve", "zoe@example.org"] } }),
        json!({ "requestors": { "remove": ["eve"] }, "cc": { "add": ["bob"] } }),
        json!({ "custom_fields": { "Severity": "high", "Components": ["web", "db"] } }),
        json!({ "custom_fields": { "Severity": null, "Components": { "remove": ["web"] } } }),
        json!({ "queue": "Sales", "due_at": "2030-01-01T00:00:00Z" }),
        json!({ "queue": "Support", "reply": "Done." }),
        json!({ "status": "resolved" }),
    ]
}

#[tokio::test]
async fn the_ticket_at_its_version_is_the_ticket_and_at_an_earlier_one_what_it_was_then() {
    let desk = Desk::open().await;
    let changes = changes();
    for seed in 0..4_usize {
        let made =
            desk.create(json!({ "requestors": ["bob"], "custom_fields": { "Severity": "low" } })).await;
        let number = made["ticket"]["number"].clone();
        let one = format!("/api/tickets/{number}");
        let mut seen = vec![made["ticket"].clone()];
        for step in 0..12 {
            // Every order of these steps is another walk; a change that does not fit is refused whole.
            let change = &changes[(seed * 5 + step * (seed + 3)) % changes.len()];
            let reply = desk.patch(&one, change.clone()).await;
            if reply.status == StatusCode::OK {
                seen.push(reply.json["ticket"].clone());
            }
            let now = desk.get(&one).await.expect(200);
            let at = desk.get(&format!("{one}/at/{}", now["version"])).await.expect(200);
            assert_eq!(at, now, "after {change}");
        }
        assert!(seen.len() > 5, "most of the changes were made");
        for then in seen {
            let at = desk.get(&format!("{one}/at/{}", then["version"])).await.expect(200);
            assert_eq!(at, then);
        }
    }
}

#[tokio::test]
async fn a_transaction_that_there_is_not_is_answered_with_the_last() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    desk.patch("/api/tickets/1", json!({ "priority": 3 })).await.expect(200);
    for seq in ["3", "0", "-1", "9223372036854775807"] {
        let problem = desk.get(&format!("/api/tickets/1/at/{seq}")).await.problem(404, "not_found");
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(
            detail,
            format!("Transaction {seq} of ticket #1 does not exist; its transactions are 1 to 2.")
        );
    }
    for path in ["/api/tickets/1/at/x", "/api/tickets/9/at/1", "/api/tickets/1/at/9223372036854775808"] {
        desk.get(path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_number_is_written_in_plain_digits() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    for word in ["1", "%231"] {
        desk.get(&format!("/api/tickets/{word}")).await.expect(200);
    }
    for word in ["+1", "-1", "%20", "%23", "%23+1", "0"] {
        desk.get(&format!("/api/tickets/{word}")).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_replayed_answer_has_the_etag_that_it_had() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let headers = [("idempotency-key", "k1")];
    let first = desk.patch_with("/api/tickets/1", &headers, json!({ "priority": 3 })).await;
    assert_eq!((first.header("etag"), first.header("idempotency-replayed")), ("\"2\"".into(), String::new()));
    desk.patch("/api/tickets/1", json!({ "priority": 4 })).await.expect(200);
    let again = desk.patch_with("/api/tickets/1", &headers, json!({ "priority": 3 })).await;
    assert_eq!((again.header("etag"), again.header("idempotency-replayed")), ("\"2\"".into(), "true".into()));
    assert_eq!(again.bytes, first.bytes);
}

#[tokio::test]
async fn an_if_match_that_is_no_etag_is_refused() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    for good in ["\"1\"", "1", "W/\"1\"", "*"] {
        desk.patch_with("/api/tickets/1", &[("if-match", good)], json!({ "priority": 0 })).await.expect(200);
    }
    for bad in ["\"1", "1\"", "W/W/\"1\"", "+1", "", "\"\"", "\"1\", \"2\""] {
        let reply = desk.patch_with("/api/tickets/1", &[("if-match", bad)], json!({ "priority": 0 })).await;
        reply.problem(400, "malformed_header");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body_and_options_says_what_a_route_takes() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    let head = desk.send(request(Method::HEAD, "/api/tickets/1", None, &[])).await;
    assert_eq!((head.status, head.header("etag"), head.bytes.len()), (StatusCode::OK, "\"1\"".into(), 0));
    let missing = desk.send(request(Method::HEAD, "/api/tickets/9", None, &[])).await;
    assert_eq!((missing.status, missing.bytes.len()), (StatusCode::NOT_FOUND, 0));
    let options = desk.send(request(Method::OPTIONS, "/api/tickets/1", None, &[])).await;
    assert_eq!((options.status, options.bytes.len()), (StatusCode::NO_CONTENT, 0));
    let allowed = options.header("allow");
    let mut allowed: Vec<_> = allowed.split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PATCH"]);
    let refused = desk.send(request(Method::DELETE, "/api/tickets/1", None, &[])).await;
    assert!(refused.header("allow").contains("PATCH"));
    refused.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn explain_all_tells_of_the_scrips_that_were_no_candidates() {
    let desk = Desk::open().await;
    let body = json!({ "queue": "Support", "subject": "x", "requestors": ["eve"] });
    let plain = desk.post("/api/tickets/preview", body.clone()).await.expect(200);
    assert_eq!(each(&plain["scrips_considered"], "/scrip/name"), ["Autoreply"]);
    let all = desk.post("/api/tickets/preview?explain=all", body.clone()).await.expect(200);
    assert_eq!(all["plan_hash"], plain["plan_hash"], "explaining is no part of the plan");
    let considered = &all["scrips_considered"];
    assert_eq!(each(considered, "/scrip/name"), ["Autoreply", "Tell the pager", "Urgent when open"]);
    assert_eq!(each(considered, "/verdict"), ["fired", "not_applicable", "not_applicable"]);
    assert_eq!(considered[1]["transaction"], Value::Null);
    let shut: Vec<_> = considered[1]["why"]["children"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|gate| gate["result"] == false)
        .collect();
    assert_eq!(
        shut,
        [
            &json!({ "predicate": "transaction.type", "expected": ["Status"], "actual": ["Create"], "result": false })
        ]
    );
    desk.post("/api/tickets/preview?explain=some", body.clone()).await.problem(400, "malformed_query");

    desk.post("/api/tickets", body).await.expect(201);
    let update = json!({ "status": "open" });
    let all = desk.post("/api/tickets/1/preview?explain=all", update.clone()).await.expect(200);
    let names = each(&all["scrips_considered"], "/scrip/name");
    assert!(names.contains(&&json!("Autoreply")) && names.len() == 3, "{names:?}");

    let changed = desk.patch("/api/tickets/1", update).await.expect(200);
    let path = format!("/api/transactions/{}/why", changed["transactions"][0]["id"].as_str().unwrap());
    assert_eq!(desk.get(&path).await.expect(200).get("explained"), None);
    let why = desk.get(&format!("{path}?explain=all")).await.expect(200);
    let explained = &why["explained"];
    assert_eq!((&explained["is_as_planned"], &explained["is_kept"]), (&json!(true), &json!(true)));
    let others = &explained["scrips_considered"];
    assert_eq!(each(others, "/scrip/name"), ["Autoreply", "Tell the pager"]);
    assert_eq!(others[1]["transaction"], changed["transactions"][0]["id"], "its condition was tried");
    assert_eq!(others[1]["why"]["children"][1]["expected"], "resolved");

    desk.patch("/api/scrips/Tell%20the%20pager", json!({ "disabled": true })).await.expect(200);
    let why = desk.get(&format!("{path}?explain=all")).await.expect(200);
    assert_eq!(why["explained"]["is_as_planned"], false, "the configuration has moved since");
    assert_eq!(why["explained"]["scrips_considered"][1]["why"]["children"][0]["actual"], "disabled");
}

#[tokio::test]
async fn versions_are_listed_shown_compared_and_gone_back_to() {
    let desk = Desk::open().await;
    let template = json!({ "name": "T", "body_template": "one\ntwo\n" });
    desk.post("/api/templates", template).await.expect(201);
    desk.patch("/api/templates/T", json!({ "body_template": "one\n2\n" })).await.expect(200);
    let page = desk.get("/api/templates/T/versions?limit=1").await.expect(200);
    assert_eq!((&page["items"][0]["version"], &page["next_cursor"]), (&json!(2), &json!("2")));
    let first = desk.get("/api/templates/T/versions/1").await.expect(200);
    assert_eq!(first["document"]["body_template"], "one\ntwo\n");
    let compared = desk.get("/api/templates/T/versions/1/compare/2").await.expect(200);
    assert_eq!(each(&compared["differences"], "/member"), ["body_template"]);
    assert_eq!(compared["differences"][0]["diff"], "@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
    let restore =
        |n: &str| request(Method::POST, &format!("/api/templates/T/versions/{n}/restore"), None, &[]);
    let back = desk.send(restore("1")).await.expect(200);
    assert_eq!((&back["version"], &back["body_template"]), (&json!(3), &json!("one\ntwo\n")));
    for path in [
        "/api/templates/T/versions/9",
        "/api/templates/T/versions/x",
        "/api/templates/T/versions/1/compare/9",
    ] {
        desk.get(path).await.problem(404, "not_found");
    }
    desk.send(restore("0")).await.problem(404, "not_found");
    desk.get("/api/lifecycles/default/versions").await.expect(200);
    desk.get("/api/scrips/Autoreply/versions/1").await.expect(200);
}

#[tokio::test]
async fn a_lifecycle_is_checked_without_being_saved() {
    let desk = desk_with_ticket().await;
    let definition = json!({ "initial": ["fresh"], "active": ["open"], "inactive": ["done"],
        "transitions": { "": ["fresh"], "fresh": ["open"], "open": ["done"] } });
    let check = desk.post("/api/lifecycles/check", json!({ "definition": definition })).await.expect(200);
    assert_eq!((&check["is_savable"], &check["replaces"]), (&json!(true), &Value::Null));
    let body = json!({ "id": "default", "definition": definition });
    let check = desk.post("/api/lifecycles/check", body).await.expect(200);
    assert_eq!((&check["is_savable"], &check["replaces"]["name"]), (&json!(false), &json!("default")));
    assert_eq!(check["stranded"]["tickets"][0]["status"], "new");
    assert_eq!(each(&check["stranded"]["scrips"], "/scrip"), ["Tell the pager"]);
    let check =
        desk.post("/api/lifecycles/check", json!({ "definition": { "initial": 1 } })).await.expect(200);
    assert!(check["faults"][0]["field"].as_str().unwrap().starts_with("definition"), "{check}");
    desk.post("/api/lifecycles/check", json!({ "id": "Nope", "definition": {} }))
        .await
        .problem(404, "not_found");
    desk.post("/api/lifecycles/check", json!({})).await.fault("definition", "is missing");
}

async fn desk_with_ticket() -> Desk {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    desk
}

#[tokio::test]
async fn a_secret_is_deleted_and_lists_are_narrowed() {
    let desk = Desk::open().await;
    let put = request(Method::PUT, "/api/secrets/pager", Some(json!({ "value": "hush" })), &[]);
    assert_eq!(desk.send(put).await.status, StatusCode::NO_CONTENT);
    let delete = |query: &str| request(Method::DELETE, &format!("/api/secrets/pager{query}"), None, &[]);
    desk.send(delete("")).await.problem(409, "in_use");
    assert_eq!(desk.send(delete("?force=true")).await.status, StatusCode::NO_CONTENT);
    desk.send(delete("")).await.problem(404, "not_found");
    desk.patch("/api/scrips/Tell%20the%20pager", json!({ "disabled": true })).await.expect(200);
    let page = desk.get("/api/scrips?disabled=true").await.expect(200);
    assert_eq!(each(&page["items"], "/name"), ["Tell the pager"]);
    let page = desk.get("/api/scrips?disabled=false&name=URGENT").await.expect(200);
    assert_eq!(each(&page["items"], "/name"), ["Urgent when open"]);
    desk.get("/api/scrips?disabled=perhaps").await.problem(400, "malformed_query");
}
