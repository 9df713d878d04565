//! What a backup and a restore ask of the database, besides what PostgreSQL's own programs do.

use crate::db::error;
use crate::error::Result;
use sqlx::{AssertSqlSafe, PgConnection};
use std::fmt;

/// What a database holds, as a person would ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Tickets.
    pub tickets: i64,
    /// Transactions of all tickets.
    pub transactions: i64,
    /// Deliveries, made and waiting.
    pub deliveries: i64,
    /// Deliveries that are not finished: a server would make them.
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

/// Begins a database transaction whose snapshot a dump can join: the snapshot's name. It stands until that ends.
///
/// # Errors
/// Those of the database.
pub async fn begin_snapshot(db: &mut PgConnection) -> Result<String> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0; \
                 SET LOCAL statement_timeout = 0";
    sqlx::raw_sql(begin).execute(&mut *db).await.map_err(error)?;
    sqlx::query_scalar!(r#"SELECT pg_export_snapshot() AS "name!""#).fetch_one(db).await.map_err(error)
}

/// Counts what there is.
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

/// Whether the database has no table at all.
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

/// Who else is connected to the database of this connection: program, user and how often, 20 of them at most.
///
/// # Errors
/// Those of the database.
pub async fn others(db: &mut PgConnection) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        -- Who may not see the type of somebody else's sees null; what PostgreSQL itself runs has no user.
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

/// Makes an empty database `name` with the encoding and the collation of database `like`, in the place of one that an
/// earlier attempt left behind. `db` is a connection to a third one.
///
/// # Errors
/// Those of the database; one is that its user may not make databases.
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

/// Gives the name of the database `name` to the database `fresh`, in one step, and calls the old one `aside`.
///
/// # Errors
/// Those of the database; one is that somebody is connected to one of them.
pub async fn swap(db: &mut PgConnection, name: &str, fresh: &str, aside: &str) -> Result<()> {
    let [name, fresh, aside] = [name, fresh, aside].map(quoted);
    let swap = format!(
        "BEGIN; ALTER DATABASE {name} RENAME TO {aside}; ALTER DATABASE {fresh} RENAME TO {name}; COMMIT"
    );
    sqlx::raw_sql(AssertSqlSafe(swap)).execute(db).await.map_err(error)?;
    Ok(())
}

/// Removes a database, if it is there, and whoever is connected to it.
///
/// # Errors
/// Those of the database.
pub async fn drop_database(db: &mut PgConnection, name: &str) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name));
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(db).await.map_err(error)?;
    Ok(())
}

/// Has PostgreSQL look at what was put in, without which it would plan badly until its own upkeep comes round.
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
        // Names as an administrator may have chosen them.
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
        // What failed left the transaction open, as psql's own would be.
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
