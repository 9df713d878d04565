//! Disjunctive normal form: a query as branches. Each branch is sets, texts and conditions joined by AND.

use super::builder::Builder;
use super::set::Subselect;
use super::tree::{Leaf, Node};
use crate::query::fields::Date;
use crate::query::meaning::Meaning;
use time::OffsetDateTime;

/// The maximum number of branches of a statement. An OR that would exceed it is tested as a condition, ticket by ticket.
const BRANCHES_MAX: usize = 16;
/// The maximum number of sets joined in a branch. With the tickets, that is as many as PostgreSQL orders freely
/// (`join_collapse_limit`). With more, planning takes longer than running: 0.7 s for 50 joins, 90 s for 196.
const SETS_MAX: usize = 7;
/// The maximum number of sets joined in all branches of a statement.
const ALL_SETS_MAX: usize = 32;

/// The maximum number of tests of other tables in all branches of a statement, in which the tests that all branches share are
/// repeated. PostgreSQL plans each of them, which takes it about 0.2 ms.
const LOOK_UPS_MAX: usize = 800;

/// Up to this many matches of a text are fetched first. With more matches, tickets are tested in the order of the results
/// instead, which fills a page quickly. The limit is small in tests, so that few tickets cover both ways.
pub(super) const FENCE_MAX: u16 = if cfg!(any(test, feature = "testing")) { 20 } else { 2_000 };

/// Sets, texts and conditions joined by AND.
#[derive(Debug, Clone, Default)]
pub(super) struct Branch {
    /// Rows of other tables.
    pub sets: Vec<Subselect>,
    /// Searches for words.
    pub texts: Vec<Text>,
    /// Conditions on the ticket `t`.
    pub conditions: Vec<String>,
    /// The ticket was created at this time or later.
    pub from: Option<OffsetDateTime>,
    /// The ticket was created before this time.
    pub until: Option<OffsetDateTime>,
}

/// A search for words in the texts of a ticket.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// Selects the ids of the matching tickets.
    pub select: String,
    /// The same search as a condition on the ticket `t`.
    pub condition: String,
    /// True if the words are so frequent that tickets are better tested one by one.
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
    /// Returns the branches of a node, from 1 to [`BRANCHES_MAX`].
    pub(super) fn branches(&mut self, node: &Node<'_>) -> Vec<Branch> {
        match node {
            Node::Leaf(leaf) => self.branches_of_leaf(leaf),
            Node::And(members) => {
                let most = BRANCHES_MAX.min(LOOK_UPS_MAX / node.sets().max(1));
                let mut branches = vec![Branch::default()];
                for member in members {
                    let mark = self.binds.len();
                    let of_member = self.branches(member);
                    if branches.len() * of_member.len() <= most {
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
        // More matches than are fetched first, so fetching them is not tried.
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
