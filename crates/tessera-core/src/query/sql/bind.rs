//! Values of parameters.

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
    /// As the value is written in SQL between quotes.
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
    /// Adds a value; answers how the statement names it.
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

    /// `= $1`, or `= ANY ($1)` of several.
    pub(super) fn among_ids(&mut self, mut ids: Vec<Uuid>) -> String {
        match (ids.len(), ids.pop()) {
            (1, Some(only)) => format!("= {}", self.add(Bind::Id(only))),
            (_, last) => {
                ids.extend(last);
                format!("= ANY ({})", self.add(Bind::Ids(ids)))
            }
        }
    }

    /// The same of texts.
    pub(super) fn among_texts(&mut self, texts: &[String]) -> String {
        match texts {
            [only] => format!("= {}", self.add(Bind::Text(only.clone()))),
            many => format!("= ANY ({})", self.add(Bind::Texts(many.to_vec()))),
        }
    }

    /// The same of numbers.
    pub(super) fn among_numbers(&mut self, numbers: &[i64]) -> String {
        match numbers {
            [only] => format!("= {}", self.add(Bind::Number(*only))),
            many => format!("= ANY ({})", self.add(Bind::Numbers(many.to_vec()))),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets those after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn into_values(self) -> Vec<Bind> {
        self.0
    }
}
