//! How many tickets there are, for programs that help people to write a query.

use crate::db::error;
use crate::error::{Kind, Result};
use crate::models::QueueId;
use sqlx::PgPool;

/// Tickets of a queue that have a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The queue.
    pub queue: QueueId,
    /// The status.
    pub status: String,
    /// How many.
    pub tickets: i64,
}

/// Counts tickets by queue and status; `None` when they cannot be counted within a second.
///
/// # Errors
/// Those of the database.
pub async fn standing(pool: &PgPool) -> Result<Option<Vec<Standing>>> {
    match count(pool).await {
        Ok(standing) => Ok(Some(standing)),
        Err(error) if error.kind() == Kind::Busy => Ok(None),
        Err(error) => Err(error),
    }
}

async fn count(pool: &PgPool) -> Result<Vec<Standing>> {
    let mut tx = pool.begin().await.map_err(error)?;
    sqlx::query!("SET LOCAL statement_timeout = '1s'").execute(&mut *tx).await.map_err(error)?;
    let rows = sqlx::query_as!(
        Standing,
        r#"SELECT queue_id AS "queue: QueueId", status, count(*) AS "tickets!" FROM tickets GROUP BY queue_id, status"#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(error)?;
    tx.rollback().await.map_err(error)?;
    Ok(rows)
}
