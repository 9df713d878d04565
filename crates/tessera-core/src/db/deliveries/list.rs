//! Pages of deliveries without their messages, newest first, filtered by ticket, state, kind and endpoint.

use crate::db::{error, malformed_cursor};
use crate::error::Result;
use crate::models::delivery::{DeliveryKind, DeliveryState, HoldReason, MAIL_ENDPOINT};
use crate::models::page::Page;
use crate::models::{DeliveryId, ScripId, TicketId, TransactionId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// The maximum number of deliveries that one page searches; beyond it the page ends, possibly with fewer deliveries than asked
/// for, and its cursor continues the search.
pub const SEARCHED_MAX: i64 = 10_000;
/// The factor by which each further batch of a search is larger than the one before; the first is as large as the page.
const BATCH_GROWTH: i64 = 5;

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

/// A delivery as lists show it: without its message, which may be large.
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

/// Reads a page of deliveries, newest first. `cursor` is the `next_cursor` of the previous page. A page may have fewer deliveries
/// than `limit`, or none, and still a cursor: see [`SEARCHED_MAX`].
///
/// # Errors
/// `malformed_cursor`; those of the database.
pub async fn page(
    db: &mut PgConnection,
    filter: &Filter,
    limit: i64,
    cursor: Option<&str>,
) -> Result<Page<DeliverySummary>> {
    let before = cursor.map(Uuid::parse_str).transpose().map_err(|_| malformed_cursor())?;
    let found = ids_of(db, filter, before, limit.saturating_add(1)).await?;
    let mut page = Page::cut(shown(db, &found.ids).await?, limit, |listed| listed.id.to_string());
    page.next_cursor = page.next_cursor.or(found.stopped_at.map(|id| id.to_string()));
    Ok(page)
}

/// As [`page`], over any connection of a pool.
#[cfg(test)]
pub async fn list(
    pool: &sqlx::PgPool,
    filter: &Filter,
    limit: i64,
    cursor: Option<&str>,
) -> Result<Page<DeliverySummary>> {
    page(&mut *pool.acquire().await.map_err(error)?, filter, limit, cursor).await
}

/// The ids of a page.
struct Found {
    ids: Vec<Uuid>,
    /// The delivery after which to continue, if the search stopped at [`SEARCHED_MAX`].
    stopped_at: Option<Uuid>,
}

/// Searches for a page of at most `limit` ids: candidates come from an index, in batches that grow, and each is checked. Most
/// pages need one batch.
async fn ids_of(db: &mut PgConnection, filter: &Filter, before: Option<Uuid>, limit: i64) -> Result<Found> {
    let (mut ids, mut last) = (Vec::new(), before.unwrap_or(Uuid::max()));
    let (mut left, mut batch) = (SEARCHED_MAX, limit.max(1));
    while left > 0 {
        let wanted = limit.saturating_sub(i64::try_from(ids.len()).unwrap_or(limit));
        let searched = search(db, filter, last, batch.min(left), wanted).await?;
        let is_full = i64::try_from(searched.ids.len()).is_ok_and(|found| found >= wanted);
        ids.extend(searched.ids);
        match searched.stopped_at {
            Some(id) if !is_full => (last, left, batch) = (id, left - batch, batch * BATCH_GROWTH),
            _ => return Ok(Found { ids, stopped_at: None }),
        }
    }
    Ok(Found { ids, stopped_at: Some(last) })
}

/// Checks one batch of candidates, newest first, and returns the last of them unless there were fewer than `batch`.
///
/// They come from the narrowest index that contains all deliveries of the list: those of a ticket, the queue for unfinished
/// ones, operators' cancels, failures in the history, those of an endpoint, or else all deliveries.
async fn search(
    db: &mut PgConnection,
    filter: &Filter,
    before: Uuid,
    batch: i64,
    limit: i64,
) -> Result<Found> {
    // Emails and connectors' deliveries have one endpoint per kind, which an index covers.
    let endpoint = filter.endpoint.as_deref().or(match &filter.kind {
        Some(DeliveryKind::Email) => Some(MAIL_ENDPOINT),
        Some(DeliveryKind::Connector(name)) => Some(name.as_str()),
        Some(DeliveryKind::Webhook) | None => None,
    });
    let source = match filter.state {
        _ if filter.ticket.is_some() => "ticket",
        Some(DeliveryState::Held | DeliveryState::Available | DeliveryState::Running) => "queue",
        Some(DeliveryState::Cancelled) => "cancels",
        Some(DeliveryState::Discarded) => "failures",
        _ if endpoint.is_some() => "endpoint",
        Some(DeliveryState::Completed) | None => "all",
    };
    let rows = sqlx::query!(
        r#"
        -- Each branch reads one index backwards; all but one are skipped.
        WITH candidates AS MATERIALIZED (
            (SELECT d.id FROM deliveries d WHERE $1 = 'ticket' AND d.ticket_id = $2 AND d.id < $3
             ORDER BY d.id DESC LIMIT $4)
            UNION ALL
            (SELECT q.delivery_id FROM delivery_queue q WHERE $1 = 'queue' AND q.delivery_id < $3
             ORDER BY q.delivery_id DESC LIMIT $4)
            UNION ALL
            (SELECT DISTINCT x.delivery_id FROM delivery_actions x
             WHERE $1 = 'cancels' AND x.action = 'cancel' AND x.delivery_id < $3
             ORDER BY x.delivery_id DESC LIMIT $4)
            UNION ALL
            (SELECT o.delivery_id FROM transactions o
             WHERE $1 = 'failures' AND o.transaction_type = 'DeliveryFailed' AND o.delivery_id < $3
             ORDER BY o.delivery_id DESC LIMIT $4)
            UNION ALL
            (SELECT d.id FROM deliveries d WHERE $1 = 'endpoint' AND d.endpoint = $5 AND d.id < $3
             ORDER BY d.id DESC LIMIT $4)
            UNION ALL
            (SELECT d.id FROM deliveries d WHERE $1 = 'all' AND d.id < $3 ORDER BY d.id DESC LIMIT $4)
        ),
        matching AS (
            SELECT c.id
            FROM candidates c
            -- Subqueries run per row; a join would be planned with the whole table.
            CROSS JOIN LATERAL (SELECT d.endpoint, d.kind FROM deliveries d WHERE d.id = c.id OFFSET 0) d
            WHERE ($5::text IS NULL OR d.endpoint = $5)
              AND ($6::text IS NULL OR d.kind = $6)
              AND ($7::text IS NULL OR $7 = coalesce(
                  (SELECT s.state FROM delivery_standing s WHERE s.delivery_id = c.id),
                  (SELECT 'completed' FROM transactions o
                   WHERE o.delivery_id = c.id AND o.transaction_type <> 'DeliveryFailed' LIMIT 1),
                  -- A delivery that failed after a resend that followed its cancel is discarded; its failure is recorded only once.
                  (SELECT 'cancelled' FROM transactions o
                   WHERE o.delivery_id = c.id AND o.transaction_type = 'DeliveryFailed' AND o.data ->> 'reason' = 'cancelled'
                     AND 'resend' IS DISTINCT FROM (SELECT x.action FROM delivery_actions x
                                                    WHERE x.delivery_id = c.id AND x.action IN ('cancel', 'resend')
                                                    ORDER BY x.created_at DESC LIMIT 1)),
                  'discarded'))
            ORDER BY c.id DESC
            LIMIT $8
        )
        SELECT id AS "id!", TRUE AS "matches!" FROM matching
        UNION ALL
        (SELECT id, FALSE FROM candidates WHERE (SELECT count(*) FROM candidates) = $4 ORDER BY id LIMIT 1)
        "#,
        source,
        filter.ticket.map(|ticket| ticket.0),
        before,
        batch,
        endpoint,
        filter.kind.as_ref().map(DeliveryKind::as_str),
        filter.state.map(DeliveryState::as_str),
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let mut found = Found { ids: Vec::new(), stopped_at: None };
    for row in rows {
        if row.matches {
            found.ids.push(row.id);
        } else {
            found.stopped_at = Some(row.id);
        }
    }
    Ok(found)
}

/// Reads deliveries by id, newest first.
pub(super) async fn shown(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<DeliverySummary>> {
    let rows = sqlx::query!(
        r#"
        SELECT d.id, d.transaction_id, d.kind, d.endpoint, d.created_at, t.number,
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
               coalesce(s.attempts, (SELECT max(a.attempt) FROM delivery_attempts a
                                     WHERE a.delivery_id = d.id AND a.given_back_at IS NULL), o.attempts, 0)
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

#[cfg(test)]
mod tests;
