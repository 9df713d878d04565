//! Nodes of a query as conditions, which are tried on one ticket at a time.

use super::builder::Builder;
use super::set::Subselect;
use super::tree::{Leaf, Node};

/// The most negated sets that PostgreSQL may plan as anti-joins. With more, planning takes longer than running.
const ANTI_JOINS_MAX: usize = 7;

impl Builder<'_> {
    /// A condition on the ticket `t`. NULL counts as false: there is no NOT above it, and within it every negation is IS NOT TRUE.
    pub(super) fn condition(&mut self, node: &Node<'_>, t: &str) -> String {
        let (members, word) = match node {
            Node::Leaf(leaf) => return self.leaf(leaf, t),
            Node::And(members) => (members, " AND "),
            Node::Or(members) => (members, " OR "),
        };
        let members: Vec<String> = members.iter().map(|member| self.condition(member, t)).collect();
        format!("({})", members.join(word))
    }

    pub(super) fn leaf(&mut self, leaf: &Leaf<'_>, t: &str) -> String {
        if leaf.is_set {
            return self.exists(leaf, t);
        }
        let positive = self.column(leaf, t);
        if leaf.is_negated { format!("({positive}) IS NOT TRUE") } else { positive }
    }

    /// The condition that the ticket `t` has a row that passes, or has none if the leaf is negated.
    fn exists(&mut self, leaf: &Leaf<'_>, t: &str) -> String {
        let is_anti_join = leaf.is_negated && !leaf.is_text && self.anti_joins < ANTI_JOINS_MAX;
        self.anti_joins += usize::from(is_anti_join);
        // OFFSET 0 keeps PostgreSQL from reading the whole set first, and from planning it as one more join.
        let offset = if is_anti_join { "" } else { " OFFSET 0" };
        let not = if leaf.is_negated { "NOT " } else { "" };
        let test = |Subselect { from, id, condition }: &Subselect| {
            format!("{not}EXISTS (SELECT FROM {from} WHERE {id} = {t}.id AND {condition}{offset})")
        };
        let tests: Vec<String> = match leaf.content() {
            // The subject is in the ticket's own row.
            Some(content) => {
                let subject = self.subject(content, t);
                let subject = if leaf.is_negated { format!("({subject}) IS NOT TRUE") } else { subject };
                vec![subject, test(&self.messages(content))]
            }
            None => self.subselects_of(leaf).iter().map(test).collect(),
        };
        match tests.as_slice() {
            [only] => only.clone(),
            many => format!("({})", many.join(if leaf.is_negated { " AND " } else { " OR " })),
        }
    }
}
