//! Counts the results of a search on all of its pages.

use super::compile::{Compiled, Count, Search};
use super::run::{explain, fetch};
use crate::db::error;
use crate::error::Result;
use crate::query::sql::{Compiler, Keys};
use serde_json::Value;
use sqlx::{PgConnection, Row};

/// Up to this many results an estimate is exact.
pub const COUNT_EXACT_MAX: i64 = 1_000;

/// The number of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The number of tickets.
    pub tickets: i64,
    /// True if they were counted, false if the number is an estimate.
    pub is_exact: bool,
}

/// Counts as precisely as the search asks for.
pub(super) async fn count(
    db: &mut PgConnection,
    compiled: &Compiled,
    search: &Search<'_>,
) -> Result<Option<Counted>> {
    let most = match search.count {
        Count::None => return Ok(None),
        Count::Estimate => Some(COUNT_EXACT_MAX + 1),
        Count::Exact => None,
    };
    let compiler = compiled.compiler(search);
    let rows = fetch(db, &compiler.count(most)).await?;
    let tickets: i64 = rows.first().map(|row| row.try_get(0)).transpose().map_err(error)?.unwrap_or(0);
    if most.is_none_or(|most| tickets < most) {
        return Ok(Some(Counted { tickets, is_exact: true }));
    }
    let newest_first = Keys::default();
    let compiler = Compiler { keys: &newest_first, ..compiler };
    let plan = explain(db, &compiler.all()).await?;
    let guess = plan.pointer("/0/Plan/Plan Rows").and_then(Value::as_i64).unwrap_or(0);
    Ok(Some(Counted { tickets: guess.max(tickets), is_exact: false }))
}
