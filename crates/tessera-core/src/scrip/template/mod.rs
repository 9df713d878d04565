//! Templates: texts with placeholders for values, validated when saved, and rendered within counted limits.
//!
//! A text is split into tokens (`lex`), checked and rewritten (`scan`, `expression`), and only then passed to Tera. The engine
//! therefore receives only what is supported here, and errors refer to the text that the user typed.

mod aliases;
mod braces;
mod costs;
mod expression;
mod filters;
mod html;
mod json;
mod lex;
mod mail;
mod operators;
mod scan;
#[cfg(test)]
mod tests;
mod variables;

pub use aliases::{ALIASES, Alias, is_field};
pub use costs::within;
pub use filters::{FILTERS, FUNCTIONS, Offered, TESTS};
pub use mail::{HEADERS_MAX, Rendered, Template};
pub use variables::{NEW_NUMBER, VARIABLES, Variable, VariableKind};

use super::mention::is_template;
use crate::error::Fault;
use scan::{Facts, Positions};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::LazyLock;
use tera::{Context, ErrorKind, Tera};

/// The longest source of one text, in bytes.
pub const SOURCE_MAX: usize = 64 * 1024;
/// The longest rendered text, in bytes: that of a message of 1 MiB, and what a template adds to it.
pub const OUTPUT_MAX: usize = 1536 * 1024;
/// The longest rendered line (a subject, a header), in bytes.
pub const LINE_MAX: usize = 2_000;
/// The deepest nesting of loops.
pub const LOOPS_MAX: usize = 2;
/// The most blocks and branches open at once.
pub const BLOCKS_MAX: usize = 32;
/// The deepest nesting of an expression: brackets, arguments, and right sides of operators. Tera's own limit is 40.
pub const DEPTH_MAX: usize = 32;
/// The most values, parts, operators and filters of one expression. Tera's own limit is 256.
pub const PARTS_MAX: usize = 200;
/// The most names that a text, or one of its loops, sets.
pub const NAMES_MAX: usize = 200;
/// The most items of a loop, a `range` or a list literal.
pub const LIST_MAX: usize = 200;
/// The longest text that a filter returns, in bytes: `quote` writes three for each line break of a message of 1 MiB.
pub const FILTERED_MAX: usize = 4 * 1024 * 1024;
/// The most steps of one rendering: tokens executed in loops, and what filters and tests read ([`crate::models::steps`]).
pub const STEPS_MAX: u64 = 1_000_000;
/// The stack on which Tera compiles a text, in bytes. It recurses for each block, part and operator; unoptimized, the largest text
/// that the limits above allow takes about 5 MiB.
const COMPILE_STACK: usize = 16 * 1024 * 1024;
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
    /// A form (`application/x-www-form-urlencoded`): values are percent-encoded.
    Form,
    /// XML: values are escaped for text and attributes.
    Xml,
    /// A subject or header: values as they are. Line breaks and other control characters in the result become blanks.
    Line,
}

impl Mode {
    /// The number of modes.
    const COUNT: usize = Self::Line as usize + 1;

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
        if mode == Mode::Json
            && let Some(trouble) = json::trouble(source)
        {
            return Err(vec![fault(trouble)]);
        }
        let mut tera = Box::new(engine(mode).clone());
        let added = on_large_stack(|| tera.add_raw_template(TEXT_NAME, &scanned.tera));
        let added =
            added.map_err(|error| vec![Fault::new("", format!("cannot be compiled now: {error}"))])?;
        if let Err(error) = added {
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
        let (text, is_whole) = self.rendered(variables)?;
        if !is_whole {
            return Err(failure(format!("renders more than {OUTPUT_MAX} bytes (OUTPUT_MAX)")));
        }
        if self.mode == Mode::Line && text.len() > LINE_MAX {
            let length = text.len();
            return Err(failure(format!("renders {length} bytes; a line has at most {LINE_MAX} (LINE_MAX)")));
        }
        Ok(text)
    }

    /// As [`Self::render`], for texts that are sent in part rather than not at all: cut at [`OUTPUT_MAX`], with `mark` at the end;
    /// a line at [`LINE_MAX`], with "...".
    ///
    /// # Errors
    /// Those of [`Self::render`], except for the length.
    pub fn render_cut(&self, variables: &Context, mark: &str) -> Result<String, Failure> {
        let (text, is_whole) = self.rendered(variables)?;
        Ok(match self.mode {
            Mode::Line if text.len() > LINE_MAX => cut(&text, LINE_MAX, "..."),
            _ if is_whole => text,
            Mode::Html => {
                let mark = format!("<p>{}</p>", escaped(mark));
                let room = text.floor_char_boundary(OUTPUT_MAX.saturating_sub(mark.len()));
                outside_tag(text.get(..room).unwrap_or("")).to_owned() + &mark
            }
            _ => cut(&text, OUTPUT_MAX, &format!("\n\n{mark}\n")),
        })
    }

    /// Renders the text up to [`OUTPUT_MAX`], and returns whether that is all of it.
    fn rendered(&self, variables: &Context) -> Result<(String, bool), Failure> {
        let mut output = Output::default();
        let outcome = costs::counted(&self.source, || self.tera.render_to(TEXT_NAME, variables, &mut output));
        if !output.overflowed {
            outcome.map_err(|error| self.failure(&error))?;
        }
        let text = match String::from_utf8(output.bytes) {
            Ok(text) => text,
            Err(error) if output.overflowed => {
                let whole = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(whole);
                String::from_utf8(bytes).unwrap_or_default()
            }
            Err(_) => return Err(failure("renders invalid UTF-8".to_owned())),
        };
        let text = if self.mode == Mode::Line { one_line(&text) } else { text };
        match self.mode.refuses(&text) {
            Some(reason) if !output.overflowed || self.mode != Mode::Json => Err(failure(reason)),
            _ => Ok((text, !output.overflowed)),
        }
    }

    /// Returns the trimmed text if it contains no template syntax, so that it is known before it is rendered.
    pub fn literal(&self) -> Option<&str> {
        (!is_template(&self.source)).then(|| self.source.trim())
    }

    /// Returns the text as it was written.
    pub fn source(&self) -> &str {
        &self.source
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
        if self == Self::UrlPart && text.chars().any(char::is_control) {
            return Some("renders a line break or another control character; it must be one line".to_owned());
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
        operators::register(&mut tera);
        with(&mut tera);
        tera
    }
    static PLAIN: LazyLock<Tera> = LazyLock::new(|| made(|tera| tera.set_escape_fn(write_plain)));
    static HTML: LazyLock<Tera> = LazyLock::new(|| made(html::register));
    static XML: LazyLock<Tera> = LazyLock::new(|| made(|tera| tera.set_escape_fn(write_xml)));
    static PERCENT: LazyLock<Tera> = LazyLock::new(|| {
        made(|tera| {
            tera.set_escape_fn(write_percent);
            filters::register_for_urls(tera);
        })
    });
    static JSON: LazyLock<Tera> = LazyLock::new(|| {
        made(|tera| {
            tera.set_escape_fn(write_plain);
            filters::register_for_json(tera);
        })
    });
    match mode {
        Mode::Text | Mode::Line => &PLAIN,
        Mode::Html => &HTML,
        Mode::Xml => &XML,
        Mode::UrlPart | Mode::Form => &PERCENT,
        Mode::Json => &JSON,
    }
}

/// Runs this on a thread of its own with [`COMPILE_STACK`].
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(COMPILE_STACK).spawn_scoped(scope, work)?;
        thread.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn write_plain(text: &str, output: &mut dyn Write) -> io::Result<()> {
    output.write_all(text.as_bytes())
}

fn write_percent(text: &str, output: &mut dyn Write) -> io::Result<()> {
    output.write_all(filters::percent(text).as_bytes())
}

/// Writes a value for a text or an attribute of XML 1.0. Line breaks and tabs are written as references, because parsers change them
/// in attributes; characters that XML cannot contain are replaced.
fn write_xml(text: &str, output: &mut dyn Write) -> io::Result<()> {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(c))),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(c),
        }
    }
    output.write_all(escaped.as_bytes())
}

/// The output so far. A write beyond [`OUTPUT_MAX`] takes what fits and fails, which ends the rendering.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Write for Output {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let room = OUTPUT_MAX - self.bytes.len();
        self.bytes.extend_from_slice(more.get(..room).unwrap_or(more));
        if more.len() > room {
            self.overflowed = true;
            return Err(io::Error::other("OUTPUT_MAX"));
        }
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts a text between characters, so that it has at most `most` bytes with the mark that is appended.
pub fn cut(text: &str, most: usize, mark: &str) -> String {
    let room = text.floor_char_boundary(most.saturating_sub(mark.len()));
    text.get(..room).unwrap_or("").to_owned() + mark
}

/// Replaces control characters and Unicode's line breaks by blanks, a run of them by one.
pub fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut line = String::with_capacity(text.len());
    let mut is_run = false;
    for c in text.chars() {
        if !is_break(c) {
            line.push(c);
        } else if !is_run {
            line.push(' ');
        }
        is_run = is_break(c);
    }
    line
}

/// Returns HTML without the tag or the character reference that it ends in the middle of.
fn outside_tag(html: &str) -> &str {
    /// The longest character reference that escaping writes, in bytes.
    const REFERENCE_MAX: usize = 8;
    let tag = html.rfind('<').filter(|tag| html.rfind('>').is_none_or(|end| end < *tag));
    let html = html.get(..tag.unwrap_or(html.len())).unwrap_or(html);
    let is_open = |at: &usize| {
        html.len() - at < REFERENCE_MAX && html.get(*at..).is_some_and(|rest| !rest.contains(';'))
    };
    let reference = html.rfind('&').filter(is_open);
    html.get(..reference.unwrap_or(html.len())).unwrap_or(html)
}

fn escaped(text: &str) -> String {
    let mut html = Vec::new();
    // Writing to a vector does not fail.
    tera::escape_html(text, &mut html).ok();
    String::from_utf8(html).unwrap_or_default()
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
