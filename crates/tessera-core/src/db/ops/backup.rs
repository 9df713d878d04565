//! The database side of backup and restore, except for what PostgreSQL's own programs do.

use crate::db::error;
use crate::error::Result;
use sqlx::{AssertSqlSafe, PgConnection};
use std::fmt;

/// The contents of a database in numbers, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Tickets.
    pub tickets: i64,
    /// Transactions of all tickets.
    pub transactions: i64,
    /// Deliveries, finished and unfinished.
    pub deliveries: i64,
    /// Unfinished deliveries, which a server on this database would send.
    pub waiting: i64,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tickets, transactions, deliveries, waiting } = self;
        write!(
            f,
            "{tickets} tickets, {transactions} transactions, {deliveries} deliveries ({waiting} waiting)"
        )
    }
}

/// Begins a database transaction and exports its snapshot for a dump. Returns the snapshot's name, which is valid until the
/// database transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn begin_snapshot(db: &mut PgConnection) -> Result<String> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0; \
                 SET LOCAL statement_timeout = 0";
    sqlx::raw_sql(begin).execute(&mut *db).await.map_err(error)?;
    sqlx::query_scalar!(r#"SELECT pg_export_snapshot() AS "name!""#).fetch_one(db).await.map_err(error)
}

/// Counts the contents of the database.
///
/// # Errors
/// Those of the database.
pub async fn contents(db: &mut PgConnection) -> Result<Contents> {
    sqlx::query_as!(
        Contents,
        r#"
        SELECT (SELECT count(*) FROM tickets) AS "tickets!", (SELECT count(*) FROM transactions) AS "transactions!",
               (SELECT count(*) FROM deliveries) AS "deliveries!", (SELECT count(*) FROM delivery_queue) AS "waiting!"
        "#
    )
    .fetch_one(db)
    .await
    .map_err(error)
}

/// Returns true if the database has no tables.
///
/// # Errors
/// Those of the database.
pub async fn is_empty(db: &mut PgConnection) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (SELECT FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')) AS "empty!""#
    )
    .fetch_one(db)
    .await
    .map_err(error)
}

/// Returns who else is connected to this database: program, user and number of connections, at most 20 entries.
///
/// # Errors
/// Those of the database.
pub async fn others(db: &mut PgConnection) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        -- Without the privilege to see another user's backend_type it is null; PostgreSQL's own processes have no user.
        SELECT format('%s (user %s, connections: %s)', coalesce(nullif(application_name, ''), 'a program without a name'),
                      usename, count(*)) AS "who!"
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL
          AND coalesce(backend_type, 'client backend') = 'client backend'
        GROUP BY application_name, usename ORDER BY application_name, usename LIMIT 20
        "#
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// Creates an empty database `name` with the encoding and collation of the database `like`, and replaces one that an earlier
/// attempt left behind. `db` must be a connection to a third database.
///
/// # Errors
/// Those of the database, for example if its user must not create databases.
pub async fn make_database(db: &mut PgConnection, name: &str, like: &str) -> Result<()> {
    drop_database(db, name).await?;
    let like = sqlx::query!(
        r#"
        SELECT quote_literal(pg_encoding_to_char(encoding)) AS "encoding!", quote_literal(datcollate) AS "collate!",
               quote_literal(datctype) AS "ctype!"
        FROM pg_database WHERE datname = $1
        "#,
        like
    )
    .fetch_one(&mut *db)
    .await
    .map_err(error)?;
    let make = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        quoted(name),
        like.encoding,
        like.collate,
        like.ctype
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(db).await.map_err(error)?;
    Ok(())
}

/// Renames the database `name` to `aside` and the database `fresh` to `name`, in one database transaction.
///
/// # Errors
/// Those of the database, for example if somebody is connected to one of them.
pub async fn swap(db: &mut PgConnection, name: &str, fresh: &str, aside: &str) -> Result<()> {
    let [name, fresh, aside] = [name, fresh, aside].map(quoted);
    let swap = format!(
        "BEGIN; ALTER DATABASE {name} RENAME TO {aside}; ALTER DATABASE {fresh} RENAME TO {name}; COMMIT"
    );
    sqlx::raw_sql(AssertSqlSafe(swap)).execute(db).await.map_err(error)?;
    Ok(())
}

/// Drops a database if it exists, and closes all connections to it.
///
/// # Errors
/// Those of the database.
pub async fn drop_database(db: &mut PgConnection, name: &str) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name));
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(db).await.map_err(error)?;
    Ok(())
}

/// Runs ANALYZE after a restore: without statistics PostgreSQL plans badly until autovacuum runs.
///
/// # Errors
/// Those of the database.
pub async fn analyze(db: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("ANALYZE").execute(db).await.map_err(error)?;
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;
    use sqlx::Connection as _;

    #[tokio::test]
    async fn a_database_is_made_like_another_and_takes_its_place() {
        let db = TestDb::new().await;
        let name = db.options.get_database().unwrap().to_owned();
        // Names that need quoting, as an administrator may have chosen.
        let (fresh, aside) = (format!("{name}_\"fresh"), format!("{name}_\"aside"));
        let mut own = PgConnection::connect_with(&db.options).await.unwrap();
        assert!(!is_empty(&mut own).await.unwrap());
        assert!(others(&mut own).await.unwrap().is_empty());
        let empty = Contents { tickets: 0, transactions: 0, deliveries: 0, waiting: 0 };
        assert_eq!(contents(&mut own).await.unwrap(), empty);

        let mut admin = PgConnection::connect_with(&db.options.clone().database("postgres")).await.unwrap();
        for _ in 0..2 {
            make_database(&mut admin, &fresh, &name).await.unwrap();
        }
        let refused = swap(&mut admin, &name, &fresh, &aside).await;
        assert!(refused.is_err(), "{name} is in use");
        // The failed statement leaves the database transaction open.
        sqlx::raw_sql("ROLLBACK").execute(&mut admin).await.unwrap();

        own.close().await.unwrap();
        swap(&mut admin, &name, &fresh, &aside).await.unwrap();
        let mut own = PgConnection::connect_with(&db.options).await.unwrap();
        assert!(is_empty(&mut own).await.unwrap());
        drop_database(&mut admin, &aside).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_else_is_connected_is_named() {
        let db = TestDb::new().await;
        let named = db.options.clone().application_name("tessera");
        let mut own = PgConnection::connect_with(&named).await.unwrap();
        let _another = PgConnection::connect_with(&named).await.unwrap();
        let _psql = PgConnection::connect_with(&named.clone().application_name("psql")).await.unwrap();
        let user = db.options.get_username();
        let expected = ["psql", "tessera"].map(|name| format!("{name} (user {user}, connections: 1)"));
        assert_eq!(others(&mut own).await.unwrap(), expected);
    }
}
