//! The only mouth that speaks SQL: free functions over a connection or a pool, one file a family of tables.

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
#[cfg(test)]
mod ticketsql_tests;

use crate::error::{Code, Error};
use crate::failpoint::Failpoint;
use connections::Connections;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};
use std::sync::Arc;
use std::time::Duration;

/// The connections of a process: those that can write, and those that can only read. Of both there is a pool, and what
/// a request on its way needs, with no work between its statements.
#[derive(Debug, Clone)]
pub struct Pools {
    /// READ COMMITTED, generic plans, short timeouts.
    pub write: PgPool,
    /// Read-only transactions.
    pub read: PgPool,
    /// What changes tickets; settings as of `write`.
    pub changes: Arc<Connections>,
    /// What previews read, so that a preview cannot write; settings as of `read`.
    pub previews: Arc<Connections>,
}

/// Connections of each pool.
const CONNECTIONS_MAX: u32 = 12;
/// Changes under way in the database at a time: more would only wait there rather than here.
const CHANGES_MAX: usize = 12;
/// Previews under way in the database at a time.
const PREVIEWS_MAX: usize = 4;
/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

impl Pools {
    /// Makes both pools; they connect when first used.
    pub fn new(options: PgConnectOptions) -> Self {
        // No ping before a connection is handed out: that would be a round trip each.
        let pool = || {
            PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
        };
        // Our statements are short and many: compiling one (JIT) costs a hundred times what it saves.
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

    /// Closes every connection; whoever asks for one afterwards is told that the database does not answer.
    pub async fn close(&self) {
        self.changes.close().await;
        self.previews.close().await;
        self.read.close().await;
        self.write.close().await;
    }
}

/// Brings a database to this program's schema, under an advisory lock.
///
/// # Errors
/// `database_newer` when the database was migrated by a newer Tessera; `internal` when a migration fails.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    Failpoint::MigrationBegun.pass();
    sqlx::migrate!("../../migrations").run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => Error::new(Code::DatabaseNewer,
            format!("The database has migration {version}, which this Tessera does not know: it was used by a newer one. Start that one."),
        ),
        other => Error::internal("The database could not be migrated.", other),
    })?;
    Failpoint::MigrationDone.pass();
    Ok(())
}

/// A database transaction that only reads, in which everything is as it was at one moment.
pub(crate) async fn moment(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(error)
}

/// What a database error means to a caller: not reachable, busy, or a fault of ours.
pub fn error(source: sqlx::Error) -> Error {
    match &source {
        sqlx::Error::PoolTimedOut => {
            Error::new(Code::Busy, "All database connections are in use. Send the request again.")
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Error::new(Code::DatabaseUnavailable, "The database does not answer. Send the request again.")
        }
        sqlx::Error::Database(fault) => match fault.code().as_deref() {
            Some(LOCK_NOT_AVAILABLE) => {
                Error::new(Code::Locked, "Somebody else is changing this. Send the request again.")
            }
            Some(QUERY_CANCELED | DEADLOCK) => {
                Error::new(Code::Busy, "The database is busy with this. Send the request again.")
            }
            // What cannot be stored cannot be there either, so this is about what was asked for.
            Some(CHARACTER_NOT_IN_REPERTOIRE | UNTRANSLATABLE_CHARACTER) => Error::new(
                Code::Invalid,
                "A text holds the character U+0000, which cannot be stored; remove it.",
            ),
            // Class 57P: the server is shutting down or starting; 53: out of connections, disk or memory.
            Some(code) if code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") => {
                Error::new(
                    Code::DatabaseUnavailable,
                    "The database cannot take this now. Send the request again.",
                )
            }
            _ => Error::new(Code::Internal, "The database refused a statement."),
        },
        _ => Error::new(Code::Internal, "The database answered in a way that was not expected."),
    }
    .with_source(source)
}

/// `lock_timeout` passed.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `statement_timeout` passed.
const QUERY_CANCELED: &str = "57014";
/// Two writers waited for each other.
const DEADLOCK: &str = "40P01";
/// A text holds U+0000.
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
/// A text in JSON does.
const UNTRANSLATABLE_CHARACTER: &str = "22P05";

/// The refusal of a cursor that is none of ours.
pub(crate) fn malformed_cursor() -> Error {
    let detail = "The cursor is none of this list; take next_cursor of the page before, unchanged.";
    Error::new(Code::MalformedCursor, detail)
}
