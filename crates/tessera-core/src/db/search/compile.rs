//! Compiles a search: the steps of `query::search`, with what they need from the database.

use super::cursor::{self, Position};
use super::lookups;
use crate::db::malformed_cursor;
use crate::error::Result;
use crate::plan::Catalog;
use crate::query::search::{ParsedSearch, ResolvedSearch};
use crate::query::sql::{Asker, Compiler, Frequencies, Sorted, Statement};
use crate::query::{Dialect, Purpose};
use sqlx::PgConnection;

/// A search, and which part of its results is wanted.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// TicketSQL.
    pub query: &'a str,
    /// How AND and OR on one level are read.
    pub dialect: Dialect,
    /// The order; empty = newest first.
    pub order: &'a [Sorted],
    /// Tickets on a page.
    pub limit: i64,
    /// The `next_cursor` of the previous page.
    pub cursor: Option<&'a str>,
    /// Whether the results on all pages are counted.
    pub count: Count,
    /// The user who searches, with the time and time zone.
    pub asker: Asker,
}

/// How precisely the results are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// Not counted.
    #[default]
    None,
    /// Exactly up to [`COUNT_EXACT_MAX`](super::COUNT_EXACT_MAX), above it PostgreSQL's estimate.
    Estimate,
    /// Exactly.
    Exact,
}

/// A compiled search.
pub(super) struct Compiled {
    pub resolved: ResolvedSearch,
    frequencies: Frequencies,
}

/// Compiles a search.
pub(super) async fn compile(
    db: &mut PgConnection,
    catalog: &Catalog,
    search: &Search<'_>,
) -> Result<Compiled> {
    let parsed = ParsedSearch::parse(search.query, search.dialect)?;
    let people = parsed.people(&catalog.query_fields(Purpose::Search(&[])));
    let users = lookups::users(db, &people).await?;
    let resolved = parsed.resolve(search.order, &catalog.query_fields(Purpose::Search(&users)))?;
    let frequencies = lookups::frequencies(db, &resolved.words()).await?;
    Ok(Compiled { resolved, frequencies })
}

impl Compiled {
    pub(super) fn compiler<'a>(&'a self, search: &'a Search<'_>) -> Compiler<'a> {
        self.resolved.compiler(&search.asker, &self.frequencies)
    }

    /// The statement of the page that begins after the cursor of the search. It asks for one ticket more than the limit, which
    /// shows whether there is another page.
    pub(super) fn page(&self, search: &Search<'_>) -> Result<Statement> {
        let after =
            search.cursor.map(|cursor| cursor::decode(cursor, &self.signature(search))).transpose()?;
        let after = after.as_ref().map(|Position { id, values }| (values.as_slice(), *id));
        self.compiler(search).page(after, search.limit + 1).ok_or_else(malformed_cursor)
    }

    pub(super) fn signature(&self, search: &Search<'_>) -> String {
        cursor::signature(&self.resolved.query, search)
    }
}
