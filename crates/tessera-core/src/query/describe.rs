//! What can be written in a query, for programs that help people to write one: asked of the compiler itself.

use super::ast::{Name, Value};
use super::fields::{Date, Field, Fields, People, Person, Purpose, TransactionText};
use super::filter::OPERATORS;
use super::parser::{Dialect, parse};
use super::resolve::resolve;
use super::sql::{Keys, Sorted};
use crate::models::{Role, TransactionType};

/// A field of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// As it is written.
    pub name: String,
    /// What kind of value it has.
    pub kind: &'static str,
    /// What it is.
    pub description: &'static str,
    /// Its parts, as in `Requestor.Name`.
    pub parts: Vec<&'static str>,
    /// The operators that a search takes after it; none = a search does not know it.
    pub search: Vec<&'static str>,
    /// The same for the condition of a scrip.
    pub condition: Vec<&'static str>,
    /// Whether a search can be ordered by it.
    pub is_orderable: bool,
}

/// The words that stand for something else, with the fields that take them and what they stand for.
pub const PLACEHOLDERS: [(&str, &[&str], &str); 4] = [
    ("__Active__", &["Status"], "every status in which there is work to do: the initial and the active ones"),
    ("__Inactive__", &["Status"], "every status in which there is none"),
    (
        "__CurrentUser__",
        &["Owner", "Creator", "LastUpdatedBy", "UpdatedBy", "Requestor", "Cc", "AdminCc", "Watcher", "Actor"],
        "who searches; in a condition who makes the change",
    ),
    ("Nobody", &["Owner"], "no owner"),
];

/// One date of every form.
pub const DATES: [&str; 15] = [
    "2026-11-23",
    "2026-11-23 10:00",
    "2026-11-23 10:00:30",
    "2026-11-23T10:00:00Z",
    "2026-11-23T10:00:00.123456+01:00",
    "now",
    "today",
    "yesterday",
    "tomorrow",
    "90 minutes ago",
    "2 days ago",
    "in 3 hours",
    "beginning of last month",
    "beginning of this week",
    "end of next year",
];

/// Every field, and as the last `CF.{Name}` for all custom fields where there are any.
pub fn describe(fields: &Fields<'_>) -> Vec<Described> {
    let search = Fields { purpose: Purpose::Search(&[]), ..*fields };
    let condition = Fields { purpose: Purpose::Condition, ..*fields };
    let mut all: Vec<(String, Field)> = search.all().collect();
    all.extend(condition.all().filter(|(name, _)| search.all().all(|(known, _)| known != *name)));
    let mut described: Vec<_> =
        all.iter().map(|(name, field)| one(name, *field, &search, &condition)).collect();
    if let Some(custom) = fields.custom_fields.iter().next() {
        let name = Name::of(&["CF", &custom.name]).to_string();
        let of_all = one(&name, Field::Custom(custom.id), &search, &condition);
        described.push(Described { name: "CF.{Name}".to_owned(), ..of_all });
    }
    described
}

fn one(name: &str, field: Field, search: &Fields<'_>, condition: &Fields<'_>) -> Described {
    let order = Sorted { field: name.to_owned(), is_descending: false };
    let (kind, description) = words(field);
    Described {
        name: name.to_owned(),
        kind,
        description,
        parts: field.parts(),
        search: operators(name, field, search),
        condition: operators(name, field, condition),
        is_orderable: Keys::resolve(&[order], search).is_ok(),
    }
}

/// The operators that the compiler takes after a field.
fn operators(name: &str, field: Field, fields: &Fields<'_>) -> Vec<&'static str> {
    let value = example(field, fields);
    let is_taken = |operator: &&str| {
        let rest = match *operator {
            "IS NULL" | "IS NOT NULL" | "CHANGED" => String::new(),
            "IN" | "NOT IN" => format!("({value})"),
            "BETWEEN" | "NOT BETWEEN" => format!("{value} AND {value}"),
            _ => value.clone(),
        };
        let parsed = parse(&format!("{name} {operator} {rest}"), Dialect::Tessera);
        parsed.and_then(|parsed| resolve(&parsed.query, fields)).is_ok()
    };
    OPERATORS.into_iter().chain(["CHANGED"]).filter(is_taken).collect()
}

/// A value that a field can have.
fn example(field: Field, fields: &Fields<'_>) -> String {
    let quoted = |word: Option<&str>| Value::text(word.unwrap_or_default()).to_string();
    match field {
        Field::Id | Field::Priority => "1".to_owned(),
        Field::Subject | Field::Custom(_) | Field::Content | Field::Transaction(_) | Field::Channel => {
            "'x'".to_owned()
        }
        Field::Status => {
            let lifecycle = fields.lifecycles.iter().next();
            quoted(lifecycle.and_then(|lifecycle| lifecycle.statuses().first()).map(String::as_str))
        }
        Field::Queue => quoted(fields.queues.iter().next().map(|queue| queue.name.as_str())),
        Field::Lifecycle => quoted(fields.lifecycles.iter().next().map(|lifecycle| lifecycle.name())),
        Field::Person(..) | Field::People(..) | Field::UpdatedBy(_) => "'__CurrentUser__'".to_owned(),
        Field::Date(_) | Field::Updated => "'now'".to_owned(),
        Field::TransactionType => quoted(TransactionType::ALL.first().map(|kind| kind.as_str())),
    }
}

/// What kind of value a field has, and what it is.
fn words(field: Field) -> (&'static str, &'static str) {
    match field {
        Field::Id => ("number", "The number of the ticket; its id, in quotes, is taken too."),
        Field::Subject => ("text", "Its subject."),
        Field::Status => ("status", "A status of any lifecycle."),
        Field::Queue => ("queue", "Its queue, by name or id."),
        Field::Lifecycle => ("lifecycle", "The lifecycle of its queue, by name or id."),
        Field::Priority => ("number", "How urgent it is; larger is more."),
        Field::Person(Person::Owner, _) => {
            ("person", "Who works on it; IS NULL finds those that nobody owns.")
        }
        Field::Person(Person::Creator, _) => ("person", "Who made it."),
        Field::Person(Person::LastUpdatedBy, _) => ("person", "Who changed it last."),
        Field::Person(Person::Actor, _) => ("person", "Who makes the change at hand."),
        Field::People(people, _) => ("people", role(people)),
        Field::Date(Date::Created) => ("date", "When it was made."),
        Field::Date(Date::LastUpdated) => ("date", "When it was changed last."),
        Field::Date(Date::Started) => ("date", "When it first left an initial status."),
        Field::Date(Date::Due) => ("date", "When it should be done."),
        Field::Date(Date::Resolved) => ("date", "When it last became inactive."),
        Field::Date(Date::Told) => ("date", "When the requestor was last written to."),
        Field::Custom(_) => ("custom field", "A custom field; of several values any may pass."),
        Field::Updated => ("date", "When any line of its history was made."),
        Field::UpdatedBy(_) => {
            ("person", "Who made any line of its history; with Updated in one AND, of the same line.")
        }
        Field::Content => ("full text", "The words of its subject, comments and replies."),
        Field::TransactionType => ("transaction type", "The type of the change at hand."),
        Field::Transaction(TransactionText::Field) => ("text", "The column or field that changes."),
        Field::Transaction(TransactionText::OldValue) => ("text", "The readable old value."),
        Field::Transaction(TransactionText::NewValue) => ("text", "The readable new value."),
        Field::Transaction(TransactionText::Content) => ("text", "The comment or reply."),
        Field::Channel => ("text", "Through what the change came."),
    }
}

fn role(people: People) -> &'static str {
    match people.roles().as_slice() {
        [Role::Requestor] => "Who asked, by address or username; of several any may pass.",
        [Role::Cc] => "Who is told what the requestor is told; of several any may pass.",
        [Role::AdminCc] => "Who is told everything; of several any may pass.",
        _ => "Anybody in a role of it: Requestor, Cc or AdminCc.",
    }
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
