//! The values of a statement's parameters.

use std::fmt;
use time::OffsetDateTime;
use uuid::Uuid;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Bind {
    /// `text`
    Text(String),
    /// `text[]`
    Texts(Vec<String>),
    /// `bigint`
    Number(i64),
    /// `bigint[]`
    Numbers(Vec<i64>),
    /// `uuid`
    Id(Uuid),
    /// `uuid[]`
    Ids(Vec<Uuid>),
    /// `timestamptz`
    Time(OffsetDateTime),
}

impl fmt::Display for Bind {
    /// Writes the value as in SQL, without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn array<T: fmt::Display>(
            f: &mut fmt::Formatter<'_>,
            values: impl Iterator<Item = T>,
        ) -> fmt::Result {
            let values: Vec<String> = values.map(|value| value.to_string()).collect();
            write!(f, "{{{}}}", values.join(","))
        }
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Texts(texts) => {
                let escaped = |text: &String| text.replace('\\', "\\\\").replace('"', "\\\"");
                array(f, texts.iter().map(|text| format!("\"{}\"", escaped(text))))
            }
            Self::Number(number) => number.fmt(f),
            Self::Numbers(numbers) => array(f, numbers.iter()),
            Self::Id(id) => id.fmt(f),
            Self::Ids(ids) => array(f, ids.iter()),
            Self::Time(at) => at.fmt(f),
        }
    }
}

/// Values in the order of their parameters.
#[derive(Debug, Default)]
pub(super) struct Binds(Vec<Bind>);

impl Binds {
    /// Adds a value and returns the parameter for the statement.
    pub(super) fn add(&mut self, bind: Bind) -> String {
        let cast = match &bind {
            Bind::Text(_) => "text",
            Bind::Texts(_) => "text[]",
            Bind::Number(_) => "bigint",
            Bind::Numbers(_) => "bigint[]",
            Bind::Id(_) => "uuid",
            Bind::Ids(_) => "uuid[]",
            Bind::Time(_) => "timestamptz",
        };
        self.0.push(bind);
        format!("${}::{cast}", self.0.len())
    }

    /// `= $1`, or `= ANY ($1)` for several values.
    fn among<T>(&mut self, values: Vec<T>, one: fn(T) -> Bind, many: fn(Vec<T>) -> Bind) -> String {
        match <[T; 1]>::try_from(values) {
            Ok([only]) => format!("= {}", self.add(one(only))),
            Err(values) => format!("= ANY ({})", self.add(many(values))),
        }
    }

    /// `= $1`, or `= ANY ($1)` for several ids.
    pub(super) fn among_ids(&mut self, ids: Vec<Uuid>) -> String {
        self.among(ids, Bind::Id, Bind::Ids)
    }

    /// The same for texts.
    pub(super) fn among_texts(&mut self, texts: &[String]) -> String {
        self.among(texts.to_vec(), Bind::Text, Bind::Texts)
    }

    /// The same for numbers.
    pub(super) fn among_numbers(&mut self, numbers: &[i64]) -> String {
        self.among(numbers.to_vec(), Bind::Number, Bind::Numbers)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes all values after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn into_values(self) -> Vec<Bind> {
        self.0
    }
}
