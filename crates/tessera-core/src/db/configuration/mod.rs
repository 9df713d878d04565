//! The tables of the configuration: reads and writes for changes of the configuration, one file per kind of object.
//!
//! A change locks the single row of `config_version` from beginning to end, so changes are serialized and each sees all of
//! those before it.

pub mod custom_fields;
pub mod lifecycles;
pub mod queues;
pub mod scrips;
pub mod templates;
pub mod tickets;
pub mod users;

use super::error;
use crate::error::{Code, Error, Fault, Result};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::error::ErrorKind;
use time::OffsetDateTime;
use uuid::Uuid;

/// Selects objects of one kind, in order of id.
#[derive(Debug, Clone, Copy)]
pub struct Which<'w> {
    /// The first id.
    pub from: Uuid,
    /// If set, only objects that are disabled, or only objects that are not.
    pub disabled: Option<bool>,
    /// If set, only objects whose name contains this text, compared without case.
    pub name: Option<&'w str>,
    /// The maximum number of objects.
    pub limit: i64,
}

impl Which<'_> {
    /// Selects all objects.
    pub const ALL: Self = Self { from: Uuid::nil(), disabled: None, name: None, limit: i64::MAX };

    /// Selects the first object whose id is at least this one.
    pub fn one(from: Uuid) -> Self {
        Self { from, limit: 1, ..Self::ALL }
    }
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    /// The id of the version, to which the transactions of a scrip refer.
    pub id: Uuid,
    /// The number of the version, from 1.
    pub version: i32,
    /// The username of its creator.
    pub creator: String,
    /// The time of its creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The object as JSON, in the form of the API.
    pub document: Value,
}

/// Locks the configuration for a change and returns its current version.
///
/// # Errors
/// `locked` if another change holds the lock for longer than `lock_timeout`; those of the database.
pub async fn lock(db: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar!("SELECT version FROM config_version FOR UPDATE").fetch_one(db).await.map_err(error)
}

/// Sets the current version of the configuration.
///
/// # Errors
/// Those of the database.
pub async fn set_version(db: &mut PgConnection, version: i64) -> Result<()> {
    sqlx::query!("UPDATE config_version SET version = $1", version).execute(db).await.map_err(error)?;
    Ok(())
}

/// Sets a savepoint in the database transaction; savepoints may be nested.
///
/// # Errors
/// Those of the database.
pub async fn mark(db: &mut PgConnection) -> Result<()> {
    sqlx::query!("SAVEPOINT mark").execute(db).await.map_err(error)?;
    Ok(())
}

/// Releases the last savepoint and keeps what was written since.
///
/// # Errors
/// Those of the database.
pub async fn keep(db: &mut PgConnection) -> Result<()> {
    sqlx::query!("RELEASE SAVEPOINT mark").execute(db).await.map_err(error)?;
    Ok(())
}

/// Rolls back to the last savepoint and releases it, also after a database error.
///
/// # Errors
/// Those of the database.
pub async fn undo(db: &mut PgConnection) -> Result<()> {
    sqlx::query!("ROLLBACK TO SAVEPOINT mark").execute(&mut *db).await.map_err(error)?;
    // ROLLBACK TO keeps the savepoint, which would hide an outer one.
    keep(db).await
}

/// Converts a database error of a write: `name_taken` for a name or address that another object has.
fn name_error(source: sqlx::Error, what: &str, name: &str) -> Error {
    let constraint = match &source {
        sqlx::Error::Database(fault) if fault.kind() == ErrorKind::UniqueViolation => fault.constraint(),
        _ => None,
    };
    let (field, detail) = match constraint {
        Some("users_email_key") => ("email", "A user with this mail address already exists.".to_owned()),
        Some("users_username_key") => {
            ("username", format!("A user {name} already exists; names are compared without case."))
        }
        Some("templates_name_key") => (
            "name",
            format!("A template {name} already exists in this queue, or globally for a global template."),
        ),
        Some(constraint) if constraint.ends_with("_name_key") => {
            ("name", format!("A {what} {name} already exists; names are compared without case."))
        }
        _ => return error(source),
    };
    let faults = vec![Fault::new(field, detail.clone())];
    Error::new(Code::NameTaken, detail).with_faults(faults).with_source(source)
}
