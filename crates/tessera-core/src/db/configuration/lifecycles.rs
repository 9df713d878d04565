//! Lifecycles in the database, with their versions.

use super::{Version, Which, name_error};
use crate::db::error;
use crate::error::Result;
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::{LifecycleId, UserId};
use crate::plan::documents::{LifecycleDocument, Stored};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// Returns the id of the lifecycle with this name or id.
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

/// Reads lifecycles in order of id.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<LifecycleDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, version, created_at, name, definition AS "definition: Json<Definition>", disabled
        FROM lifecycles
        WHERE id >= $1
          AND ($3::boolean IS NULL OR disabled = $3)
          AND ($4::text IS NULL OR position(lower($4) IN lower(name)) > 0)
        ORDER BY id
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
        version: Some(row.version),
        created_at: row.created_at,
        document: LifecycleDocument { name: row.name, definition: row.definition.0, disabled: row.disabled },
    });
    Ok(stored.collect())
}

/// Inserts or updates a lifecycle, and appends the version.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(
    db: &mut PgConnection,
    lifecycle: &Lifecycle,
    version: i32,
    disabled: bool,
    creator: UserId,
    changed_in: i64,
) -> Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO lifecycles (id, name, version, version_id, definition, changed_in, disabled)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT ON CONSTRAINT lifecycles_pk DO UPDATE
        SET name = $2, version = $3, version_id = $4, definition = $5, changed_in = $6, disabled = $7
        "#,
        lifecycle.id().0,
        lifecycle.name(),
        version,
        lifecycle.version_id().0,
        Json(lifecycle.definition()) as _,
        changed_in,
        disabled
    )
    .execute(&mut *db)
    .await
    .map_err(|source| name_error(source, "lifecycle", lifecycle.name()))?;
    sqlx::query!(
        r#"
        INSERT INTO lifecycle_versions (id, lifecycle_id, version, name, definition, creator_id, disabled)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        "#,
        lifecycle.version_id().0,
        lifecycle.id().0,
        version,
        lifecycle.name(),
        Json(lifecycle.definition()) as _,
        creator.0,
        disabled
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Returns true if a lifecycle is disabled.
///
/// # Errors
/// Those of the database.
pub async fn is_disabled(db: &mut PgConnection, lifecycle: LifecycleId) -> Result<bool> {
    let disabled = sqlx::query_scalar!("SELECT disabled FROM lifecycles WHERE id = $1", lifecycle.0);
    Ok(disabled.fetch_optional(db).await.map_err(error)?.unwrap_or(true))
}

/// Reads the versions of a lifecycle below `below`, newest first.
///
/// # Errors
/// Those of the database.
pub async fn versions(
    db: &mut PgConnection,
    lifecycle: Uuid,
    below: Option<i32>,
    limit: i64,
) -> Result<Vec<Version>> {
    sqlx::query_as!(
        Version,
        r#"
        SELECT v.id, v.version, u.username AS creator, v.created_at,
               jsonb_build_object('name', v.name, 'definition', v.definition, 'disabled', v.disabled) AS "document!"
        FROM lifecycle_versions v JOIN users u ON u.id = v.creator_id
        WHERE v.lifecycle_id = $1 AND ($2::int IS NULL OR v.version < $2)
        ORDER BY v.version DESC
        LIMIT $3
        "#,
        lifecycle,
        below,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}
