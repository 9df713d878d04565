//! The endpoints of deliveries, with their state and recent attempts.

use crate::db::error;
use crate::error::Result;
use crate::models::delivery::EndpointState;
use crate::models::page::BYTES_MAX;
use serde::Deserialize;
use sqlx::PgExecutor;
use sqlx::types::Json;
use time::OffsetDateTime;

/// The maximum number of endpoints returned, the worst ones.
const ENDPOINTS_SHOWN: i64 = 1_000;
/// The size of an endpoint or of one of its hours, in bytes of JSON.
const PART_BYTES: i64 = 120;

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
/// first, as many as fit into [`BYTES_MAX`]; with `only`, just that one.
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
        SELECT l.endpoint AS "endpoint!", l.failures AS "failures!", l.failing_since AS "failing_since?",
               l.last_failure AS "last_failure?", l.probe_at AS "probe_at?", l.held_at AS "held_at?",
               CASE WHEN l.held_at IS NOT NULL THEN
                   (SELECT u.username FROM delivery_actions x JOIN users u ON u.id = x.actor_id
                    WHERE x.endpoint = l.endpoint AND x.action = 'hold' ORDER BY x.created_at DESC LIMIT 1) END AS held_by,
               coalesce(u.waiting, 0) AS "waiting!", coalesce(u.held, 0) AS "held!", coalesce(u.running, 0) AS "running!",
               l.median_ms AS "median_ms?", l.hours AS "hours?: Json<Vec<Hour>>"
        FROM (
            SELECT n.endpoint, coalesce(e.failures, 0) AS failures, e.failing_since, e.last_failure, e.probe_at, e.held_at,
                   r.median_ms, r.hours, row_number() OVER w AS position,
                   (sum($4::bigint * (3 + coalesce(jsonb_array_length(r.hours), 0)) + octet_length(n.endpoint)
                        + coalesce(octet_length(e.last_failure), 0)) OVER w)::bigint AS bytes
            FROM (SELECT endpoint FROM recent UNION SELECT endpoint FROM unfinished
                  UNION SELECT endpoint FROM delivery_endpoints WHERE failures > 0 OR held_at IS NOT NULL
                  UNION SELECT $3) n
            LEFT JOIN delivery_endpoints e ON e.endpoint = n.endpoint
            LEFT JOIN recent r ON r.endpoint = n.endpoint
            WHERE n.endpoint IS NOT NULL AND ($3 IS NULL OR n.endpoint = $3)
            WINDOW w AS (ORDER BY e.probe_at IS NOT NULL DESC, e.held_at IS NOT NULL DESC, coalesce(e.failures, 0) DESC, n.endpoint)
        ) l
        LEFT JOIN unfinished u ON u.endpoint = l.endpoint
        WHERE l.position = 1 OR (l.position <= $2 AND l.bytes <= $5)
        ORDER BY l.position
        "#,
        hours,
        ENDPOINTS_SHOWN,
        only,
        PART_BYTES,
        BYTES_MAX
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
