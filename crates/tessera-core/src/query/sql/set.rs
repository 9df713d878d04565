//! Tests that look up rows of another table, as one or more selects of ticket ids.

use super::bind::Bind;
use super::builder::Builder;
use super::columns::{compared, person_column};
use super::tree::Leaf;
use crate::models::CustomFieldId;
use crate::query::ast::Order;
use crate::query::fields::{People, TextField};
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
const TWO_VALUES: (&str, &str) =
    ("custom_field_values v JOIN custom_field_values o ON o.ticket_id = v.ticket_id", "v.ticket_id");
const VALUES_OF_TICKETS: (&str, &str) =
    ("custom_field_values v JOIN tickets s ON s.id = v.ticket_id", "v.ticket_id");
const WATCHERS: (&str, &str) = ("ticket_watchers w", "w.ticket_id");
const WATCHING_USERS: (&str, &str) = ("ticket_watchers w JOIN users u ON u.id = w.user_id", "w.ticket_id");
const WATCHERS_OF_TICKETS: (&str, &str) =
    ("ticket_watchers w JOIN tickets s ON s.id = w.ticket_id", "w.ticket_id");
const TWO_WATCHERS: (&str, &str) =
    ("ticket_watchers w JOIN ticket_watchers o ON o.ticket_id = w.ticket_id", "w.ticket_id");
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
            Some(Meaning::Texts(own, order, other)) => vec![self.texts(*own, *order, *other)],
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

    /// Two texts of a ticket that compare. The texts of a transaction exist only in conditions.
    fn texts(&mut self, own: TextField, order: Option<Order>, other: TextField) -> Subselect {
        let mut of_field = |alias: &str, field: CustomFieldId| {
            format!("{alias}.custom_field_id = {} AND ", self.binds.add(Bind::Id(field.0)))
        };
        match (own, other) {
            (TextField::Custom(own), TextField::Custom(other)) => {
                let fields = of_field("v", own) + &of_field("o", other);
                Subselect::of(TWO_VALUES, fields + &compared("v.value_folded", order, "o.value_folded"))
            }
            (TextField::Custom(own), _) => {
                let field = of_field("v", own);
                Subselect::of(
                    VALUES_OF_TICKETS,
                    field + &compared("v.value_folded", order, "s.subject_folded"),
                )
            }
            (_, TextField::Custom(other)) => {
                let field = of_field("v", other);
                Subselect::of(
                    VALUES_OF_TICKETS,
                    field + &compared("s.subject_folded", order, "v.value_folded"),
                )
            }
            _ => Subselect::of(SUBJECTS, compared("s.subject_folded", order, "s.subject_folded")),
        }
    }

    fn people(&mut self, people: People, test: &PersonTest) -> Vec<Subselect> {
        let role = self.role("w", people);
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
            PersonTest::Present => vec![Subselect::of(WATCHERS, format!("{role}true"))],
            PersonTest::Field(other) => {
                let other = person_column(*other, "s");
                vec![Subselect::of(WATCHERS_OF_TICKETS, format!("{role}w.user_id = {other}"))]
            }
            PersonTest::OneOf(others) => {
                let roles = role + &self.role("o", *others);
                let is_same = "(o.user_id = w.user_id OR lower(o.address) = lower(w.address))";
                vec![Subselect::of(TWO_WATCHERS, format!("{roles}{is_same}"))]
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
