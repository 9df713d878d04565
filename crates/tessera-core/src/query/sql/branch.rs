//! Disjunctive normal form: a query as branches, of which each is sets, texts and conditions joined by AND.

use super::builder::Builder;
use super::set::Subselect;
use super::tree::{Leaf, Node};
use crate::query::fields::Date;
use crate::query::meaning::Meaning;
use time::OffsetDateTime;

/// Branches of a statement. An OR that would make more is a condition, which tickets are tried on one by one.
const BRANCHES_MAX: usize = 16;
/// Sets joined in a branch: with the tickets as many as PostgreSQL orders freely (`join_collapse_limit`). Beyond it planning
/// would take longer than running: 50 joins are planned for 0.7 s, 196 for a minute and a half.
const SETS_MAX: usize = 7;
/// Sets joined in all branches of a statement.
const ALL_SETS_MAX: usize = 32;

/// Matches of a text that are fetched before anything else is looked at. Of a text with more, tickets are tried in the order of
/// the answer, and a page is soon full.
/// Few for the tests of this crate, so that their few tickets take both ways.
pub(super) const FENCE_MAX: u16 = if cfg!(any(test, feature = "testing")) { 20 } else { 2_000 };

/// What is joined by AND.
#[derive(Debug, Clone, Default)]
pub(super) struct Branch {
    /// Rows of other tables.
    pub sets: Vec<Subselect>,
    /// Words to be found.
    pub texts: Vec<Text>,
    /// Conditions on the ticket `t`.
    pub conditions: Vec<String>,
    /// The ticket was made at this time or later.
    pub from: Option<OffsetDateTime>,
    /// The ticket was made before this time.
    pub until: Option<OffsetDateTime>,
}

/// Words to be found in the texts of a ticket.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// A select of the ids of the tickets, found by the words.
    pub select: String,
    /// The same as a condition on the ticket `t`.
    pub condition: String,
    /// Whether so many have them that it is better to try tickets one by one.
    pub is_frequent: bool,
}

impl Branch {
    fn and(&self, other: &Self) -> Self {
        fn both<T: Clone>(one: &[T], other: &[T]) -> Vec<T> {
            one.iter().chain(other).cloned().collect()
        }
        Self {
            sets: both(&self.sets, &other.sets),
            texts: both(&self.texts, &other.texts),
            conditions: both(&self.conditions, &other.conditions),
            from: self.from.max(other.from),
            until: self.until.into_iter().chain(other.until).min(),
        }
    }

    fn of(condition: String) -> Self {
        Self { conditions: vec![condition], ..Self::default() }
    }
}

impl Builder<'_> {
    /// The branches of a node; at least one, at most [`BRANCHES_MAX`].
    pub(super) fn branches(&mut self, node: &Node<'_>) -> Vec<Branch> {
        match node {
            Node::Leaf(leaf) => self.branches_of_leaf(leaf),
            Node::And(members) => {
                let mut branches = vec![Branch::default()];
                for member in members {
                    let mark = self.binds.len();
                    let of_member = self.branches(member);
                    if branches.len() * of_member.len() <= BRANCHES_MAX {
                        let joined = product(&branches, &of_member);
                        if is_plannable(&joined) {
                            branches = joined;
                            continue;
                        }
                    }
                    self.binds.truncate(mark);
                    let condition = Branch::of(self.condition(member, "t"));
                    branches = product(&branches, &[condition]);
                }
                branches
            }
            Node::Or(members) if node.has_set() => {
                let mark = self.binds.len();
                let branches: Vec<Branch> = members.iter().flat_map(|member| self.branches(member)).collect();
                if branches.len() <= BRANCHES_MAX && is_plannable(&branches) {
                    return branches;
                }
                self.binds.truncate(mark);
                vec![Branch::of(self.condition(node, "t"))]
            }
            Node::Or(_) => vec![Branch::of(self.condition(node, "t"))],
        }
    }

    fn branches_of_leaf(&mut self, leaf: &Leaf<'_>) -> Vec<Branch> {
        let meaning = leaf.tests.first().map(|test| &test.meaning);
        if leaf.is_negated || (leaf.is_set && !leaf.is_joined) {
            return vec![Branch::of(self.leaf(leaf, "t"))];
        }
        if leaf.is_text {
            let (select, condition) = (self.select(leaf), self.leaf(leaf, "t"));
            let text = Text { select, condition, is_frequent: self.is_frequent(leaf) };
            return vec![Branch { texts: vec![text], ..Branch::default() }];
        }
        if leaf.is_set {
            let parts = self.subselects_of(leaf).into_iter();
            return parts.map(|part| Branch { sets: vec![part], ..Branch::default() }).collect();
        }
        let mut branch = Branch::of(self.leaf(leaf, "t"));
        if let Some(Meaning::Date(Date::Created, test)) = meaning {
            (branch.from, branch.until) = self.time_bounds(test);
        }
        vec![branch]
    }

    fn is_frequent(&self, leaf: &Leaf<'_>) -> bool {
        let Some(matcher) = leaf.matcher() else { return false };
        let known: Option<Vec<f32>> =
            matcher.wanted().map(|word| self.frequencies.words.get(word).copied()).collect();
        // More than would be fetched first: so it is not tried.
        let matches = known.map(|known| known.into_iter().product::<f32>() * self.frequencies.messages);
        matches.is_some_and(|matches| matches > f32::from(FENCE_MAX))
    }
}

fn is_plannable(branches: &[Branch]) -> bool {
    let sets = || branches.iter().map(|branch| branch.sets.len());
    sets().all(|sets| sets <= SETS_MAX) && sets().sum::<usize>() <= ALL_SETS_MAX
}

fn product(these: &[Branch], those: &[Branch]) -> Vec<Branch> {
    these.iter().flat_map(|this| those.iter().map(|that| this.and(that))).collect()
}
