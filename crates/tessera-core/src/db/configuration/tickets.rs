//! Reads of existing tickets by a change of the configuration, and the only change that it makes to them.

use crate::db::error;
use crate::error::{Code, Result};
use crate::models::user::SYSTEM_USER;
use crate::models::{Change, RequestId, StatusClass, TicketId, TransactionId, UserId};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// How often a change of the configuration asks for the lock of all tickets.
const HOLD_TRIES: u32 = 10;
/// How long it waits for the lock each time. Meanwhile all writers of tickets wait behind it.
const HOLD_WAIT: &str = "50ms";
/// How long it lets the writers go on before it asks again.
const HOLD_PAUSE: Duration = Duration::from_millis(150);

/// Blocks all writes of tickets until the database transaction ends. Waiting writers then find a newer configuration and plan
/// again. Row locks would not suffice: a ticket that is being created or moved into the queue has no row to lock, and a plan
/// of the old configuration could still be written to a row that was not changed.
///
/// While a session waits for this lock, every writer waits behind it. So it is asked for several times, each time for a moment:
/// a session that holds tickets for long ends this change alone.
///
/// # Errors
/// `locked` if other writers hold tickets at each try, over 2 s; those of the database.
pub async fn hold(db: &mut PgConnection) -> Result<()> {
    let usual = sqlx::query_scalar!(r#"SELECT current_setting('lock_timeout') AS "usual!""#);
    let usual = usual.fetch_one(&mut *db).await.map_err(error)?;
    for _ in 1..HOLD_TRIES {
        super::mark(db).await?;
        match ask_to_hold(db).await {
            Ok(()) => {
                super::keep(db).await?;
                return wait_for_locks(db, &usual).await;
            }
            Err(error) if error.code() == Code::Locked => super::undo(db).await?,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(HOLD_PAUSE).await;
    }
    ask_to_hold(db).await?;
    wait_for_locks(db, &usual).await
}

async fn ask_to_hold(db: &mut PgConnection) -> Result<()> {
    wait_for_locks(db, HOLD_WAIT).await?;
    sqlx::query!("LOCK TABLE tickets IN EXCLUSIVE MODE").execute(db).await.map_err(error)?;
    Ok(())
}

/// Sets how long the statements of this database transaction wait for locks.
async fn wait_for_locks(db: &mut PgConnection, at_most: &str) -> Result<()> {
    let set = sqlx::query_scalar!("SELECT set_config('lock_timeout', $1, true)", at_most);
    set.fetch_one(db).await.map(drop).map_err(error)
}

/// The number of tickets with a status and class, over several queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCount {
    /// The status.
    pub status: String,
    /// The letter of its class, see `StatusClass::as_char`.
    pub class: i8,
    /// The number of tickets.
    pub tickets: i64,
}

/// Counts the tickets of these queues by status and class.
///
/// # Errors
/// Those of the database.
pub async fn statuses(db: &mut PgConnection, queues: &[Uuid]) -> Result<Vec<StatusCount>> {
    sqlx::query_as!(
        StatusCount,
        r#"
        SELECT status, status_class AS class, count(*) AS "tickets!"
        FROM tickets
        WHERE queue_id = ANY ($1)
        GROUP BY status, status_class
        ORDER BY status
        "#,
        queues
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// The number of tickets with a status in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// The queue.
    pub queue: Uuid,
    /// The status.
    pub status: String,
    /// The number of tickets.
    pub tickets: i64,
}

/// Counts the tickets of these queues by queue and status.
///
/// # Errors
/// Those of the database.
pub async fn statuses_by_queue(db: &mut PgConnection, queues: &[Uuid]) -> Result<Vec<QueueStatus>> {
    sqlx::query_as!(
        QueueStatus,
        r#"
        SELECT queue_id AS queue, status, count(*) AS "tickets!"
        FROM tickets
        WHERE queue_id = ANY ($1)
        GROUP BY queue_id, status
        ORDER BY queue_id, status
        "#,
        queues
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// Returns the ids of the tickets of these queues with a status and class, in order.
///
/// # Errors
/// Those of the database.
pub async fn in_status(
    db: &mut PgConnection,
    queues: &[Uuid],
    status: &str,
    class: i8,
) -> Result<Vec<TicketId>> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM tickets WHERE queue_id = ANY ($1) AND status = $2 AND status_class = $3 ORDER BY id",
        queues,
        status,
        class as _
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(ids.into_iter().map(TicketId).collect())
}

/// Tickets whose status moves to another class, with the ids for the rows in their histories.
#[derive(Debug)]
pub struct Reclass<'r> {
    /// The old class.
    pub old: StatusClass,
    /// The new class.
    pub new: StatusClass,
    /// The tickets, each with the ids of its new request and transaction.
    pub tickets: &'r [(TicketId, RequestId, TransactionId)],
    /// The user who changed the configuration.
    pub actor: UserId,
    /// The version of the configuration that causes the move.
    pub config_version: i64,
    /// The time of the change.
    pub now: OffsetDateTime,
}

/// Writes the new class and a derived transaction that records it, for each ticket. This is the only change of tickets without
/// a plan; the plan hash of its requests is all zeros.
///
/// # Errors
/// Those of the database.
pub async fn reclass(db: &mut PgConnection, moved: &Reclass<'_>) -> Result<()> {
    let tickets: Vec<_> = moved.tickets.iter().map(|(ticket, ..)| ticket.0).collect();
    let requests: Vec<_> = moved.tickets.iter().map(|(_, request, _)| request.0).collect();
    let transactions: Vec<_> = moved.tickets.iter().map(|(.., transaction)| transaction.0).collect();
    let change: Json<Value> = Json(
        serde_json::to_value(Change::StatusClass { old: moved.old, new: moved.new })
            .map_err(|source| crate::Error::internal("A change cannot be serialized.", source))?,
    );
    sqlx::query!(
        r#"
        WITH moved AS (
          UPDATE tickets t
          SET status_class = $4, version = t.version + 1, updated_at = greatest(t.updated_at, $5)
          FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS m (ticket, request, transaction)
          WHERE t.id = m.ticket
          RETURNING t.id, t.version, t.updated_at, m.request, m.transaction
        ),
        request AS (
          INSERT INTO requests (id, ticket_id, actor_id, channel, plan_hash, config_version, created_at)
          SELECT request, id, $6, 'configuration', decode(repeat('00', 32), 'hex'), $7, updated_at FROM moved
        )
        INSERT INTO transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, field, old_value, new_value, data,
                                  creator_id, created_at, derived)
        SELECT transaction, id, version, request, 1, 'Set', 'StatusClass', $8, $9, $10, $11, updated_at, TRUE FROM moved
        "#,
        &tickets,
        &requests,
        &transactions,
        moved.new.as_char() as _,
        moved.now,
        moved.actor.0,
        moved.config_version,
        moved.old.as_str(),
        moved.new.as_str(),
        change as _,
        SYSTEM_USER.0
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}
