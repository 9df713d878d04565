//! Runs the statements of the query compiler, and loads the tickets that they find.

use crate::db::{QUERY_CANCELED, error, tickets};
use crate::error::{Code, Error, Result};
use crate::models::Ticket;
use crate::plan::People;
use crate::query::sql::{Bind, Statement};
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use std::time::Duration;
use uuid::Uuid;

/// The longest that a search may take with all of its statements. It is shorter than the limit of the request.
pub const SEARCH_MAX: Duration = Duration::from_secs(10);

/// Ends a search that takes longer than `limit` in all, whichever of its statements is running. The statement ends with it,
/// because dropping a connection of [`Connections`](crate::db::connections::Connections) ends its server process.
pub(super) async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(too_slow()))
}

/// The rows of a statement.
pub(super) async fn fetch(db: &mut PgConnection, statement: &Statement) -> Result<Vec<PgRow>> {
    run(&statement.text, &statement.binds).fetch_all(db).await.map_err(timeout)
}

/// PostgreSQL's plan of a statement: `EXPLAIN (FORMAT JSON)`.
pub(super) async fn explain(db: &mut PgConnection, statement: &Statement) -> Result<Value> {
    let explain = format!("EXPLAIN (FORMAT JSON) {}", statement.text);
    let row = run(&explain, &statement.binds).fetch_one(db).await.map_err(timeout)?;
    row.try_get(0).map_err(error)
}

/// A statement with its values. It is planned for these values and not cached, because few queries are sent twice.
pub(crate) fn run<'q>(text: &str, binds: &'q [Bind]) -> sqlx::query::Query<'q, Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(text.to_owned())).persistent(false);
    for bind in binds {
        query = match bind {
            Bind::Text(text) => query.bind(text),
            Bind::Texts(texts) => query.bind(texts),
            Bind::Number(number) => query.bind(number),
            Bind::Numbers(numbers) => query.bind(numbers),
            Bind::Id(id) => query.bind(id),
            Bind::Ids(ids) => query.bind(ids),
            Bind::Time(at) => query.bind(at),
        };
    }
    query
}

/// The error of a statement, `query_timeout` if PostgreSQL canceled it.
pub(super) fn timeout(source: sqlx::Error) -> Error {
    let is_timeout = source.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref()
        == Some(QUERY_CANCELED);
    if !is_timeout {
        return error(source);
    }
    too_slow().with_source(source)
}

fn too_slow() -> Error {
    let detail = "The search took too long. Narrow it by queue, status or date, search for words with MATCHES instead of LIKE, or do not count the results.";
    Error::new(Code::QueryTimeout, detail)
}

/// The ids of the tickets in the rows of a statement.
pub(super) fn ids_of(rows: &[PgRow]) -> Result<Vec<Uuid>> {
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(error)
}

/// The first of the tickets with these ids, as many as fit into a page, in this order, and the people they name.
pub(super) async fn in_order(db: &mut PgConnection, ids: &[Uuid]) -> Result<(Vec<Ticket>, People)> {
    let (mut found, mut people) = (Vec::new(), Vec::new());
    for (ticket, of_it) in tickets::many(db, ids).await? {
        people.extend(of_it.iter().cloned());
        found.push(ticket);
    }
    Ok((found, people.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    #[tokio::test]
    async fn statements_that_are_each_in_time_and_together_are_not_end_as_a_search_that_took_too_long() {
        let db = TestDb::new().await;
        let quick = || sqlx::query("SELECT 1").execute(&db.pools.read);
        let ever_more = async {
            loop {
                quick().await.map_err(error)?;
            }
        };
        let refused = in_time::<()>(Duration::from_millis(200), ever_more).await.unwrap_err();
        assert_eq!(refused.code(), Code::QueryTimeout);
        in_time(SEARCH_MAX, async { quick().await.map_err(error) }).await.unwrap();
    }
}
