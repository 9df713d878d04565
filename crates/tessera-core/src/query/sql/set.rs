//! Tests that are looked up in another table: each as one or more selects of ticket ids.

use super::Compiler;
use super::bind::Bind;
use super::statement::id_bounds;
use super::tree::Leaf;
use crate::models::{CustomFieldId, Role};
use crate::query::fields::People;
use crate::query::meaning::{DateTest, Meaning, PersonTest, Who};
use crate::query::text::TextTest;

/// Rows of another table that belong to tickets.
#[derive(Debug, Clone)]
pub(super) struct Part {
    from: &'static str,
    /// The column with the ticket's id.
    id: &'static str,
    condition: String,
}

const VALUES: (&str, &str) = ("custom_field_values v", "v.ticket_id");
const WATCHERS: (&str, &str) = ("ticket_watchers w", "w.ticket_id");
const WATCHING_USERS: (&str, &str) = ("ticket_watchers w JOIN users u ON u.id = w.user_id", "w.ticket_id");
const HISTORY: (&str, &str) = ("transactions h", "h.ticket_id");
const CONTENTS: (&str, &str) = ("transaction_contents c", "c.ticket_id");
const SUBJECTS: (&str, &str) = ("tickets s", "s.id");

impl Part {
    /// The ids of the tickets, some perhaps more than once.
    pub(super) fn select(&self) -> String {
        let Self { from, id, condition } = self;
        format!("SELECT {id} FROM {from} WHERE {condition}")
    }
}

/// Negated sets that PostgreSQL may plan as anti-joins; of more, planning takes longer than running.
const ANTI_JOINS_MAX: usize = 7;

fn part((from, id): (&'static str, &'static str), condition: String) -> Part {
    Part { from, id, condition }
}

impl Compiler<'_> {
    /// The ids of the tickets that pass, some perhaps more than once.
    pub(super) fn select(&mut self, leaf: &Leaf<'_>) -> String {
        let selects: Vec<String> = self.parts_of(leaf).iter().map(Part::select).collect();
        selects.join(" UNION ALL ")
    }

    /// Whether the ticket `t` has a row that passes, or has none.
    pub(super) fn exists(&mut self, leaf: &Leaf<'_>, t: &str) -> String {
        let is_anti_join = leaf.is_negated && !leaf.is_text && self.anti_joins < ANTI_JOINS_MAX;
        self.anti_joins += usize::from(is_anti_join);
        // OFFSET 0 keeps PostgreSQL from reading the whole set first, and from planning it as one more join.
        let offset = if is_anti_join { "" } else { " OFFSET 0" };
        let not = if leaf.is_negated { "NOT " } else { "" };
        let test = |Part { from, id, condition }: &Part| {
            format!("{not}EXISTS (SELECT FROM {from} WHERE {id} = {t}.id AND {condition}{offset})")
        };
        let tests: Vec<String> = match leaf.content() {
            // The subject is in the ticket's own row.
            Some(content) => {
                let subject = self.subject(content, t);
                let subject = if leaf.is_negated { format!("({subject}) IS NOT TRUE") } else { subject };
                vec![subject, test(&self.messages(content))]
            }
            None => self.parts_of(leaf).iter().map(test).collect(),
        };
        match tests.as_slice() {
            [only] => only.clone(),
            many => format!("({})", many.join(if leaf.is_negated { " AND " } else { " OR " })),
        }
    }

    pub(super) fn parts_of(&mut self, leaf: &Leaf<'_>) -> Vec<Part> {
        match leaf.tests.first().map(|test| &test.meaning) {
            Some(Meaning::Custom(field, test)) => vec![self.custom(*field, test)],
            Some(Meaning::People(people, test)) => self.people(*people, test),
            Some(Meaning::Content(test)) => {
                vec![self.messages(test), part(SUBJECTS, self.subject(test, "s"))]
            }
            _ => vec![self.history(leaf)],
        }
    }

    fn custom(&mut self, field: CustomFieldId, test: &TextTest) -> Part {
        let field = self.binds.add(Bind::Id(field.0));
        let mut condition = format!("v.custom_field_id = {field}");
        if *test != TextTest::Present {
            condition += &format!(" AND {}", self.text(test, "v.value_folded", None));
        }
        part(VALUES, condition)
    }

    fn people(&mut self, people: People, test: &PersonTest) -> Vec<Part> {
        let role = match people.roles().as_slice() {
            // Anybody: every row has a role.
            roles if roles.len() == Role::ALL.len() => String::new(),
            roles => {
                let roles: Vec<String> = roles.iter().map(|role| role.as_str().to_owned()).collect();
                format!("w.role {} AND ", self.binds.among_texts(&roles))
            }
        };
        match test {
            PersonTest::Is(who) => self.these_people(&role, who),
            PersonTest::Name(test) => {
                vec![part(WATCHING_USERS, format!("{role}{}", self.text(test, "lower(u.username)", None)))]
            }
            PersonTest::Address(test) => vec![
                part(WATCHING_USERS, format!("{role}{}", self.text(test, "lower(u.email)", None))),
                part(
                    WATCHERS,
                    format!("{role}w.address IS NOT NULL AND {}", self.text(test, "lower(w.address)", None)),
                ),
            ],
            PersonTest::Present | PersonTest::Field(_) => vec![part(WATCHERS, format!("{role}true"))],
        }
    }

    fn these_people(&mut self, role: &str, who: &[Who]) -> Vec<Part> {
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
            parts.push(part(WATCHERS, format!("{role}w.user_id {}", self.binds.among_ids(ids))));
        }
        if !addresses.is_empty() {
            // The index is over rows that have an address, and is found only where that is said.
            let among = self.binds.among_texts(&addresses);
            parts.push(part(WATCHERS, format!("{role}w.address IS NOT NULL AND lower(w.address) {among}")));
        }
        parts
    }

    fn messages(&mut self, test: &TextTest) -> Part {
        part(CONTENTS, self.text(test, "lower(c.body)", Some("c.words")))
    }

    /// A test of the subject, which is in the ticket's own row.
    pub(super) fn subject(&mut self, test: &TextTest, t: &str) -> String {
        self.text(test, &format!("{t}.subject_folded"), Some(&format!("{t}.subject_words")))
    }

    /// One transaction that passes every test.
    fn history(&mut self, leaf: &Leaf<'_>) -> Part {
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
        part(HISTORY, condition)
    }

    /// Transactions of a time are found by their ids, which carry it; those of a person by an index of persons.
    fn range_of_ids(&mut self, test: &DateTest) -> String {
        let (from, until) = self.bounds(test);
        let bounds = id_bounds(from, until, &mut self.binds);
        bounds.iter().map(|bound| format!(" AND h.id {bound}")).collect()
    }
}
