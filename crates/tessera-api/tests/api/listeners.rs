//! The middleware in front of every handler: tokens, request ids, limits, and errors for unknown routes.

use super::desk::{Desk, request};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn health_answers_anybody_and_says_what_runs() {
    let desk = Desk::open().await;
    let health = desk.send(Request::get("/api/health").body(Body::empty()).unwrap()).await.expect(200);
    assert_eq!((&health["status"], &health["database"]), (&json!("ok"), &json!("ok")));
    assert!(health["version"].as_str().is_some_and(|version| !version.is_empty()));
}

#[tokio::test]
async fn without_a_database_it_says_so_and_when_to_ask_again() {
    let desk = Desk::open().await;
    desk.lose_database().await;
    let health = desk.get("/api/health").await.expect(503);
    assert_eq!((&health["status"], &health["database"]), (&json!("unavailable"), &json!("unavailable")));
    let body = json!({ "queue": "Support", "subject": "x" });
    for reply in [desk.get("/api/tickets").await, desk.post("/api/tickets", body).await] {
        assert_eq!(reply.header("retry-after"), "1");
        reply.problem(503, "database_unavailable");
    }
}

#[tokio::test]
async fn every_other_route_demands_the_token() {
    let desk = Desk::open().await;
    let document: Value = serde_json::from_str(&tessera_api::document().unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let methods = |path: &Value| path.as_object().unwrap().keys().filter_map(|key| method(key)).collect();
    let known = paths.iter().flat_map(|(path, item)| {
        let methods: Vec<Method> = methods(item);
        methods.into_iter().map(move |method| (method, path.replace(['{', '}'], "")))
    });
    // Anybody may ask for health; the metrics have a token of their own, with tests of their own.
    let is_guarded = |(_, path): &(Method, String)| path != "/api/health" && path != "/metrics";
    let routes: Vec<(Method, String)> = known.filter(is_guarded).collect();
    assert!(routes.len() > 30, "only {} found: the search is broken", routes.len());
    let unknown = (Method::GET, "/api/nothing".to_owned());
    for (method, path) in routes.into_iter().chain([unknown]) {
        for token in
            [None, Some("Bearer wrong"), Some("Basic dHN0"), Some("Bearer "), Some("tst_0123456789abcdef")]
        {
            let mut asked = Request::builder().method(method.clone()).uri(&path);
            if let Some(token) = token {
                asked = asked.header("authorization", token);
            }
            let reply = desk.send(asked.body(Body::empty()).unwrap()).await;
            assert_eq!(reply.header("www-authenticate"), "Bearer", "{method} {path} {token:?}");
            reply.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn the_link_in_a_mail_explains_itself_to_anybody_and_reveals_no_ticket() {
    let desk = Desk::open().await;
    desk.create(json!({ "subject": "Secret subject" })).await;
    let open = |path: &str| desk.send(Request::get(path).body(Body::empty()).unwrap());
    let page = |bytes: Vec<u8>, number: &str| String::from_utf8(bytes).unwrap().replace(number, "N");
    let (there, missing) = (open("/t/1").await, open("/t/999999").await);
    assert_eq!((there.status, missing.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(there.header("content-type"), "text/html; charset=utf-8");
    assert!(there.header("content-security-policy").starts_with("default-src 'none'"));
    let text = String::from_utf8(there.bytes.clone()).unwrap();
    assert!(text.contains("<html lang=\"en\">") && text.contains("<h1>Ticket #1</h1>"), "{text}");
    assert!(text.contains("reply to the mail") && text.contains("your administrator"), "{text}");
    assert!(!text.contains("Secret"));
    assert_eq!(page(there.bytes, "#1"), page(missing.bytes, "#999999").replace("/999999", "/1"));
    // With a token it is the same page, and punctuation that a mail program took for a part of the link does no harm.
    for path in ["/t/1", "/t/1/", "/t/1.", "/t/1)", "/t/1%3E", "/t/0001"] {
        assert_eq!(String::from_utf8(desk.get(path).await.bytes).unwrap(), text, "{path}");
    }
    for path in [
        "/t/0",
        "/t/-1",
        "/t/+1",
        "/t/new",
        "/t/1x",
        "/t/1/2",
        "/t/%3Cscript%3E",
        "/t/99999999999999999999",
        "/t/",
        "/t",
    ] {
        let reply = open(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        let text = String::from_utf8(reply.bytes).unwrap();
        assert!(
            text.contains("<h1>This link is not complete</h1>") && !text.contains("script"),
            "{path}: {text}"
        );
    }
    desk.post("/t/1", json!({})).await.problem(405, "method_not_allowed");
    // Nobody can make the server hold a long path in its response.
    let long = format!("/api/docs/{}", "x".repeat(30_000));
    assert!(open(&long).await.bytes.len() < 1_000);
}

/// A method by its name in the document, which has other members as well.
fn method(key: &str) -> Option<Method> {
    ["get", "put", "post", "patch", "delete"].contains(&key).then(|| key.to_uppercase().parse().unwrap())
}

#[tokio::test]
async fn a_usable_request_id_is_taken_over_and_another_is_made() {
    let desk = Desk::open().await;
    let asked = |id: &str| request(Method::GET, "/api/tickets/999", None, &[("x-request-id", id)]);
    let reply = desk.send(asked("job-17")).await;
    assert_eq!(reply.header("x-request-id"), "job-17");
    assert_eq!(reply.problem(404, "not_found")["request_id"], "job-17");
    for bad in ["two words", "", &"x".repeat(129)] {
        let made = desk.send(asked(bad)).await.header("x-request-id");
        assert!(made != bad && !made.is_empty(), "{bad:?} became {made:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document_too() {
    let desk = Desk::open().await;
    desk.get("/api/nothing").await.problem(404, "not_found");
    for ticket in ["999", "0", "-1", "99999999999999999999", "word", "00000000-0000-7000-8000-000000000999"] {
        desk.get(&format!("/api/tickets/{ticket}")).await.problem(404, "not_found");
    }
    for path in ["/api/tickets/%FF", "/api/tickets/%FF/at/1", "/api/queues/%FF"] {
        desk.get(path).await.problem(400, "malformed_path");
    }
    desk.get("/api/transactions/00000000-0000-7000-8000-000000000999/why").await.problem(404, "not_found");
    desk.send(request(Method::DELETE, "/api/tickets/1", None, &[])).await.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_json_is_refused_before_anything_reads_it() {
    let desk = Desk::open().await;
    let before = desk.rows().await;
    let send = |content_type: &'static str, body: Vec<u8>| {
        let mut asked = request(Method::POST, "/api/tickets", None, &[("content-type", content_type)]);
        *asked.body_mut() = Body::from(body);
        desk.send(asked)
    };
    let large = json!({ "queue": "Support", "subject": "x", "content": "x".repeat(1024 * 1024) }).to_string();
    send("application/json", large.into_bytes()).await.problem(413, "body_too_large");
    send("text/plain", b"{}".to_vec()).await.problem(415, "unsupported_media_type");
    let problem = send("application/json", b"{\"queue\": \"Support\",\n oops}".to_vec())
        .await
        .problem(400, "malformed_json");
    assert!(problem["detail"].as_str().unwrap().contains("line 2 column 2"), "{problem}");
    send("application/json", b"{\"queue\": \"Support\", \"subject\": \"x\"} {}".to_vec())
        .await
        .problem(400, "malformed_json");
    send("application/json", b"{\"queue\": \"\xff\"}".to_vec()).await.problem(400, "malformed_json");
    send("application/json", b"".to_vec()).await.problem(400, "malformed_json");
    send("application/json", [b"[".repeat(100_000), b"]".repeat(100_000)].concat())
        .await
        .problem(422, "invalid");
    let deep = [&b"{\"custom_fields\": {\"Build\": "[..], &b"[".repeat(100_000)].concat();
    send("application/json", deep).await.problem(400, "malformed_json");
    assert_eq!(desk.rows().await, before);
}
