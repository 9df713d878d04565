//! Operator actions on deliveries and endpoints: hold, release, cancel, resend. Each action that changes something is recorded
//! with its actor and time.

use super::settle::reached;
use crate::db::error;
use crate::error::{Code, Error, Result};
use crate::models::change::{Change, Outcome};
use crate::models::delivery::Payload;
use crate::models::{DeliveryId, Ids, TransactionId, UserId};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

/// The actor of an operator action, and a source of ids.
#[derive(Debug, Clone)]
pub struct Order {
    /// The operator.
    pub actor: UserId,
    /// The ids for the rows of the action.
    pub ids: Ids,
}

/// Holds an unfinished delivery until it is released. A running attempt continues.
///
/// # Errors
/// `not_found`; `delivery_finished`; those of the database.
pub async fn hold(pool: &PgPool, delivery: DeliveryId, mut order: Order) -> Result<()> {
    let held = sqlx::query!(
        r#"
        WITH held AS (
            UPDATE delivery_queue SET held = 'operator', let_go = FALSE WHERE delivery_id = $1 AND held IS NULL
            RETURNING delivery_id
        )
        INSERT INTO delivery_actions (id, delivery_id, action, actor_id) SELECT $2, delivery_id, 'hold', $3 FROM held
        "#,
        delivery.0,
        order.ids.draw::<Uuid>(),
        order.actor.0
    )
    .execute(pool)
    .await
    .map_err(error)?
    .rows_affected();
    if held == 0 { unfinished(pool, delivery).await.map(drop) } else { Ok(()) }
}

/// Releases an unfinished delivery: it is due immediately, and passes an open breaker as the next probe. If it is running, only
/// its hold is removed.
///
/// # Errors
/// `not_found`; `delivery_finished`; `endpoint_held`; those of the database.
pub async fn release(pool: &PgPool, delivery: DeliveryId, mut order: Order) -> Result<()> {
    let released = sqlx::query!(
        r#"
        WITH released AS (
            UPDATE delivery_queue q
            SET held = NULL, let_go = NOT r.is_running, due_at = CASE WHEN r.is_running THEN q.due_at ELSE now() END
            FROM (SELECT delivery_id, lease_token IS NOT NULL AND due_at > now() AS is_running
                  FROM delivery_queue WHERE delivery_id = $1 FOR UPDATE) r
            WHERE q.delivery_id = r.delivery_id AND (q.held IS NOT NULL OR NOT r.is_running)
              AND NOT EXISTS (SELECT FROM delivery_endpoints e WHERE e.endpoint = q.endpoint AND e.held_at IS NOT NULL)
            RETURNING q.delivery_id
        )
        INSERT INTO delivery_actions (id, delivery_id, action, actor_id) SELECT $2, delivery_id, 'release', $3 FROM released
        "#,
        delivery.0,
        order.ids.draw::<Uuid>(),
        order.actor.0
    )
    .execute(pool)
    .await
    .map_err(error)?
    .rows_affected();
    if released > 0 {
        return Ok(());
    }
    match unfinished(pool, delivery).await? {
        Unfinished { endpoint, is_endpoint_held: true } => {
            let detail = format!(
                "The endpoint {endpoint} is held. Release it first: POST /api/deliveries/endpoints/release."
            );
            Err(Error::new(Code::EndpointHeld, detail))
        }
        // It is running and not held.
        _ => Ok(()),
    }
}

/// Cancels an unfinished delivery, and records `DeliveryFailed` with the reason `cancelled` in the ticket's history unless the
/// delivery already ended before a resend. A running attempt may still succeed, which is then recorded too.
///
/// # Errors
/// `not_found`; `delivery_finished`; those of the database.
pub async fn cancel(pool: &PgPool, delivery: DeliveryId, mut order: Order) -> Result<()> {
    let stored = sqlx::query!("SELECT kind, payload FROM deliveries WHERE id = $1", delivery.0)
        .fetch_optional(pool)
        .await
        .map_err(error)?
        .ok_or_else(|| Error::not_found("delivery", delivery))?;
    let payload = stored.payload.and_then(|payload| serde_json::from_value::<Payload>(payload).ok());
    let change = Change::Outcome(Outcome {
        delivery,
        kind: stored.kind,
        answer: "cancelled".to_owned(),
        attempts: 0,
        to: payload.as_ref().map(reached).unwrap_or_default(),
        missed: Vec::new(),
        reason: Some("cancelled".to_owned()),
    });
    let cancelled = sqlx::query!(
        r#"
        WITH gone AS (
            DELETE FROM delivery_queue WHERE delivery_id = $1 RETURNING delivery_id, attempts
        ),
        recorded AS (
            INSERT INTO transactions (id, ticket_id, request_id, batch_seq, transaction_type, new_value, data, creator_id,
                                      created_at, caused_by, scrip_version_id, delivery_id)
            SELECT $2, d.ticket_id, c.request_id, 0, 'DeliveryFailed', 'cancelled',
                   jsonb_set($3::jsonb, '{attempts}', to_jsonb(g.attempts)), $4,
                   greatest(clock_timestamp(), c.created_at), c.id, d.scrip_version_id, d.id
            FROM gone g JOIN deliveries d ON d.id = g.delivery_id JOIN transactions c ON c.id = d.transaction_id
            WHERE NOT EXISTS (SELECT FROM transactions o WHERE o.delivery_id = d.id)
            ON CONFLICT (delivery_id, transaction_type) WHERE delivery_id IS NOT NULL DO NOTHING
        )
        INSERT INTO delivery_actions (id, delivery_id, action, actor_id) SELECT $5, delivery_id, 'cancel', $4 FROM gone
        "#,
        delivery.0,
        order.ids.draw::<TransactionId>().0,
        Json(change) as _,
        order.actor.0,
        order.ids.draw::<Uuid>()
    )
    .execute(pool)
    .await
    .map_err(error)?
    .rows_affected();
    if cancelled == 0 { unfinished(pool, delivery).await.map(drop) } else { Ok(()) }
}

/// Sends a finished delivery again: the same id and bytes, to all of its recipients, with a new retry schedule. The numbers of
/// its attempts continue.
///
/// # Errors
/// `not_found`; `delivery_unfinished`; `payload_gone`; those of the database.
pub async fn resend(pool: &PgPool, delivery: DeliveryId, mut order: Order) -> Result<()> {
    let queued = sqlx::query!(
        r#"
        WITH queued AS (
            INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at, attempts, attempts_before, resend_id)
            SELECT d.id, d.kind, d.endpoint, now(), n.attempts, n.attempts, $2
            FROM deliveries d
            CROSS JOIN (SELECT coalesce(max(a.attempt), 0) AS attempts FROM delivery_attempts a
                        WHERE a.delivery_id = $1 AND a.given_back_at IS NULL) n
            WHERE d.id = $1 AND d.payload IS NOT NULL
            ON CONFLICT ON CONSTRAINT delivery_queue_pk DO NOTHING
            RETURNING delivery_id
        )
        INSERT INTO delivery_actions (id, delivery_id, action, actor_id) SELECT $2, delivery_id, 'resend', $3 FROM queued
        "#,
        delivery.0,
        order.ids.draw::<Uuid>(),
        order.actor.0
    )
    .execute(pool)
    .await
    .map_err(error)?
    .rows_affected();
    if queued > 0 {
        return Ok(());
    }
    let is_gone =
        sqlx::query_scalar!(r#"SELECT payload IS NULL AS "gone!" FROM deliveries WHERE id = $1"#, delivery.0)
            .fetch_optional(pool)
            .await
            .map_err(error)?
            .ok_or_else(|| Error::not_found("delivery", delivery))?;
    Err(if is_gone {
        let detail = "The message is no longer stored (retention.payloads_days), so it cannot be sent again.";
        Error::new(Code::PayloadGone, detail)
    } else {
        let detail =
            "The delivery is not finished and will be retried automatically. To retry it now, release it.";
        Error::new(Code::DeliveryUnfinished, detail)
    })
}

/// Holds all deliveries to an endpoint until it is released. Running attempts continue.
///
/// # Errors
/// `not_found` if no delivery ever had this endpoint; those of the database.
pub async fn hold_endpoint(pool: &PgPool, endpoint: &str, mut order: Order) -> Result<()> {
    let known = sqlx::query_scalar!(
        r#"
        WITH known AS (
            SELECT $1::text AS endpoint
            WHERE EXISTS (SELECT FROM deliveries WHERE endpoint = $1)
        ),
        held AS (
            INSERT INTO delivery_endpoints AS e (endpoint, held_at) SELECT endpoint, now() FROM known
            ON CONFLICT ON CONSTRAINT delivery_endpoints_pk DO UPDATE SET held_at = now() WHERE e.held_at IS NULL
            RETURNING endpoint
        ),
        noted AS (
            INSERT INTO delivery_actions (id, endpoint, action, actor_id) SELECT $2, endpoint, 'hold', $3 FROM held
        )
        SELECT EXISTS (SELECT FROM known) AS "known!"
        "#,
        endpoint,
        order.ids.draw::<Uuid>(),
        order.actor.0
    )
    .fetch_one(pool)
    .await
    .map_err(error)?;
    if known { Ok(()) } else { Err(unknown_endpoint(endpoint)) }
}

/// Releases an endpoint and closes its breaker.
///
/// # Errors
/// `not_found` if no delivery ever had this endpoint; those of the database.
pub async fn release_endpoint(pool: &PgPool, endpoint: &str, mut order: Order) -> Result<()> {
    let known = sqlx::query_scalar!(
        r#"
        WITH released AS (
            UPDATE delivery_endpoints
            SET held_at = NULL, failures = 0, failing_since = NULL, pause = '0', probe_at = NULL, probe = NULL
            WHERE endpoint = $1 AND (held_at IS NOT NULL OR failures > 0)
            RETURNING endpoint
        ),
        noted AS (
            INSERT INTO delivery_actions (id, endpoint, action, actor_id) SELECT $2, endpoint, 'release', $3 FROM released
        )
        SELECT EXISTS (SELECT FROM deliveries WHERE endpoint = $1) AS "known!"
        "#,
        endpoint,
        order.ids.draw::<Uuid>(),
        order.actor.0
    )
    .fetch_one(pool)
    .await
    .map_err(error)?;
    if known { Ok(()) } else { Err(unknown_endpoint(endpoint)) }
}

fn unknown_endpoint(endpoint: &str) -> Error {
    Error::new(
        Code::NotFound,
        format!(
            "No delivery has the endpoint \"{endpoint}\". GET /api/deliveries/endpoints lists the endpoints: scheme://host:port, smtp, or the kind of a connector."
        ),
    )
}

/// An unfinished delivery that an action did not change.
struct Unfinished {
    endpoint: String,
    is_endpoint_held: bool,
}

/// Finds out why an action changed nothing: returns an error if the delivery does not exist or is finished, or else the
/// delivery, for which there was nothing to do.
async fn unfinished(pool: &PgPool, delivery: DeliveryId) -> Result<Unfinished> {
    let row = sqlx::query!(
        r#"
        SELECT d.endpoint, q.delivery_id IS NOT NULL AS "is_unfinished!", e.held_at IS NOT NULL AS "is_endpoint_held!"
        FROM deliveries d
        LEFT JOIN delivery_queue q ON q.delivery_id = d.id
        LEFT JOIN delivery_endpoints e ON e.endpoint = d.endpoint
        WHERE d.id = $1
        "#,
        delivery.0
    )
    .fetch_optional(pool)
    .await
    .map_err(error)?
    .ok_or_else(|| Error::not_found("delivery", delivery))?;
    if row.is_unfinished {
        return Ok(Unfinished { endpoint: row.endpoint, is_endpoint_held: row.is_endpoint_held });
    }
    let detail = "The delivery is already finished. To send it again: POST /api/deliveries/{id}/resend.";
    Err(Error::new(Code::DeliveryFinished, detail))
}

#[cfg(test)]
mod tests;
