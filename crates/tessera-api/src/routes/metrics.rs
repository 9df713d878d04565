//! The endpoint that Prometheus scrapes. Gauges are read at each scrape, and at no other time.

use crate::app::{self, App};
use crate::error::Problem;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tessera_core::Error;
use tessera_core::desk::Gauges;
use tessera_core::desk::reads::DeliveryQueue;
use tessera_core::metrics as names;
use tessera_core::plan::Catalog;

/// Time limit for the database to respond; a scrape continues without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the metrics of this process in the text format of Prometheus; docs/metrics.md explains each.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, body = String, content_type = "text/plain", description = "The metrics."),
    (status = 401, body = crate::error::ProblemDocument, content_type = "application/problem+json", description = "The token is missing, or valid for neither the metrics nor the API.")
))]
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let Some(scrape) = &app.scrape else {
        return Problem::from(Error::not_found("resource", "/metrics")).into_response();
    };
    if !app.is_administrator(&headers) && !scrape.is_reader(&headers) {
        return app::unauthenticated(
            "Send the header Authorization: Bearer <token>, with the token of the setting metrics.token or the administrator token.",
        );
    }
    let Gauges { pools, catalog, queue } = app.tessera.gauges(PATIENCE).await;
    report_pools(pools);
    report_catalog(&catalog);
    report_queue(queue, &catalog);
    metrics::gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    ([(header::CONTENT_TYPE, TEXT)], scrape.render()).into_response()
}

fn report_pools(pools: [(&'static str, usize, usize); 6]) {
    for (name, idle, used) in pools {
        metrics::gauge!(names::POOL_CONNECTIONS, "pool" => name, "state" => "idle").set(idle as f64);
        metrics::gauge!(names::POOL_CONNECTIONS, "pool" => name, "state" => "used").set(used as f64);
    }
}

fn report_catalog(catalog: &Catalog) {
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

/// Without the database, the previous counts would look current, so the gauges become NaN.
fn report_queue(queue: Option<DeliveryQueue>, catalog: &Catalog) {
    metrics::gauge!(names::DATABASE_UP).set(if queue.is_some() { 1.0 } else { 0.0 });
    let queue = queue.unwrap_or_else(|| DeliveryQueue::unknown(&catalog.delivery_kinds()));
    metrics::gauge!(names::DELIVERY_OLDEST_DUE).set(queue.oldest_due);
    for (state, kind, count) in queue.deliveries {
        metrics::gauge!(names::DELIVERIES, "state" => state.as_str(), "kind" => kind.to_string()).set(count);
    }
}
