//! The one error of the core: what went wrong, where in the input, and what is allowed instead; independent of the transport.

mod code;

pub use code::{Code, Explanation};

use std::fmt;

/// A result of the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Faults reported for one request at most.
pub const FAULTS_MAX: usize = 200;

/// The class of an error. The edges (HTTP, gRPC, command line) map it to their own status with a total match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input cannot be parsed.
    Malformed,
    /// The input can be parsed, but has invalid values.
    Invalid,
    /// The caller is unknown.
    Unauthenticated,
    /// The caller lacks a right.
    Forbidden,
    /// The object does not exist.
    NotFound,
    /// The current state does not allow the request.
    Conflict,
    /// A precondition of the caller (`If-Match`) does not hold.
    Precondition,
    /// The input exceeds a named limit.
    TooLarge,
    /// A queue is full, or a lock or a deadline was missed. The same request can be retried.
    Busy,
    /// The database cannot be reached. The same request can be retried.
    Unavailable,
    /// A bug, or a failure of the disk; the source has the details and never reaches a client.
    Internal,
}

/// One thing wrong with the input: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The field, as a path: `custom_fields.Severity`, `definition.transitions.open`.
    pub field: String,
    /// The reason, and the valid alternatives.
    pub message: String,
    /// Line in a template or text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The part of the text at fault, in characters: its first, and the one after its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<(usize, usize)>,
    /// A replacement, if it says more than the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// A part of a text, as people count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first character, from 0.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
    /// The line of its first character, from 1.
    pub line: usize,
    /// The column of its first character, from 1.
    pub column: usize,
}

impl Fault {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        Self { field, message, line: None, column: None, span: None, hint: None }
    }

    /// The same fault, at a place in the text of the field (both from 1).
    pub fn at(mut self, line: usize, column: usize) -> Self {
        (self.line, self.column) = (Some(line), Some(column));
        self
    }
}

/// An error of the core.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    detail: String,
    faults: Vec<Fault>,
    allowed: Option<Vec<String>>,
    place: Option<(Place, Option<String>)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error with a sentence for a person: what is wrong, where, and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            allowed: None,
            place: None,
            source: None,
        }))
    }

    /// Creates a [`Code::Invalid`] with its faults: the first [`FAULTS_MAX`] of them, and the number of all.
    pub fn invalid(mut faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [one] => one.to_string(),
            many => format!("The request has {} invalid values; see errors.", many.len()),
        };
        faults.truncate(FAULTS_MAX);
        let mut error = Self::new(Code::Invalid, detail);
        error.0.faults = faults;
        error
    }

    /// Creates a [`Code::Invalid`] with one fault.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![Fault::new(field, message)])
    }

    /// Creates a [`Code::NotFound`] for an object of the type `what`.
    pub fn not_found(what: &str, name: impl fmt::Display) -> Self {
        // A path can be as long as a request's head, and anybody may ask for it.
        const SHOWN: usize = 200;
        let name = name.to_string();
        let shown = name.char_indices().nth(SHOWN).and_then(|(end, _)| name.get(..end));
        let name = shown.map_or(name.clone(), |shown| format!("{shown}..."));
        let mut detail = format!("{what} {name} does not exist.");
        if let Some(first) = detail.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self::new(Code::NotFound, detail)
    }

    /// Creates a [`Code::Internal`] with its cause.
    pub fn internal(
        detail: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Code::Internal, detail).with_source(source)
    }

    /// Adds the cause, which is logged and never sent to a client.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the values that are allowed instead.
    pub fn with_allowed(mut self, allowed: Vec<String>) -> Self {
        self.0.allowed = Some(allowed);
        self
    }

    /// Adds the part of a query at fault, and what to write instead.
    pub fn with_place(mut self, place: Place, hint: Option<String>) -> Self {
        self.0.place = Some((place, hint));
        self
    }

    /// Adds the faults of single fields.
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.0.faults = faults;
        self
    }

    /// The class of [`code`](Self::code).
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// The stable code, for programs.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for a person.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The faults of single fields.
    pub fn faults(&self) -> &[Fault] {
        &self.0.faults
    }

    /// The part of a query at fault, and what to write instead.
    pub fn place(&self) -> Option<(Place, Option<&str>)> {
        self.0.place.as_ref().map(|(place, hint)| (*place, hint.as_deref()))
    }

    /// The values that are allowed instead.
    pub fn allowed(&self) -> Option<&[String]> {
        self.0.allowed.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
