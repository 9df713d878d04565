//! The SQL back end: a resolved query as one SELECT over tickets. Column names are constants, every value is a bind.
//!
//! A test is a condition on the row of a ticket, a set of tickets in another table, or a search for words in its texts. Tests
//! joined by AND become one SELECT with a join for each set, so that PostgreSQL may begin with the smallest set. An OR of sets
//! becomes one SELECT for each set, with its own order and limit. docs/ticketsql.md explains what that saves.
//!
//! Each file uses only those before it: `bind`, `builder`, `caseless`, `tree`, `columns`, `set`, `condition`, `branch`, `order`, `statement`.

mod bind;
mod branch;
mod builder;
mod caseless;
mod columns;
mod condition;
mod order;
mod set;
mod statement;
mod tree;

pub use bind::Bind;
pub use builder::{Asker, Frequencies, ID_SLACK};
pub use order::{KEYS_MAX, KeyKind, KeyValue, Keys, Sorted};

use super::Query;
use super::meaning::{Meaning, Test};
use super::resolve::hides_deleted;
use super::text::TextTest;
use bind::Binds;
use branch::Branch;
use builder::Builder;
use order::Shape;
use uuid::Uuid;

/// A statement and the values of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The SQL text. Queries that differ only in their values have the same text.
    pub text: String,
    /// The values of `$1`, `$2` and so on.
    pub binds: Vec<Bind>,
}

/// Compiles a resolved query to statements.
#[derive(Debug, Clone, Copy)]
pub struct Compiler<'a> {
    /// The query.
    pub query: &'a Query<Test>,
    /// The user who searches.
    pub asker: &'a Asker,
    /// The frequencies of the words that [`words_of`] returns.
    pub frequencies: &'a Frequencies,
    /// The order of the results.
    pub keys: &'a Keys,
}

/// Returns the words that a query searches messages for. Their frequencies determine how the statement is built.
pub fn words_of(query: &Query<Test>) -> Vec<String> {
    let texts = query.tests().into_iter().filter_map(|test| match &test.meaning {
        Meaning::Content(TextTest::Words(matcher)) => Some(matcher),
        _ => None,
    });
    texts.flat_map(|matcher| matcher.wanted().map(str::to_owned)).collect()
}

impl Compiler<'_> {
    /// Returns the statement of a page, with rows `(id uuid, key0, key1, …)`, the keys as in [`Keys::kinds`]. `after` is the
    /// last row of the previous page. Returns `None` if that row does not fit this order.
    pub fn page(&self, after: Option<(&[KeyValue], Uuid)>, limit: i64) -> Option<Statement> {
        let (mut builder, branches) = self.begin();
        let shape = match after {
            Some((values, id)) => self.keys.shape_after(values, id, &mut builder.binds)?,
            None => self.keys.shape(&mut builder.binds),
        };
        let limit = format!("\nLIMIT {}", builder.binds.add(Bind::Number(limit)));
        Some(finish(builder, &branches, &shape, &limit))
    }

    /// Returns the statement that counts the tickets, at most `most`, with one row `(bigint)`.
    pub fn count(&self, most: Option<i64>) -> Statement {
        let (mut builder, branches) = self.begin();
        let limit = most.map(|most| format!("\nLIMIT {}", builder.binds.add(Bind::Number(most))));
        let found = finish(builder, &branches, &Shape::unordered(), &limit.unwrap_or_default());
        Statement { text: format!("SELECT count(*) FROM (\n{}\n) found", found.text), ..found }
    }

    /// Returns the statement of every ticket in order, for a database cursor, with rows as in [`Compiler::page`].
    pub fn all(&self) -> Statement {
        let (mut builder, branches) = self.begin();
        let shape = self.keys.shape(&mut builder.binds);
        finish(builder, &branches, &shape, "")
    }

    fn begin(&self) -> (Builder<'_>, Vec<Branch>) {
        let Self { query, asker, frequencies, .. } = *self;
        let hides_deleted = hides_deleted(query);
        let mut builder =
            Builder { asker, frequencies, hides_deleted, anti_joins: 0, binds: Binds::default() };
        let branches = match &query.0 {
            Some(expr) => builder.branches(&tree::normal(expr)),
            None => vec![Branch::default()],
        };
        (builder, branches)
    }
}

fn finish(mut builder: Builder<'_>, branches: &[Branch], shape: &Shape, limit: &str) -> Statement {
    let text = statement::write(&mut builder, branches, shape, limit);
    Statement { text, binds: builder.binds.into_values() }
}

#[cfg(test)]
mod tests;
