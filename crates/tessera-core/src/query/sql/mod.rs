//! The SQL back end: a resolved query as one SELECT over tickets. Column names are ours, every value is a bind.
//!
//! A test is a condition on the row of a ticket, or a set of tickets in another table. Where sets are joined by AND they
//! become joins, so that PostgreSQL may begin with the smallest; elsewhere they become EXISTS, or a union of sets.

mod bind;
mod condition;
mod order;
mod set;
mod tree;

pub use bind::Bind;
pub use order::{KeyValue, Keys, Sorted};

use super::Query;
use super::date::Zone;
use super::meaning::Test;
use super::resolve::{DELETED, hides_deleted};
use crate::models::UserId;
use bind::Binds;
use order::Shape;
use time::OffsetDateTime;
use tree::{Leaf, Node};
use uuid::Uuid;

/// Matches of a text that are fetched before anything else is looked at. Of a text with more, tickets are tested one by one in
/// the order of the answer instead, and a page is soon full.
pub const FENCE_MAX: i64 = 500;
/// Texts that get a fence of their own; those after them are conditions.
const FENCES_MAX: usize = 3;

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

/// A statement and the values of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The text, which is the same for queries that differ in their values only.
    pub text: String,
    /// `$1` and those after it.
    pub binds: Vec<Bind>,
}

/// The page of a query: rows `(id uuid, key0 text, key1 text, …)`, the keys as a cursor carries them. `after` is the last row
/// of the page before; `None` when it is not one of this order.
pub fn page(
    query: &Query<Test>,
    asker: &Asker,
    keys: &Keys,
    after: Option<(&[KeyValue], Uuid)>,
    limit: i64,
) -> Option<Statement> {
    let mut compiler = Compiler { asker, binds: Binds::default() };
    let parts = compiler.parts(query);
    let shape = keys.shape(after, &mut compiler.binds)?;
    let limit = compiler.binds.add(Bind::Number(limit));
    let tail = format!("\nORDER BY {}\nLIMIT {limit}", shape.order_by);
    let text = parts.statement(&shape, &tail);
    Some(Statement { text, binds: compiler.binds.into_values() })
}

/// How many tickets a query finds, but no more than `most`: one row `(bigint)`.
pub fn count(query: &Query<Test>, asker: &Asker, most: Option<i64>) -> Statement {
    let mut compiler = Compiler { asker, binds: Binds::default() };
    let parts = compiler.parts(query);
    let limit = most.map(|most| format!("\nLIMIT {}", compiler.binds.add(Bind::Number(most))));
    let found = parts.statement(&compiler.unordered(), &limit.unwrap_or_default());
    Statement {
        text: format!("SELECT count(*) FROM (\n{found}\n) found"),
        binds: compiler.binds.into_values(),
    }
}

/// Every ticket of a query in order, for a cursor: rows `(id uuid, …)`.
pub fn all(query: &Query<Test>, asker: &Asker, keys: &Keys) -> Option<Statement> {
    let mut compiler = Compiler { asker, binds: Binds::default() };
    let parts = compiler.parts(query);
    let shape = keys.shape(None, &mut compiler.binds)?;
    let text = parts.statement(&shape, &format!("\nORDER BY {}", shape.order_by));
    Some(Statement { text, binds: compiler.binds.into_values() })
}

/// The parts of a statement being made.
struct Compiler<'a> {
    asker: &'a Asker,
    binds: Binds,
}

/// What a query comes to at its top, where everything is joined by AND.
#[derive(Default)]
struct Parts {
    /// Selects of ticket ids as `id`, joined to the tickets; a ticket may stand in one more than once.
    joins: Vec<String>,
    /// Conditions on the ticket `t`.
    conditions: Vec<String>,
    /// Texts to be looked for first: the select of their tickets, and the condition that says the same.
    fences: Vec<(String, String)>,
}

impl Compiler<'_> {
    /// Each ticket once, in no order.
    fn unordered(&self) -> Shape {
        Shape {
            columns: String::new(),
            joins: String::new(),
            order_by: String::new(),
            distinct: "DISTINCT ".to_owned(),
            after: None,
        }
    }

    fn parts(&mut self, query: &Query<Test>) -> Parts {
        let mut parts = Parts::default();
        if let Some(expr) = &query.0 {
            match tree::normal(expr) {
                Node::And(members) => members.iter().for_each(|member| self.part(member, &mut parts)),
                other => self.part(&other, &mut parts),
            }
        }
        if hides_deleted(query) {
            // A constant of ours, so that its statistics are looked at.
            parts.conditions.push(format!("t.status <> '{DELETED}'"));
        }
        parts
    }

    fn part(&mut self, node: &Node<'_>, parts: &mut Parts) {
        match node {
            Node::Leaf(leaf) if !leaf.is_negated => match leaf {
                Leaf { is_text: true, .. } if parts.fences.len() < FENCES_MAX => {
                    let select = self.select(leaf);
                    let condition = self.condition(node, "t");
                    parts.fences.push((select, condition));
                }
                Leaf { is_joined: true, .. } => parts.joins.push(self.select(leaf)),
                _ => parts.conditions.push(self.condition(node, "t")),
            },
            Node::Or(members)
                if members.iter().all(Node::is_indexed) && members.iter().any(Node::has_set) =>
            {
                let selects: Vec<String> = members.iter().map(|member| self.member(member)).collect();
                parts.conditions.push(format!("t.id IN (\n    {})", selects.join("\n    UNION ALL ")));
            }
            _ => parts.conditions.push(self.condition(node, "t")),
        }
    }

    /// The ids of the tickets of one member of a union.
    fn member(&mut self, node: &Node<'_>) -> String {
        match node {
            Node::Leaf(leaf) if leaf.is_set => self.select(leaf),
            other => format!("SELECT x.id FROM tickets x WHERE {}", self.condition(other, "x")),
        }
    }
}

impl Parts {
    /// The whole statement. With fences: one branch for each, taken when its text is the first with few matches, and one that
    /// is taken when none has few; of the others PostgreSQL runs nothing but the count.
    fn statement(&self, shape: &Shape, tail: &str) -> String {
        if self.fences.is_empty() {
            return format!("{}{tail}", self.select(shape, &[], &[]));
        }
        let mut withs = Vec::new();
        let mut branches = Vec::new();
        let mut many = Vec::new();
        for (at, (select, _)) in self.fences.iter().enumerate() {
            let name = format!("m{at}");
            withs.push(format!(
                "{name} AS MATERIALIZED (SELECT f.id FROM (\n    {select}) f (id) LIMIT {})",
                FENCE_MAX + 1
            ));
            let few = format!("(SELECT count(*) FROM {name}) <= {FENCE_MAX}");
            let others = self.fences.iter().enumerate().filter(|(other, _)| *other != at);
            let mut conditions: Vec<&str> = others.map(|(_, (_, condition))| condition.as_str()).collect();
            conditions.extend(many.iter().map(String::as_str));
            conditions.push(&few);
            let from = format!("SELECT DISTINCT id FROM {name}");
            branches.push(format!("({}{tail})", self.select(shape, &[from], &conditions)));
            many.push(format!("(SELECT count(*) FROM {name}) > {FENCE_MAX}"));
        }
        let mut conditions: Vec<&str> = self.fences.iter().map(|(_, condition)| condition.as_str()).collect();
        conditions.extend(many.iter().map(String::as_str));
        branches.push(format!("({}{tail})", self.select(shape, &[], &conditions)));
        // One branch alone has rows, and they are in order.
        let withs = withs.join(",\n");
        let branches = branches.join("\nUNION ALL\n");
        format!("WITH {withs}\nSELECT * FROM (\n{branches}\n) one")
    }

    fn select(&self, shape: &Shape, first: &[String], more: &[&str]) -> String {
        let distinct = if self.joins.is_empty() { "" } else { &shape.distinct };
        let mut text = format!("SELECT {distinct}t.id{}\nFROM tickets t", shape.columns);
        for (at, join) in first.iter().chain(&self.joins).enumerate() {
            text += &format!("\nJOIN ({join}) j{at} (id) ON j{at}.id = t.id");
        }
        text += &shape.joins;
        let ours = self.conditions.iter().map(String::as_str);
        let conditions: Vec<&str> = ours.chain(more.iter().copied()).chain(shape.after.as_deref()).collect();
        if !conditions.is_empty() {
            text += "\nWHERE ";
            text += &conditions.join("\n  AND ");
        }
        text
    }
}
