//! Export: what it writes, that it is whole or visibly broken off, and what it holds meanwhile.

use super::desk::{Desk, TOKEN, each, request};
use super::search::tickets;
use super::wire::{LONG, Served};
use axum::body::Body;
use axum::http::{Method, Response};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tessera_api::app::Load;
use tessera_core::testing::TestDb;
use tokio::io::AsyncReadExt as _;
use tower::ServiceExt as _;

/// More tickets than are fetched at a time, several times over.
const MANY: i64 = 1_000;

/// Tickets that differ in their numbers only.
async fn fill(desk: &Desk, count: i64) {
    desk.create(json!({})).await;
    let more = "INSERT INTO tickets (id, number, version, subject, subject_folded, queue_id, status, status_class, priority, creator_id, created_at, updated_at)
                SELECT gen_random_uuid(), number + n, version, subject, subject_folded, queue_id, status, status_class, priority, creator_id, created_at, updated_at
                FROM tickets, generate_series(1, $1 - 1) AS n";
    sqlx::query(more).bind(count).execute(desk.pool()).await.unwrap();
}

/// A table read back: its head and its rows.
fn table(bytes: &[u8]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(bytes);
    let texts = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
    let head = texts(reader.headers().unwrap());
    (head, reader.records().map(|record| texts(&record.unwrap())).collect())
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An export whose body nobody has read yet.
async fn begin(desk: &Desk, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let response = desk.router().oneshot(request(Method::GET, path, None, headers)).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test]
async fn an_export_has_what_the_search_finds_in_the_same_order() {
    let desk = Desk::open().await;
    tickets(&desk).await;
    for (asked, query) in [
        (json!({}), ""),
        (json!({ "query": "Status = deleted" }), "&query=Status%3Ddeleted"),
        (
            json!({ "query": "Queue = 'Support'", "order": [{ "field": "Subject", "direction": "desc" }] }),
            "&query=Queue%3D'Support'&order=-Subject",
        ),
        (json!({ "fields": ["number", "custom_fields.Severity"] }), "&fields=number,custom_fields.Severity"),
        (
            json!({ "query": "id = 1 AND id = 2 OR id = 3", "dialect": "rt" }),
            "&query=id%3D1%20AND%20id%3D2%20OR%20id%3D3&dialect=rt",
        ),
        (json!({ "query": "Subject = 'none'" }), "&query=Subject%3D'none'"),
    ] {
        let page = desk.post("/api/tickets/search", asked).await.expect(200);
        let exported = desk.get(&format!("/api/tickets/export?format=jsonl{query}")).await;
        assert_eq!(exported.header("content-type"), "application/x-ndjson");
        assert_eq!(exported.header("content-disposition"), "attachment; filename=\"tickets.jsonl\"");
        assert_eq!(json!(lines(&exported.bytes)), page["items"], "{query}");
        let (_, rows) =
            table(&desk.get(&format!("/api/tickets/export?{}", query.trim_start_matches('&'))).await.bytes);
        let numbers: Vec<String> =
            each(&page["items"], "/number").iter().map(|number| number.to_string()).collect();
        assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), numbers, "{query}");
    }
}

#[tokio::test]
async fn a_table_has_a_head_a_column_for_each_custom_field_and_no_formula() {
    let desk = Desk::open().await;
    let formula = "=HYPERLINK(\"https://evil.example\", \"a,b\")";
    desk.create(json!({
        "subject": formula, "requestors": ["eve", "zoe@example.org"], "owner": "ada", "priority": -3,
        "due_at": "2026-12-01T10:00:00Z", "custom_fields": { "Components": ["web", "db"], "Severity": "high" }
    }))
    .await;
    let exported = desk.get("/api/tickets/export?query=id%3D1").await;
    assert_eq!(exported.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(exported.header("content-disposition"), "attachment; filename=\"tickets.csv\"");
    assert!(exported.bytes.ends_with(b"\r\n"));
    let (head, rows) = table(&exported.bytes);
    let expected = [
        "number",
        "id",
        "subject",
        "queue",
        "status",
        "owner",
        "creator",
        "priority",
        "requestors",
        "cc",
        "admin_cc",
    ];
    assert_eq!(head[..11], expected);
    let cell = |name: &str| rows[0][head.iter().position(|one| one == name).unwrap()].as_str();
    for (name, expected) in [
        ("number", "1"),
        ("subject", format!("'{formula}").as_str()),
        ("queue", "Support"),
        ("owner", "ada"),
        ("priority", "-3"),
        ("requestors", "eve@example.net\nzoe@example.org"),
        ("cc", ""),
        ("custom_fields.Severity", "high"),
        ("custom_fields.Components", "web\ndb"),
        ("custom_fields.Build", ""),
        ("due_at", "2026-12-01T10:00:00Z"),
        ("resolved_at", ""),
    ] {
        assert_eq!(cell(name), expected, "{name}");
    }
    let raw = desk.get("/api/tickets/export?fields=subject,custom_fields.Severity&raw=true").await;
    let columns = ["subject", "custom_fields.Severity"].map(str::to_owned).to_vec();
    assert_eq!(table(&raw.bytes), (columns, vec![vec![formula.to_owned(), "high".to_owned()]]));
    let none = desk.get("/api/tickets/export?query=id%3D9&fields=number,custom_fields").await;
    let mut names = ["custom_fields.Severity", "custom_fields.Components", "custom_fields.Build"];
    names.sort_unstable();
    let (head, rows) = table(&none.bytes);
    assert_eq!((head.len(), head[0].as_str(), rows.len()), (4, "number", 0));
    assert!(names.iter().all(|name| head.contains(&(*name).to_owned())), "{head:?}");
}

#[tokio::test]
async fn what_is_wrong_with_an_export_is_said_before_it_begins() {
    let desk = Desk::open().await;
    let problem = desk.get("/api/tickets/export?query=Sttus%3D1").await.problem(400, "invalid_query");
    assert_eq!((&problem["query"], &problem["span"]["end"]), (&json!("Sttus=1"), &json!(5)));
    desk.get("/api/tickets/export?order=Requestor").await.fault("order[0].field", "order by id");
    desk.get("/api/tickets/export?fields=nope").await.fault("fields[0]", "subject");
    desk.get("/api/tickets/export?timezone=Mars").await.fault("timezone", "UTC");
    for query in ["format=xls", "cursor=x", "raw=yes"] {
        desk.get(&format!("/api/tickets/export?{query}")).await.problem(400, "malformed_query");
    }
    let load = Load { export: Duration::ZERO, ..Load::default() };
    let hurried = Desk::open_with(|app| app.with_load(load)).await;
    hurried.get("/api/tickets/export").await.problem(503, "timeout");
}

#[tokio::test]
async fn a_large_export_is_whole_packed_or_not() {
    let desk = Desk::open().await;
    fill(&desk, MANY).await;
    let exported = desk.get("/api/tickets/export?format=jsonl&order=id&fields=number").await;
    let numbers: Vec<Value> = (1..=MANY).map(|number| json!({ "number": number })).collect();
    assert_eq!(lines(&exported.bytes), numbers);
    let request = request(Method::GET, "/api/tickets/export?order=id", None, &[("accept-encoding", "gzip")]);
    let packed = desk.send(request).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed.bytes), &mut plain).unwrap();
    assert_eq!(table(&plain).1.len() as i64, MANY);
}

#[tokio::test]
async fn there_are_so_many_exports_at_a_time_and_a_client_that_goes_away_frees_its_place_and_connection() {
    let load = Load { exports: 1, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    fill(&desk, MANY).await;
    let mut body = begin(&desk, "/api/tickets/export", &[]).await.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    let refused = desk.get("/api/tickets/export").await;
    assert_eq!(refused.header("retry-after"), "10");
    refused.problem(503, "busy");
    // Searches have their connections all the same.
    desk.get("/api/tickets").await.expect(200);
    drop(body);
    desk.get("/api/tickets/export").await.expect(200);
    let pool = &desk.db.pools.read;
    while pool.num_idle() < pool.size() as usize {
        tokio::task::yield_now().await;
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    while sqlx::query_scalar::<_, i64>(open).fetch_one(desk.pool()).await.unwrap() > 0 {}
}

#[tokio::test]
async fn an_export_whose_first_tickets_take_longer_than_a_search_begins_without_them_and_is_whole() {
    let mut db = TestDb::new().await;
    db.hurry();
    let load = Load { handler: Duration::from_secs(2), ..Load::default() };
    let desk = Desk::open_on(db, |app| app.with_load(load)).await;
    fill(&desk, 3).await;
    // What the tickets of a part are loaded from, not what finds them.
    let mut busy = desk.pool().begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE users").execute(&mut *busy).await.unwrap();
    let exported = begin(&desk, "/api/tickets/export?format=jsonl&order=id&fields=number", &[]).await;
    drop(busy);
    let bytes = axum::body::to_bytes(exported.into_body(), usize::MAX).await.unwrap();
    assert_eq!(lines(&bytes), [1, 2, 3].map(|number| json!({ "number": number })));
}

/// Takes the connections of exports under way from them; answers how many.
async fn kill(desk: &Desk) -> i64 {
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                    AND backend_type = 'client backend'";
    sqlx::query_scalar(kill).fetch_one(desk.pool()).await.unwrap()
}

#[tokio::test]
async fn an_export_that_cannot_go_on_breaks_off_packed_or_not() {
    let desk = Desk::open().await;
    fill(&desk, MANY).await;
    for headers in [&[][..], &[("accept-encoding", "gzip")]] {
        let response = begin(&desk, "/api/tickets/export?format=jsonl", headers).await;
        // Another connection may be working for a moment.
        assert!(kill(&desk).await >= 1);
        let parts: Vec<_> = response.into_body().into_data_stream().collect().await;
        assert!(parts.iter().any(Result::is_err), "{headers:?}: {} parts", parts.len());
    }
    desk.get("/api/tickets/export").await.expect(200);
}

#[tokio::test]
async fn a_client_on_the_line_sees_that_an_export_broke_off() {
    let desk = Desk::open().await;
    // More than the sockets take by themselves.
    fill(&desk, 30 * MANY).await;
    let server = Served::start(desk.router(), LONG).await;
    let mut client = server.connect().await;
    let head =
        format!("GET /api/tickets/export HTTP/1.1\r\nHost: desk\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    client.say(&head).await;
    let mut stream = client.into_stream();
    let mut heard = vec![0; 1_024];
    stream.read_exact(&mut heard).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 200"));
    assert!(kill(&desk).await >= 1);
    let end = stream.read_to_end(&mut heard).await;
    assert!(end.is_err() || !heard.ends_with(b"\r\n0\r\n\r\n"), "it ends as if it were whole");
}
