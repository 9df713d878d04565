//! What Prometheus scrapes. The gauges are read when they are asked for, and at no other time.

use crate::app::{self, App};
use crate::error::Problem;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tessera_core::Error;
use tessera_core::db::Pools;
use tessera_core::db::ops::gauges;
use tessera_core::metrics as names;
use tessera_core::models::DeliveryKind;
use tessera_core::plan::Catalog;

/// How long the database may take to answer; a scrape goes on without.
const PATIENCE: Duration = Duration::from_secs(2);
/// The media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of this process, in the text format of Prometheus; docs/metrics.md explains each.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, body = String, content_type = "text/plain", description = "The metrics."),
    (status = 401, body = crate::error::ProblemDocument, content_type = "application/problem+json", description = "No token, or one that opens neither this nor everything.")
))]
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let Some(scrape) = &app.scrape else {
        return Problem::from(Error::not_found("resource", "/metrics")).into_response();
    };
    if !app.is_administrator(&headers) && !scrape.is_reader(&headers) {
        return app::unauthenticated(
            "Send the header Authorization: Bearer <token>, with the token of the setting metrics.token or the administrator's.",
        );
    }
    let pools = app.tessera.pools();
    read_pools(pools);
    let catalog = app.tessera.catalog();
    read_catalog(&catalog);
    read_queue(pools, &catalog.delivery_kinds()).await;
    metrics::gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    ([(header::CONTENT_TYPE, TEXT)], scrape.render()).into_response()
}

fn read_pools(pools: &Pools) {
    let [write, read] = [&pools.write, &pools.read].map(|pool| {
        let idle = pool.num_idle();
        (idle, (pool.size() as usize).saturating_sub(idle))
    });
    let (changes, previews) = (pools.changes.count(), pools.previews.count());
    for (name, (idle, used)) in
        [("write", write), ("read", read), ("changes", changes), ("previews", previews)]
    {
        metrics::gauge!(names::POOL_CONNECTIONS, "pool" => name, "state" => "idle").set(idle as f64);
        metrics::gauge!(names::POOL_CONNECTIONS, "pool" => name, "state" => "used").set(used as f64);
    }
}

fn read_catalog(catalog: &Catalog) {
    metrics::gauge!(names::CATALOG_VERSION).set(catalog.version as f64);
    for (kind, count) in [
        ("queues", catalog.queues.len()),
        ("lifecycles", catalog.lifecycles.len()),
        ("custom_fields", catalog.fields.len()),
        ("scrips", catalog.scrips.len()),
        ("templates", catalog.templates.len()),
        ("agents", catalog.agents.len()),
    ] {
        metrics::gauge!(names::CATALOG_OBJECTS, "kind" => kind).set(count as f64);
    }
}

/// Without the database the last counts would be old and look new: they are no numbers then.
async fn read_queue(pools: &Pools, kinds: &[DeliveryKind]) {
    let queue = tokio::time::timeout(PATIENCE, gauges::queue(&pools.read, kinds)).await;
    let queue = queue.ok().and_then(Result::ok);
    metrics::gauge!(names::DATABASE_UP).set(if queue.is_some() { 1.0 } else { 0.0 });
    let queue = queue.unwrap_or_else(|| gauges::Queue::unknown(kinds));
    metrics::gauge!(names::DELIVERY_OLDEST_DUE).set(queue.oldest_due);
    for (state, kind, count) in queue.deliveries {
        metrics::gauge!(names::DELIVERIES, "state" => state.as_str(), "kind" => kind.to_string()).set(count);
    }
}
