//! Queues in the database, with their people and custom fields.

use super::{Which, name_error};
use crate::db::error;
use crate::error::Result;
use crate::models::{CustomFieldId, LifecycleId, QueueId, Watcher};
use crate::plan::documents::{QueueDocument, Stored};
use sqlx::PgConnection;
use uuid::Uuid;

/// Returns the id of the queue with this name or id.
///
/// # Errors
/// Those of the database.
pub async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM queues WHERE lower(name) = lower($1) OR id = $2 ORDER BY id = $2 LIMIT 1",
        word,
        Uuid::parse_str(word).ok()
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}

/// Reads queues in order of id.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<QueueDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT q.id, q.created_at, q.name, q.description, l.name AS lifecycle, q.correspond_address, q.comment_address, q.disabled,
               ARRAY(SELECT coalesce(u.username, w.address) FROM queue_watchers w LEFT JOIN users u ON u.id = w.user_id
                     WHERE w.queue_id = q.id AND w.role = 'cc' ORDER BY w.id) AS "cc!: Vec<String>",
               ARRAY(SELECT coalesce(u.username, w.address) FROM queue_watchers w LEFT JOIN users u ON u.id = w.user_id
                     WHERE w.queue_id = q.id AND w.role = 'admin_cc' ORDER BY w.id) AS "admin_cc!: Vec<String>",
               ARRAY(SELECT f.name FROM queue_custom_fields a JOIN custom_fields f ON f.id = a.custom_field_id
                     WHERE a.queue_id = q.id ORDER BY a.sort_order, a.id) AS "custom_fields!: Vec<String>"
        FROM queues q JOIN lifecycles l ON l.id = q.lifecycle_id
        WHERE q.id >= $1
          AND ($3::boolean IS NULL OR q.disabled = $3)
          AND ($4::text IS NULL OR position(lower($4) IN lower(q.name)) > 0)
        ORDER BY q.id
        LIMIT $2
        "#,
        which.from,
        which.limit,
        which.disabled,
        which.name
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let stored = rows.into_iter().map(|row| Stored {
        id: row.id,
        version: None,
        created_at: row.created_at,
        document: QueueDocument {
            name: row.name,
            description: row.description,
            lifecycle: row.lifecycle,
            correspond_address: row.correspond_address,
            comment_address: row.comment_address,
            cc: row.cc,
            admin_cc: row.admin_cc,
            custom_fields: row.custom_fields,
            disabled: row.disabled,
        },
    });
    Ok(stored.collect())
}

/// Inserts or updates a queue, without its people and fields.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(
    db: &mut PgConnection,
    id: QueueId,
    queue: &QueueDocument,
    lifecycle: LifecycleId,
    changed_in: i64,
) -> Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO queues (id, name, description, lifecycle_id, correspond_address, comment_address, disabled, changed_in)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT ON CONSTRAINT queues_pk DO UPDATE
        SET name = $2, description = $3, lifecycle_id = $4, correspond_address = $5, comment_address = $6, disabled = $7, changed_in = $8
        "#,
        id.0,
        queue.name,
        queue.description,
        lifecycle.0,
        queue.correspond_address,
        queue.comment_address,
        queue.disabled,
        changed_in
    )
    .execute(db)
    .await
    .map_err(|source| name_error(source, "queue", &queue.name))?;
    Ok(())
}

/// Replaces the people of a queue in a role; the rows are read in order of their ids.
///
/// # Errors
/// Those of the database.
pub async fn set_watchers(
    db: &mut PgConnection,
    queue: QueueId,
    role: &str,
    people: &[Watcher],
) -> Result<()> {
    let ids: Vec<_> = people.iter().map(|one| one.id.0).collect();
    let users: Vec<_> = people.iter().map(|one| one.user.map(|user| user.0)).collect();
    let addresses: Vec<_> = people.iter().map(|one| one.address.clone()).collect();
    sqlx::query!("DELETE FROM queue_watchers WHERE queue_id = $1 AND role = $2", queue.0, role)
        .execute(&mut *db)
        .await
        .map_err(error)?;
    sqlx::query!(
        r#"
        INSERT INTO queue_watchers (id, queue_id, role, user_id, address)
        SELECT w.id, $1, $2, w.usr, w.address FROM unnest($3::uuid[], $4::uuid[], $5::text[]) AS w (id, usr, address)
        "#,
        queue.0,
        role,
        &ids,
        &users as _,
        &addresses as _
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Replaces the custom fields of a queue, in this order, each with the id of its row.
///
/// # Errors
/// Those of the database.
pub async fn set_fields(
    db: &mut PgConnection,
    queue: QueueId,
    fields: &[(Uuid, CustomFieldId)],
) -> Result<()> {
    let ids: Vec<_> = fields.iter().map(|(id, _)| *id).collect();
    let fields: Vec<_> = fields.iter().map(|(_, field)| field.0).collect();
    sqlx::query!("DELETE FROM queue_custom_fields WHERE queue_id = $1", queue.0)
        .execute(&mut *db)
        .await
        .map_err(error)?;
    sqlx::query!(
        r#"
        INSERT INTO queue_custom_fields (id, queue_id, custom_field_id, sort_order)
        SELECT f.id, $1, f.field, f.ord FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS f (id, field, ord)
        "#,
        queue.0,
        &ids,
        &fields
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}
