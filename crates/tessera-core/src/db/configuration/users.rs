//! Users in the database.

use super::{Which, name_error};
use crate::db::error;
use crate::error::Result;
use crate::models::UserId;
use crate::plan::documents::{Stored, UserDocument};
use sqlx::PgConnection;
use uuid::Uuid;

/// Returns the id of the user with this username or id.
///
/// # Errors
/// Those of the database.
pub async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM users WHERE lower(username) = lower($1) OR id = $2 ORDER BY id = $2 LIMIT 1",
        word,
        Uuid::parse_str(word).ok()
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}

/// Returns the user with this username or mail address; the username takes precedence.
///
/// # Errors
/// Those of the database.
pub async fn person(db: &mut PgConnection, word: &str) -> Result<Option<UserId>> {
    let id = sqlx::query_scalar!(
        r#"
        SELECT id FROM users
        WHERE lower(username) = lower($1) OR (email IS NOT NULL AND lower(email) = lower($1))
        ORDER BY lower(username) <> lower($1)
        LIMIT 1
        "#,
        word
    )
    .fetch_optional(db)
    .await
    .map_err(error)?;
    Ok(id.map(UserId))
}

/// Reads users in order of id.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<UserDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, created_at, username, email, name, privileged, disabled
        FROM users
        WHERE id >= $1
          AND ($3::boolean IS NULL OR disabled = $3)
          AND ($4::text IS NULL OR position(lower($4) IN lower(username)) > 0)
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
        version: None,
        created_at: row.created_at,
        document: UserDocument {
            username: row.username,
            email: row.email,
            name: row.name,
            privileged: row.privileged,
            disabled: row.disabled,
        },
    });
    Ok(stored.collect())
}

/// Inserts or updates a user.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(db: &mut PgConnection, id: UserId, user: &UserDocument, changed_in: i64) -> Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO users (id, username, email, name, privileged, disabled, changed_in)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT ON CONSTRAINT users_pk DO UPDATE
        SET username = $2, email = $3, name = $4, privileged = $5, disabled = $6, changed_in = $7
        "#,
        id.0,
        user.username,
        user.email,
        user.name,
        user.privileged,
        user.disabled,
        changed_in
    )
    .execute(db)
    .await
    .map_err(|source| name_error(source, "user", &user.username))?;
    Ok(())
}
