//! All of the SQL: free functions over a connection or a pool, one file per family of tables.

pub mod catalog;
pub mod check;
pub mod configuration;
pub mod connections;
pub mod connectors;
pub mod deliveries;
pub mod export;
pub mod history;
pub mod import;
pub mod ops;
pub mod plans;
pub mod search;
pub mod secrets;
pub mod tickets;
pub mod words;

#[cfg(test)]
pub(crate) mod delivery_fixtures;

use crate::error::{Code, Error};
use crate::failpoint::Failpoint;
use connections::Connections;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};
use std::sync::Arc;
use std::time::Duration;

/// The database connections of a process, some for writing and some only for reading. Both have a pool, and a set of
/// [`Connections`] for changes and previews, which costs no round trip to check connections out and in.
#[derive(Debug, Clone)]
pub struct Pools {
    /// READ COMMITTED, generic plans, short timeouts.
    pub write: PgPool,
    /// Read-only database transactions.
    pub read: PgPool,
    /// For changes of tickets; settings as of `write`.
    pub changes: Arc<Connections>,
    /// For previews, which cannot write; settings as of `read`, with generic plans.
    pub previews: Arc<Connections>,
}

/// The maximum number of connections of each pool.
const CONNECTIONS_MAX: u32 = 12;
/// The maximum number of concurrent changes in the database; more would only wait there instead of here.
const CHANGES_MAX: usize = 12;
/// The maximum number of concurrent previews in the database.
const PREVIEWS_MAX: usize = 4;
/// The time for which a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

impl Pools {
    /// Creates the pools, which connect when they are first used.
    pub fn new(options: PgConnectOptions) -> Self {
        // No ping before a connection is handed out, because each would be a round trip.
        let pool = || {
            PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
        };
        // Statements are short and frequent: compiling one (JIT) costs a hundred times what it saves.
        let options = options.options([("jit", "off"), ("client_min_messages", "warning")]);
        let write = options.clone().options([
            ("default_transaction_isolation", "read committed"),
            ("plan_cache_mode", "force_generic_plan"),
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]);
        let read = options.options([("default_transaction_read_only", "on"), ("statement_timeout", "10s")]);
        let changes = Arc::new(Connections::new(write.clone(), CHANGES_MAX));
        let previews = Arc::new(Connections::new(
            read.clone().options([("plan_cache_mode", "force_generic_plan")]),
            PREVIEWS_MAX,
        ));
        Self {
            write: pool().connect_lazy_with(write),
            read: pool().connect_lazy_with(read),
            changes,
            previews,
        }
    }

    /// Closes every connection; a later request for one fails with `database_unavailable`.
    pub async fn close(&self) {
        self.changes.close().await;
        self.previews.close().await;
        self.read.close().await;
        self.write.close().await;
    }
}

/// Migrates a database to the schema of this program, under an advisory lock.
///
/// # Errors
/// `database_newer` if a newer Tessera migrated the database; `internal` if a migration fails.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    Failpoint::MigrationBegun.pass();
    sqlx::migrate!("../../migrations").run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => Error::new(Code::DatabaseNewer,
            format!("The database has migration {version}, which this version of Tessera does not know: a newer version has used it. Start that version."),
        ),
        other => Error::internal("The database could not be migrated.", other),
    })?;
    Failpoint::MigrationDone.pass();
    Ok(())
}

/// Begins a read-only database transaction that sees one snapshot.
pub(crate) async fn moment(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(error)
}

/// Converts a database error: the database is unavailable or busy, or the statement has a bug.
pub fn error(source: sqlx::Error) -> Error {
    match &source {
        sqlx::Error::PoolTimedOut => {
            Error::new(Code::Busy, "All database connections are in use. Retry the request.")
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Error::new(Code::DatabaseUnavailable, "The database does not respond. Retry the request.")
        }
        sqlx::Error::Database(fault) => match fault.code().as_deref() {
            Some(LOCK_NOT_AVAILABLE) => {
                Error::new(Code::Locked, "Another request is changing this object. Retry the request.")
            }
            Some(QUERY_CANCELED | DEADLOCK) => {
                Error::new(Code::Busy, "The statement took too long in the database. Retry the request.")
            }
            // Stored text cannot contain it, so it is in the request.
            Some(CHARACTER_NOT_IN_REPERTOIRE | UNTRANSLATABLE_CHARACTER) => Error::new(
                Code::Invalid,
                "A text contains the character U+0000, which cannot be stored; remove it.",
            ),
            // Class 57P: the server is shutting down or starting; 53: out of connections, disk or memory.
            Some(code) if code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") => {
                Error::new(
                    Code::DatabaseUnavailable,
                    "The database does not accept statements now. Retry the request.",
                )
            }
            _ => Error::new(Code::Internal, "The database rejected a statement."),
        },
        _ => Error::new(Code::Internal, "The database returned an unexpected response."),
    }
    .with_source(source)
}

/// `lock_timeout` passed.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `statement_timeout` passed.
const QUERY_CANCELED: &str = "57014";
/// A deadlock of two writers.
const DEADLOCK: &str = "40P01";
/// A text contains U+0000.
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
/// A text in JSON contains U+0000.
const UNTRANSLATABLE_CHARACTER: &str = "22P05";

/// Returns the error for a cursor that does not belong to the list.
pub(crate) fn malformed_cursor() -> Error {
    let detail = "This cursor does not belong to this list. Use next_cursor of the previous page, unchanged.";
    Error::new(Code::MalformedCursor, detail)
}
