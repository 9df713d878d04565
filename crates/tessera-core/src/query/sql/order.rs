//! The order of the results, and the position in it at which a page begins.

use super::bind::{Bind, Binds};
use super::columns::{date_column, is_number, person_column};
use crate::error::Fault;
use crate::models::CustomFieldId;
use crate::models::text::between_commas;
use crate::query::Dialect;
use crate::query::ast::Name;
use crate::query::fields::{Date, Field, Fields, Part, Person};
use crate::query::text::{FRACTION_DIGITS_MAX, WHOLE_DIGITS_MAX};
use time::OffsetDateTime;
use uuid::Uuid;

/// The maximum number of fields in an order.
pub const KEYS_MAX: usize = 5;
/// The longest name of a field in an order, in bytes of UTF-8.
const FIELD_MAX: usize = 4_096;

/// One term of an order, as in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorted {
    /// The field, as in a query.
    pub field: String,
    /// True for largest or newest first.
    pub is_descending: bool,
}

impl Sorted {
    /// Parses an order in one line, such as `-LastUpdated,id`: fields separated by commas, `-` for descending. As in RT, `+` may
    /// stand for ascending.
    pub fn list(text: &str) -> Vec<Self> {
        let term = |word: String| match word.strip_prefix('-') {
            Some(field) => Self { field: field.to_owned(), is_descending: true },
            None => Self { field: word.strip_prefix('+').unwrap_or(&word).to_owned(), is_descending: false },
        };
        between_commas(text).into_iter().map(term).collect()
    }
}

/// A column to order by.
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
    /// The least of several values; numbers by their size, and before other texts.
    Custom(CustomFieldId),
}

/// A term of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    column: Column,
    is_descending: bool,
    /// Unset values come last in both directions; in RT, they are less than all others.
    is_unset_first: bool,
}

impl Key {
    /// The direction and the place of unset values, for ORDER BY.
    fn direction(self) -> &'static str {
        match (self.column.is_nullable(), self.is_descending, self.is_unset_first) {
            (false, false, _) => "",
            (false, true, _) => " DESC",
            (true, false, false) => " NULLS LAST",
            (true, true, false) => " DESC NULLS LAST",
            (true, false, true) => " NULLS FIRST",
            (true, true, true) => " DESC NULLS FIRST",
        }
    }
}

/// The value of a key in a cursor; `None` = unset.
pub type KeyValue = Option<String>;

/// An order: its terms, and then the id of the ticket, which is the order of creation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// The type of a key's values in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `text`
    Text,
    /// `bigint`
    Number,
    /// `timestamptz`; a [`KeyValue`] has microseconds since 1970.
    Time,
}

/// The parts of a statement that an order determines.
pub(super) struct Shape {
    /// True for the default order, newest first.
    pub is_newest_first: bool,
    /// The keys, each with a comma before it.
    pub columns: String,
    /// The joins that they need.
    pub joins: String,
    /// The keys, over tickets `t` and the joined tables.
    expressions: Vec<String>,
    /// ORDER BY, over tickets `t`.
    pub order: String,
    /// ORDER BY, over the columns.
    pub outer_order: String,
    /// `DISTINCT ON (…) `, which takes each ticket once, over tickets `t`.
    pub distinct: String,
    /// The same over the columns.
    pub outer_distinct: String,
    /// The condition for tickets after a position.
    pub after: Option<String>,
    /// Its comparison with the id, if it consists of nothing else.
    pub after_id: Option<String>,
}

impl Shape {
    /// Each ticket once, in no order.
    pub(super) fn unordered() -> Self {
        Self {
            is_newest_first: true,
            columns: String::new(),
            joins: String::new(),
            expressions: Vec::new(),
            order: String::new(),
            outer_order: String::new(),
            distinct: "DISTINCT ".to_owned(),
            outer_distinct: "DISTINCT ".to_owned(),
            after: None,
            after_id: None,
        }
    }
}

impl Keys {
    /// Looks up the fields of an order; no terms = newest first. The dialect decides where unset values come.
    ///
    /// # Errors
    /// Faults of `order[0].field` and so on, with the possible fields.
    pub fn resolve(terms: &[Sorted], fields: &Fields<'_>, dialect: Dialect) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        if terms.len() > KEYS_MAX {
            let message = format!("has {} fields; at most {KEYS_MAX} are allowed", terms.len());
            return Err(vec![Fault::new("order", message)]);
        }
        for (at, term) in terms.iter().enumerate() {
            match column(&term.field, fields) {
                Ok(column) if keys.iter().any(|key| key.column == column) => {
                    faults.push(Fault::new(
                        format!("order[{at}].field"),
                        "occurs twice in the order; remove one",
                    ));
                }
                Ok(column) => {
                    let is_descending = term.is_descending;
                    let is_unset_first = dialect == Dialect::Rt && !is_descending;
                    keys.push(Key { column, is_descending, is_unset_first });
                }
                Err(message) => faults.push(Fault::new(format!("order[{at}].field"), message)),
            }
        }
        if faults.is_empty() { Ok(Self(keys)) } else { Err(faults) }
    }

    /// Returns true for the default order, newest first.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the types of its keys.
    pub fn kinds(&self) -> impl Iterator<Item = KeyKind> {
        self.0.iter().map(|key| key.column.kind())
    }

    /// The order in SQL, from the first ticket on.
    pub(super) fn shape(&self, binds: &mut Binds) -> Shape {
        let (mut columns, mut joins) = (String::new(), String::new());
        let (mut order, mut outer_order, mut expressions) = (Vec::new(), Vec::new(), Vec::new());
        for (at, key) in self.0.iter().enumerate() {
            let (column, direction) = (key.column, key.direction());
            let (join, expression) = column.sql(at, binds);
            joins += &join;
            let cast = if column.kind() == KeyKind::Number { "::bigint" } else { "" };
            columns += &format!(", {expression}{cast} AS key{at}");
            order.push(format!("{expression}{direction}"));
            outer_order.push(format!("key{at}{direction}"));
            expressions.push(expression);
        }
        let last = if self.ends_descending() { " DESC" } else { "" };
        order.push(format!("t.id{last}"));
        outer_order.push(format!("id{last}"));
        let on = expressions.iter().map(String::as_str).chain(["t.id"]).collect::<Vec<_>>().join(", ");
        let outer_on: Vec<String> = (0..self.0.len()).map(|at| format!("key{at}, ")).collect();
        Shape {
            is_newest_first: self.is_empty(),
            columns,
            joins,
            expressions,
            order: format!("\nORDER BY {}", order.join(", ")),
            outer_order: format!("\nORDER BY {}", outer_order.join(", ")),
            distinct: format!("DISTINCT ON ({on}) "),
            outer_distinct: format!("DISTINCT ON ({}id) ", outer_on.concat()),
            after: None,
            after_id: None,
        }
    }

    /// The order in SQL after a position, which is the keys and the id of a ticket. `None` if they do not fit this order.
    pub(super) fn shape_after(&self, values: &[KeyValue], id: Uuid, binds: &mut Binds) -> Option<Shape> {
        let mut shape = self.shape(binds);
        if values.len() != self.0.len() {
            return None;
        }
        let sign = if self.ends_descending() { "<" } else { ">" };
        let after_id = format!("{sign} {}", binds.add(Bind::Id(id)));
        shape.after = Some(self.after(values, format!("t.id {after_id}"), &shape.expressions, binds)?);
        shape.after_id = shape.is_newest_first.then_some(after_id);
        Some(shape)
    }

    fn ends_descending(&self) -> bool {
        self.0.last().is_none_or(|key| key.is_descending)
    }

    /// The condition for tickets after a position, built from the last key to the first.
    fn after(
        &self,
        values: &[KeyValue],
        id: String,
        expressions: &[String],
        binds: &mut Binds,
    ) -> Option<String> {
        let mut condition = id;
        for ((key, value), expression) in self.0.iter().zip(values).zip(expressions).rev() {
            condition = match value {
                None if key.is_unset_first => {
                    format!("({expression} IS NOT NULL OR ({expression} IS NULL AND {condition}))")
                }
                // After an unset value come only other unset values.
                None => format!("({expression} IS NULL AND {condition})"),
                Some(value) => {
                    let value = binds.add(key.column.read(value)?);
                    let sign = if key.is_descending { "<" } else { ">" };
                    let unset = if key.column.is_nullable() && !key.is_unset_first {
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
    if word.len() > FIELD_MAX {
        return Err(format!("is {} bytes long; the name of a field has at most {FIELD_MAX}", word.len()));
    }
    let name = Name::parse(word).ok_or_else(|| format!("\"{word}\" is not the name of a field"))?;
    let (field, name) = fields.find(&name).map_err(|error| error.to_string())?;
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
                "cannot be {name}, because a ticket can have several; order by id, Subject, Status, Queue, Lifecycle, Priority, Owner, Creator, LastUpdatedBy, a date or a custom field"
            ));
        }
    })
}

/// A text whose byte order is the order of values: `0`, the number in as many digits as any, and the text, or `1` and the text.
/// A number is raised so far that none is negative, and counted in its last decimal.
fn sortable(text: &str) -> String {
    let (whole, fraction) = (WHOLE_DIGITS_MAX, FRACTION_DIGITS_MAX);
    let digits = whole + fraction + 1;
    format!(
        "CASE WHEN {} THEN '0' || lpad((({text}::numeric + 1e{whole}) * 1e{fraction})::numeric({digits}, 0)::text, {digits}, '0') || {text} ELSE '1' || {text} END COLLATE \"C\"",
        is_number(text)
    )
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

    fn kind(self) -> KeyKind {
        match self {
            Self::Number | Self::Priority => KeyKind::Number,
            Self::Date(_) => KeyKind::Time,
            _ => KeyKind::Text,
        }
    }

    /// The joins, and the value. Texts are in byte order.
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
                let value = sortable("v.value_folded");
                let join = format!(
                    "\nLEFT JOIN LATERAL (SELECT min({value}) AS value FROM custom_field_values v WHERE v.ticket_id = t.id AND v.custom_field_id = {field}) {k} ON true"
                );
                (join, format!("{k}.value"))
            }
        }
    }

    /// Reads a value of a cursor; `None` if it is malformed.
    fn read(self, value: &str) -> Option<Bind> {
        Some(match self.kind() {
            KeyKind::Text => Bind::Text(value.to_owned()),
            KeyKind::Number => Bind::Number(value.parse().ok()?),
            KeyKind::Time => {
                let micros: i128 = value.parse().ok()?;
                Bind::Time(OffsetDateTime::from_unix_timestamp_nanos(micros.checked_mul(1_000)?).ok()?)
            }
        })
    }
}
