//! Compression, ETags and headers of responses; load shedding; the pages of the documentation.

use super::desk::{Desk, Reply, TOKEN, request};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;
use tessera_api::app::Load;

/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

async fn get(desk: &Desk, path: &str, encoding: &str) -> Reply {
    desk.send(request(Method::GET, path, None, &[("accept-encoding", encoding)])).await
}

#[tokio::test]
async fn a_large_answer_is_packed_for_who_takes_it_and_its_tag_still_names_the_version() {
    let desk = Desk::open().await;
    desk.create(json!({ "subject": "x".repeat(900) })).await;
    let plain = get(&desk, "/api/tickets/1", "br").await;
    assert_eq!((plain.header("content-encoding").as_str(), plain.header("etag").as_str()), ("", "\"1\""));
    let packed = get(&desk, "/api/tickets/1", "br, gzip").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.bytes.starts_with(&GZIP) && packed.bytes.len() < plain.bytes.len());
    for reply in [&plain, &packed] {
        assert_eq!(reply.header("vary"), "accept-encoding");
    }
    let tag = packed.header("etag");
    assert_eq!(tag, "W/\"1\"");
    let body = json!({ "subject": "y" });
    desk.patch_with("/api/tickets/1", &[("if-match", &tag)], body.clone()).await.expect(200);
    desk.patch_with("/api/tickets/1", &[("if-match", &tag)], body).await.problem(412, "version_mismatch");
    let small = get(&desk, "/api/health", "gzip").await;
    assert_eq!(small.header("content-encoding"), "");
}

#[tokio::test]
async fn a_client_that_takes_neither_gzip_nor_plain_text_is_answered_plainly() {
    let desk = Desk::open().await;
    let body = json!({ "queue": "Support", "subject": "x".repeat(900) });
    let reply = desk
        .send(request(Method::POST, "/api/tickets", Some(body), &[("accept-encoding", "identity;q=0, br")]))
        .await;
    assert_eq!(reply.header("content-encoding"), "");
    reply.expect(201);
}

#[tokio::test]
async fn every_answer_forbids_guessing_and_keeping() {
    let desk = Desk::open().await;
    for path in ["/api/health", "/api/tickets", "/api/nothing", "/nothing"] {
        let reply = desk.get(path).await;
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_again_but_health_is_not() {
    let load = Load { at_work: 0, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    let reply = desk.get("/api/tickets").await;
    assert_eq!(reply.header("retry-after"), "1");
    reply.problem(503, "overloaded");
    desk.get("/api/health").await.expect(200);
    desk.get("/api/openapi.json").await.expect(200);
    // Who has no token takes no place, and so finds none missing.
    desk.send(Request::get("/api/tickets").body(Body::empty()).unwrap())
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn places_are_given_back() {
    let load = Load { at_work: 1, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    for _ in 0..3 {
        desk.get("/api/tickets").await.expect(200);
        desk.get("/api/tickets/99").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_stopped() {
    let load = Load { handler: std::time::Duration::ZERO, ..Load::default() };
    let desk = Desk::open_with(|app| app.with_load(load)).await;
    desk.get("/api/tickets").await.problem(503, "timeout");
}

#[tokio::test]
async fn the_documentation_is_a_page_that_needs_no_token_and_no_other_place() {
    let desk = Desk::open().await;
    let open = |path: &'static str| desk.send(Request::get(path).body(Body::empty()).unwrap());
    let document = open("/api/openapi.json").await;
    assert_eq!(document.bytes, tessera_api::document().unwrap().into_bytes());
    document.expect(200);
    assert_eq!(open("/api/docs").await.header("location"), "/api/docs/");
    for part in
        ["/api/docs/", "/api/docs/swagger-ui-bundle.js", "/api/docs/swagger-ui.css", "/api/docs/index.css"]
    {
        let (reply, plain) = (get(&desk, part, "gzip").await, open(part).await);
        assert!(reply.status == 200 && plain.status == 200, "{part}");
        assert_eq!(reply.header("content-encoding"), "gzip");
        assert!(reply.bytes.starts_with(&GZIP), "{part} is packed once, when this is built");
        assert_eq!(plain.header("content-encoding"), "", "{part}");
        assert!(plain.bytes.is_ascii() || std::str::from_utf8(&plain.bytes).is_ok(), "{part} is text");
        assert_eq!(
            (plain.header("vary"), reply.header("vary")),
            ("accept-encoding".into(), "accept-encoding".into())
        );
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    }
    let start = open("/api/docs/swagger-initializer.js").await;
    let start = String::from_utf8(start.bytes).unwrap();
    assert!(start.contains("/api/openapi.json") && !start.contains(TOKEN), "{start}");
    assert!(!start.contains("http://") && !start.contains("https://"), "{start}");
    open("/api/docs/nothing.js").await.problem(404, "not_found");
}
