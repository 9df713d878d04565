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
pub mod refold;
pub mod search;
pub mod secrets;
pub mod session;
pub mod tickets;
pub mod words;

#[cfg(test)]
pub(crate) mod delivery_fixtures;

use crate::error::{Code, Error};
use crate::failpoint::Failpoint;
use connections::Connections;
use session::{PREVIEW, READ, Session, SettingMissing, WRITE};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions, PgSeverity};
use sqlx::{PgPool, Postgres, Transaction};
use std::sync::Arc;
use std::time::Duration;

/// The database connections of a process, by what they are for, so that none of these can take the connections of another.
/// Each read says which it uses.
#[derive(Debug, Clone)]
pub struct Pools {
    /// All writes except changes of tickets: the configuration, deliveries, imports, maintenance. Also a change that locks its ticket,
    /// because others kept changing it.
    pub write: PgPool,
    /// Reads of one object or of a page that an index provides.
    pub read: PgPool,
    /// Short reads that must not wait for others: the health check and the configuration's version. Also ends server processes.
    pub reserved: PgPool,
    /// Changes of tickets; settings as of `write`.
    pub changes: Arc<Connections>,
    /// Previews, which cannot write; settings as of `read`, with generic plans.
    pub previews: Arc<Connections>,
    /// Searches, exports, and other lists that may have to read a whole table.
    pub searches: Arc<Connections>,
}

/// The maximum numbers of connections of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// Of [`Pools::write`].
    pub write: u32,
    /// Of [`Pools::read`].
    pub read: u32,
    /// Of [`Pools::changes`]: more concurrent changes would only wait in the database instead of here.
    pub changes: u32,
    /// Of [`Pools::previews`].
    pub previews: u32,
    /// Of [`Pools::searches`]. Exports use at most half of them.
    pub searches: u32,
}

impl PoolSizes {
    /// Sizes with which three nodes fit into the 100 connections that PostgreSQL allows by default.
    pub const DEFAULT: Self = Self { write: 6, read: 5, changes: 8, previews: 2, searches: 6 };
    /// The number of connections of [`Pools::reserved`].
    pub const RESERVED: u32 = 3;

    /// The maximum number of connections of all pools.
    pub fn total(self) -> u32 {
        let Self { write, read, changes, previews, searches } = self;
        write + read + changes + previews + searches + Self::RESERVED
    }
}

/// The time for which a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

impl Pools {
    /// Creates the pools, which connect when they are first used.
    pub fn new(options: &PgConnectOptions, sizes: PoolSizes) -> Self {
        let pool = |session: &'static Session, max| {
            PgPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // No ping before a connection is handed out, because each would be a round trip.
                .test_before_acquire(false)
                .after_connect(move |db, _| Box::pin(async move { session.check(db).await.map(drop) }))
                .connect_lazy_with(session.ask(options))
        };
        let reserved = pool(&READ, PoolSizes::RESERVED);
        let set =
            |session, max: u32| Connections::new(options.clone(), session, max as usize, reserved.clone());
        Self {
            write: pool(&WRITE, sizes.write),
            read: pool(&READ, sizes.read),
            changes: set(&WRITE, sizes.changes),
            previews: set(&PREVIEW, sizes.previews),
            searches: set(&READ, sizes.searches),
            reserved,
        }
    }

    /// Checks that PostgreSQL gives new connections the settings that Tessera asks for.
    ///
    /// # Errors
    /// `database_unavailable` with what to change; those of the database.
    pub async fn check_settings(&self) -> Result<(), Error> {
        for set in [&self.changes, &self.previews, &self.searches] {
            set.take().await?.done(Ok(()))?;
        }
        Ok(())
    }

    /// Closes every connection; a later request for one fails with `database_unavailable`.
    pub async fn close(&self) {
        self.changes.close().await;
        self.previews.close().await;
        self.searches.close().await;
        self.read.close().await;
        self.write.close().await;
        self.reserved.close().await;
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
///
/// Anything that a failover can cause is temporary: it is `database_unavailable` or `busy`, never `internal`.
pub fn error(source: sqlx::Error) -> Error {
    match &source {
        sqlx::Error::PoolTimedOut => {
            Error::new(Code::Busy, "All database connections are in use. Retry the request.")
        }
        sqlx::Error::Configuration(cause) if let Some(missing) = cause.downcast_ref::<SettingMissing>() => {
            Error::new(Code::DatabaseUnavailable, missing.to_string())
        }
        // A proxy without a server behind it accepts connections and closes them, at any point of the protocol.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Configuration(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => {
            Error::new(Code::DatabaseUnavailable, "The database does not respond. Retry the request.")
        }
        sqlx::Error::Database(fault) => match fault.code().as_deref().unwrap_or_default() {
            LOCK_NOT_AVAILABLE => {
                Error::new(Code::Locked, "Another request is changing this object. Retry the request.")
            }
            QUERY_CANCELED => {
                Error::new(Code::Busy, "The statement took too long in the database. Retry the request.")
            }
            code if code.starts_with(TRANSACTION_ROLLBACK) => {
                Error::new(Code::Busy, "Another request changed the same data. Retry the request.")
            }
            // Stored text cannot contain it, so it is in the request.
            CHARACTER_NOT_IN_REPERTOIRE | UNTRANSLATABLE_CHARACTER => Error::new(
                Code::Invalid,
                "A text contains the character U+0000, which cannot be stored; remove it.",
            ),
            READ_ONLY | SESSION_ENDED => unavailable(),
            code if UNAVAILABLE.iter().any(|class| code.starts_with(class)) => unavailable(),
            // It ended the session, whatever its code: on a full disk, PostgreSQL reports some files as internal errors.
            _ if ends_session(&**fault) => unavailable(),
            _ => Error::new(Code::Internal, "The database rejected a statement."),
        },
        _ => Error::new(Code::Internal, "The database returned an unexpected response."),
    }
    .with_source(source)
}

fn ends_session(fault: &dyn DatabaseError) -> bool {
    let fault = fault.try_downcast_ref::<PgDatabaseError>();
    fault.is_some_and(|fault| matches!(fault.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

fn unavailable() -> Error {
    let detail = "The database does not accept statements now. Retry the request.";
    Error::new(Code::DatabaseUnavailable, detail)
}

/// `lock_timeout` passed.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `statement_timeout` passed.
const QUERY_CANCELED: &str = "57014";
/// A text contains U+0000.
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
/// A text in JSON contains U+0000.
const UNTRANSLATABLE_CHARACTER: &str = "22P05";
/// The class of serialization failures and deadlocks.
const TRANSACTION_ROLLBACK: &str = "40";
/// A write on a standby, or on a server that accepts no writes for now.
const READ_ONLY: &str = "25006";
/// `idle_in_transaction_session_timeout` passed.
const SESSION_ENDED: &str = "25P03";
/// The classes of errors that are not about a statement: connections, logins, a missing database, resources, a server that is
/// starting or stopping, and disks.
const UNAVAILABLE: [&str; 6] = ["08", "28", "3D", "53", "57P", "58"];

/// Returns the error for a cursor that does not belong to the list.
pub(crate) fn malformed_cursor() -> Error {
    let detail = "This cursor does not belong to this list. Use next_cursor of the previous page, unchanged.";
    Error::new(Code::MalformedCursor, detail)
}

#[cfg(test)]
mod tests;
