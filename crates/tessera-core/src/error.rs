//! The one error of the core: what went wrong, where in the input, and what would be allowed; no transport's words.

use std::fmt;

/// What the core answers where it can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Faults told of one request.
pub const FAULTS_MAX: usize = 200;

/// The class of an error; the edges (HTTP, gRPC, command line) translate it with a total match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input cannot be read at all.
    Malformed,
    /// The input can be read and says something that cannot be.
    Invalid,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The state of things does not allow it.
    Conflict,
    /// What the caller said must hold does not hold (If-Match).
    Precondition,
    /// The input is larger than a named limit.
    TooLarge,
    /// Not now: a queue is full, a lock or a deadline was missed. The same request may be sent again.
    Busy,
    /// The database cannot be reached.
    Unavailable,
    /// A fault of ours, or of the disk; the source says more, and never reaches a client.
    Internal,
}

/// One thing wrong with the input: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The field, as a path: `custom_fields.Severity`, `definition.transitions.open`.
    pub field: String,
    /// What is wrong and what would be right.
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
    /// What to write instead, where that is more than the message says.
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
    kind: Kind,
    code: &'static str,
    detail: String,
    faults: Vec<Fault>,
    allowed: Option<Vec<String>>,
    place: Option<(Place, Option<String>)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a stable code (`docs/api.md` lists them) and a sentence for a person.
    pub fn new(kind: Kind, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code,
            detail: detail.into(),
            faults: Vec::new(),
            allowed: None,
            place: None,
            source: None,
        }))
    }

    /// Input that can be read and cannot be right: `422 invalid` with its faults.
    ///
    /// Of more than [`FAULTS_MAX`] the first are told, and how many there are.
    pub fn invalid(mut faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [one] => one.to_string(),
            many => format!("{} things in this request cannot be right; see errors", many.len()),
        };
        faults.truncate(FAULTS_MAX);
        let mut error = Self::new(Kind::Invalid, "invalid", detail);
        error.0.faults = faults;
        error
    }

    /// The same, with one fault.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![Fault::new(field, message)])
    }

    /// There is no `what` of that name.
    pub fn not_found(what: &str, name: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, "not_found", format!("There is no {what} {name}."))
    }

    /// A fault of ours, with its cause.
    pub fn internal(
        detail: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Kind::Internal, "internal", detail).with_source(source)
    }

    /// With its cause, which is logged and never answered.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// With what would be allowed instead.
    pub fn with_allowed(mut self, allowed: Vec<String>) -> Self {
        self.0.allowed = Some(allowed);
        self
    }

    /// With the part of a query at fault, and what to write instead.
    pub fn with_place(mut self, place: Place, hint: Option<String>) -> Self {
        self.0.place = Some((place, hint));
        self
    }

    /// With the places in the input that are at fault.
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.0.faults = faults;
        self
    }

    /// The class.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The sentence for a person.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What is wrong where.
    pub fn faults(&self) -> &[Fault] {
        &self.0.faults
    }

    /// The part of a query at fault, and what to write instead.
    pub fn place(&self) -> Option<(Place, Option<&str>)> {
        self.0.place.as_ref().map(|(place, hint)| (*place, hint.as_deref()))
    }

    /// What would be allowed.
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
