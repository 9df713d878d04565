//! The endpoints of deliveries, with their state and recent attempts.

use crate::db::error;
use crate::error::Result;
use crate::models::delivery::EndpointState;
use serde::Deserialize;
use sqlx::PgExecutor;
use sqlx::types::Json;
use time::OffsetDateTime;

/// The maximum number of endpoints returned, the worst ones.
const ENDPOINTS_SHOWN: i64 = 1_000;

/// An endpoint as lists show it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `scheme://host:port`, `smtp`, or a kind that connectors deliver.
    pub endpoint: String,
    /// The state.
    pub state: EndpointState,
    /// The number of failures in a row.
    pub failures: i32,
    /// The time of the first of them.
    pub failing_since: Option<OffsetDateTime>,
    /// The detail of the last failure.
    pub last_failure: Option<String>,
    /// The time of the next probe while its breaker is open.
    pub probe_at: Option<OffsetDateTime>,
    /// The time since when an operator holds it.
    pub held_at: Option<OffsetDateTime>,
    /// The username of that operator.
    pub held_by: Option<String>,
    /// The number of available deliveries.
    pub waiting: i64,
    /// The number of held deliveries.
    pub held: i64,
    /// The number of running deliveries.
    pub running: i64,
    /// The median duration of successful attempts, in milliseconds.
    pub median_ms: Option<i32>,
    /// The attempts by the hour in which they started, oldest first, without hours that have none.
    pub hours: Vec<Hour>,
}

/// The attempts of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hour {
    /// The beginning of the hour.
    #[serde(with = "time::serde::rfc3339")]
    pub hour: OffsetDateTime,
    /// The number of attempts that delivered.
    pub delivered: i64,
    /// The number of attempts that failed.
    pub failed: i64,
}

/// Lists the endpoints that were tried in the last `hours`, have unfinished deliveries, are held or are failing, the worst
/// first; with `only`, just that one.
///
/// # Errors
/// Those of the database.
pub async fn endpoints(db: impl PgExecutor<'_>, hours: i32, only: Option<&str>) -> Result<Vec<Endpoint>> {
    let rows = sqlx::query!(
        r#"
        WITH tried AS (
            SELECT d.endpoint, date_trunc('hour', a.started_at, 'UTC') AS hour,
                   count(*) FILTER (WHERE a.outcome = 'delivered') AS delivered,
                   count(*) FILTER (WHERE a.outcome <> 'delivered') AS failed,
                   array_agg(a.duration_ms) FILTER (WHERE a.outcome = 'delivered') AS took
            FROM delivery_attempts a JOIN deliveries d ON d.id = a.delivery_id
            WHERE a.started_at >= now() - make_interval(hours => $1) AND a.outcome IS NOT NULL
              AND ($3::text IS NULL OR d.endpoint = $3)
            GROUP BY d.endpoint, hour
        ),
        recent AS (
            SELECT t.endpoint,
                   jsonb_agg(jsonb_build_object('hour', t.hour, 'delivered', t.delivered, 'failed', t.failed) ORDER BY t.hour) AS hours,
                   (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ms)
                    FROM tried o CROSS JOIN LATERAL unnest(o.took) AS ms WHERE o.endpoint = t.endpoint) AS median_ms
            FROM tried t
            GROUP BY t.endpoint
        ),
        unfinished AS (
            SELECT s.endpoint, count(*) FILTER (WHERE s.state = 'available') AS waiting,
                   count(*) FILTER (WHERE s.state = 'held') AS held,
                   count(*) FILTER (WHERE s.state = 'running') AS running
            FROM delivery_standing s
            GROUP BY s.endpoint
        )
        SELECT n.endpoint AS "endpoint!", coalesce(e.failures, 0) AS "failures!", e.failing_since AS "failing_since?",
               e.last_failure AS "last_failure?", e.probe_at AS "probe_at?", e.held_at AS "held_at?",
               CASE WHEN e.held_at IS NOT NULL THEN
                   (SELECT u.username FROM delivery_actions x JOIN users u ON u.id = x.actor_id
                    WHERE x.endpoint = n.endpoint AND x.action = 'hold' ORDER BY x.created_at DESC LIMIT 1) END AS held_by,
               coalesce(u.waiting, 0) AS "waiting!", coalesce(u.held, 0) AS "held!", coalesce(u.running, 0) AS "running!",
               r.median_ms AS "median_ms?", r.hours AS "hours?: Json<Vec<Hour>>"
        FROM (SELECT endpoint FROM recent UNION SELECT endpoint FROM unfinished
              UNION SELECT endpoint FROM delivery_endpoints WHERE failures > 0 OR held_at IS NOT NULL
              UNION SELECT $3) n
        LEFT JOIN delivery_endpoints e ON e.endpoint = n.endpoint
        LEFT JOIN recent r ON r.endpoint = n.endpoint
        LEFT JOIN unfinished u ON u.endpoint = n.endpoint
        WHERE n.endpoint IS NOT NULL AND ($3 IS NULL OR n.endpoint = $3)
        ORDER BY e.probe_at IS NOT NULL DESC, e.held_at IS NOT NULL DESC, coalesce(e.failures, 0) DESC, n.endpoint
        LIMIT $2
        "#,
        hours,
        ENDPOINTS_SHOWN,
        only
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let endpoints = rows.into_iter().map(|row| Endpoint {
        state: EndpointState::of(row.held_at.is_some(), row.probe_at.is_some(), row.failures),
        endpoint: row.endpoint,
        failures: row.failures,
        failing_since: row.failing_since,
        last_failure: row.last_failure,
        probe_at: row.probe_at,
        held_at: row.held_at,
        held_by: row.held_by,
        waiting: row.waiting,
        held: row.held,
        running: row.running,
        median_ms: row.median_ms,
        hours: row.hours.map(|hours| hours.0).unwrap_or_default(),
    });
    Ok(endpoints.collect())
}
