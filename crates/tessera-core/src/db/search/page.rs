//! Searches page by page, and explains how a search is run.

use super::compile::{Search, compile};
use super::count::{Counted, count};
use super::cursor;
use super::run::{self, SEARCH_MAX, fetch, ids_of, in_order, in_time};
use crate::db::connections::Connections;
use crate::error::Result;
use crate::models::Ticket;
use crate::models::page::Page;
use crate::plan::{Catalog, People};
use crate::query::search::Warning;
use crate::query::sql::Statement;
use crate::query::{Query, Test};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use std::sync::Arc;

/// A page of results.
#[derive(Debug)]
pub struct Found {
    /// The tickets in order.
    pub page: Page<Ticket>,
    /// The people that the tickets name.
    pub people: People,
    /// The number of tickets on all pages.
    pub count: Option<Counted>,
    /// The query in its canonical spelling.
    pub query: String,
    /// Remarks on how the query was read.
    pub warnings: Vec<Warning>,
}

/// A search taken apart.
#[derive(Debug)]
pub struct Explained {
    /// The syntax tree.
    pub tree: Query<Test>,
    /// The statement and the values of its parameters.
    pub statement: Statement,
    /// PostgreSQL's plan: `EXPLAIN (FORMAT JSON)`.
    pub plan: Value,
    /// Remarks on how the query was read.
    pub warnings: Vec<Warning>,
}

/// Returns one page of the tickets that match a query.
///
/// # Errors
/// `invalid_query` with its position; `invalid` for the order; `malformed_cursor`; `query_timeout`; those of the database.
pub async fn tickets(
    connections: &Arc<Connections>,
    catalog: &Catalog,
    search: &Search<'_>,
) -> Result<Found> {
    in_time(SEARCH_MAX, async {
        let mut db = connections.take().await?;
        let found = find(&mut db, catalog, search).await;
        db.done(found)
    })
    .await
}

async fn find(db: &mut PgConnection, catalog: &Catalog, search: &Search<'_>) -> Result<Found> {
    let compiled = compile(db, catalog, search).await?;
    let rows = fetch(db, &compiled.page(search)?).await?;
    let signature = compiled.signature(search);
    let ids = ids_of(&rows)?;
    let wanted = ids.get(..usize::try_from(search.limit).unwrap_or_default()).unwrap_or(&ids);
    let (items, people) = in_order(db, wanted).await?;
    let found = rows.len();
    let rows = rows.into_iter().take(items.len()).collect();
    let key = |last: &PgRow| cursor::encode(last, &signature, &compiled.resolved.keys);
    let next_cursor = Page::fit(rows, found, search.limit, key).next_cursor;
    let count = count(db, &compiled, search).await?;
    let page = Page { items, next_cursor };
    let (query, warnings) = (compiled.resolved.query.to_string(), compiled.resolved.warnings);
    Ok(Found { page, people, count, query, warnings })
}

/// Explains how a search is read and run, without running it.
///
/// # Errors
/// As [`tickets()`].
pub async fn explain(
    connections: &Arc<Connections>,
    catalog: &Catalog,
    search: &Search<'_>,
) -> Result<Explained> {
    in_time(SEARCH_MAX, async {
        let mut db = connections.take().await?;
        let explained = take_apart(&mut db, catalog, search).await;
        db.done(explained)
    })
    .await
}

async fn take_apart(db: &mut PgConnection, catalog: &Catalog, search: &Search<'_>) -> Result<Explained> {
    let compiled = compile(db, catalog, search).await?;
    let statement = compiled.page(search)?;
    let plan = run::explain(db, &statement).await?;
    let (tree, warnings) = (compiled.resolved.query, compiled.resolved.warnings);
    Ok(Explained { tree, statement, plan, warnings })
}
