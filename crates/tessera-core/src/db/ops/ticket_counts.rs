//! The number of tickets by queue and status, for programs that help people to write a query.

use crate::db::error;
use crate::error::{Kind, Result};
use crate::models::QueueId;
use sqlx::PgPool;

/// The number of tickets with a status in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketCount {
    /// The queue.
    pub queue: QueueId,
    /// The status.
    pub status: String,
    /// The number of tickets.
    pub tickets: i64,
}

/// Counts tickets by queue and status. Returns `None` if that takes longer than a second.
///
/// # Errors
/// Those of the database.
pub async fn standing(pool: &PgPool) -> Result<Option<Vec<TicketCount>>> {
    match count(pool).await {
        Ok(standing) => Ok(Some(standing)),
        Err(error) if error.kind() == Kind::Busy => Ok(None),
        Err(error) => Err(error),
    }
}

async fn count(pool: &PgPool) -> Result<Vec<TicketCount>> {
    let mut tx = pool.begin().await.map_err(error)?;
    sqlx::query!("SET LOCAL statement_timeout = '1s'").execute(&mut *tx).await.map_err(error)?;
    let rows = sqlx::query_as!(
        TicketCount,
        r#"SELECT queue_id AS "queue: QueueId", status, count(*) AS "tickets!" FROM tickets GROUP BY queue_id, status"#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(error)?;
    tx.rollback().await.map_err(error)?;
    Ok(rows)
}
