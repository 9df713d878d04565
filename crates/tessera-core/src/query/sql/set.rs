//! Tests that look up rows of another table, as one or more selects of ticket ids.

use super::bind::Bind;
use super::builder::Builder;
use super::tree::Leaf;
use crate::models::{CustomFieldId, Role};
use crate::query::fields::People;
use crate::query::meaning::{DateTest, Meaning, PersonTest, Who};
use crate::query::text::TextTest;

/// A select of the ids of tickets that have certain rows in another table.
#[derive(Debug, Clone)]
pub(super) struct Subselect {
    pub from: &'static str,
    /// The column with the ticket's id.
    pub id: &'static str,
    pub condition: String,
}

const VALUES: (&str, &str) = ("custom_field_values v", "v.ticket_id");
const WATCHERS: (&str, &str) = ("ticket_watchers w", "w.ticket_id");
const WATCHING_USERS: (&str, &str) = ("ticket_watchers w JOIN users u ON u.id = w.user_id", "w.ticket_id");
const HISTORY: (&str, &str) = ("transactions h", "h.ticket_id");
const CONTENTS: (&str, &str) = ("transaction_contents c", "c.ticket_id");
const SUBJECTS: (&str, &str) = ("tickets s", "s.id");

impl Subselect {
    fn of((from, id): (&'static str, &'static str), condition: String) -> Self {
        Self { from, id, condition }
    }

    /// The select. It can return an id more than once.
    pub(super) fn select(&self) -> String {
        let Self { from, id, condition } = self;
        format!("SELECT {id} FROM {from} WHERE {condition}")
    }
}

impl Builder<'_> {
    /// One select of the ids of the tickets that pass. It can return an id more than once.
    pub(super) fn select(&mut self, leaf: &Leaf<'_>) -> String {
        let selects: Vec<String> = self.subselects_of(leaf).iter().map(Subselect::select).collect();
        selects.join(" UNION ALL ")
    }

    pub(super) fn subselects_of(&mut self, leaf: &Leaf<'_>) -> Vec<Subselect> {
        match leaf.tests.first().map(|test| &test.meaning) {
            Some(Meaning::Custom(field, test)) => vec![self.custom(*field, test)],
            Some(Meaning::People(people, test)) => self.people(*people, test),
            Some(Meaning::Content(test)) => {
                vec![self.messages(test), Subselect::of(SUBJECTS, self.subject(test, "s"))]
            }
            _ => vec![self.history(leaf)],
        }
    }

    fn custom(&mut self, field: CustomFieldId, test: &TextTest) -> Subselect {
        let field = self.binds.add(Bind::Id(field.0));
        let mut condition = format!("v.custom_field_id = {field}");
        if *test != TextTest::Present {
            condition += &format!(" AND {}", self.text(test, "v.value_folded", None));
        }
        Subselect::of(VALUES, condition)
    }

    fn people(&mut self, people: People, test: &PersonTest) -> Vec<Subselect> {
        let role = match people.roles().as_slice() {
            // All roles: no condition is needed.
            roles if roles.len() == Role::ALL.len() => String::new(),
            roles => {
                let roles: Vec<String> = roles.iter().map(|role| role.as_str().to_owned()).collect();
                format!("w.role {} AND ", self.binds.among_texts(&roles))
            }
        };
        match test {
            PersonTest::Is(who) => self.these_people(&role, who),
            PersonTest::Name(test) => {
                vec![Subselect::of(
                    WATCHING_USERS,
                    format!("{role}{}", self.caseless_text(test, "u.username", None)),
                )]
            }
            PersonTest::Address(test) => vec![
                Subselect::of(WATCHING_USERS, format!("{role}{}", self.caseless_text(test, "u.email", None))),
                Subselect::of(
                    WATCHERS,
                    format!(
                        "{role}w.address IS NOT NULL AND {}",
                        self.caseless_text(test, "w.address", None)
                    ),
                ),
            ],
            PersonTest::Present | PersonTest::Field(_) => {
                vec![Subselect::of(WATCHERS, format!("{role}true"))]
            }
        }
    }

    fn these_people(&mut self, role: &str, who: &[Who]) -> Vec<Subselect> {
        let ids = self.ids_of(who);
        let addresses: Vec<String> = who
            .iter()
            .filter_map(|who| match who {
                Who::Address(word, _) | Who::Word(word, _) => Some(word.clone()),
                _ => None,
            })
            .filter(|word| word.contains('@'))
            .collect();
        let mut parts = Vec::new();
        if !ids.is_empty() || addresses.is_empty() {
            parts.push(Subselect::of(WATCHERS, format!("{role}w.user_id {}", self.binds.among_ids(ids))));
        }
        if !addresses.is_empty() {
            // PostgreSQL uses the partial index only if this condition is stated.
            let among = self.binds.among_texts(&addresses);
            parts.push(Subselect::of(
                WATCHERS,
                format!("{role}w.address IS NOT NULL AND lower(w.address) {among}"),
            ));
        }
        parts
    }

    pub(super) fn messages(&mut self, test: &TextTest) -> Subselect {
        Subselect::of(CONTENTS, self.caseless_text(test, "c.body", Some("c.words")))
    }

    /// Transactions that pass all tests.
    fn history(&mut self, leaf: &Leaf<'_>) -> Subselect {
        let mut condition = "h.seq IS NOT NULL".to_owned();
        let is_by = leaf.tests.iter().any(|test| matches!(test.meaning, Meaning::UpdatedBy(_)));
        for test in &leaf.tests {
            let test = match &test.meaning {
                Meaning::Updated(test) => {
                    let range = if is_by { String::new() } else { self.range_of_ids(test) };
                    format!("{}{range}", self.date(test, "h.created_at", "h"))
                }
                Meaning::UpdatedBy(test) => self.person(test, "h.creator_id", "h"),
                _ => continue,
            };
            condition += &format!(" AND {test}");
        }
        Subselect::of(HISTORY, condition)
    }

    /// Transactions are found by time through their ids, which carry it, and by person through an index.
    fn range_of_ids(&mut self, test: &DateTest) -> String {
        let (from, until) = self.time_bounds(test);
        let bounds = self.id_bounds(from, until);
        bounds.iter().map(|bound| format!(" AND h.id {bound}")).collect()
    }
}
