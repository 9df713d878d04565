//! What people see of deliveries: lists, one with everything that was tried and done, and the endpoints they go to.

use super::work::with_body;
use crate::db::{error, malformed_cursor};
use crate::error::{Error, Result};
use crate::models::delivery::{
    DeliveryKind, DeliveryState, EndpointState, HoldReason, Payload, RecipientAnswer,
};
use crate::models::page::Page;
use crate::models::{DeliveryId, ScripId, TicketId, TransactionId};
use serde::Deserialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Attempts shown of one delivery, the newest; a mail's schedule has 124.
const ATTEMPTS_SHOWN: i64 = 500;
/// Orders shown of one delivery, the newest.
const ORDERS_SHOWN: i64 = 100;
/// Endpoints shown, the worst first.
const ENDPOINTS_SHOWN: i64 = 1_000;

/// Which deliveries a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of one ticket.
    pub ticket: Option<TicketId>,
    /// Those in one state.
    pub state: Option<DeliveryState>,
    /// Those of one kind.
    pub kind: Option<DeliveryKind>,
    /// Those to one endpoint.
    pub endpoint: Option<String>,
}

/// A delivery as people see it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: DeliveryId,
    /// The ticket's number.
    pub number: i64,
    /// The transaction whose scrip made it.
    pub transaction: TransactionId,
    /// The scrip that made it, its name at the time, and its version.
    pub scrip: Option<(ScripId, String, i32)>,
    /// `email`, `webhook`, or what a newer version knows.
    pub kind: String,
    /// Where it goes.
    pub endpoint: String,
    /// What is or was to be sent.
    pub message: Stored,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it is held, when it is.
    pub hold: Option<Hold>,
    /// How many attempts were begun.
    pub attempts: i32,
    /// When it is tried next; while it is running, when its lease ends; `None` when it is finished.
    pub due_at: Option<OffsetDateTime>,
    /// The last attempt that came to an end.
    pub last: Option<LastAttempt>,
}

/// What is kept of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// All of it.
    Kept(Box<Payload>),
    /// Emptied by retention.
    Gone,
    /// A newer version wrote it.
    Unreadable,
}

/// Why a delivery is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Who did it, where a person did.
    pub by: Option<String>,
    /// Since when.
    pub since: Option<OffsetDateTime>,
    /// When the next is let through, with a breaker; else until somebody releases it.
    pub until: Option<OffsetDateTime>,
}

/// An attempt that came to an end.
#[derive(Debug, Clone, PartialEq)]
pub struct LastAttempt {
    /// `delivered`, `retry` or `permanent`.
    pub outcome: String,
    /// Of HTTP or SMTP.
    pub status_code: Option<i32>,
    /// One sentence.
    pub detail: String,
    /// When it ended.
    pub finished_at: OffsetDateTime,
}

/// One page of deliveries, newest first. `cursor` is the `next_cursor` of the page before.
///
/// # Errors
/// `malformed_cursor`; those of the database.
pub async fn list(pool: &PgPool, filter: &Filter, limit: i64, cursor: Option<&str>) -> Result<Page<Listed>> {
    let before = cursor.map(Uuid::parse_str).transpose().map_err(|_| malformed_cursor())?;
    let mut db = pool.acquire().await.map_err(error)?;
    let ids = ids_of(&mut db, filter, before, limit.saturating_add(1)).await?;
    Ok(Page::cut(shown(&mut db, &ids).await?, limit, |listed| listed.id.to_string()))
}

/// The ids of a page, from where those of the state are few.
async fn ids_of(
    db: &mut PgConnection,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    match filter.state {
        Some(DeliveryState::Held | DeliveryState::Available | DeliveryState::Running) => {
            unfinished(db, filter, before, limit).await
        }
        Some(DeliveryState::Discarded | DeliveryState::Cancelled) => {
            given_up(db, filter, before, limit).await
        }
        Some(DeliveryState::Completed) | None => newest(db, filter, before, limit).await,
    }
}

/// From the queue, which holds nothing else.
async fn unfinished(
    db: &mut PgConnection,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT s.delivery_id AS "id!"
        FROM delivery_standing s JOIN deliveries d ON d.id = s.delivery_id
        WHERE s.state = $1
          AND ($2::uuid IS NULL OR d.ticket_id = $2)
          AND ($3::text IS NULL OR s.kind = $3)
          AND ($4::text IS NULL OR s.endpoint = $4)
          AND ($5::uuid IS NULL OR s.delivery_id < $5)
        ORDER BY s.delivery_id DESC
        LIMIT $6
        "#,
        filter.state.map(DeliveryState::as_str),
        filter.ticket.map(|ticket| ticket.0),
        filter.kind.as_ref().map(DeliveryKind::as_str),
        filter.endpoint,
        before,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// From the failures in tickets' histories, which have an index of their own.
async fn given_up(
    db: &mut PgConnection,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT o.delivery_id AS "id!"
        FROM transactions o JOIN deliveries d ON d.id = o.delivery_id
        WHERE o.transaction_type = 'DeliveryFailed'
          -- What was sent again after it was cancelled, and failed, was given up: a failure is recorded once.
          AND ((o.data ->> 'reason') IS NOT DISTINCT FROM 'cancelled'
               AND 'resend' IS DISTINCT FROM (SELECT x.action FROM delivery_actions x
                                              WHERE x.delivery_id = o.delivery_id AND x.action IN ('cancel', 'resend')
                                              ORDER BY x.created_at DESC LIMIT 1)) = $1
          AND NOT EXISTS (SELECT FROM delivery_queue q WHERE q.delivery_id = o.delivery_id)
          AND NOT EXISTS (SELECT FROM transactions s
                          WHERE s.delivery_id = o.delivery_id AND s.transaction_type <> 'DeliveryFailed')
          AND ($2::uuid IS NULL OR d.ticket_id = $2)
          AND ($3::text IS NULL OR d.kind = $3)
          AND ($4::text IS NULL OR d.endpoint = $4)
          AND ($5::uuid IS NULL OR o.delivery_id < $5)
        ORDER BY o.delivery_id DESC
        LIMIT $6
        "#,
        filter.state == Some(DeliveryState::Cancelled),
        filter.ticket.map(|ticket| ticket.0),
        filter.kind.as_ref().map(DeliveryKind::as_str),
        filter.endpoint,
        before,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// From all; of these most are completed, so a page of completed ones is soon found.
async fn newest(
    db: &mut PgConnection,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT d.id
        FROM deliveries d
        WHERE (NOT $1
               -- Asked of each row as it comes: an EXISTS would be planned as a join with all of them.
               OR ((SELECT TRUE FROM delivery_queue q WHERE q.delivery_id = d.id) IS NULL
                   AND (SELECT TRUE FROM transactions o
                        WHERE o.delivery_id = d.id AND o.transaction_type <> 'DeliveryFailed' LIMIT 1)))
          AND ($2::uuid IS NULL OR d.ticket_id = $2)
          AND ($3::text IS NULL OR d.kind = $3)
          AND ($4::text IS NULL OR d.endpoint = $4)
          AND ($5::uuid IS NULL OR d.id < $5)
        ORDER BY d.id DESC
        LIMIT $6
        "#,
        filter.state == Some(DeliveryState::Completed),
        filter.ticket.map(|ticket| ticket.0),
        filter.kind.as_ref().map(DeliveryKind::as_str),
        filter.endpoint,
        before,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// Deliveries by id, newest first.
async fn shown(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Listed>> {
    let rows = sqlx::query!(
        r#"
        SELECT d.id, d.transaction_id, d.kind, d.endpoint, d.payload, d.body, d.created_at, t.number,
               s.due_at AS "due_at?", s.hold AS "hold?", s.held_until AS "held_until?", s.endpoint_since AS "endpoint_since?",
               h.created_at AS "held_at?", h.username AS "held_by?",
               CASE WHEN s.delivery_id IS NOT NULL THEN s.state
                    WHEN o.succeeded THEN 'completed'
                    WHEN o.cancelled AND 'resend' IS DISTINCT FROM
                         (SELECT x.action FROM delivery_actions x
                          WHERE x.delivery_id = d.id AND x.action IN ('cancel', 'resend')
                          ORDER BY x.created_at DESC LIMIT 1) THEN 'cancelled'
                    ELSE 'discarded' END AS "state!",
               v.scrip_id AS "scrip_id?", v.snapshot ->> 'name' AS scrip_name, v.version AS "scrip_version?",
               coalesce(s.attempts, (SELECT max(a.attempt) FROM delivery_attempts a WHERE a.delivery_id = d.id), o.attempts, 0)
                   AS "attempts!",
               a.outcome AS "outcome?", a.status_code AS "status_code?", a.detail AS "detail?", a.finished_at AS "finished_at?"
        FROM deliveries d
        JOIN tickets t ON t.id = d.ticket_id
        LEFT JOIN delivery_standing s ON s.delivery_id = d.id
        LEFT JOIN scrip_versions v ON v.id = d.scrip_version_id
        LEFT JOIN LATERAL (
            SELECT a.* FROM delivery_attempts a
            WHERE a.delivery_id = d.id AND a.finished_at IS NOT NULL
            ORDER BY a.lease_token DESC LIMIT 1
        ) a ON TRUE
        LEFT JOIN LATERAL (
            SELECT bool_or(o.transaction_type <> 'DeliveryFailed') AS succeeded,
                   bool_or(o.data ->> 'reason' = 'cancelled') AS cancelled,
                   max((o.data ->> 'attempts')::int) AS attempts
            FROM transactions o WHERE o.delivery_id = d.id
        ) o ON TRUE
        LEFT JOIN LATERAL (
            SELECT x.created_at, u.username
            FROM delivery_actions x JOIN users u ON u.id = x.actor_id
            WHERE s.hold <> 'breaker' AND x.action = 'hold'
              -- Two arms, so that each has its index.
              AND ((s.hold = 'endpoint' AND x.endpoint = d.endpoint) OR (s.hold <> 'endpoint' AND x.delivery_id = d.id))
            ORDER BY x.created_at DESC LIMIT 1
        ) h ON s.hold IS NOT NULL
        WHERE d.id = ANY ($1)
        ORDER BY d.id DESC
        "#,
        ids
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let listed = rows.into_iter().map(|row| Listed {
        id: row.id.into(),
        number: row.number,
        transaction: row.transaction_id.into(),
        scrip: row
            .scrip_id
            .zip(row.scrip_version)
            .map(|(id, version)| (id.into(), row.scrip_name.unwrap_or_default(), version)),
        kind: row.kind,
        endpoint: row.endpoint,
        message: stored(row.payload, row.body),
        created_at: row.created_at,
        state: DeliveryState::parse(&row.state).unwrap_or(DeliveryState::Discarded),
        hold: row.hold.as_deref().and_then(HoldReason::parse).map(|reason| Hold {
            reason,
            by: row.held_by,
            since: row.held_at.or(row.endpoint_since),
            until: row.held_until,
        }),
        attempts: row.attempts,
        due_at: row.due_at,
        last: row.outcome.zip(row.finished_at).map(|(outcome, finished_at)| LastAttempt {
            outcome,
            status_code: row.status_code,
            detail: row.detail.unwrap_or_default(),
            finished_at,
        }),
    });
    Ok(listed.collect())
}

fn stored(payload: Option<serde_json::Value>, body: Option<Vec<u8>>) -> Stored {
    match payload.map(serde_json::from_value::<Payload>) {
        None => Stored::Gone,
        Some(Ok(payload)) => Stored::Kept(Box::new(with_body(payload, body))),
        Some(Err(_)) => Stored::Unreadable,
    }
}

/// A delivery with everything that was tried and done.
#[derive(Debug, Clone)]
pub struct Whole {
    /// What a list shows of it.
    pub listed: Listed,
    /// Its attempts, the newest first.
    pub attempts: Vec<Tried>,
    /// What people did to it, the newest first.
    pub actions: Vec<Action>,
}

/// An attempt.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took, when it came to an end, in milliseconds.
    pub duration_ms: Option<i32>,
    /// `delivered`, `retry`, `permanent`; `running`; `lost` when its worker did not come back.
    pub outcome: String,
    /// Of HTTP or SMTP.
    pub status_code: Option<i32>,
    /// One sentence.
    pub detail: Option<String>,
    /// The first 4 KiB of the answer.
    pub response: Option<String>,
    /// What is known of each recipient of a mail after it.
    pub recipients: Vec<RecipientAnswer>,
    /// The name of the connector that made it; `None` = a worker in the binary.
    pub connector: Option<String>,
}

/// Something that a person did to a delivery.
#[derive(Debug, Clone)]
pub struct Action {
    /// `hold`, `release`, `cancel`, `resend`.
    pub action: String,
    /// Why, where Tessera did it.
    pub reason: Option<String>,
    /// Who: a username.
    pub actor: String,
    /// When.
    pub at: OffsetDateTime,
}

/// One delivery.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn whole(pool: &PgPool, delivery: DeliveryId) -> Result<Whole> {
    let mut db = pool.acquire().await.map_err(error)?;
    let listed = shown(&mut db, &[delivery.0]).await?.pop();
    let listed = listed.ok_or_else(|| Error::not_found("delivery", delivery))?;
    let attempts = sqlx::query!(
        r#"
        SELECT a.attempt, a.started_at, a.duration_ms, a.status_code, a.detail, a.response, c.name AS "connector?",
               a.recipients AS "recipients: Json<Vec<RecipientAnswer>>",
               coalesce(a.outcome, CASE WHEN s.state = 'running' THEN 'running' ELSE 'lost' END) AS "outcome!"
        FROM delivery_attempts a
        LEFT JOIN delivery_standing s ON s.delivery_id = a.delivery_id AND s.lease_token = a.lease_token
        LEFT JOIN connectors c ON c.id = a.connector_id
        WHERE a.delivery_id = $1
        ORDER BY a.lease_token DESC
        LIMIT $2
        "#,
        delivery.0,
        ATTEMPTS_SHOWN
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    let actions = sqlx::query!(
        r#"
        SELECT x.action, x.reason, u.username, x.created_at
        FROM delivery_actions x JOIN users u ON u.id = x.actor_id
        WHERE x.delivery_id = $1
        ORDER BY x.created_at DESC, x.id DESC
        LIMIT $2
        "#,
        delivery.0,
        ORDERS_SHOWN
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    let attempts = attempts.into_iter().map(|row| Tried {
        attempt: row.attempt,
        started_at: row.started_at,
        duration_ms: row.duration_ms,
        outcome: row.outcome,
        status_code: row.status_code,
        detail: row.detail,
        response: row.response.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        recipients: row.recipients.map(|answers| answers.0).unwrap_or_default(),
        connector: row.connector,
    });
    let actions = actions.into_iter().map(|row| Action {
        action: row.action,
        reason: row.reason,
        actor: row.username,
        at: row.created_at,
    });
    Ok(Whole { listed, attempts: attempts.collect(), actions: actions.collect() })
}

/// An endpoint as people see it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `scheme://host:port`, or `smtp`.
    pub endpoint: String,
    /// How it is.
    pub state: EndpointState,
    /// Failures in a row.
    pub failures: i32,
    /// Since when.
    pub failing_since: Option<OffsetDateTime>,
    /// What the last failure said.
    pub last_failure: Option<String>,
    /// While its breaker is open, when the next delivery is let through.
    pub probe_at: Option<OffsetDateTime>,
    /// Since when a person holds it.
    pub held_at: Option<OffsetDateTime>,
    /// Who does.
    pub held_by: Option<String>,
    /// Deliveries that are available, held and running.
    pub waiting: i64,
    /// Of these.
    pub held: i64,
    /// Of these.
    pub running: i64,
    /// The time that half of what was delivered took at most, in milliseconds.
    pub median_ms: Option<i32>,
    /// Attempts by the hour in which they began, oldest first; hours without any are left out.
    pub hours: Vec<Hour>,
}

/// The attempts of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hour {
    /// Its beginning.
    #[serde(with = "time::serde::rfc3339")]
    pub hour: OffsetDateTime,
    /// Attempts that delivered.
    pub delivered: i64,
    /// Attempts that did not.
    pub failed: i64,
}

/// Every endpoint that was tried in the last `hours`, or that something waits for, or that is held or in trouble; the worst
/// first. With `only`, that one.
///
/// # Errors
/// Those of the database.
pub async fn endpoints(pool: &PgPool, hours: i32, only: Option<&str>) -> Result<Vec<Endpoint>> {
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
    .fetch_all(pool)
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

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
