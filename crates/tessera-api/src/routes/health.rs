//! The health check.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// Time limit for the database to respond.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state of this process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `stopping`, or `unavailable`.
    status: &'static str,
    /// The version of Tessera.
    version: &'static str,
    /// `ok`, or `unavailable`.
    database: &'static str,
}

/// Returns whether this process is serving.
#[utoipa::path(get, path = "/api/health", operation_id = "getHealth", tag = "operations", security(()), responses(
    (status = 200, body = Health, description = "The process is serving."),
    (status = 503, body = Health, description = "The database does not respond, or the process is stopping.")
))]
pub async fn health(State(app): State<App>) -> (StatusCode, Json<Health>) {
    let answers =
        app.pulse.check(|| async { matches!(timeout(PATIENCE, app.tessera.ping()).await, Ok(Ok(()))) }).await;
    let database = if answers { "ok" } else { "unavailable" };
    let status = if app.stop.is_cancelled() { "stopping" } else { database };
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status, version: env!("CARGO_PKG_VERSION"), database }))
}
