//! The settings that each connection asks PostgreSQL for, and the check that it got them.
//!
//! They travel in the startup parameter `options`, which a pooler between Tessera and PostgreSQL may drop without a word. A
//! preview cannot write because its connection is read-only, and a statement ends because its connection has a time limit, so
//! a connection is used only after PostgreSQL itself has reported its settings.

use crate::db::error;
use crate::error::Result;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use std::fmt;

/// The settings of the connections of a pool. Times are as PostgreSQL writes them.
#[derive(Debug)]
pub struct Session {
    settings: &'static [(&'static str, &'static str)],
    /// True if PostgreSQL must accept writes: a standby does not.
    is_writing: bool,
}

/// The settings of every connection.
const COMMON: &[(&str, &str)] = &[
    // Statements are short and frequent: compiling one (JIT) costs a hundred times what it saves.
    ("jit", "off"),
    ("client_min_messages", "warning"),
    // PostgreSQL ends the statement of a process that was killed within this time.
    ("client_connection_check_interval", "1s"),
];

/// Changes and all other writes: READ COMMITTED, generic plans, short time limits.
pub static WRITE: Session = Session {
    settings: &[
        ("default_transaction_isolation", "read committed"),
        ("plan_cache_mode", "force_generic_plan"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ],
    is_writing: true,
};

/// Reads and searches, planned for their values.
pub static READ: Session = Session {
    settings: &[("default_transaction_read_only", "on"), ("statement_timeout", "10s")],
    is_writing: false,
};

/// Previews: the statements of changes on a connection that cannot write.
pub static PREVIEW: Session = Session {
    settings: &[
        ("default_transaction_read_only", "on"),
        ("plan_cache_mode", "force_generic_plan"),
        ("statement_timeout", "10s"),
    ],
    is_writing: false,
};

/// As [`READ`], for tests of searches that take too long.
#[cfg(any(test, feature = "testing"))]
pub static HURRIED: Session = Session {
    settings: &[("default_transaction_read_only", "on"), ("statement_timeout", "200ms")],
    is_writing: false,
};

/// The server process of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    /// Its process id.
    pub process: i32,
    /// The time of its start in seconds, because another process may get the same id, here or on another server.
    pub started: String,
}

/// A connection that lacks a setting that it asked for.
#[derive(Debug)]
pub(super) struct SettingMissing {
    name: &'static str,
    wanted: &'static str,
    found: String,
}

impl fmt::Display for SettingMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, wanted, found } = self;
        if *name == WRITABLE {
            return f.write_str(
                "The database is read-only: database.url leads to a standby, or the server has stopped accepting writes.",
            );
        }
        write!(
            f,
            "A database connection has {name} = {found} although Tessera asked for {wanted}: something between Tessera and \
             PostgreSQL, usually a pooler, drops the startup parameter `options`. Let database.url lead to PostgreSQL itself, \
             or to a pooler that passes `options` on and pools sessions."
        )
    }
}

impl std::error::Error for SettingMissing {}

/// The setting that is `off` where PostgreSQL accepts writes.
const WRITABLE: &str = "transaction_read_only";

impl Session {
    /// Adds the settings to the options of a connection.
    pub fn ask(&self, options: &PgConnectOptions) -> PgConnectOptions {
        options.clone().options(COMMON.iter().chain(self.settings).copied())
    }

    /// Opens a connection with these settings, and checks that it has them.
    pub(super) async fn open(&self, options: &PgConnectOptions) -> Result<(PgConnection, Backend)> {
        let mut db = PgConnection::connect_with(&self.ask(options)).await.map_err(error)?;
        let backend = self.check(&mut db).await.map_err(error)?;
        Ok((db, backend))
    }

    /// Checks that a new connection has its settings. One round trip.
    ///
    /// # Errors
    /// `Configuration` with a [`SettingMissing`]; those of the database.
    pub(super) async fn check(&self, db: &mut PgConnection) -> sqlx::Result<Backend> {
        let writable = self.is_writing.then_some((WRITABLE, "off"));
        let expected: Vec<_> = COMMON.iter().chain(self.settings).copied().chain(writable).collect();
        let found: Vec<String> =
            expected.iter().map(|(name, _)| format!("current_setting('{name}')")).collect();
        let ask = format!(
            "SELECT pid, extract(epoch FROM backend_start)::text, {} FROM pg_stat_get_activity(pg_backend_pid())",
            found.join(", ")
        );
        let row = sqlx::raw_sql(AssertSqlSafe(ask)).fetch_one(db).await?;
        for (column, (name, wanted)) in (2..).zip(expected) {
            let found: String = row.try_get(column)?;
            if found != wanted {
                return Err(sqlx::Error::Configuration(Box::new(SettingMissing { name, wanted, found })));
            }
        }
        Ok(Backend { process: row.try_get(0)?, started: row.try_get(1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::testing::TestDb;

    #[tokio::test]
    async fn a_connection_has_what_its_pool_asks_for() {
        let db = TestDb::new().await;
        for session in [&WRITE, &READ, &PREVIEW] {
            session.open(&db.options).await.unwrap();
        }
    }

    /// A pooler that ignores the startup parameter `options` leaves such connections.
    #[tokio::test]
    async fn a_connection_whose_settings_were_dropped_on_the_way_is_refused_with_the_first_of_them() {
        let db = TestDb::new().await;
        let mut bare = PgConnection::connect_with(&db.options).await.unwrap();
        for session in [&WRITE, &READ, &PREVIEW] {
            let refused = error(session.check(&mut bare).await.unwrap_err());
            assert_eq!(refused.code(), Code::DatabaseUnavailable);
            assert!(refused.detail().contains("jit = on although Tessera asked for off"), "{refused}");
            assert!(refused.detail().contains("pooler"), "{refused}");
        }
        for (name, _) in COMMON.iter().chain(PREVIEW.settings) {
            let options = PREVIEW.ask(&db.options).options([(*name, other(name))]);
            let mut db = PgConnection::connect_with(&options).await.unwrap();
            let refused = error(PREVIEW.check(&mut db).await.unwrap_err());
            assert!(refused.detail().contains(&format!("has {name} = ")), "{refused}");
        }
    }

    fn other(name: &str) -> &'static str {
        match name {
            "jit" => "on",
            "client_min_messages" => "error",
            "default_transaction_read_only" => "off",
            "plan_cache_mode" => "auto",
            _ => "7s",
        }
    }

    #[tokio::test]
    async fn a_writing_connection_to_a_server_that_is_read_only_is_refused_and_a_reading_one_is_not() {
        let db = TestDb::new().await;
        let standby = db.options.clone().options([("default_transaction_read_only", "on")]);
        let refused = WRITE.open(&standby).await.unwrap_err();
        assert_eq!(refused.code(), Code::DatabaseUnavailable);
        assert!(refused.detail().contains("read-only"), "{refused}");
        READ.open(&standby).await.unwrap();
    }
}
