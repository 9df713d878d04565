//! Secrets: written by the API, and read here for the transport alone.

use super::error;
use crate::error::Result;
use crate::models::secret::Secret;
use sqlx::PgPool;
use std::collections::BTreeMap;

/// Stores a secret, in place of an earlier one of that name. Answers whether it is new.
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

/// The secrets of these names; those that do not exist are missing from the answer.
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
