//! The SQL back end: a resolved query as one SELECT over tickets. Column names are ours, every value is a bind.
//!
//! A test is a condition on the row of a ticket, a set of tickets in another table, or words to be found in its texts. What is
//! joined by AND is one SELECT with a join for each set, so that PostgreSQL may begin with the smallest; an OR of sets is one
//! SELECT each, every one with its own order and limit. docs/ticketsql.md says what that buys.

mod bind;
mod branch;
mod condition;
mod order;
mod set;
mod statement;
mod tree;

pub use bind::Bind;
pub use order::{KEYS_MAX, KeyKind, KeyValue, Keys, Sorted};
pub use statement::ID_SLACK;

use super::Query;
use super::date::Zone;
use super::meaning::{Meaning, Test};
use super::resolve::hides_deleted;
use super::text::TextTest;
use crate::models::UserId;
use bind::Binds;
use branch::Branch;
use order::Shape;
use std::collections::HashMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// Who asks, when and where.
#[derive(Debug, Clone)]
pub struct Asker {
    /// `__CurrentUser__`
    pub user: UserId,
    /// Now.
    pub now: OffsetDateTime,
    /// Where their days begin.
    pub zone: Zone,
}

/// How often the most frequent words stand in messages.
#[derive(Debug, Clone, Default)]
pub struct Frequencies {
    /// About so many messages there are.
    pub messages: f32,
    /// The part of them that a word stands in.
    pub words: HashMap<String, f32>,
}

/// A statement and the values of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The text, which is the same for queries that differ in their values only.
    pub text: String,
    /// `$1` and those after it.
    pub binds: Vec<Bind>,
}

/// What statements are made from.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The query.
    pub query: &'a Query<Test>,
    /// Who asks.
    pub asker: &'a Asker,
    /// Of the words that [`words_of`] answers, those that are frequent.
    pub frequencies: &'a Frequencies,
    /// In which order.
    pub keys: &'a Keys,
}

/// The words that a query looks for in messages: how frequent they are decides how it is run.
pub fn words_of(query: &Query<Test>) -> Vec<String> {
    let texts = query.tests().into_iter().filter_map(|test| match &test.meaning {
        Meaning::Content(TextTest::Words(matcher)) => Some(matcher),
        _ => None,
    });
    texts.flat_map(|matcher| matcher.wanted().map(str::to_owned)).collect()
}

impl Plan<'_> {
    /// A page: rows `(id uuid, key0, key1, …)`, the keys of [`Keys::kinds`]. `after` is the last row of the page before;
    /// `None` when it is not one of this order.
    pub fn page(&self, after: Option<(&[KeyValue], Uuid)>, limit: i64) -> Option<Statement> {
        let mut compiler = Compiler::new(self);
        let branches = compiler.branches_of(self.query);
        let shape = match after {
            Some((values, id)) => self.keys.shape_after(values, id, &mut compiler.binds)?,
            None => self.keys.shape(&mut compiler.binds),
        };
        let limit = format!("\nLIMIT {}", compiler.binds.add(Bind::Number(limit)));
        Some(compiler.finish(&branches, &shape, &limit))
    }

    /// How many tickets there are, but no more than `most`: one row `(bigint)`.
    pub fn count(&self, most: Option<i64>) -> Statement {
        let mut compiler = Compiler::new(self);
        let branches = compiler.branches_of(self.query);
        let limit = most.map(|most| format!("\nLIMIT {}", compiler.binds.add(Bind::Number(most))));
        let found = compiler.finish(&branches, &Shape::unordered(), &limit.unwrap_or_default());
        Statement { text: format!("SELECT count(*) FROM (\n{}\n) found", found.text), ..found }
    }

    /// Every ticket in order, for a cursor: rows as of [`Plan::page`].
    pub fn all(&self) -> Statement {
        let mut compiler = Compiler::new(self);
        let branches = compiler.branches_of(self.query);
        let shape = self.keys.shape(&mut compiler.binds);
        compiler.finish(&branches, &shape, "")
    }
}

/// A statement being made.
struct Compiler<'a> {
    asker: &'a Asker,
    frequencies: &'a Frequencies,
    hides_deleted: bool,
    /// Negated sets so far that PostgreSQL may make anti-joins of.
    anti_joins: usize,
    binds: Binds,
}

impl<'a> Compiler<'a> {
    fn new(plan: &Plan<'a>) -> Self {
        let Plan { query, asker, frequencies, .. } = *plan;
        Self {
            asker,
            frequencies,
            hides_deleted: hides_deleted(query),
            anti_joins: 0,
            binds: Binds::default(),
        }
    }

    fn branches_of(&mut self, query: &Query<Test>) -> Vec<Branch> {
        match &query.0 {
            Some(expr) => self.branches(&tree::normal(expr)),
            None => vec![Branch::default()],
        }
    }

    fn finish(mut self, branches: &[Branch], shape: &Shape, limit: &str) -> Statement {
        let text = statement::write(&mut self, branches, shape, limit);
        Statement { text, binds: self.binds.into_values() }
    }
}

#[cfg(test)]
mod tests;
