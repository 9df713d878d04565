//! Secrets: set by the API, and read only for the transport.

use super::error;
use crate::error::Result;
use crate::models::secret::Secret;
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeMap;

/// Stores a secret, replacing one with the same name. Returns true if it is new.
///
/// # Errors
/// Those of the database.
pub async fn put(pool: &PgPool, name: &str, value: &Secret) -> Result<bool> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO secrets (name, value) VALUES ($1, $2)
        ON CONFLICT ON CONSTRAINT secrets_pk DO UPDATE SET value = EXCLUDED.value, updated_at = now()
        RETURNING created_at = updated_at AS "new!"
        "#,
        name,
        value.expose()
    )
    .fetch_one(pool)
    .await
    .map_err(error)
}

/// Deletes a secret. Returns true if it existed.
///
/// # Errors
/// Those of the database.
pub async fn delete(db: &mut PgConnection, name: &str) -> Result<bool> {
    let done = sqlx::query!("DELETE FROM secrets WHERE name = $1", name).execute(db).await.map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// Returns the secrets with these names, without those that do not exist.
///
/// # Errors
/// Those of the database.
pub async fn values(pool: &PgPool, names: &[String]) -> Result<BTreeMap<String, Secret>> {
    let rows = sqlx::query!("SELECT name, value FROM secrets WHERE name = ANY($1)", names)
        .fetch_all(pool)
        .await
        .map_err(error)?;
    Ok(rows.into_iter().map(|row| (row.name, Secret::new(row.value))).collect())
}

/// Returns the names of secrets after `after`, in order.
///
/// # Errors
/// Those of the database.
pub async fn names(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<String>> {
    sqlx::query_scalar!("SELECT name FROM secrets WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
        .fetch_all(pool)
        .await
        .map_err(error)
}

/// Returns whether a secret has the form of a signing key, without reading its value; `None` if it does not exist.
///
/// # Errors
/// Those of the database.
pub async fn is_signing(db: &mut PgConnection, name: &str) -> Result<Option<bool>> {
    sqlx::query_scalar!(
        r#"SELECT starts_with(value, 'whsec_') AS "signs!" FROM secrets WHERE name = $1"#,
        name
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}
