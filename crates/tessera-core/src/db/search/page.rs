//! Searches page by page, and explains how a search is run.

use super::compile::{Search, compile};
use super::count::{Counted, count};
use super::cursor;
use super::run::{self, SEARCH_MAX, fetch, ids_of, in_order, in_time};
use crate::db::error;
use crate::error::Result;
use crate::models::Ticket;
use crate::models::page::Page;
use crate::plan::{Catalog, People};
use crate::query::search::Warning;
use crate::query::sql::Statement;
use crate::query::{Query, Test};
use serde_json::Value;
use sqlx::PgPool;

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
pub async fn tickets(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Found> {
    in_time(SEARCH_MAX, find(pool, catalog, search)).await
}

async fn find(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Found> {
    let mut db = pool.acquire().await.map_err(error)?;
    let compiled = compile(&mut db, catalog, search).await?;
    let rows = fetch(&mut db, &compiled.page(search)?).await?;
    let signature = compiled.signature(search);
    let page =
        Page::cut(rows, search.limit, |last| cursor::encode(last, &signature, &compiled.resolved.keys));
    let (items, people) = in_order(&mut db, &ids_of(&page.items)?).await?;
    let count = count(&mut db, &compiled, search).await?;
    let page = Page { items, next_cursor: page.next_cursor };
    let (query, warnings) = (compiled.resolved.query.to_string(), compiled.resolved.warnings);
    Ok(Found { page, people, count, query, warnings })
}

/// Explains how a search is read and run, without running it.
///
/// # Errors
/// As [`tickets()`].
pub async fn explain(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Explained> {
    in_time(SEARCH_MAX, async {
        let mut db = pool.acquire().await.map_err(error)?;
        let compiled = compile(&mut db, catalog, search).await?;
        let statement = compiled.page(search)?;
        let plan = run::explain(&mut db, &statement).await?;
        let (tree, warnings) = (compiled.resolved.query, compiled.resolved.warnings);
        Ok(Explained { tree, statement, plan, warnings })
    })
    .await
}
