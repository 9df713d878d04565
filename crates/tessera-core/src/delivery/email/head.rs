//! The lines of a mail's header: folded, and encoded where they are not plain ASCII (RFC 5322, 2047 and 2231).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The length at which a line is folded, in bytes. A line with encoded words must not be longer (RFC 2047, 2).
const FOLDED_AT: usize = 76;
/// The maximum length of a line, in bytes (RFC 5322, 2.1.1).
const LINE_MAX: usize = 998;
/// The maximum length of an encoded word, in bytes (RFC 2047, 2).
const ENCODED_MAX: usize = 75;
/// The delimiters of an encoded word.
const OPENED: &str = "=?utf-8?b?";
const CLOSED: &str = "?=";

/// A mailbox as it is written in a header.
pub(super) struct Mailbox<'a> {
    /// The display name; may be empty.
    pub name: &'a str,
    /// The address, with its domain in ASCII.
    pub address: &'a str,
}

/// A header field being written.
struct Field {
    text: String,
    /// The length of the current line, in bytes.
    column: usize,
    /// Whether the current line has a word besides the field's name.
    has_words: bool,
}

impl Field {
    fn new(name: &str) -> Self {
        Self { text: format!("{name}:"), column: name.len() + 1, has_words: false }
    }

    /// Appends a word after a space, which becomes a line break if the word does not fit into the line.
    fn word(&mut self, word: &str) {
        let end = self.column + 1 + word.len();
        if (self.has_words && end > FOLDED_AT) || end > LINE_MAX {
            self.break_line();
        }
        self.text.push(' ');
        self.text.push_str(word);
        self.column += 1 + word.len();
        self.has_words = true;
    }

    fn break_line(&mut self) {
        self.text.push_str("\r\n");
        (self.column, self.has_words) = (0, false);
    }

    /// Appends a text as encoded words, as much in each line as fits.
    fn encoded(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let free = FOLDED_AT.saturating_sub(self.column + 1).min(ENCODED_MAX);
            let bytes = free.saturating_sub(OPENED.len() + CLOSED.len()) / 4 * 3;
            let end = (1..=bytes.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at));
            let Some((word, after)) = end.and_then(|end| rest.split_at_checked(end)) else {
                self.break_line();
                continue;
            };
            self.word(&format!("{OPENED}{}{CLOSED}", STANDARD.encode(word)));
            rest = after;
            if !rest.is_empty() {
                self.break_line();
            }
        }
    }

    fn finish(mut self) -> String {
        self.text.push_str("\r\n");
        self.text
    }
}

/// Writes a field whose value is a text, such as a subject.
pub(super) fn text(name: &str, value: &str) -> String {
    let (mut field, line) = (Field::new(name), one_line(value));
    if is_plain(&line) {
        line.split(' ').filter(|word| !word.is_empty()).for_each(|word| field.word(word));
    } else {
        field.encoded(&line);
    }
    field.finish()
}

/// Writes a field whose value is a list of mailboxes.
///
/// An address that is not ASCII before the "@" is written as the name of an empty group (RFC 6857, 3.1.8): people see it, and
/// servers without SMTPUTF8 accept the message.
pub(super) fn mailboxes(name: &str, list: &[Mailbox<'_>]) -> String {
    let mut field = Field::new(name);
    for (index, mailbox) in list.iter().enumerate() {
        let comma = if index + 1 < list.len() { "," } else { "" };
        if !mailbox.address.is_ascii() {
            field.encoded(mailbox.address);
            field.word(&format!(":;{comma}"));
        } else if mailbox.name.is_empty() {
            field.word(&format!("{}{comma}", mailbox.address));
        } else {
            phrase(&mut field, mailbox.name);
            field.word(&format!("<{}>{comma}", mailbox.address));
        }
    }
    field.finish()
}

/// Writes a field with one mailbox that must be an address, and which is written as it is, even if it is not ASCII.
pub(super) fn mailbox(name: &str, mailbox: &Mailbox<'_>) -> String {
    let mut field = Field::new(name);
    if mailbox.name.is_empty() {
        field.word(mailbox.address);
    } else {
        phrase(&mut field, mailbox.name);
        field.word(&format!("<{}>", mailbox.address));
    }
    field.finish()
}

/// Writes a display name: as atoms, as a quoted string, or as encoded words.
fn phrase(field: &mut Field, name: &str) {
    let line = one_line(name);
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    if !is_plain(&line) {
        field.encoded(&line);
    } else if line.split(' ').all(|word| word.chars().all(is_atom)) {
        line.split(' ').for_each(|word| field.word(word));
    } else {
        let quoted = format!("\"{}\"", line.replace('\\', "\\\\").replace('"', "\\\""));
        quoted.split(' ').for_each(|word| field.word(word));
    }
}

/// Replaces control characters, line breaks and repeated spaces by single spaces, as folding would.
pub(super) fn one_line(value: &str) -> String {
    value
        .split(|c: char| c.is_control() || c == ' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns true if a line needs no encoding: printable ASCII, nothing that looks like an encoded word, and words that fit into
/// a line.
fn is_plain(line: &str) -> bool {
    line.bytes().all(|c| c == b' ' || c.is_ascii_graphic())
        && !line.contains("=?")
        && line.split(' ').all(|word| word.len() < LINE_MAX)
}
