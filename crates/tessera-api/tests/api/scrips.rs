//! Scrips with queries: refused with the place, tried in previews, explained afterwards.

use super::desk::{Desk, each};
use serde_json::{Value, json};

fn asking(kind: &str, query: &str) -> Value {
    json!({
        "name": "Severe", "queue": "Support", "condition_type": kind, "condition_config": { "query": query },
        "action_type": "SetPriority", "action_config": { "value": "80" }
    })
}

#[tokio::test]
async fn a_query_that_is_wrong_is_refused_with_the_place_and_what_to_write() {
    let desk = Desk::open().await;
    let wrong = "Subject = 'ü'\n AND CF.{Severty} = 'high'";
    let expected = json!([{
        "field": "condition_config.query", "message": "there is no custom field \"Severty\"",
        "hint": "did you mean `CF.{Severity}`?", "line": 2, "column": 6, "span": { "start": 19, "end": 31 }
    }]);
    let problem = desk.post("/api/scrips", asking("OnCreate", wrong)).await.problem(422, "invalid");
    assert_eq!(problem["errors"], expected);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.ends_with("there is no custom field \"Severty\"; did you mean `CF.{Severity}`?"),
        "{detail}"
    );

    desk.post("/api/scrips", asking("UserDefined", "CF.Severity = high")).await.expect(201);
    let patch = json!({ "condition_config": { "query": wrong } });
    let problem = desk.patch("/api/scrips/Severe", patch).await.problem(422, "invalid");
    assert_eq!(problem["errors"], expected);
    desk.patch("/api/scrips/Severe", json!({ "condition_config": {} }))
        .await
        .fault("condition_config.query", "is missing");
    let shown = desk.get("/api/scrips/Severe").await.expect(200);
    assert_eq!(
        (&shown["version"], &shown["condition_config"]["query"]),
        (&json!(1), &json!("CF.Severity = high"))
    );
    let types = desk.get("/api/scrip-types").await.expect(200);
    for kind in ["UserDefined", "OnCreate", "OnStatusChange"] {
        assert_eq!(types["conditions"][kind]["schema"]["properties"]["query"]["type"], "string", "{kind}");
    }
}

#[tokio::test]
async fn a_query_is_tried_in_previews_done_in_requests_and_explained_from_the_history() {
    let desk = Desk::open().await;
    let query = "CF.Severity = high AND Requestor = eve AND Channel = rest AND Actor = admin";
    desk.post("/api/scrips", asking("OnCreate", query)).await.expect(201);
    let mut wet =
        asking("OnComment", "Transaction.Content LIKE 'wet' AND Requestor = eve AND Subject = 'Printer'");
    wet["name"] = json!("Wet");
    desk.post("/api/scrips", wet).await.expect(201);
    let severe = json!({
        "queue": "Support", "subject": "Printer", "requestors": ["eve"], "custom_fields": { "Severity": "high" }
    });
    let preview = desk.post("/api/tickets/preview", severe.clone()).await.expect(200);
    let considered = &preview["scrips_considered"];
    assert_eq!(each(considered, "/scrip/name"), ["Autoreply", "Severe"]);
    assert_eq!(each(considered, "/verdict"), ["fired", "fired"]);
    let found = &considered[1]["why"]["children"][1]["children"];
    assert_eq!(each(found, "/predicate"), ["CF.{Severity}", "Requestor", "Channel", "Actor"]);
    assert_eq!(each(found, "/actual"), ["high", "eve@example.net", "rest", "admin"]);
    assert_eq!(desk.create(severe).await["ticket"]["priority"], 80);

    // What did not fire is not kept; its condition is tried again on what is recorded, the message and people too.
    let comment = json!({ "comment": "It is dry.", "subject": "Printer drowned" });
    let changed = desk.patch("/api/tickets/1", comment.clone()).await.expect(200);
    let path =
        format!("/api/transactions/{}/why?explain=all", changed["transactions"][0]["id"].as_str().unwrap());
    let why = desk.get(&path).await.expect(200);
    let others = &why["explained"]["scrips_considered"];
    let place = each(others, "/scrip/name").iter().position(|name| **name == "Wet").unwrap();
    let found = &others[place]["why"]["children"][1]["children"];
    assert_eq!(each(found, "/actual"), ["It is dry.", "eve@example.net", "Printer drowned"]);
    assert_eq!(each(found, "/result"), [false, true, false]);
}

#[tokio::test]
async fn a_query_whose_name_was_taken_away_fails_its_scrip_and_no_request() {
    let desk = Desk::open().await;
    desk.post("/api/scrips", asking("OnCreate", "CF.Severity = high")).await.expect(201);
    let renamed = json!({ "name": "Weight" });
    desk.patch("/api/custom-fields/Severity", renamed.clone()).await.problem(409, "in_use");
    desk.patch("/api/custom-fields/Severity?force=true", renamed).await.expect(200);
    let made = desk.create(json!({ "custom_fields": { "Weight": "high" } })).await;
    assert_eq!(made["ticket"]["priority"], 0);
    let fired = &made["scrips_fired"];
    let place = each(fired, "/scrip/name").iter().position(|name| **name == "Severe").unwrap();
    assert_eq!(fired[place]["verdict"], "failed");
    let told = each(&made["transactions"], "/new_value");
    let says = "condition_config.query, line 1, column 1: there is no custom field \"Severity\"";
    assert!(told.iter().any(|line| line.as_str().is_some_and(|line| line.contains(says))), "{told:?}");
}
