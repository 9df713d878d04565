//! One delivery with its attempts and operator actions.

use super::leases::with_body;
use super::list::{DeliverySummary, shown};
use crate::db::error;
use crate::error::{Error, Result};
use crate::models::DeliveryId;
use crate::models::delivery::{Payload, RecipientAnswer};
use crate::models::page::{BYTES_MAX, ITEM_BYTES};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

/// The maximum number of attempts returned, the newest ones, as long as they fit into [`BYTES_MAX`]; the retry schedule of an
/// email has 124.
const ATTEMPTS_SHOWN: i64 = 500;
/// The maximum number of operator actions returned, the newest ones.
const ACTIONS_SHOWN: i64 = 100;

/// A delivery with its attempts and operator actions.
#[derive(Debug, Clone)]
pub struct DeliveryDetail {
    /// The delivery as lists show it.
    pub listed: DeliverySummary,
    /// The stored message.
    pub message: Stored,
    /// Its attempts, newest first.
    pub attempts: Vec<AttemptRecord>,
    /// Its operator actions, newest first.
    pub actions: Vec<OperatorAction>,
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

/// A recorded attempt.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// The time of its start.
    pub started_at: OffsetDateTime,
    /// Its duration in milliseconds, if it has ended.
    pub duration_ms: Option<i32>,
    /// `delivered`, `retry` or `permanent`; `running`; or `lost` if its lease expired without a report.
    pub outcome: String,
    /// The HTTP or SMTP status code.
    pub status_code: Option<i32>,
    /// A sentence for people to read.
    pub detail: Option<String>,
    /// The first 4 KiB of the response.
    pub response: Option<String>,
    /// The answer for each recipient of an email, as known after it.
    pub recipients: Vec<RecipientAnswer>,
    /// The name of the connector that made it; `None` for a worker in the binary.
    pub connector: Option<String>,
}

/// An action of an operator on a delivery.
#[derive(Debug, Clone)]
pub struct OperatorAction {
    /// `hold`, `release`, `cancel` or `resend`.
    pub action: String,
    /// The reason, if Tessera acted automatically.
    pub reason: Option<String>,
    /// The operator's username.
    pub actor: String,
    /// The time of the action.
    pub at: OffsetDateTime,
}

/// Reads one delivery.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn whole(pool: &PgPool, delivery: DeliveryId) -> Result<DeliveryDetail> {
    let mut db = pool.acquire().await.map_err(error)?;
    let listed = shown(&mut db, &[delivery.0]).await?.pop();
    let listed = listed.ok_or_else(|| Error::not_found("delivery", delivery))?;
    let message = sqlx::query!("SELECT payload, body FROM deliveries WHERE id = $1", delivery.0)
        .fetch_one(&mut *db)
        .await
        .map_err(error)?;
    let attempts = sqlx::query!(
        r#"
        SELECT a.attempt, a.started_at, a.duration_ms, a.status_code, a.detail, a.response, c.name AS "connector?",
               a.recipients AS "recipients: Json<Vec<RecipientAnswer>>",
               coalesce(a.outcome, CASE WHEN s.state = 'running' THEN 'running' ELSE 'lost' END) AS "outcome!"
        FROM (SELECT n.*,
                     (sum($3::bigint + coalesce(octet_length(n.response), 0) + coalesce(octet_length(n.recipients::text), 0))
                         OVER (ORDER BY n.lease_token DESC))::bigint AS bytes
              FROM (SELECT * FROM delivery_attempts WHERE delivery_id = $1 AND given_back_at IS NULL ORDER BY lease_token DESC LIMIT $2) n) a
        LEFT JOIN delivery_standing s ON s.delivery_id = a.delivery_id AND s.lease_token = a.lease_token
        LEFT JOIN connectors c ON c.id = a.connector_id
        WHERE a.bytes <= $4
        ORDER BY a.lease_token DESC
        "#,
        delivery.0,
        ATTEMPTS_SHOWN,
        ITEM_BYTES,
        BYTES_MAX
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
        ACTIONS_SHOWN
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    let attempts = attempts.into_iter().map(|row| AttemptRecord {
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
    let actions = actions.into_iter().map(|row| OperatorAction {
        action: row.action,
        reason: row.reason,
        actor: row.username,
        at: row.created_at,
    });
    let message = stored(message.payload, message.body);
    Ok(DeliveryDetail { listed, message, attempts: attempts.collect(), actions: actions.collect() })
}

fn stored(payload: Option<Value>, body: Option<Vec<u8>>) -> Stored {
    match payload.map(serde_json::from_value::<Payload>) {
        None => Stored::Gone,
        Some(Ok(payload)) => Stored::Kept(Box::new(with_body(payload, body))),
        Some(Err(_)) => Stored::Unreadable,
    }
}
