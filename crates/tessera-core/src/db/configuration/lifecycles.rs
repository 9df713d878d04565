//! Lifecycles in the database, with their versions.

use super::name_error;
use crate::db::error;
use crate::error::Result;
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::UserId;
use crate::plan::documents::{LifecycleDocument, Stored};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// The lifecycle of a name or an id.
///
/// # Errors
/// Those of the database.
pub async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM lifecycles WHERE lower(name) = lower($1) OR id = $2 ORDER BY id = $2 LIMIT 1",
        word,
        Uuid::parse_str(word).ok()
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}

/// Lifecycles from an id on, in the order of their ids.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, from: Uuid, limit: i64) -> Result<Vec<Stored<LifecycleDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, version, created_at, name, definition AS "definition: Json<Definition>"
        FROM lifecycles
        WHERE id >= $1
        ORDER BY id
        LIMIT $2
        "#,
        from,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let stored = rows.into_iter().map(|row| Stored {
        id: row.id,
        version: Some(row.version),
        created_at: row.created_at,
        document: LifecycleDocument { name: row.name, definition: row.definition.0 },
    });
    Ok(stored.collect())
}

/// Makes or replaces a lifecycle, and appends the version.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(
    db: &mut PgConnection,
    lifecycle: &Lifecycle,
    version: i32,
    creator: UserId,
    changed_in: i64,
) -> Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO lifecycles (id, name, version, version_id, definition, changed_in)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT ON CONSTRAINT lifecycles_pk DO UPDATE
        SET name = $2, version = $3, version_id = $4, definition = $5, changed_in = $6
        "#,
        lifecycle.id().0,
        lifecycle.name(),
        version,
        lifecycle.version_id().0,
        Json(lifecycle.definition()) as _,
        changed_in
    )
    .execute(&mut *db)
    .await
    .map_err(|source| name_error(source, "lifecycle", lifecycle.name()))?;
    sqlx::query!(
        r#"
        INSERT INTO lifecycle_versions (id, lifecycle_id, version, name, definition, creator_id)
        VALUES ($1, $2, $3, $4, $5, $6)
        "#,
        lifecycle.version_id().0,
        lifecycle.id().0,
        version,
        lifecycle.name(),
        Json(lifecycle.definition()) as _,
        creator.0
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}
