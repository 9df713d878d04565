//! Negation normal form: every NOT is moved down to the tests, which two-valued logic allows.

use crate::query::ast::{self, Expr};
use crate::query::meaning::{Meaning, Test};
use crate::query::text::TextTest;
use crate::query::words::Matcher;

/// A tree without NOT.
pub(super) enum Node<'q> {
    And(Vec<Node<'q>>),
    Or(Vec<Node<'q>>),
    Leaf(Leaf<'q>),
}

/// A test, or several tests of the history that apply to the same transaction.
pub(super) struct Leaf<'q> {
    pub tests: Vec<&'q Test>,
    pub is_negated: bool,
    /// True if it looks up rows of a table other than `tickets`.
    pub is_set: bool,
    /// True if an index finds its rows, so that it is joined or searched first.
    pub is_joined: bool,
    /// True for a search for words, whose number of matches PostgreSQL estimates badly.
    pub is_text: bool,
}

impl<'q> Leaf<'q> {
    fn new(tests: Vec<&'q Test>, is_negated: bool) -> Self {
        let (is_set, is_joined, is_text) = match tests.first().map(|test| &test.meaning) {
            Some(Meaning::Content(TextTest::Words(_))) => (true, true, true),
            // No index finds these.
            Some(Meaning::Content(_)) => (true, false, false),
            Some(
                Meaning::Custom(..)
                | Meaning::Texts(..)
                | Meaning::People(..)
                | Meaning::Updated(_)
                | Meaning::UpdatedBy(_),
            ) => (true, true, false),
            _ => (false, false, false),
        };
        Self { tests, is_negated, is_set, is_joined, is_text }
    }

    /// The test of the texts of a ticket.
    pub(super) fn content(&self) -> Option<&'q TextTest> {
        match self.tests.first().map(|test| &test.meaning) {
            Some(Meaning::Content(test)) => Some(test),
            _ => None,
        }
    }

    /// The words that it searches for.
    pub(super) fn matcher(&self) -> Option<&'q Matcher> {
        match self.content() {
            Some(TextTest::Words(matcher)) => Some(matcher),
            _ => None,
        }
    }
}

impl Node<'_> {
    /// The number of tests of other tables.
    pub(super) fn sets(&self) -> usize {
        match self {
            Self::And(members) | Self::Or(members) => members.iter().map(Self::sets).sum(),
            Self::Leaf(leaf) => usize::from(leaf.is_set),
        }
    }

    /// Returns true if it contains a positive test of another table.
    pub(super) fn has_set(&self) -> bool {
        match self {
            Self::And(members) | Self::Or(members) => members.iter().any(Self::has_set),
            Self::Leaf(leaf) => leaf.is_set && !leaf.is_negated,
        }
    }
}

/// The normal form of a tree; its depth is bounded by the parser.
pub(super) fn normal(expr: &Expr<Test>) -> Node<'_> {
    node(expr, false)
}

fn node(expr: &Expr<Test>, negate: bool) -> Node<'_> {
    match expr {
        Expr::Test(test) => Node::Leaf(Leaf::new(vec![test], test.is_negated != negate)),
        Expr::Not(inner) => node(inner, !negate),
        Expr::Or(members) => joined(members.iter().map(|member| node(member, negate)).collect(), negate),
        Expr::And(members) => {
            // Tests of the history that are joined directly apply to the same transaction.
            let (mut history, mut nodes) = (Vec::new(), Vec::new());
            for member in members {
                match member {
                    Expr::Test(test) if is_history(test) => history.push(test),
                    other => nodes.push(node(other, negate)),
                }
            }
            if !history.is_empty() {
                nodes.push(Node::Leaf(Leaf::new(history, negate)));
            }
            joined(nodes, !negate)
        }
    }
}

fn is_history(test: &Test) -> bool {
    !test.is_negated && matches!(test.meaning, Meaning::Updated(_) | Meaning::UpdatedBy(_))
}

/// Joins members. An AND in an AND is flattened, and so is an OR in an OR.
fn joined(nodes: Vec<Node<'_>>, by_and: bool) -> Node<'_> {
    let mut members = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::And(inner) if by_and => members.extend(inner),
            Node::Or(inner) if !by_and => members.extend(inner),
            other => members.push(other),
        }
    }
    ast::joined(members, if by_and { Node::And } else { Node::Or })
}
