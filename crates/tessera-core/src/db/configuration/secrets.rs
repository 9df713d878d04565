//! The names of secrets, and the writing of their values. Nothing here reads a value; only the transport does.

use crate::db::error;
use crate::error::Result;
use crate::models::secret::Secret;
use sqlx::PgConnection;

/// Writes a secret, in the place of one of its name.
///
/// # Errors
/// Those of the database.
pub async fn write(db: &mut PgConnection, name: &str, value: &Secret) -> Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO secrets (name, value) VALUES ($1, $2)
        ON CONFLICT ON CONSTRAINT secrets_pk DO UPDATE SET value = $2, updated_at = now()
        "#,
        name,
        value.expose()
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Names after one, in their order.
///
/// # Errors
/// Those of the database.
pub async fn names(db: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<String>> {
    sqlx::query_scalar!("SELECT name FROM secrets WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
        .fetch_all(db)
        .await
        .map_err(error)
}

/// Whether there is a secret, and whether it is one that signs.
///
/// # Errors
/// Those of the database.
pub async fn signs(db: &mut PgConnection, name: &str) -> Result<Option<bool>> {
    sqlx::query_scalar!(
        r#"SELECT starts_with(value, 'whsec_') AS "signs!" FROM secrets WHERE name = $1"#,
        name
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}
