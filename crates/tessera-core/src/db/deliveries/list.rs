//! Pages of deliveries, newest first, filtered by ticket, state, kind and endpoint.

use super::leases::with_body;
use crate::db::{error, malformed_cursor};
use crate::error::Result;
use crate::models::delivery::{DeliveryKind, DeliveryState, HoldReason, Payload};
use crate::models::page::Page;
use crate::models::{DeliveryId, ScripId, TicketId, TransactionId};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Selects the deliveries of a list; all criteria that are set must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The ticket.
    pub ticket: Option<TicketId>,
    /// The state.
    pub state: Option<DeliveryState>,
    /// The kind.
    pub kind: Option<DeliveryKind>,
    /// The endpoint.
    pub endpoint: Option<String>,
}

/// A delivery as lists show it.
#[derive(Debug, Clone)]
pub struct DeliverySummary {
    /// Its id.
    pub id: DeliveryId,
    /// The ticket's number.
    pub number: i64,
    /// The transaction on which the scrip fired.
    pub transaction: TransactionId,
    /// The scrip that created it, with its name at the time and its version.
    pub scrip: Option<(ScripId, String, i32)>,
    /// The kind; possibly one that only a newer version knows.
    pub kind: String,
    /// The endpoint.
    pub endpoint: String,
    /// The stored message.
    pub message: Stored,
    /// The time of creation.
    pub created_at: OffsetDateTime,
    /// The state.
    pub state: DeliveryState,
    /// The hold, if its state is held.
    pub hold: Option<Hold>,
    /// The number of attempts that were started.
    pub attempts: i32,
    /// The time of the next attempt, or the end of the lease while it is running; `None` if it is finished.
    pub due_at: Option<OffsetDateTime>,
    /// The last attempt that ended.
    pub last: Option<LastAttempt>,
}

/// The stored message of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// The whole message.
    Kept(Box<Payload>),
    /// Deleted by retention.
    Gone,
    /// Written by a newer version that this one cannot read.
    Unreadable,
}

/// The hold of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The reason.
    pub reason: HoldReason,
    /// The username of the operator who held it, if one did.
    pub by: Option<String>,
    /// The time when it began, if known.
    pub since: Option<OffsetDateTime>,
    /// For an open breaker, the time of the next probe; otherwise `None`, as the hold lasts until somebody releases it.
    pub until: Option<OffsetDateTime>,
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LastAttempt {
    /// `delivered`, `retry` or `permanent`.
    pub outcome: String,
    /// The HTTP or SMTP status code.
    pub status_code: Option<i32>,
    /// A sentence for people to read.
    pub detail: String,
    /// The time of its end.
    pub finished_at: OffsetDateTime,
}

/// Reads a page of deliveries, newest first. `cursor` is the `next_cursor` of the previous page.
///
/// # Errors
/// `malformed_cursor`; those of the database.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    limit: i64,
    cursor: Option<&str>,
) -> Result<Page<DeliverySummary>> {
    let before = cursor.map(Uuid::parse_str).transpose().map_err(|_| malformed_cursor())?;
    let mut db = pool.acquire().await.map_err(error)?;
    let ids = ids_of(&mut db, filter, before, limit.saturating_add(1)).await?;
    Ok(Page::cut(shown(&mut db, &ids).await?, limit, |listed| listed.id.to_string()))
}

/// Reads the ids of a page from the smallest table that contains all deliveries in the state.
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

/// Reads unfinished deliveries from the queue, which contains no others.
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

/// Reads discarded or cancelled deliveries from the failures in ticket histories, which have their own index.
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
          -- A delivery that failed after a resend that followed its cancel is discarded; its failure is recorded only once.
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

/// Reads from all deliveries. Most of them are completed, so that a page of completed ones is found quickly.
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
               -- Scalar subqueries run per row; an EXISTS would be planned as a join with the whole table.
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

/// Reads deliveries by id, newest first.
pub(super) async fn shown(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<DeliverySummary>> {
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
              -- Two alternatives, so that each uses its own index.
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
    let listed = rows.into_iter().map(|row| DeliverySummary {
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

#[cfg(test)]
mod tests;
