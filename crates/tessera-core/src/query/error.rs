//! Errors in a query: the position, the reason, and a hint.

use crate::error::{Code, Error, Fault, Place};
use crate::models::text::nearest;
use std::fmt;

/// A part of the text of a query, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// Returns the span from `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns the span from the start of this one to the end of the other.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end.max(self.start) }
    }

    /// Returns the position in the text in characters, lines and columns.
    pub fn place(self, text: &str) -> Place {
        let before = text.get(..self.start).unwrap_or(text);
        let within = text.get(self.start..self.end).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let start = before.chars().count();
        Place {
            start,
            end: start + within.chars().count(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// The reason why a query is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The part of the query that is wrong.
    pub span: Span,
    /// The message, without a full stop.
    pub message: String,
    /// A suggestion.
    pub hint: Option<String>,
}

/// The result of a stage of the compiler.
pub type Result<T> = std::result::Result<T, QueryError>;

impl QueryError {
    /// Returns an error without a hint.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error of a search: `400 invalid_query` with the position.
    pub fn into_error(self, text: &str) -> Error {
        let Self { span, message, hint } = self;
        Error::new(Code::InvalidQuery, message).with_place(span.place(text), hint)
    }

    /// Returns the fault of a field that contains a query.
    pub fn into_fault(self, field: impl Into<String>, text: &str) -> Fault {
        let place = self.span.place(text);
        let span = Some((place.start, place.end));
        let hint = self.hint.map(String::into_boxed_str);
        Fault { span, hint, ..Fault::new(field, self.message).at(place.line, place.column) }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The known name that was probably meant: "did you mean `Status`?".
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|name| format!("did you mean `{name}`?"))
}
