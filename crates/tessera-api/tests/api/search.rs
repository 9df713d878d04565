//! Search: queries, filters, orders, pages, counts, members; and what each refusal says.

use super::desk::{Desk, each};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tessera_core::testing::TestDb;

/// The numbers that a search finds, in its order.
async fn found(desk: &Desk, body: Value) -> Vec<i64> {
    let page = desk.post("/api/tickets/search", body).await.expect(200);
    numbers(&page)
}

fn numbers(page: &Value) -> Vec<i64> {
    each(&page["items"], "/number").iter().map(|number| number.as_i64().unwrap()).collect()
}

/// Five tickets that differ; the last is deleted.
pub async fn tickets(desk: &Desk) {
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
        (json!({ "Requestor": null }), vec![3, 2]),
        (json!({ "Cc": "ZOE@example.org" }), vec![2]),
        (json!({ "AdminCc": "bob" }), vec![3]),
        (json!({ "Priority": [5, 7] }), vec![2]),
        (json!({ "CF.{Severity}": "HIGH" }), vec![1]),
        (json!({ "CF.severity": ["low", "high"] }), vec![2, 1]),
        (json!({ "CF.{Components}": "web", "CF.{Severity}": "low" }), vec![2]),
        (json!({ "CF.{Severity}": null }), vec![4, 3]),
        (json!({ "CF.{Severity}": [null, "low"], "Queue": "Support" }), vec![3, 2]),
        (json!({ "Subject": "'; DROP TABLE tickets; --" }), vec![]),
        (json!({ "id": (1..=900).collect::<Vec<_>>() }), vec![4, 3, 2, 1]),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&desk, json!({ "filter": filter })).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn a_tree_finds_what_its_text_finds_and_explain_gives_the_one_for_the_other() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    for (query, expected) in [
        ("", vec![4, 3, 2, 1]),
        ("Status = 'new' AND NOT (Queue = 'Sales' OR CF.{Severity} = 'low')", vec![1]),
        ("CF.Components NOT IN ('db', 'mail') AND Subject NOT LIKE 'p%'", vec![4, 3]),
        ("Subject LIKE 'print%' OR id BETWEEN 3 AND 3", vec![3, 2, 1]),
        ("Due IS NULL AND Created <= LastUpdated AND (Owner = ada)", vec![1]),
        ("Subject MATCHES 'print*' AND Priority != 5", vec![4, 1]),
        ("Status = deleted", vec![5]),
    ] {
        let page = desk.post("/api/tickets/search", json!({ "query": query })).await.expect(200);
        assert_eq!(numbers(&page), expected, "{query}");
        let explained = desk.post("/api/tickets/search/explain", json!({ "query": query })).await.expect(200);
        assert_eq!(explained["query"], page["query"], "{query}");
        let again = json!({ "filter": explained["tree"] });
        let same = desk.post("/api/tickets/search", again).await.expect(200);
        assert_eq!((numbers(&same), &same["query"]), (expected, &page["query"]), "{query}");
    }
}

#[tokio::test]
async fn a_query_that_is_wrong_is_refused_with_its_place_and_what_to_write() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let cases = [
        // (query, start, end, line, column, detail, hint)
        ("Sttus = 'open'", (0, 5, 1, 1), "Sttus", "`Status`"),
        ("Status = 'new' AND\n Queue = 'Suport'", (28, 36, 2, 10), "Suport", "`Support`"),
        ("Subject = 'ü' AND CF.{Severty} = 1", (18, 30, 1, 19), "Severty", "CF.{Severity}"),
        ("Status = 'stalled'", (9, 18, 1, 10), "stalled", "resolved"),
        ("Owner = 'carol'", (8, 15, 1, 9), "carol", "ada"),
        ("(Status = 'new'", (0, 1, 1, 1), "never closed", "add )"),
        ("Due LIKE 'x'", (0, 12, 1, 1), "LIKE", "BETWEEN"),
        ("Actor = 'ada'", (0, 5, 1, 1), "condition", "Updated"),
        ("Subject = 'a\u{0}'", (12, 13, 1, 13), "U+0000", ""),
    ];
    for (query, (start, end, line, column), says, hint) in cases {
        for path in ["/api/tickets/search", "/api/tickets/search/explain"] {
            let problem = desk.post(path, json!({ "query": query })).await.problem(400, "invalid_query");
            assert_eq!(problem["span"], json!({ "start": start, "end": end }), "{problem}");
            assert_eq!((&problem["line"], &problem["column"]), (&json!(line), &json!(column)), "{problem}");
            assert_eq!(problem["query"], query);
            assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
            assert!(problem["hint"].as_str().unwrap_or_default().contains(hint), "{problem}");
        }
    }
    let url = "/api/tickets?query=Sttus+%3D+open";
    let problem = desk.get(url).await.problem(400, "invalid_query");
    assert_eq!((&problem["query"], &problem["span"]["end"]), (&json!("Sttus = open"), &json!(5)));
    let other = desk.get("/api/tickets/99").await.problem(404, "not_found");
    for member in ["query", "span", "line", "column", "hint"] {
        assert!(other.get(member).is_none(), "{member}");
    }
}

#[tokio::test]
async fn a_filter_that_is_wrong_is_refused_with_its_path_or_with_its_text() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    for (filter, says, part) in [
        (json!({ "Sverity": "high" }), "CF.{Name}", "Sverity"),
        (json!({ "CF.{Color}": "red" }), "Severity", "CF.{Color}"),
        (json!({ "Status": "new", "Queue": "Nowhere" }), "Support", "'Nowhere'"),
        (json!({ "Status": "stalled" }), "resolved", "'stalled'"),
        (json!({ "Owner": "carol" }), "ada", "'carol'"),
        (json!({ "id": "seven" }), "id = 12", "'seven'"),
        (json!({ "Priority": "urgent" }), "Priority = 10", "'urgent'"),
        (json!({ "Subject": null }), "Subject = ''", "Subject IS NULL"),
        (
            json!({ "or": [{ "not": { "field": "Due", "op": "=", "value": "soon" } }] }),
            "2 days ago",
            "'soon'",
        ),
    ] {
        let body = json!({ "filter": filter, "dialect": "rt" });
        let problem = desk.post("/api/tickets/search", body).await.problem(400, "invalid_query");
        assert!(problem["hint"].as_str().unwrap().contains(says), "{filter}: {problem}");
        let text: Vec<char> = problem["query"].as_str().unwrap().chars().collect();
        let place = |end: &str| problem["span"][end].as_u64().unwrap() as usize;
        assert_eq!(text[place("start")..place("end")].iter().collect::<String>(), part, "{problem}");
    }
    for (filter, field, says) in [
        (json!({ "Subject": true }), "filter.Subject", "true"),
        (json!({ "Subject": { "like": "x" } }), "filter.Subject", "another field"),
        (json!({ "Status": [] }), "filter.Status", "1 to 1000"),
        (json!({ "Status": "new", "status": "open" }), "filter.status", "twice"),
        (json!({ "CF.Severity": "low", "CF.{severity}": "high" }), "filter.CF.{severity}", "twice"),
        (json!({ "id": (1..=1_001).collect::<Vec<_>>() }), "filter.id", "1000"),
        (json!({ "and": [{ "field": "Status" }] }), "filter.and[0].op", "missing"),
        (json!("Status = 'new'"), "filter", "object"),
    ] {
        desk.post("/api/tickets/search", json!({ "filter": filter })).await.fault(field, says);
    }
    let twice = r#"{"filter": {"and": [{"not": {"field": "id", "field": "id"}}]}}"#;
    let headers = [("content-type", "application/json")];
    let mut request = super::desk::request(axum::http::Method::POST, "/api/tickets/search", None, &headers);
    *request.body_mut() = twice.into();
    desk.send(request).await.fault("filter.and[0].not.field", "\"field\" is repeated");
}

#[tokio::test]
async fn what_cannot_stand_together_or_is_not_known_is_refused() {
    let desk = Desk::open().await;
    for (body, field, says) in [
        (json!({ "query": "", "filter": {} }), "filter", "combined with query"),
        (json!({ "filters": {} }), "filters", "unknown field"),
        (json!({ "limit": 201 }), "limit", "200"),
        (json!({ "order": [{ "field": "Requestor" }] }), "order[0].field", "order by id"),
        (json!({ "order": [{ "field": "id" }, { "field": "Nope" }] }), "order[1].field", "Nope"),
        (json!({ "order": [{ "field": "id" }, { "field": "ID" }] }), "order[1].field", "twice"),
        (json!({ "order": [{ "field": "id", "direction": "up" }] }), "order[0].direction", "asc"),
        (json!({ "order": [{ "field": "id", "dir": "asc" }] }), "order[0].dir", "unknown field"),
        (json!({ "order": vec![json!({ "field": "id" }); 6] }), "order", "at most 5"),
        (json!({ "count": "some" }), "count", "estimate"),
        (json!({ "dialect": "sql" }), "dialect", "rt"),
        (json!({ "timezone": "Mars/Olympus" }), "timezone", "Europe/Berlin"),
        (json!({ "fields": [] }), "fields", "1 to 200"),
        (json!({ "fields": ["id", "Subject"] }), "fields[1]", "subject"),
        (json!({ "fields": ["custom_fields.Color"] }), "fields[0]", "Severity"),
    ] {
        for path in ["/api/tickets/search", "/api/tickets/search/explain"] {
            desk.post(path, body.clone()).await.fault(field, says);
        }
    }
    for (query, field, says) in [
        ("query=&status=new", "query", "combined with"),
        ("order=-Requestor", "order[0].field", "order by id"),
        ("fields=id,Subject", "fields[1]", "subject"),
        ("timezone=Mars", "timezone", "UTC"),
        ("limit=0", "limit", "200"),
    ] {
        desk.get(&format!("/api/tickets?{query}")).await.fault(field, says);
    }
    for query in ["colour=red", "count=some", "dialect=sql", "limit=x"] {
        desk.get(&format!("/api/tickets?{query}")).await.problem(400, "malformed_query");
    }
}

#[tokio::test]
async fn the_list_of_tickets_takes_the_same_from_the_url() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    for (query, expected) in [
        ("", vec![4, 3, 2, 1]),
        ("?queue=Support&status=new", vec![2, 1]),
        ("?owner=Nobody&queue=sales", vec![4]),
        ("?status=deleted", vec![5]),
        ("?limit=2", vec![4, 3]),
        ("?query=Subject%20LIKE%20'printer'%20AND%20Queue%20%3D%20'Support'", vec![2, 1]),
        ("?order=id", vec![1, 2, 3, 4]),
        ("?order=-Priority,id", vec![2, 1, 3, 4]),
        ("?order=-CF.%7BSeverity%7D,-id", vec![2, 1, 4, 3]),
        ("?query=id%3D1%20OR%20id%3D2%20AND%20id%3D3&dialect=rt", vec![]),
    ] {
        let page = desk.get(&format!("/api/tickets{query}")).await.expect(200);
        assert_eq!(numbers(&page), expected, "{query}");
    }
    assert_eq!(
        desk.get("/api/tickets?limit=1").await.expect(200)["items"][0],
        desk.get("/api/tickets/4").await.expect(200)
    );
    let told = desk
        .get("/api/tickets?order=id&limit=1&count=exact&fields=subject,custom_fields.%7BSeverity%7D,number");
    let told = told.await.expect(200);
    let item = json!({ "subject": "Printer 100%", "number": 1, "custom_fields": { "Severity": "high" } });
    assert_eq!((&told["items"], &told["count"]["tickets"]), (&json!([item]), &json!(4)));
    desk.get("/api/tickets?queue=Nowhere").await.problem(400, "invalid_query");
}

#[tokio::test]
async fn an_item_has_the_members_that_were_asked_for_and_no_other() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let whole = desk.get("/api/tickets/4").await.expect(200);
    let names: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(
        BTreeSet::from_iter(names),
        BTreeSet::from_iter(&tessera_api::views::TICKET_MEMBERS.map(str::to_owned))
    );
    for name in tessera_api::views::TICKET_MEMBERS {
        let page =
            desk.post("/api/tickets/search", json!({ "fields": [name], "limit": 1 })).await.expect(200);
        assert_eq!(page["items"], json!([{ name: whole[name] }]));
    }
    let fields = ["custom_fields.severity", "custom_fields.Components", "queue"];
    let body = json!({ "query": "id IN (2, 4)", "fields": fields });
    let page = desk.post("/api/tickets/search", body).await.expect(200);
    // Sales has no such field.
    assert_eq!(page["items"][0]["custom_fields"], json!({ "Severity": null, "Components": null }));
    assert_eq!(page["items"][1]["custom_fields"], json!({ "Severity": "low", "Components": ["web", "db"] }));
    assert_eq!(page["items"][1].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn days_begin_where_the_request_says() {
    let desk = Desk::open().await;
    desk.create(json!({ "due_at": "2026-03-01T23:30:00Z" })).await;
    for (zone, day, expected) in [
        (None, "2026-03-01", vec![1]),
        (Some("UTC"), "2026-03-02", vec![]),
        (Some("Europe/Berlin"), "2026-03-02", vec![1]),
        (Some("europe/berlin"), "2026-03-01", vec![]),
        (Some("America/New_York"), "2026-03-01", vec![1]),
    ] {
        let body = json!({ "query": format!("Due = '{day}'"), "timezone": zone });
        assert_eq!(found(&desk, body).await, expected, "{zone:?} {day}");
    }
}

#[tokio::test]
async fn the_dialect_of_rt_reads_a_level_by_its_last_word_and_says_so() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let body = |dialect: &str| json!({ "query": "id = 1 AND id = 2\nOR id = 3", "dialect": dialect });
    let ours = desk.post("/api/tickets/search", body("tessera")).await.expect(200);
    assert_eq!((numbers(&ours), ours.get("warnings")), (vec![3], None));
    let theirs = desk.post("/api/tickets/search", body("rt")).await.expect(200);
    assert_eq!((numbers(&theirs), &theirs["query"]), (vec![3, 2, 1], &json!("id = 1 OR id = 2 OR id = 3")));
    let warning = &theirs["warnings"][0];
    assert_eq!((&warning["span"], &warning["line"]), (&json!({ "start": 0, "end": 27 }), &json!(1)));
    assert!(warning["message"].as_str().unwrap().contains("OR") && warning["hint"].is_string());
    let explained = desk.post("/api/tickets/search/explain", body("rt")).await.expect(200);
    assert_eq!(explained["warnings"], theirs["warnings"]);
    // A filter is a tree already: nothing of it is read anew.
    let one = |id: i64| json!({ "field": "id", "op": "=", "value": id });
    let filter = json!({ "or": [{ "and": [one(1), one(2)] }, one(3)] });
    assert_eq!(found(&desk, json!({ "filter": filter, "dialect": "rt" })).await, [3]);
}

#[tokio::test]
async fn what_is_found_is_counted_when_it_is_asked() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    for (count, expected) in [
        (json!(null), json!(null)),
        (json!("none"), json!(null)),
        (json!("estimate"), json!({ "tickets": 4, "is_exact": true })),
        (json!("exact"), json!({ "tickets": 4, "is_exact": true })),
    ] {
        let page = desk.post("/api/tickets/search", json!({ "count": count, "limit": 1 })).await.expect(200);
        assert_eq!(page["count"], expected, "{count}");
        assert_eq!(page.get("count").is_some(), expected.is_object());
    }
}

#[tokio::test]
async fn every_order_gives_each_ticket_once_on_whatever_page() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    desk.create(json!({ "subject": "printer 100%", "due_at": "2026-12-01T00:00:00Z", "custom_fields": { "Build": "10", "Components": ["mail", "db"] } })).await;
    desk.create(json!({ "subject": "%", "due_at": "2026-11-01T00:00:00Z", "owner": "bob", "custom_fields": { "Build": "9" } })).await;
    let schema = desk.get("/api/ticketsql/schema").await.expect(200);
    let fields = schema["fields"].as_array().unwrap().iter();
    let mut fields: Vec<&str> = fields
        .filter(|field| field["is_orderable"] == true)
        .map(|field| field["name"].as_str().unwrap())
        .filter(|name| *name != "CF.{Name}")
        .collect();
    fields.extend(["CF.{Severity}", "CF.{Components}", "CF.{Build}"]);
    assert!(fields.len() >= 15, "{fields:?}");
    for field in fields {
        for direction in ["asc", "desc"] {
            let order = json!([{ "field": field, "direction": direction }]);
            let whole = found(&desk, json!({ "query": "id > 0", "order": order })).await;
            assert_eq!(BTreeSet::from_iter(&whole), BTreeSet::from_iter(&[1, 2, 3, 4, 6, 7]), "{field}");
            let (mut paged, mut cursor) = (Vec::new(), Value::Null);
            loop {
                let body = json!({ "query": "id > 0", "order": order, "limit": 1, "cursor": cursor });
                let page = desk.post("/api/tickets/search", body).await.expect(200);
                paged.extend(numbers(&page));
                cursor = page["next_cursor"].clone();
                if cursor.is_null() {
                    break;
                }
            }
            assert_eq!(paged, whole, "{field} {direction}");
        }
    }
}

#[tokio::test]
async fn a_cursor_belongs_to_its_query_and_its_order() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let order = json!([{ "field": "Subject" }]);
    let first = desk
        .post("/api/tickets/search", json!({ "query": "id>0", "order": order, "limit": 1 }))
        .await
        .expect(200);
    let cursor = &first["next_cursor"];
    for (body, status) in [
        (json!({ "query": "id > 0", "order": order }), 200),
        (json!({ "filter": { "field": "id", "op": ">", "value": 0 }, "order": order }), 200),
        (json!({ "query": "id > 1", "order": order }), 400),
        (json!({ "query": "id > 0" }), 400),
        (json!({ "query": "id > 0", "order": [{ "field": "Subject", "direction": "desc" }] }), 400),
        (json!({ "query": "id > 0", "order": [{ "field": "Status" }] }), 400),
    ] {
        let mut body = body;
        body["cursor"] = cursor.clone();
        let reply = desk.post("/api/tickets/search", body.clone()).await;
        if status == 200 { drop(reply.expect(200)) } else { drop(reply.problem(400, "malformed_cursor")) }
    }
    desk.get("/api/tickets?cursor=gibberish").await.problem(400, "malformed_cursor");
}

#[tokio::test]
async fn explain_shows_tree_statement_values_and_plan_and_runs_nothing() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let body = json!({ "query": "status=open and CF.Severity != 'it\\'s'", "order": [{ "field": "Subject" }], "limit": 7 });
    let explained = desk.post("/api/tickets/search/explain", body).await.expect(200);
    assert_eq!(explained["query"], "Status = open AND CF.{Severity} != 'it\\'s'");
    assert_eq!(explained["tree"]["and"][1], json!({ "field": "CF.{Severity}", "op": "!=", "value": "it's" }));
    let (sql, binds) = (explained["sql"].as_str().unwrap(), explained["binds"].as_array().unwrap());
    assert!(sql.contains("FROM tickets") && !sql.contains("it's") && !sql.contains("open"), "{sql}");
    assert!(binds.contains(&json!("it's")) && binds.contains(&json!("8")), "{binds:?}");
    for at in 1..=binds.len() {
        assert!(sql.contains(&format!("${at}")), "${at}: {sql}");
    }
    assert!(explained["plan"][0]["Plan"]["Node Type"].is_string(), "{}", explained["plan"]);
    assert!(explained["plan"][0].get("Execution Time").is_none());
}

#[tokio::test]
async fn a_search_that_takes_too_long_says_what_to_write_instead() {
    let mut db = TestDb::new().await;
    db.hurry();
    let desk = Desk::open_on(db, |app| app).await;
    desk.create(json!({})).await;
    desk.get("/api/tickets?query=id%3D1").await.expect(200);
    // A search that waits takes as long as one that works.
    let mut busy = desk.pool().begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE tickets").execute(&mut *busy).await.unwrap();
    for path in [
        "/api/tickets?query=id%3D1",
        "/api/tickets?query=id%3D1&count=exact",
        "/api/tickets/export?query=id%3D1",
    ] {
        let problem = desk.get(path).await.problem(422, "query_timeout");
        assert!(problem["detail"].as_str().unwrap().contains("MATCHES"), "{problem}");
    }
    // What cannot be counted in time is not told, and is not tried again at once.
    let schema = desk.get("/api/ticketsql/schema").await.expect(200);
    assert_eq!((&schema["counted_at"], &schema["queues"][0]["tickets"]), (&Value::Null, &Value::Null));
    drop(busy);
}

#[tokio::test]
async fn the_schema_has_the_names_of_this_desk_and_how_many_tickets_have_them() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let schema = desk.get("/api/ticketsql/schema").await.expect(200);
    assert!(schema["counted_at"].is_string());
    let queues = json!([
        { "name": "Support", "lifecycle": "default", "disabled": false, "tickets": 4 },
        { "name": "Sales", "lifecycle": "default", "disabled": false, "tickets": 1 }
    ]);
    let sorted = |list: &Value| {
        let mut list = list.as_array().unwrap().clone();
        list.sort_by_key(|item| item["name"].to_string());
        list
    };
    assert_eq!(sorted(&schema["queues"]), sorted(&queues));
    let statuses = json!([
        { "name": "deleted", "lifecycles": { "default": "inactive" }, "tickets": 1 },
        { "name": "new", "lifecycles": { "default": "initial" }, "tickets": 3 },
        { "name": "open", "lifecycles": { "default": "active" }, "tickets": 1 },
        { "name": "resolved", "lifecycles": { "default": "inactive" }, "tickets": 0 }
    ]);
    assert_eq!(sorted(&schema["statuses"]), sorted(&statuses));
    let severity = json!({
        "name": "CF.{Severity}", "field_type": "SelectSingle", "values": ["low", "high"], "is_multiple": false,
        "queues": ["Support"]
    });
    assert!(schema["custom_fields"].as_array().unwrap().contains(&severity), "{schema}");
    let subject =
        schema["fields"].as_array().unwrap().iter().find(|field| field["name"] == "Subject").unwrap();
    let operators = &subject["operators"];
    assert!(operators["search"].as_array().unwrap().contains(&json!("MATCHES")));
    assert!(operators["condition"].as_array().unwrap().contains(&json!("CHANGED")));
    assert!(schema["keywords"].as_array().unwrap().contains(&json!("BETWEEN")));
    assert_eq!((&schema["limits"]["tests"], &schema["limits"]["page"]), (&json!(200), &json!(200)));
    for placeholder in schema["placeholders"].as_array().unwrap() {
        for field in placeholder["fields"].as_array().unwrap().iter().filter(|field| **field != "Actor") {
            let query = format!("{} = {}", field.as_str().unwrap(), placeholder["word"].as_str().unwrap());
            desk.post("/api/tickets/search", json!({ "query": query })).await.expect(200);
        }
    }
}

#[tokio::test]
async fn custom_fields_come_in_the_order_of_their_queue_wherever_a_ticket_is_shown() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    let places = |text: &str, names: [&str; 3]| names.map(|name| text.find(&format!("\"{name}\"")).unwrap());
    for path in [
        "/api/tickets/2",
        "/api/tickets?status=new&queue=Support",
        "/api/tickets?fields=custom_fields&queue=Support",
        "/api/tickets/export?format=jsonl&query=Queue%3DSupport",
    ] {
        let text = String::from_utf8(desk.get(path).await.bytes.to_vec()).unwrap();
        assert!(places(&text, ["Severity", "Components", "Build"]).is_sorted(), "{path}: {text}");
    }
    let chosen = "/api/tickets?fields=custom_fields.Build,number,custom_fields.Severity,number,custom_fields.Components";
    let text = String::from_utf8(desk.get(chosen).await.bytes.to_vec()).unwrap();
    assert!(places(&text, ["Build", "Severity", "Components"]).is_sorted(), "{text}");
    assert_eq!(text.matches("\"number\"").count(), 4, "each member once: {text}");
}

#[tokio::test]
async fn a_field_of_a_queue_is_named_as_in_rt_in_a_query_a_filter_and_an_order() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    desk.patch("/api/queues/Support", json!({ "name": "First line support" })).await.expect(200);
    let name = "CF.First line support.{Severity}";
    assert_eq!(found(&desk, json!({ "query": format!("'{name}' = 'low'") })).await, [2]);
    assert_eq!(found(&desk, json!({ "filter": { name: "high" } })).await, [1]);
    let has_one = format!("'{name}' IS NOT NULL");
    for (field, direction, expected) in
        [(name.to_owned(), "asc", [1, 2]), (format!("'{name}'"), "desc", [2, 1])]
    {
        let order = json!([{ "field": field, "direction": direction }]);
        assert_eq!(found(&desk, json!({ "query": has_one, "order": order })).await, expected);
    }
    let page =
        desk.get("/api/tickets?order=-CF.First%20line%20support.%7BSeverity%7D,%2Bid").await.expect(200);
    assert_eq!(numbers(&page), [2, 1, 3, 4]);
    let page = desk.get("/api/tickets?dialect=rt&order=CF.%7BSeverity%7D,%2Bid").await.expect(200);
    assert_eq!(numbers(&page), [3, 4, 1, 2], "in RT, unset is less than all values");
}

#[tokio::test]
async fn a_disabled_field_is_neither_searched_for_nor_offered() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    desk.patch("/api/custom-fields/Build", json!({ "disabled": true })).await.expect(200);
    for query in ["CF.{Build} = '1'", "CF.Support.{build} IS NULL", "CF.{Severity} = CF.Build"] {
        let refused = desk.post("/api/tickets/search", json!({ "query": query })).await;
        let problem = refused.problem(400, "invalid_query");
        assert_eq!(problem["detail"], "the custom field \"Build\" is disabled", "{query}");
    }
    let order = json!({ "order": [{ "field": "CF.{Build}" }] });
    desk.post("/api/tickets/search", order).await.fault("order[0].field", "is disabled");
    let schema = desk.get("/api/ticketsql/schema").await.expect(200);
    assert_eq!(each(&schema["custom_fields"], "/name"), ["CF.{Severity}", "CF.{Components}"]);
}
