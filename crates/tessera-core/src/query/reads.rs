//! The configured objects that a query names, so that they are not removed or renamed while the query is in use.

use super::ast::{Name, Query, Value, ValueKind, Verb};
use super::fields::{Person, TransactionText};
use super::meaning::{Changed, Meaning, PersonTest, Test};
use super::resolve::word_of;
use crate::models::text::fold;
use crate::models::user::NOBODY;

/// An object that a query names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// A custom field.
    Field(String),
    /// A custom field that a queue must have, as written: `CF.Support.{Severity}`.
    FieldOfQueue(String),
    /// A queue.
    Queue(String),
    /// A lifecycle.
    Lifecycle(String),
    /// A status of any lifecycle.
    Status(String),
    /// A ticket owner.
    Owner(String),
    /// Any person, by username or address.
    Person(String),
}

/// Returns all objects that a query names. Ids and patterns do not count, because renaming an object does not affect them.
pub fn reads(query: &Query<Test>) -> Vec<Read> {
    let mut reads: Vec<Read> = query.tests().into_iter().flat_map(of_test).collect();
    reads.sort();
    reads.dedup();
    reads
}

fn of_test(test: &Test) -> Vec<Read> {
    let mut reads = of_name(&test.predicate.field);
    if let (Meaning::Texts(..), Verb::Equal(other) | Verb::Order(_, other)) =
        (&test.meaning, &test.predicate.verb)
        && let ValueKind::Name(other) = &other.kind
    {
        reads.extend(of_name(other));
    }
    let is_lifecycle = test.predicate.field.parts().as_slice() == ["Lifecycle"];
    let read: fn(String) -> Read = match &test.meaning {
        Meaning::Status(..) | Meaning::Changed(Changed::Status, ..) => Read::Status,
        Meaning::Queue(_) if is_lifecycle => Read::Lifecycle,
        Meaning::Queue(_) | Meaning::Changed(Changed::Column("Queue"), ..) => Read::Queue,
        Meaning::Person(Person::Owner, PersonTest::Is(_))
        | Meaning::Changed(Changed::Column("Owner"), ..) => Read::Owner,
        Meaning::Person(_, PersonTest::Is(_))
        | Meaning::People(_, PersonTest::Is(_))
        | Meaning::Changed(Changed::People(_), ..) => Read::Person,
        Meaning::Transaction(TransactionText::Field, _) => Read::Field,
        _ => return reads,
    };
    let words = values(&test.predicate.verb).into_iter().map(word_of);
    reads.extend(words.filter(|word| is_name(word)).map(read));
    reads
}

/// The objects that the canonical name of a field names.
fn of_name(name: &Name) -> Vec<Read> {
    match name.parts().as_slice() {
        ["CF", field] => vec![Read::Field((*field).to_owned())],
        ["CF", queue, field] => vec![
            Read::Queue((*queue).to_owned()),
            Read::Field((*field).to_owned()),
            Read::FieldOfQueue(name.to_string()),
        ],
        _ => Vec::new(),
    }
}

/// The values that can be names of objects.
fn values(verb: &Verb) -> Vec<&Value> {
    match verb {
        Verb::Changed { from, to } => from.iter().chain(to).collect(),
        other => other.equals().unwrap_or_default().iter().collect(),
    }
}

/// Returns true if a word is neither an id nor a placeholder.
fn is_name(word: &str) -> bool {
    let is_placeholder = word.starts_with("__") && word.ends_with("__");
    !is_placeholder && fold(word) != fold(NOBODY) && uuid::Uuid::parse_str(word).is_err()
}

#[cfg(test)]
mod tests;
