//! One delivery with its attempts and what operators did to it.

use super::list::{Listed, shown};
use crate::db::error;
use crate::error::{Error, Result};
use crate::models::DeliveryId;
use crate::models::delivery::RecipientAnswer;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

/// The newest attempts shown of one delivery; a mail's retry schedule has 124.
const ATTEMPTS_SHOWN: i64 = 500;
/// The newest operator actions shown of one delivery.
const ACTIONS_SHOWN: i64 = 100;

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
        ACTIONS_SHOWN
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
