//! The only mouth that speaks SQL: free functions over a connection or a pool, one file a family of tables.

use crate::error::{Error, Kind};
use sqlx::PgPool;

/// Brings a database to this program's schema, under an advisory lock.
///
/// # Errors
/// `database_newer` when the database was migrated by a newer Tessera; `internal` when a migration fails.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    sqlx::migrate!("../../migrations").run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => Error::new(
            Kind::Conflict,
            "database_newer",
            format!("The database has migration {version}, which this Tessera does not know: it was used by a newer one. Start that one."),
        ),
        other => Error::internal("The database could not be migrated.", other),
    })
}

/// What a database error means to a caller: not reachable, busy, or a fault of ours.
pub fn error(source: sqlx::Error) -> Error {
    match &source {
        sqlx::Error::PoolTimedOut => Error::new(Kind::Busy, "busy", "All database connections are in use. Send the request again."),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Error::new(Kind::Unavailable, "database_unavailable", "The database does not answer. Send the request again.")
        }
        sqlx::Error::Database(fault) => match fault.code().as_deref() {
            Some(LOCK_NOT_AVAILABLE | QUERY_CANCELED | DEADLOCK) => {
                Error::new(Kind::Busy, "busy", "The database is busy with this. Send the request again.")
            }
            // Class 57P: the server is shutting down or starting; 53: out of connections, disk or memory.
            Some(code) if code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") => {
                Error::new(Kind::Unavailable, "database_unavailable", "The database cannot take this now. Send the request again.")
            }
            _ => Error::new(Kind::Internal, "internal", "The database refused a statement."),
        },
        _ => Error::new(Kind::Internal, "internal", "The database answered in a way that was not expected."),
    }
    .with_source(source)
}

/// `lock_timeout` passed.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `statement_timeout` passed.
const QUERY_CANCELED: &str = "57014";
/// Two writers waited for each other.
const DEADLOCK: &str = "40P01";
