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
use crate::error::{Error, Fault, Kind, Result};
use sqlx::PgConnection;
use sqlx::error::ErrorKind;

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
    Error::new(Kind::Conflict, "name_taken", detail).with_faults(faults).with_source(source)
}
