//! Templates: texts with placeholders for values, validated when saved, and rendered within counted limits.
//!
//! A text is split into tokens (`lex`), checked and rewritten (`scan`, `expression`), and only then passed to Tera. The engine
//! therefore receives only what is supported here, and errors refer to the text that the user typed.

mod aliases;
mod expression;
mod filters;
mod html;
mod lex;
mod mail;
mod scan;
#[cfg(test)]
mod tests;
mod variables;

pub use aliases::{ALIASES, Alias};
pub use filters::{FILTERS, FUNCTIONS, Offered, TESTS};
pub use mail::{HEADERS_MAX, Rendered, Template};
pub use variables::{VARIABLES, Variable, VariableKind};

use crate::error::Fault;
use scan::{Facts, Positions};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::LazyLock;
use tera::{Context, ErrorKind, Tera};

/// The longest source of one text, in bytes.
pub const SOURCE_MAX: usize = 64 * 1024;
/// The longest rendered text, in bytes.
pub const OUTPUT_MAX: usize = 256 * 1024;
/// The longest rendered line (a subject, a header), in bytes.
pub const LINE_MAX: usize = 2_000;
/// The deepest nesting of loops.
pub const LOOPS_MAX: usize = 2;
/// The most blocks and branches open at once.
pub const BLOCKS_MAX: usize = 32;
/// The most brackets open at once.
pub const BRACKETS_MAX: usize = 16;
/// The most items of a loop or a `range`.
pub const LIST_MAX: usize = 200;
/// The longest text that a filter returns, in bytes.
pub const FILTERED_MAX: usize = 2 * 1024 * 1024;
/// The most steps of one rendering: tokens executed in loops, and quarter kilobytes read by filters.
pub const STEPS_MAX: u64 = 1_000_000;
/// The most errors reported for one text.
pub const FAULTS_MAX: usize = 20;

/// The kind of a text, which determines how values are escaped in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Plain text: values as they are.
    Text,
    /// HTML: values are escaped.
    Html,
    /// JSON: inside a string a value is escaped; elsewhere it is printed as a JSON literal, texts with quotes. The result must
    /// be valid JSON, or blank.
    Json,
    /// Path or query of a URL: values are percent-encoded, `/` too.
    UrlPart,
    /// A subject or header: values as they are. The result must be one line without control characters.
    Line,
}

impl Mode {
    fn is_one_line(self) -> bool {
        matches!(self, Self::UrlPart | Self::Line)
    }
}

/// A position in a text, from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

/// An error while rendering a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", field_prefix(.field), place_suffix(*.line, *.column))]
pub struct Failure {
    /// The text of the template: `subject_template`, `body_template` or `headers.NAME`; empty for a single text.
    pub field: String,
    /// The error.
    pub message: String,
    /// The line in the source, from 1; `None` if the error concerns the whole text.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

fn place_suffix(line: Option<usize>, column: Option<usize>) -> String {
    line.zip(column).map_or_else(String::new, |(line, column)| format!(" (line {line}, column {column})"))
}

/// A validated text, ready to render on any thread.
#[derive(Debug)]
pub struct Compiled {
    mode: Mode,
    source: String,
    facts: Facts,
    positions: Positions,
    tera: Box<Tera>,
}

impl Compiled {
    /// Validates and compiles a text. The caller adds the field to the faults.
    ///
    /// # Errors
    /// All faults, at most [`FAULTS_MAX`], in the order of the text: syntax errors, unknown names, unsupported constructs,
    /// exceeded limits.
    pub fn compile(source: &str, mode: Mode) -> Result<Self, Vec<Fault>> {
        if source.len() > SOURCE_MAX {
            let message =
                format!("is {} bytes long; at most {SOURCE_MAX} are allowed (SOURCE_MAX)", source.len());
            return Err(vec![Fault::new("", message)]);
        }
        let fault = |(byte, message): (usize, String)| {
            let place = lex::place(source, byte);
            Fault::new("", message).at(place.line, place.column)
        };
        let scanned = scan::scan(source, mode)
            .map_err(|troubles| troubles.into_iter().map(fault).collect::<Vec<_>>())?;
        let mut tera = Box::new(engine(mode).clone());
        if let Err(error) = tera.add_raw_template(TEXT_NAME, &scanned.tera) {
            let (byte, message) = told(&error, &scanned.positions);
            return Err(vec![match byte {
                Some(byte) => fault((byte, message)),
                None => Fault::new("", message),
            }]);
        }
        let source = source.to_owned();
        Ok(Self { mode, source, facts: scanned.facts, positions: scanned.positions, tera })
    }

    /// Renders the text. The same variables always give the same result.
    ///
    /// # Errors
    /// An undefined value, an exceeded limit, U+0000, or a result that the mode does not allow.
    pub fn render(&self, variables: &Context) -> Result<String, Failure> {
        let mut output = Output::default();
        let outcome = filters::with_all_steps(|| self.tera.render_to(TEXT_NAME, variables, &mut output));
        if output.overflowed {
            return Err(failure(format!("renders more than {OUTPUT_MAX} bytes (OUTPUT_MAX)")));
        }
        outcome.map_err(|error| self.failure(&error))?;
        let text =
            String::from_utf8(output.bytes).map_err(|_| failure("renders invalid UTF-8".to_owned()))?;
        match self.mode.refuses(&text) {
            Some(reason) => Err(failure(reason)),
            None => Ok(text),
        }
    }

    /// Returns the names of the custom fields that it uses.
    pub fn custom_fields(&self) -> &BTreeSet<String> {
        &self.facts.custom_fields
    }

    /// Whether it uses `messages`, which must then be loaded.
    pub fn uses_messages(&self) -> bool {
        self.uses("messages")
    }

    /// Whether it may use a value that differs between a preview and the same change later (`create`: of a new ticket). When in
    /// doubt it returns `true`, which costs a second rendering for the plan's hash but never gives a wrong hash.
    pub fn is_volatile(&self, create: bool) -> bool {
        const ALWAYS: [&str; 9] = [
            "now",
            "transaction.id",
            "transaction.created_at",
            "batch",
            "messages",
            "ticket.updated_at",
            "ticket.started_at",
            "ticket.resolved_at",
            "ticket.told_at",
        ];
        const OF_A_NEW_TICKET: [&str; 4] = ["ticket.id", "ticket.number", "ticket.url", "ticket.created_at"];
        ALWAYS.iter().any(|path| self.uses(path))
            || (create && OF_A_NEW_TICKET.iter().any(|path| self.uses(path)))
    }

    /// Whether it uses this path, a part of it, or a variable that contains it.
    fn uses(&self, path: &str) -> bool {
        let within =
            |whole: &str, part: &str| part.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.'));
        self.facts.paths.iter().any(|used| used == path || within(used, path) || within(path, used))
    }

    fn failure(&self, error: &tera::Error) -> Failure {
        let (byte, message) = told(error, &self.positions);
        let place = byte.map(|byte| lex::place(&self.source, byte));
        Failure {
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            ..failure(message)
        }
    }
}

impl Mode {
    /// Returns the reason to reject a rendered text, if there is one.
    fn refuses(self, text: &str) -> Option<String> {
        if text.contains('\0') {
            return Some("renders the character U+0000, which cannot be stored".to_owned());
        }
        if self.is_one_line() && text.chars().any(char::is_control) {
            return Some("renders a line break or another control character; it must be one line".to_owned());
        }
        if self == Self::Line && text.len() > LINE_MAX {
            return Some(format!("renders {} bytes; a line has at most {LINE_MAX} (LINE_MAX)", text.len()));
        }
        if self == Self::Json && !text.trim().is_empty() {
            let checked = serde_json::from_str::<serde::de::IgnoredAny>(text);
            return checked.err().map(|reason| format!("renders invalid JSON: {reason}"));
        }
        None
    }
}

/// Ends in `.html`, which enables the engine's escaping.
const TEXT_NAME: &str = "text.html";

/// The engine without templates. Each text gets its own copy, so that no template can include another.
fn engine(mode: Mode) -> &'static Tera {
    fn made(with: fn(&mut Tera)) -> Tera {
        let mut tera = Tera::new();
        filters::register(&mut tera);
        with(&mut tera);
        tera
    }
    static PLAIN: LazyLock<Tera> = LazyLock::new(|| made(|tera| tera.set_escape_fn(write_plain)));
    static HTML: LazyLock<Tera> = LazyLock::new(|| made(html::register));
    static URL: LazyLock<Tera> = LazyLock::new(|| made(|tera| tera.set_escape_fn(write_percent)));
    static JSON: LazyLock<Tera> = LazyLock::new(|| {
        made(|tera| {
            tera.set_escape_fn(write_plain);
            filters::register_for_json(tera);
        })
    });
    match mode {
        Mode::Text | Mode::Line => &PLAIN,
        Mode::Html => &HTML,
        Mode::UrlPart => &URL,
        Mode::Json => &JSON,
    }
}

fn write_plain(text: &str, output: &mut dyn Write) -> io::Result<()> {
    output.write_all(text.as_bytes())
}

fn write_percent(text: &str, output: &mut dyn Write) -> io::Result<()> {
    output.write_all(filters::percent(text).as_bytes())
}

/// The output so far. A write beyond [`OUTPUT_MAX`] fails, which ends the rendering.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Write for Output {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > OUTPUT_MAX {
            self.overflowed = true;
            return Err(io::Error::other("OUTPUT_MAX"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure(message: String) -> Failure {
    Failure { field: String::new(), message, line: None, column: None }
}

/// Converts an error of the engine to a byte of the source and a message.
fn told(error: &tera::Error, positions: &Positions) -> (Option<usize>, String) {
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            let message = report.message().replace('`', "\"");
            (Some(positions.typed(report.span().range.start)), message)
        }
        _ => (None, error.to_string()),
    }
}
