//! Whether this process serves.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the database answers. Anybody may ask, and as often as they like, so there is one ping at a time, and what it
/// finds serves all who asked before it ended.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<(Instant, bool)>>);

impl Pulse {
    async fn feel<F: Future<Output = bool>>(&self, ping: impl FnOnce() -> F) -> bool {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((ended, answers)) = *last
            && ended >= asked
        {
            return answers;
        }
        let answers = ping().await;
        *last = Some((Instant::now(), answers));
        answers
    }
}

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

/// Whether this process serves.
#[utoipa::path(get, path = "/api/health", operation_id = "getHealth", tag = "operations", security(()), responses(
    (status = 200, body = Health, description = "It serves."),
    (status = 503, body = Health, description = "The database does not answer, or the process is on its way out.")
))]
pub async fn health(State(app): State<App>) -> (StatusCode, Json<Health>) {
    let answers =
        app.pulse.feel(|| async { matches!(timeout(PATIENCE, app.tessera.ping()).await, Ok(Ok(()))) }).await;
    let database = if answers { "ok" } else { "unavailable" };
    let status = if app.stop.is_cancelled() { "stopping" } else { database };
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status, version: env!("CARGO_PKG_VERSION"), database }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn one_ping_serves_all_who_ask_while_it_runs_and_nobody_who_asks_later() {
        let (pulse, pings, answer) = (Pulse::default(), AtomicUsize::new(0), Notify::new());
        let ping = || async {
            pings.fetch_add(1, Ordering::Relaxed);
            answer.notified().await;
            true
        };
        // Polled in this order: three ask, and then the database answers.
        let asked = async {
            tokio::join!(biased; pulse.feel(ping), pulse.feel(ping), pulse.feel(ping), async { answer.notify_one() })
        };
        assert_eq!(asked.await, (true, true, true, ()));
        assert_eq!(pings.load(Ordering::Relaxed), 1);

        answer.notify_one();
        assert!(pulse.feel(ping).await);
        assert_eq!(pings.load(Ordering::Relaxed), 2);
    }
}
