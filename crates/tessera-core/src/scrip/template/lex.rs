//! Splits a template into tokens as Tera does, including `{$ticket.id}`.

use super::Place;
use super::scan::SHORT;
use std::ops::Range;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text between tags.
    Text,
    /// `{# ... #}`
    Comment,
    /// `{{`
    Print,
    /// `{$`
    Short,
    /// `{%`
    Tag,
    /// The end of a print or a tag.
    Close,
    /// An identifier or a keyword.
    Name,
    /// A quoted text, with its quotes.
    Quoted,
    /// Digits.
    Number,
    /// Punctuation, one or two bytes.
    Sign,
}

/// A range of bytes of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// The byte at which an error is, and its message.
pub(super) type Trouble = (usize, String);

/// Splits a whole text. Fails at the first construct that is not closed, or character that no expression can contain.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, Trouble> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.text();
        lexer.marked()?;
    }
    Ok(lexer.tokens)
}

/// Returns the line and column of a byte, from 1, in characters.
pub(super) fn place(source: &str, byte: usize) -> Place {
    let before = source.get(..source.floor_char_boundary(byte)).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    Place { line: before.matches('\n').count() + 1, column }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn push(&mut self, kind: Kind, length: usize) {
        if length > 0 {
            self.tokens.push(Token { kind, range: self.at..self.at + length });
            self.at += length;
        }
    }

    /// Reads text up to the next opening mark.
    fn text(&mut self) {
        let rest = self.rest();
        let length = rest
            .match_indices('{')
            .map(|(index, _)| index)
            .find(|index| rest.get(*index..).is_some_and(|from| mark(from).is_some()))
            .unwrap_or(rest.len());
        self.push(Kind::Text, length);
    }

    /// Reads a print, tag or comment.
    fn marked(&mut self) -> Result<(), Trouble> {
        let (rest, opened) = (self.rest(), self.at);
        match mark(rest) {
            None => Ok(()),
            Some(Kind::Comment) => {
                let body = opening(rest);
                let end = rest.get(body..).and_then(|inside| inside.find("#}"));
                let end =
                    end.ok_or_else(|| (opened, "this comment is never closed; add \"#}\"".to_owned()))?;
                self.push(Kind::Comment, body + end + 2);
                Ok(())
            }
            Some(Kind::Short) => {
                self.push(Kind::Short, short(rest).unwrap_or(2));
                let unreadable = |(at, message): Trouble| match at == opened {
                    true => (opened, message),
                    false => (opened, SHORT.to_owned()),
                };
                self.expression(opened, "}").map_err(unreadable)
            }
            Some(kind) => {
                self.push(kind, opening(rest));
                self.expression(opened, if kind == Kind::Tag { "%}" } else { "}}" })
            }
        }
    }

    /// Reads tokens up to `close`.
    fn expression(&mut self, opened: usize, close: &str) -> Result<(), Trouble> {
        loop {
            let blank = self.rest().len() - self.rest().trim_ascii_start().len();
            self.at += blank;
            let rest = self.rest();
            if rest.is_empty() {
                return Err((opened, format!("this is never closed; add \"{close}\"")));
            }
            let trimming = usize::from(close != "}" && rest.starts_with('-'));
            if rest.get(trimming..).is_some_and(|from| from.starts_with(close)) {
                self.push(Kind::Close, trimming + close.len());
                return Ok(());
            }
            let (kind, length) = self.word(rest)?;
            self.push(kind, length);
        }
    }

    /// Returns the kind and length of the next token.
    fn word(&self, rest: &str) -> Result<(Kind, usize), Trouble> {
        const PAIRS: [&str; 9] = ["//", "**", "==", "!=", ">=", "<=", "</", "?.", "?["];
        let first = rest.chars().next().unwrap_or(' ');
        let run = |allowed: fn(char) -> bool| rest.find(|c| !allowed(c)).unwrap_or(rest.len());
        if matches!(first, '"' | '\'' | '`') {
            return match quoted_length(rest, first) {
                Some(length) => Ok((Kind::Quoted, length)),
                None => Err((self.at, format!("this text is never closed; add {first}"))),
            };
        }
        if first.is_ascii_digit() {
            return Ok((Kind::Number, number_length(rest)));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok((Kind::Name, run(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        if PAIRS.iter().any(|pair| rest.starts_with(pair)) {
            return Ok((Kind::Sign, 2));
        }
        if "+-*/%!.,:~|=><()[]{}@".contains(first) {
            return Ok((Kind::Sign, 1));
        }
        Err((self.at, format!("\"{first}\" is not allowed here")))
    }
}

/// Returns the opening mark that a text begins with.
fn mark(text: &str) -> Option<Kind> {
    match text.get(..2).unwrap_or("") {
        "{{" => Some(Kind::Print),
        "{%" => Some(Kind::Tag),
        "{#" => Some(Kind::Comment),
        _ => short(text).map(|_| Kind::Short),
    }
}

/// Returns the length of `{$` with the blanks that RT allows between them. It is a mark only before a letter, so that "${$1}"
/// remains text.
fn short(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('{')?;
    let name = inside.trim_ascii_start().strip_prefix('$')?;
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then_some(text.len() - name.len())
}

/// Returns the length of an opening mark, including its `-`.
fn opening(text: &str) -> usize {
    if text.as_bytes().get(2) == Some(&b'-') { 3 } else { 2 }
}

fn quoted_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn number_length(rest: &str) -> usize {
    let mut dot = false;
    rest.find(|c: char| !(c.is_ascii_digit() || (c == '.' && !std::mem::replace(&mut dot, true))))
        .unwrap_or(rest.len())
}
