//! Metrics, for holders of a token, and the log line of each request.

use super::desk::{Desk, Reply, request};
use axum::body::Body;
use axum::http::{Method, Request};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use tessera_api::app::Scrape;
use tessera_core::metrics as names;
use tracing_subscriber::fmt::MakeWriter;

/// A token that opens the metrics.
const READER: &str = "prm_0123456789abcdef";

/// One recorder for all tests of this program, so that they look for what must be there and not for how often.
static RECORDER: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    let recorder = PrometheusBuilder::new().set_buckets(&names::SECONDS).unwrap().install_recorder().unwrap();
    names::describe();
    recorder
});

async fn desk() -> Desk {
    LazyLock::force(&RECORDER);
    Desk::open_with(|app| app.with_scrape(Scrape::new(|| RECORDER.render(), Some(READER)))).await
}

async fn scrape(desk: &Desk, token: &str) -> Reply {
    let asked = Request::get("/metrics").header("authorization", format!("Bearer {token}"));
    desk.send(asked.body(Body::empty()).unwrap()).await
}

async fn text(desk: &Desk) -> String {
    let reply = scrape(desk, READER).await;
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(reply.bytes).unwrap()
}

#[tokio::test]
async fn the_metrics_have_a_token_that_opens_nothing_else() {
    let desk = desk().await;
    assert_eq!(scrape(&desk, READER).await.status, 200);
    assert_eq!(scrape(&desk, super::desk::TOKEN).await.status, 200);
    scrape(&desk, "prm_0123456789abcdeg").await.problem(401, "unauthenticated");
    desk.send(Request::get("/metrics").body(Body::empty()).unwrap()).await.problem(401, "unauthenticated");
    let asked = Request::get("/api/tickets").header("authorization", format!("Bearer {READER}"));
    desk.send(asked.body(Body::empty()).unwrap()).await.problem(401, "unauthenticated");
    Desk::open().await.get("/metrics").await.problem(404, "not_found");
}

#[tokio::test]
async fn what_happens_is_counted() {
    let desk = desk().await;
    desk.create(json!({ "requestors": ["eve@example.net"] })).await;
    desk.post("/api/tickets/1/preview", json!({ "status": "open" })).await.expect(200);
    desk.patch("/api/tickets/1", json!({ "status": "open" })).await.expect(200);
    desk.patch("/api/tickets/1", json!({ "status": "new" })).await.problem(409, "transition_denied");
    desk.get("/api/tickets/secret-name").await.problem(404, "not_found");
    desk.get("/secret-path").await.problem(404, "not_found");
    desk.send(request(Method::from_bytes(b"SECRETMETHOD").unwrap(), "/api/tickets", None, &[])).await;
    let text = text(&desk).await;
    for series in [
        "tessera_http_requests_total{method=\"POST\",route=\"/api/tickets\",status=\"201\"}",
        "tessera_http_requests_total{method=\"PATCH\",route=\"/api/tickets/{ref}\",status=\"409\"}",
        "tessera_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}",
        "tessera_http_requests_total{method=\"other\",route=\"/api/tickets\",status=\"405\"}",
        "tessera_http_request_seconds_bucket{route=\"/api/tickets/{ref}\",le=\"+Inf\"}",
        "tessera_changes_total{kind=\"create\",outcome=\"made\"}",
        "tessera_changes_total{kind=\"preview\",outcome=\"made\"}",
        "tessera_changes_total{kind=\"update\",outcome=\"made\"}",
        "tessera_changes_total{kind=\"update\",outcome=\"refused\"}",
        "tessera_scrips_total{verdict=\"fired\"}",
        "tessera_prepare_seconds_count",
        "tessera_deliveries{state=\"available\",kind=\"email\"} 1",
        "tessera_deliveries{state=\"running\",kind=\"webhook\"} 0",
        "tessera_delivery_oldest_due_seconds",
        "tessera_database_up 1",
        "tessera_pool_connections{pool=\"write\",state=\"idle\"}",
        "tessera_pool_connections{pool=\"changes\",state=\"idle\"}",
        "tessera_pool_connections{pool=\"previews\",state=\"used\"}",
        "tessera_catalog_version 1",
        "tessera_catalog_objects{kind=\"scrips\"} 3",
        &format!("tessera_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    assert!(!text.contains("secret") && !text.contains("SECRET"), "a client chose a label:\n{text}");
}

#[tokio::test]
async fn without_a_database_the_metrics_say_so_and_have_no_old_numbers() {
    let desk = desk().await;
    desk.lose_database().await;
    let text = text(&desk).await;
    assert!(text.contains("tessera_database_up 0"), "{text}");
    assert!(text.contains("tessera_delivery_oldest_due_seconds NaN"), "{text}");
}

#[test]
fn the_page_on_metrics_describes_every_metric_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    for names::Metric { name, kind, labels, .. } in names::ALL {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!("| `{name}` | {} | {} |", kind.as_str(), labels.join(", "));
        assert!(page.contains(&row), "docs/metrics.md has no row that begins {row}");
    }
    let known: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(known.len(), names::ALL.len(), "a name is listed twice");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `tessera_")?.split('`').next());
    for name in rows {
        assert!(known.contains(format!("tessera_{name}").as_str()), "tessera_{name} is not measured");
    }
}

/// A log that a test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Asks until there is a line. A place in the code that another test reaches for the first time at the moment when this
    /// log begins may take it that nobody listens.
    async fn hears(&self, desk: &Desk, path: &str) {
        let before = self.lines("warm").len();
        tokio::time::timeout(super::wire::SOON, async {
            while self.lines("warm").len() == before {
                tracing::callsite::rebuild_interest_cache();
                desk.send(request(Method::GET, path, None, &[("x-request-id", "warm")])).await;
            }
        })
        .await
        .expect("a line");
    }

    /// The lines about one request.
    fn lines(&self, request_id: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["fields"]["request_id"] == request_id).collect()
    }
}

#[tokio::test]
async fn a_request_is_one_line_and_a_fault_of_ours_stands_in_it_with_its_cause() {
    let desk = Desk::open().await;
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG).with_writer(log.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let asked = |path: &str, id: &str| request(Method::GET, path, None, &[("x-request-id", id)]);
    log.hears(&desk, "/api/tickets/99").await;
    log.hears(&desk, "/api/health").await;
    desk.send(asked("/api/tickets/99", "fine")).await.problem(404, "not_found");
    desk.send(asked("/api/health", "quiet")).await.expect(200);
    sqlx::raw_sql("DROP TABLE tickets CASCADE").execute(desk.pool()).await.unwrap();
    log.hears(&desk, "/api/tickets/99").await;
    let problem = desk.send(asked("/api/tickets/99", "broken")).await.problem(500, "internal");
    assert!(!problem.to_string().contains("relation"), "{problem}");
    for (id, level, status) in [("fine", "INFO", 404), ("quiet", "DEBUG", 200), ("broken", "ERROR", 500)] {
        let lines = log.lines(id);
        let [line] = lines.as_slice() else { panic!("{id}: {lines:#?}") };
        assert_eq!((&line["level"], &line["fields"]["status"]), (&level.into(), &status.into()), "{line}");
        assert!(line["fields"]["ms"].is_f64(), "{line}");
    }
    let line = &log.lines("broken")[0]["fields"];
    assert_eq!((&line["route"], &line["code"]), (&"/api/tickets/{ref}".into(), &"internal".into()));
    assert!(line["causes"].as_str().unwrap().contains("relation"), "{line}");
}
