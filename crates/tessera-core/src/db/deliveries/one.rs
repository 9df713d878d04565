//! One delivery with its attempts and operator actions.

use super::list::{DeliverySummary, shown};
use crate::db::error;
use crate::error::{Error, Result};
use crate::models::DeliveryId;
use crate::models::delivery::RecipientAnswer;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

/// The maximum number of attempts returned, the newest ones; the retry schedule of an email has 124.
const ATTEMPTS_SHOWN: i64 = 500;
/// The maximum number of operator actions returned, the newest ones.
const ACTIONS_SHOWN: i64 = 100;

/// A delivery with its attempts and operator actions.
#[derive(Debug, Clone)]
pub struct DeliveryDetail {
    /// The delivery as lists show it.
    pub listed: DeliverySummary,
    /// Its attempts, newest first.
    pub attempts: Vec<AttemptRecord>,
    /// Its operator actions, newest first.
    pub actions: Vec<OperatorAction>,
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
    let attempts = sqlx::query!(
        r#"
        SELECT a.attempt, a.started_at, a.duration_ms, a.status_code, a.detail, a.response, c.name AS "connector?",
               a.recipients AS "recipients: Json<Vec<RecipientAnswer>>",
               coalesce(a.outcome, CASE WHEN s.state = 'running' THEN 'running' ELSE 'lost' END) AS "outcome!"
        FROM delivery_attempts a
        LEFT JOIN delivery_standing s ON s.delivery_id = a.delivery_id AND s.lease_token = a.lease_token
        LEFT JOIN connectors c ON c.id = a.connector_id
        WHERE a.delivery_id = $1 AND a.given_back_at IS NULL
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
    Ok(DeliveryDetail { listed, attempts: attempts.collect(), actions: actions.collect() })
}
