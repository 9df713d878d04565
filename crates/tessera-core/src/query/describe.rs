//! Describes the query language for editors that help people to write queries. The compiler itself decides what is valid.

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
    /// The name as written in a query.
    pub name: String,
    /// The kind of its values.
    pub kind: &'static str,
    /// A sentence about the field.
    pub description: &'static str,
    /// The names of its parts, as in `Requestor.Name`.
    pub parts: Vec<&'static str>,
    /// The operators that a search accepts after it; empty if searches do not have the field.
    pub search: Vec<&'static str>,
    /// The operators that the condition of a scrip accepts after it.
    pub condition: Vec<&'static str>,
    /// True if a search can be ordered by it.
    pub is_orderable: bool,
}

/// The placeholders, with the fields that accept them and their meaning.
pub const PLACEHOLDERS: [(&str, &[&str], &str); 4] = [
    ("__Active__", &["Status"], "all initial and active statuses"),
    ("__Inactive__", &["Status"], "all inactive statuses"),
    (
        "__CurrentUser__",
        &["Owner", "Creator", "LastUpdatedBy", "UpdatedBy", "Requestor", "Cc", "AdminCc", "Watcher", "Actor"],
        "the user who searches; in a condition, the user who makes the change",
    ),
    ("Nobody", &["Owner"], "no owner"),
];

/// An example of every form of date.
pub const DATES: [&str; 16] = [
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
    "day of 2 days ago",
    "beginning of last month",
    "beginning of this week",
    "end of next year",
];

/// Returns all fields. The last one is `CF.{Name}`, which stands for all custom fields, if there are any.
pub fn describe(fields: &Fields<'_>) -> Vec<Described> {
    let search = Fields { purpose: Purpose::Search(&[]), ..*fields };
    let condition = Fields { purpose: Purpose::Condition, ..*fields };
    let mut all: Vec<(String, Field)> = search.all().collect();
    all.extend(condition.all().filter(|(name, _)| search.all().all(|(known, _)| known != *name)));
    let mut described: Vec<_> =
        all.iter().map(|(name, field)| one(name, *field, &search, &condition)).collect();
    if let Some(custom) = fields.custom_fields.iter().find(|field| !field.disabled) {
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
        is_orderable: Keys::resolve(&[order], search, Dialect::Tessera).is_ok(),
    }
}

/// The operators that the compiler accepts after a field.
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

/// A valid value of a field.
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

/// The kind of a field's values, and a sentence about the field.
fn words(field: Field) -> (&'static str, &'static str) {
    match field {
        Field::Id => ("number", "The ticket number, or the UUID of the ticket in quotes."),
        Field::Subject => ("text", "The subject of the ticket."),
        Field::Status => ("status", "A status of any lifecycle."),
        Field::Queue => ("queue", "The queue, by name or id."),
        Field::Lifecycle => ("lifecycle", "The lifecycle of the queue, by name or id."),
        Field::Priority => ("number", "The priority; larger numbers are more urgent."),
        Field::Person(Person::Owner, _) => ("person", "The owner; IS NULL finds tickets without an owner."),
        Field::Person(Person::Creator, _) => ("person", "The user who created the ticket."),
        Field::Person(Person::LastUpdatedBy, _) => ("person", "The user who changed the ticket last."),
        Field::Person(Person::Actor, _) => ("person", "The user who makes the current change."),
        Field::People(people, _) => ("people", role(people)),
        Field::Date(Date::Created) => ("date", "The time of creation."),
        Field::Date(Date::LastUpdated) => ("date", "The time of the last change."),
        Field::Date(Date::Started) => ("date", "The time at which the ticket first left an initial status."),
        Field::Date(Date::Due) => ("date", "The time by which the ticket should be resolved."),
        Field::Date(Date::Resolved) => ("date", "The time at which the ticket last became inactive."),
        Field::Date(Date::Told) => ("date", "The time of the last message to the requestor."),
        Field::Custom(_) => ("custom field", "A custom field; any of its values can match."),
        Field::Updated => ("date", "The time of any transaction in the history."),
        Field::UpdatedBy(_) => (
            "person",
            "The user of any transaction in the history; joined with Updated by AND, of the same transaction.",
        ),
        Field::Content => ("full text", "The words in the subject, comments and replies."),
        Field::TransactionType => ("transaction type", "The type of the current change."),
        Field::Transaction(TransactionText::Field) => ("text", "The column or custom field that changes."),
        Field::Transaction(TransactionText::OldValue) => ("text", "The old value in readable form."),
        Field::Transaction(TransactionText::NewValue) => ("text", "The new value in readable form."),
        Field::Transaction(TransactionText::Content) => ("text", "The text of the comment or reply."),
        Field::Channel => ("text", "The channel of the change, such as rest or grpc."),
    }
}

fn role(people: People) -> &'static str {
    match people.roles().as_slice() {
        [Role::Requestor] => "The requestors, by address or username; any of them can match.",
        [Role::Cc] => "The people who get the same mail as the requestor; any of them can match.",
        [Role::AdminCc] => "The people who get all mail, including comments; any of them can match.",
        _ => "Anyone who is a requestor, Cc or AdminCc of the ticket.",
    }
}

#[cfg(test)]
mod tests;
