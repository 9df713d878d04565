//! Leases: due deliveries are leased to workers and connectors; each lease has a higher number than all before it.

use crate::db::error;
use crate::error::Result;
use crate::models::delivery::{Delivery, DeliveryKind, HoldReason, Leased, Payload, RecipientAnswer};
use crate::models::user::SYSTEM_USER;
use crate::models::{ConnectorId, DeliveryId};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// The maximum duration of an attempt's lease including extensions, so that an attempt that hangs does not keep a delivery
/// forever.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(20 * 60);
/// The delay after a connector has returned a delivery twice in a row without attempting it; it doubles with each further return.
/// The first return has no delay, because a connector that stops returns what it holds.
pub const RETURN_FIRST: Duration = Duration::from_secs(1);
/// The maximum delay after a return.
pub const RETURN_MAX: Duration = Duration::from_secs(300);

/// The capacity of a worker or connector.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// The number of free slots by kind.
    pub kinds: Vec<(DeliveryKind, i64)>,
    /// The maximum number of running deliveries per endpoint, by kind.
    pub per_endpoint: Vec<(DeliveryKind, i64)>,
    /// The number of running deliveries by endpoint, for endpoints that have any.
    pub running: Vec<(String, i64)>,
}

/// A holder of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A worker in the binary.
    Worker,
    /// A connector.
    Connector(ConnectorId),
}

impl Holder {
    fn connector(self) -> Option<Uuid> {
        match self {
            Self::Worker => None,
            Self::Connector(id) => Some(id.0),
        }
    }
}

struct LeaseRow {
    id: Uuid,
    ticket_id: Uuid,
    transaction_id: Uuid,
    scrip_version_id: Uuid,
    payload: Option<serde_json::Value>,
    body: Option<Vec<u8>>,
    created_at: OffsetDateTime,
    endpoint: String,
    attempt: i32,
    attempts_before: i32,
    token: i64,
    settled: bool,
    given_back: bool,
    recipients: Option<Json<Vec<RecipientAnswer>>>,
}

impl LeaseRow {
    /// Returns the leased delivery, or the reason why this version cannot send it.
    fn read(self) -> std::result::Result<Leased, HoldReason> {
        let payload = self.payload.ok_or(HoldReason::PayloadGone)?;
        let payload = serde_json::from_value(payload).map_err(|_| HoldReason::Unreadable)?;
        Ok(Leased {
            delivery: Delivery {
                id: self.id.into(),
                ticket: self.ticket_id.into(),
                transaction: self.transaction_id.into(),
                scrip_version: self.scrip_version_id.into(),
                payload: with_body(payload, self.body),
                created_at: self.created_at,
            },
            endpoint: self.endpoint,
            attempt: self.attempt,
            in_schedule: self.attempt - self.attempts_before,
            token: self.token,
            answered: self.recipients.map(|answers| answers.0).unwrap_or_default(),
        })
    }
}

/// Leases due deliveries, oldest first, up to the given capacity, and records the start of each attempt and its holder. Skips
/// rows that another holder is leasing, deliveries that are held, and endpoints with an open breaker, except for one delivery
/// when the next probe is due. A revoked connector gets nothing.
///
/// The cost is proportional to the number of endpoints with unfinished deliveries (at most a few thousand, because the scrip
/// determines the endpoint), not to the number of waiting deliveries.
///
/// # Errors
/// Those of the database.
pub async fn lease(pool: &PgPool, by: Holder, room: &Room, lease: Duration) -> Result<Vec<Leased>> {
    let mut db = pool.acquire().await.map_err(error)?;
    lease_in(&mut db, by, room, lease).await
}

async fn lease_in(db: &mut PgConnection, by: Holder, room: &Room, lease: Duration) -> Result<Vec<Leased>> {
    let (kinds, places): (Vec<_>, Vec<_>) = room.kinds.iter().map(|(kind, n)| (kind.to_string(), *n)).unzip();
    let (limited, limits): (Vec<_>, Vec<_>) =
        room.per_endpoint.iter().map(|(kind, n)| (kind.to_string(), *n)).unzip();
    let (endpoints, counts): (Vec<_>, Vec<_>) = room.running.iter().cloned().unzip();
    let rows = sqlx::query_as!(
        LeaseRow,
        r#"
        WITH RECURSIVE room AS (
            SELECT * FROM unnest($1::text[], $2::bigint[]) AS r (kind, places)
            -- Kinds that no connector has announced are shown as held, and are not leased.
            WHERE ($8::uuid IS NULL OR EXISTS (SELECT FROM connectors WHERE id = $8 AND revoked_at IS NULL))
              AND NOT EXISTS (SELECT FROM delivery_kinds k WHERE k.kind = r.kind AND k.announced_at IS NULL)
        ),
        share AS (SELECT * FROM unnest($3::text[], $4::bigint[]) AS s (kind, places)),
        busy AS (SELECT * FROM unnest($5::text[], $6::bigint[]) AS b (endpoint, running)),
        -- Every endpoint with its earliest row: one step down the index each, however many rows it has.
        ends AS (
            (SELECT q.endpoint, q.kind, q.due_at FROM delivery_queue q
             WHERE q.held IS NULL ORDER BY q.endpoint, q.due_at LIMIT 1)
            UNION ALL
            SELECT n.endpoint, n.kind, n.due_at
            FROM ends e
            CROSS JOIN LATERAL (SELECT q.endpoint, q.kind, q.due_at FROM delivery_queue q
                                WHERE q.held IS NULL AND q.endpoint > e.endpoint ORDER BY q.endpoint, q.due_at LIMIT 1) n
        ),
        -- Endpoints with something due and free capacity. Per kind, no more of them are needed than there are free slots.
        willing AS (
            SELECT n.endpoint, n.kind, r.places, s.places - coalesce(b.running, 0) AS share,
                   row_number() OVER (PARTITION BY n.kind ORDER BY n.due_at) AS nth
            FROM ends n
            JOIN room r ON r.kind = n.kind
            JOIN share s ON s.kind = n.kind
            LEFT JOIN busy b ON b.endpoint = n.endpoint
            LEFT JOIN delivery_endpoints e ON e.endpoint = n.endpoint
            WHERE n.due_at <= now() AND coalesce(b.running, 0) < s.places AND e.held_at IS NULL AND e.probe_at IS NULL
        ),
        -- First the limit of each endpoint, then the free slots of each kind.
        fair AS (
            SELECT q.delivery_id, w.places, row_number() OVER (PARTITION BY w.kind ORDER BY q.due_at) AS place
            FROM willing w
            CROSS JOIN LATERAL (SELECT q.delivery_id, q.due_at FROM delivery_queue q
                                WHERE q.held IS NULL AND q.endpoint = w.endpoint AND q.kind = w.kind AND q.due_at <= now()
                                ORDER BY q.due_at LIMIT w.share) q
            WHERE w.nth <= w.places
        ),
        -- The next probe of each endpoint with an open breaker: a released delivery, or else the oldest when a probe is due.
        next AS MATERIALIZED (
            SELECT e.endpoint, e.probe_at, e.probe,
                   coalesce((SELECT q.delivery_id FROM delivery_queue q
                             WHERE q.let_go AND q.endpoint = e.endpoint AND q.held IS NULL AND q.due_at <= now() LIMIT 1),
                            (SELECT q.delivery_id FROM delivery_queue q
                             WHERE e.probe_at <= now() AND q.endpoint = e.endpoint AND q.held IS NULL AND q.due_at <= now()
                             ORDER BY q.due_at LIMIT 1)) AS delivery_id
            FROM delivery_endpoints e
            WHERE e.probe_at IS NOT NULL AND e.held_at IS NULL
              AND NOT EXISTS (SELECT FROM delivery_queue q
                              WHERE q.delivery_id = e.probe AND q.lease_token IS NOT NULL AND q.due_at > now())
        ),
        -- Only one process takes it: others skip the row or find it changed. Nothing waits, and settling locks the rows in the
        -- same order.
        chosen AS MATERIALIZED (
            SELECT e.endpoint, n.delivery_id
            FROM next n
            JOIN delivery_queue q ON q.delivery_id = n.delivery_id
            JOIN room r ON r.kind = q.kind
            JOIN delivery_endpoints e ON e.endpoint = n.endpoint
            WHERE e.probe_at = n.probe_at AND e.probe IS NOT DISTINCT FROM n.probe AND e.held_at IS NULL
            ORDER BY e.endpoint
            FOR UPDATE OF e SKIP LOCKED
        ),
        -- If the probe is never settled, the next one follows after the pause.
        probe AS (
            UPDATE delivery_endpoints e
            SET probe = c.delivery_id, probe_at = now() + e.pause
            FROM chosen c
            WHERE e.endpoint = c.endpoint
            RETURNING e.probe AS delivery_id
        ),
        -- By arrays, because PostgreSQL overestimates their number and would read the whole queue for a join.
        due AS MATERIALIZED (
            SELECT q.delivery_id
            FROM delivery_queue q
            WHERE q.delivery_id = ANY (ARRAY(SELECT delivery_id FROM fair WHERE place <= places
                                             UNION ALL SELECT delivery_id FROM probe))
              AND q.due_at <= now() AND q.held IS NULL
            ORDER BY q.due_at
            FOR UPDATE OF q SKIP LOCKED
        ),
        leased AS (
            UPDATE delivery_queue q
            SET due_at = now() + make_interval(secs => $7), lease_token = nextval('delivery_lease'), attempts = q.attempts + 1
            WHERE q.delivery_id = ANY (ARRAY(SELECT delivery_id FROM due))
            RETURNING q.delivery_id, q.endpoint, q.attempts, q.attempts_before, q.lease_token
        ),
        noted AS (
            INSERT INTO delivery_attempts (delivery_id, lease_token, attempt, started_at, connector_id)
            SELECT delivery_id, lease_token, attempts, now(), $8::uuid FROM leased
        )
        SELECT d.id, d.ticket_id, d.transaction_id, d.scrip_version_id, d.payload, d.body, d.created_at,
               l.endpoint, l.attempts AS attempt, l.attempts_before, l.lease_token AS "token!", FALSE AS "settled!",
               FALSE AS "given_back!",
               (SELECT a.recipients FROM delivery_attempts a
                WHERE l.attempts > 1 AND a.delivery_id = d.id AND a.attempt > l.attempts_before AND a.recipients IS NOT NULL
                ORDER BY a.lease_token DESC LIMIT 1) AS "recipients: Json<Vec<RecipientAnswer>>"
        FROM leased l JOIN deliveries d ON d.id = l.delivery_id
        ORDER BY l.lease_token
        "#,
        &kinds,
        &places,
        &limited,
        &limits,
        &endpoints,
        &counts,
        lease.as_secs_f64(),
        by.connector()
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    let (mut leased, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let (id, token) = (row.id, row.token);
        // A row that cannot be read, perhaps from a newer version, must not delay the others.
        match row.read() {
            Ok(one) => leased.push(one),
            Err(reason) => {
                tracing::error!(delivery = %id, reason = reason.as_str(), "this version cannot send a delivery; it is held");
                unreadable.push((id.into(), token, reason));
            }
        }
    }
    if !unreadable.is_empty() {
        set_aside(db, &unreadable).await?;
    }
    Ok(leased)
}

/// Holds leased deliveries until an operator releases or cancels them: those that this version cannot send, whose attempts did
/// not begin and do not count, and those whose attempts cannot be recorded, which would otherwise be attempted again each time
/// their lease expires. Leaves out those that were leased again since. Locks rows in the same order as [`super::settle`].
///
/// # Errors
/// Those of the database.
pub async fn set_aside(db: impl PgExecutor<'_>, held: &[(DeliveryId, i64, HoldReason)]) -> Result<()> {
    let ids: Vec<Uuid> = held.iter().map(|(id, ..)| id.0).collect();
    let tokens: Vec<i64> = held.iter().map(|(_, token, _)| *token).collect();
    let reasons: Vec<String> = held.iter().map(|(.., reason)| reason.as_str().to_owned()).collect();
    let begun: Vec<bool> = held.iter().map(|(.., reason)| *reason == HoldReason::Unrecorded).collect();
    sqlx::query!(
        r#"
        WITH told AS (
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bool[]) AS t (id, token, reason, begun)
        ),
        mine AS MATERIALIZED (
            SELECT t.* FROM delivery_queue q JOIN told t ON q.delivery_id = t.id AND q.lease_token = t.token
            ORDER BY q.delivery_id
            FOR UPDATE OF q
        ),
        held AS (
            UPDATE delivery_queue q
            SET held = m.reason, lease_token = NULL, due_at = now(), attempts = q.attempts - (NOT m.begun)::int
            FROM mine m
            WHERE q.delivery_id = m.id
            RETURNING q.delivery_id, m.reason
        ),
        unbegun AS (
            DELETE FROM delivery_attempts a
            USING mine m
            WHERE a.delivery_id = m.id AND a.lease_token = m.token AND NOT m.begun
        )
        INSERT INTO delivery_actions (id, delivery_id, action, reason, actor_id)
        SELECT gen_random_uuid(), delivery_id, 'hold', reason, $5 FROM held
        "#,
        &ids,
        &tokens,
        &reasons,
        &begun,
        SYSTEM_USER.0
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Extends leases, each to at most [`ATTEMPT_MAX`] in all, and returns those that are still held. Locks rows in the same order
/// as [`super::settle`].
///
/// # Errors
/// Those of the database.
pub async fn extend(
    pool: &PgPool,
    by: Holder,
    held: &[(DeliveryId, i64)],
    lease: Duration,
) -> Result<Vec<(DeliveryId, i64)>> {
    let (ids, tokens) = columns(held);
    let rows = sqlx::query!(
        r#"
        WITH held AS MATERIALIZED (
            SELECT q.delivery_id
            FROM delivery_queue q JOIN unnest($1::uuid[], $2::bigint[]) AS h (id, token)
                 ON q.delivery_id = h.id AND q.lease_token = h.token
            JOIN delivery_attempts a ON a.delivery_id = h.id AND a.lease_token = h.token
            WHERE a.connector_id IS NOT DISTINCT FROM $4::uuid AND a.started_at > now() - make_interval(secs => $5)
            ORDER BY q.delivery_id
            FOR UPDATE OF q
        )
        UPDATE delivery_queue q
        SET due_at = now() + make_interval(secs => $3)
        FROM held h
        WHERE q.delivery_id = h.delivery_id
        RETURNING q.delivery_id, q.lease_token AS "token!"
        "#,
        &ids,
        &tokens,
        lease.as_secs_f64(),
        by.connector(),
        ATTEMPT_MAX.as_secs_f64()
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    Ok(rows.into_iter().map(|row| (row.delivery_id.into(), row.token)).collect())
}

/// A lease that was granted.
#[derive(Debug, Clone)]
pub struct Given {
    /// The leased delivery.
    pub leased: Leased,
    /// True if the result of its attempt is already recorded.
    pub is_settled: bool,
    /// True if it was given back.
    pub is_given_back: bool,
}

/// Returns the deliveries of leases that were ever granted to this holder, without those whose payload is no longer stored or
/// cannot be read.
///
/// # Errors
/// Those of the database.
pub async fn given(pool: &PgPool, by: Holder, keys: &[(DeliveryId, i64)]) -> Result<Vec<Given>> {
    let (ids, tokens) = columns(keys);
    let rows = sqlx::query_as!(
        LeaseRow,
        r#"
        SELECT d.id, d.ticket_id, d.transaction_id, d.scrip_version_id, d.payload, d.body, d.created_at, d.endpoint,
               a.attempt, coalesce(q.attempts_before, 0) AS "attempts_before!", a.lease_token AS "token",
               a.finished_at IS NOT NULL AS "settled!", a.given_back_at IS NOT NULL AS "given_back!",
               (SELECT e.recipients FROM delivery_attempts e
                WHERE e.delivery_id = d.id AND e.lease_token < a.lease_token AND e.attempt > coalesce(q.attempts_before, 0)
                  AND e.recipients IS NOT NULL
                ORDER BY e.lease_token DESC LIMIT 1) AS "recipients: Json<Vec<RecipientAnswer>>"
        FROM unnest($1::uuid[], $2::bigint[]) AS k (id, token)
        JOIN delivery_attempts a ON a.delivery_id = k.id AND a.lease_token = k.token
        JOIN deliveries d ON d.id = k.id
        LEFT JOIN delivery_queue q ON q.delivery_id = k.id
        WHERE a.connector_id IS NOT DISTINCT FROM $3::uuid
        "#,
        &ids,
        &tokens,
        by.connector()
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let read = |row: LeaseRow| {
        let (is_settled, is_given_back) = (row.settled, row.given_back);
        row.read().ok().map(|leased| Given { leased, is_settled, is_given_back })
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// The time at which a delivery is due after its lease was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Immediately.
    Now,
    /// Later with each return in a row, as [`RETURN_FIRST`] and [`RETURN_MAX`] define: a connector that returns everything must
    /// not keep the database busy.
    Later,
}

/// Gives back leases whose attempts did not begin or did not end. The attempts do not count and are not shown. Leaves out leases
/// that are no longer the newest or were settled. Locks rows in the same order as [`super::settle`].
///
/// # Errors
/// Those of the database.
pub async fn give_back(pool: &PgPool, held: &[(DeliveryId, i64)], due: Due) -> Result<()> {
    let (ids, tokens) = columns(held);
    sqlx::query!(
        r#"
        WITH held AS MATERIALIZED (
            SELECT q.delivery_id, q.lease_token
            FROM delivery_queue q JOIN unnest($1::uuid[], $2::bigint[]) AS h (id, token)
                 ON q.delivery_id = h.id AND q.lease_token = h.token
            ORDER BY q.delivery_id
            FOR UPDATE OF q
        ),
        unmade AS (
            UPDATE delivery_attempts a
            SET given_back_at = now()
            FROM held h
            WHERE a.delivery_id = h.delivery_id AND a.lease_token = h.lease_token
        )
        UPDATE delivery_queue q
        SET lease_token = NULL, attempts = q.attempts - 1, returns = q.returns + $3::bool::int,
            due_at = now() + CASE WHEN $3 AND q.returns > 0
                                  -- From the 20th power on, any first delay exceeds the maximum.
                                  THEN make_interval(secs => least($4::float8 * 2 ^ least(q.returns - 1, 20), $5::float8))
                                  ELSE '0' END
        FROM held h
        WHERE q.delivery_id = h.delivery_id
        "#,
        &ids,
        &tokens,
        due == Due::Later,
        RETURN_FIRST.as_secs_f64(),
        RETURN_MAX.as_secs_f64()
    )
    .execute(pool)
    .await
    .map_err(error)?;
    Ok(())
}

fn columns(held: &[(DeliveryId, i64)]) -> (Vec<Uuid>, Vec<i64>) {
    held.iter().map(|(id, token)| (id.0, *token)).unzip()
}

/// Adds the body of a webhook, which has its own column with the bytes that are signed.
pub(super) fn with_body(mut payload: Payload, body: Option<Vec<u8>>) -> Payload {
    if let Payload::Webhook(webhook) = &mut payload {
        webhook.body = String::from_utf8(body.unwrap_or_default())
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    }
    payload
}

#[cfg(test)]
mod tests;
