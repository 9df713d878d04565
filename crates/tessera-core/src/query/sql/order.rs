//! The order of what is found, and the place in it where a page begins.

use super::bind::{Bind, Binds};
use super::condition::{date_column, person_column};
use crate::error::Fault;
use crate::models::CustomFieldId;
use crate::query::ast::Name;
use crate::query::error::Span;
use crate::query::fields::{Date, Field, Fields, Part, Person};
use crate::query::lexer;
use time::OffsetDateTime;
use uuid::Uuid;

/// Fields to order by.
pub const KEYS_MAX: usize = 5;

/// One term of an order, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorted {
    /// The field, as in a query.
    pub field: String,
    /// Largest or newest first.
    pub is_descending: bool,
}

/// What is ordered by. Unset values come last in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Number,
    Subject,
    Status,
    Queue,
    Lifecycle,
    Priority,
    Person(Person),
    Date(Date),
    /// Of several values the least.
    Custom(CustomFieldId),
}

/// A term of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    column: Column,
    is_descending: bool,
}

/// The value of a key, as the statement answers it and a cursor carries it; `None` = unset.
pub type KeyValue = Option<String>;

/// An order: its terms, and last the ticket's id, which is the order in which tickets were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// What kind of value a key has.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    Time,
}

/// An order in SQL.
pub(super) struct Shape {
    /// The keys as text, each with a comma before it.
    pub columns: String,
    /// What has to be joined for them.
    pub joins: String,
    /// After ORDER BY.
    pub order_by: String,
    /// `DISTINCT ON (…) `, which takes each ticket once.
    pub distinct: String,
    /// The condition of what comes after a place.
    pub after: Option<String>,
}

impl Keys {
    /// Looks up the fields of an order; none = the newest first.
    ///
    /// # Errors
    /// Faults of `order[0].field` and so on, with what can be ordered by.
    pub fn resolve(terms: &[Sorted], fields: &Fields<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        if terms.len() > KEYS_MAX {
            faults.push(Fault::new(
                "order",
                format!("has {} fields; at most {KEYS_MAX} are allowed", terms.len()),
            ));
        }
        for (at, term) in terms.iter().enumerate() {
            match column(&term.field, fields) {
                Ok(column) if keys.iter().any(|key| key.column == column) => {
                    faults.push(Fault::new(format!("order[{at}].field"), "is ordered by already"));
                }
                Ok(column) => keys.push(Key { column, is_descending: term.is_descending }),
                Err(message) => faults.push(Fault::new(format!("order[{at}].field"), message)),
            }
        }
        if faults.is_empty() { Ok(Self(keys)) } else { Err(faults) }
    }

    /// How many values a place in this order has, the ticket's id not counted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is the order in which tickets were made, newest first.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In SQL, after a place if there is one: its values and its ticket. `None` when the place is not one of this order.
    pub(super) fn shape(&self, after: Option<(&[KeyValue], Uuid)>, binds: &mut Binds) -> Option<Shape> {
        let (mut columns, mut joins, mut order_by) = (String::new(), String::new(), Vec::new());
        let mut expressions = Vec::new();
        for (at, Key { column, is_descending }) in self.0.iter().enumerate() {
            let (join, expression) = column.sql(at, binds);
            joins += &join;
            columns += &match column.kind() {
                Kind::Time => {
                    format!(", (extract(epoch FROM {expression}) * 1000000)::bigint::text AS key{at}")
                }
                _ => format!(", {expression}::text AS key{at}"),
            };
            let direction = if *is_descending { " DESC" } else { "" };
            let nulls = if column.is_nullable() { " NULLS LAST" } else { "" };
            order_by.push(format!("{expression}{direction}{nulls}"));
            expressions.push(expression);
        }
        order_by.push(format!("t.id{}", if self.ends_descending() { " DESC" } else { "" }));
        let on = expressions.iter().map(String::as_str).chain(["t.id"]).collect::<Vec<_>>().join(", ");
        let after = match after {
            None => None,
            Some((values, id)) if values.len() == self.0.len() => {
                Some(self.after(values, id, &expressions, binds)?)
            }
            Some(_) => return None,
        };
        Some(Shape {
            columns,
            joins,
            order_by: order_by.join(", "),
            distinct: format!("DISTINCT ON ({on}) "),
            after,
        })
    }

    fn ends_descending(&self) -> bool {
        self.0.last().is_none_or(|key| key.is_descending)
    }

    /// What comes after a place, from the last key to the first.
    fn after(
        &self,
        values: &[KeyValue],
        id: Uuid,
        expressions: &[String],
        binds: &mut Binds,
    ) -> Option<String> {
        let sign = if self.ends_descending() { "<" } else { ">" };
        let mut condition = format!("t.id {sign} {}", binds.add(Bind::Id(id)));
        for ((key, value), expression) in self.0.iter().zip(values).zip(expressions).rev() {
            condition = match value {
                // Nothing but other unset ones comes after an unset value.
                None => format!("({expression} IS NULL AND {condition})"),
                Some(value) => {
                    let value = binds.add(key.column.read(value)?);
                    let sign = if key.is_descending { "<" } else { ">" };
                    let unset = if key.column.is_nullable() {
                        format!(" OR {expression} IS NULL")
                    } else {
                        String::new()
                    };
                    format!(
                        "({expression} {sign} {value} OR ({expression} = {value} AND {condition}){unset})"
                    )
                }
            };
        }
        Some(condition)
    }
}

fn column(word: &str, fields: &Fields<'_>) -> Result<Column, String> {
    let parts = lexer::name(word).ok_or_else(|| format!("\"{word}\" is not the name of a field"))?;
    let parts = parts.into_iter().map(|part| part.text).collect();
    let (field, name) =
        fields.find(&Name { parts, span: Span::default() }).map_err(|error| error.to_string())?;
    Ok(match field {
        Field::Id => Column::Number,
        Field::Subject => Column::Subject,
        Field::Status => Column::Status,
        Field::Queue => Column::Queue,
        Field::Lifecycle => Column::Lifecycle,
        Field::Priority => Column::Priority,
        Field::Person(person, Part::Whole | Part::Name) => Column::Person(person),
        Field::Date(date) => Column::Date(date),
        Field::Custom(id) => Column::Custom(id),
        _ => {
            return Err(format!(
                "cannot be {name}, of which a ticket may have many; order by id, Subject, Status, Queue, Lifecycle, Priority, Owner, Creator, LastUpdatedBy, a date or a custom field"
            ));
        }
    })
}

impl Column {
    fn is_nullable(self) -> bool {
        match self {
            Self::Number | Self::Subject | Self::Status | Self::Queue | Self::Lifecycle | Self::Priority => {
                false
            }
            Self::Date(date) => !matches!(date, Date::Created | Date::LastUpdated),
            Self::Person(_) | Self::Custom(_) => true,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Number | Self::Priority => Kind::Number,
            Self::Date(_) => Kind::Time,
            _ => Kind::Text,
        }
    }

    /// What to join, and the value. Texts in the order of their bytes.
    fn sql(self, at: usize, binds: &mut Binds) -> (String, String) {
        let k = format!("k{at}");
        let queue = || format!("\nJOIN queues {k}q ON {k}q.id = t.queue_id");
        match self {
            Self::Number => (String::new(), "t.number".to_owned()),
            Self::Priority => (String::new(), "t.priority".to_owned()),
            Self::Subject => (String::new(), "t.subject_folded".to_owned()),
            Self::Status => (String::new(), "t.status COLLATE \"C\"".to_owned()),
            Self::Date(date) => (String::new(), format!("t.{}", date_column(date))),
            Self::Queue => (queue(), format!("lower({k}q.name) COLLATE \"C\"")),
            Self::Lifecycle => {
                let join = format!("{}\nJOIN lifecycles {k} ON {k}.id = {k}q.lifecycle_id", queue());
                (join, format!("lower({k}.name) COLLATE \"C\""))
            }
            Self::Person(person) => {
                let join = format!("\nLEFT JOIN users {k} ON {k}.id = {}", person_column(person, "t"));
                (join, format!("lower({k}.username) COLLATE \"C\""))
            }
            Self::Custom(field) => {
                let field = binds.add(Bind::Id(field.0));
                let join = format!(
                    "\nLEFT JOIN LATERAL (SELECT min(v.value_folded) AS value FROM custom_field_values v WHERE v.ticket_id = t.id AND v.custom_field_id = {field}) {k} ON true"
                );
                (join, format!("{k}.value"))
            }
        }
    }

    /// The value of a cursor; `None` when it is none of ours.
    fn read(self, value: &str) -> Option<Bind> {
        Some(match self.kind() {
            Kind::Text => Bind::Text(value.to_owned()),
            Kind::Number => Bind::Number(value.parse().ok()?),
            Kind::Time => {
                let micros: i128 = value.parse().ok()?;
                Bind::Time(OffsetDateTime::from_unix_timestamp_nanos(micros.checked_mul(1_000)?).ok()?)
            }
        })
    }
}
