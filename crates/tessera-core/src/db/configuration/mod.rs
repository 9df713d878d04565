//! The configuration's tables: what changes it writes and reads, one file a kind of object.
//!
//! A change holds the one row of `config_version` from its beginning to its end, so changes go one after another and
//! each sees all that came before it.

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

/// Which objects of a kind are read, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub struct Which<'w> {
    /// From this id on.
    pub from: Uuid,
    /// Only those that are disabled, or only those that are not.
    pub disabled: Option<bool>,
    /// Only those with this in their name, without case.
    pub name: Option<&'w str>,
    /// How many at the most.
    pub limit: i64,
}

impl Which<'_> {
    /// All of them.
    pub const ALL: Self = Self { from: Uuid::nil(), disabled: None, name: None, limit: i64::MAX };

    /// The first one from an id on.
    pub fn one(from: Uuid) -> Self {
        Self { from, limit: 1, ..Self::ALL }
    }
}

/// An object as it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    /// The id of the version; what a scrip did names it.
    pub id: Uuid,
    /// From 1.
    pub version: i32,
    /// The username of who made it.
    pub creator: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// What the object said, as the API showed it.
    pub document: Value,
}

/// Takes the turn to change the configuration; answers the version that stands.
///
/// # Errors
/// `locked` when somebody else has it for longer than `lock_timeout`; those of the database.
pub async fn lock(db: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar!("SELECT version FROM config_version FOR UPDATE").fetch_one(db).await.map_err(error)
}

/// Makes `version` the one that stands.
///
/// # Errors
/// Those of the database.
pub async fn set_version(db: &mut PgConnection, version: i64) -> Result<()> {
    sqlx::query!("UPDATE config_version SET version = $1", version).execute(db).await.map_err(error)?;
    Ok(())
}

/// Marks this place of the database transaction, to come back to; within a mark there may be another.
///
/// # Errors
/// Those of the database.
pub async fn mark(db: &mut PgConnection) -> Result<()> {
    sqlx::query!("SAVEPOINT mark").execute(db).await.map_err(error)?;
    Ok(())
}

/// Keeps what was written since the mark.
///
/// # Errors
/// Those of the database.
pub async fn keep(db: &mut PgConnection) -> Result<()> {
    sqlx::query!("RELEASE SAVEPOINT mark").execute(db).await.map_err(error)?;
    Ok(())
}

/// Undoes what was written since the mark, also after an error of the database.
///
/// # Errors
/// Those of the database.
pub async fn undo(db: &mut PgConnection) -> Result<()> {
    sqlx::query!("ROLLBACK TO SAVEPOINT mark").execute(&mut *db).await.map_err(error)?;
    // Going back leaves the mark in its place, before which there may be another.
    keep(db).await
}

/// What the refusal of a row means: another one has its name, or something else.
fn name_error(source: sqlx::Error, what: &str, name: &str) -> Error {
    let constraint = match &source {
        sqlx::Error::Database(fault) if fault.kind() == ErrorKind::UniqueViolation => fault.constraint(),
        _ => None,
    };
    let (field, detail) = match constraint {
        Some("users_email_key") => ("email", "There is a user with this mail address already.".to_owned()),
        Some("users_username_key") => {
            ("username", format!("There is a user {name} already; names are compared without case."))
        }
        Some("templates_name_key") => {
            ("name", format!("There is a template {name} already, there where this one would be."))
        }
        Some(constraint) if constraint.ends_with("_name_key") => {
            ("name", format!("There is a {what} {name} already; names are compared without case."))
        }
        _ => return error(source),
    };
    let faults = vec![Fault::new(field, detail.clone())];
    Error::new(Code::NameTaken, detail).with_faults(faults).with_source(source)
}
