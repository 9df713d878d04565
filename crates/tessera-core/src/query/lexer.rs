//! The lexer: cuts the text of a query into tokens with their positions.

use super::error::{QueryError, Result, Span};

/// A token of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

/// The kind of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A name or a keyword: parts between dots, `CF.{any text}` included.
    Word(Vec<Part>),
    /// A text in quotes. Only the escapes of patterns are kept.
    Quoted(String),
    /// A number as written.
    Number(String),
    /// `=`, `!=`, `<` and so on.
    Operator(&'static str),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// The end of the text.
    End,
}

/// A part of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub text: String,
    /// True if it is written in braces, where any character is allowed.
    pub is_braced: bool,
}

/// Longest first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, &str); 8] =
    [("!=", "!="), ("<>", "!="), ("<=", "<="), (">=", ">="), ("==", "="), ("=", "="), ("<", "<"), (">", ">")];

/// Cuts a text into tokens; the last is [`TokenKind::End`].
pub(super) fn lex(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == TokenKind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

/// The parts of a text that is one whole name, such as `CF.{Severity}`, otherwise `None`. Quotes around it are ignored.
pub(super) fn name(text: &str) -> Option<Vec<Part>> {
    let text = text.trim();
    let unquoted = ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    let text = unquoted.unwrap_or(text).trim();
    let custom = custom_name(text);
    let is_whole = |span: Span| span.start == 0 && span.end == text.len();
    match (custom, Lexer { text, at: 0 }.next()) {
        (Some(parts), _) if text.ends_with('}') => Some(parts),
        (_, Ok(Token { kind: TokenKind::Word(parts), span })) if is_whole(span) => Some(parts),
        (custom, _) => custom,
    }
}

/// The parts of `CF.Queue.{Name}`, `CF.{Name}` and `CF.Name` with any characters but braces in the names, as RT reads them.
/// RT: `_CustomFieldDecipher`.
fn custom_name(text: &str) -> Option<Vec<Part>> {
    let (first, rest) = text.split_once('.').filter(|(first, _)| is_custom(first))?;
    let (queue, field) = match rest.strip_suffix('}') {
        Some(rest) => match rest.split_once(".{") {
            Some((queue, field)) => (Some(queue), field),
            None => (None, rest.strip_prefix('{')?),
        },
        None => (None, rest),
    };
    let bare =
        |queue: &str| queue.strip_prefix('{').and_then(|queue| queue.strip_suffix('}')).map(str::to_owned);
    let queue = queue.map(|queue| bare(queue).unwrap_or_else(|| queue.to_owned()));
    let names: Vec<String> =
        queue.into_iter().chain([field.to_owned()]).map(|name| name.trim().to_owned()).collect();
    let is_name = |name: &String| !name.is_empty() && !name.contains(['{', '}']);
    let parts = || names.iter().map(|name| Part { text: name.clone(), is_braced: true });
    let first = Part { text: first.to_owned(), is_braced: false };
    names.iter().all(is_name).then(|| [first].into_iter().chain(parts()).collect())
}

/// Returns true for the words that begin the name of a custom field.
pub(super) fn is_custom(word: &str) -> bool {
    ["CF", "CustomField", "CustomFieldValue"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Returns true for the characters that names can contain outside braces.
pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let eaten: String = self.rest().chars().take_while(|c| wanted(*c)).collect();
        self.at += eaten.len();
        eaten
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let is_there = self.rest().starts_with(wanted);
        if is_there {
            self.at += wanted.len();
        }
        is_there
    }

    fn next(&mut self) -> Result<Token> {
        self.eat_while(char::is_whitespace);
        let start = self.at;
        let kind = match self.peek() {
            None => TokenKind::End,
            Some('(') => self.single(TokenKind::Open),
            Some(')') => self.single(TokenKind::Close),
            Some(',') => self.single(TokenKind::Comma),
            Some(quote @ ('\'' | '"')) => TokenKind::Quoted(self.quoted(quote)?),
            Some(c) if c.is_ascii_digit() || self.starts_signed_number() => TokenKind::Number(self.number()?),
            Some(c) if is_name(c) => TokenKind::Word(self.word()?),
            Some(c) => match OPERATORS.iter().find(|(written, _)| self.rest().starts_with(written)) {
                Some((written, meant)) => {
                    self.at += written.len();
                    TokenKind::Operator(meant)
                }
                None => return Err(stray(Span::new(start, start + c.len_utf8()), c)),
            },
        };
        Ok(Token { kind, span: Span::new(start, self.at) })
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    fn starts_signed_number(&self) -> bool {
        let mut chars = self.rest().chars();
        matches!(chars.next(), Some('-' | '+')) && chars.next().is_some_and(|c| c.is_ascii_digit())
    }

    /// A text up to the same quote. A backslash makes the next character literal.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    // The escapes of patterns are kept for LIKE.
                    Some((_, escaped @ ('%' | '_' | '\\'))) => text.extend(['\\', escaped]),
                    Some((_, escaped)) => text.push(escaped),
                    None => break,
                },
                _ if c == quote => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                _ => text.push(c),
            }
        }
        let span = Span::new(start, self.text.len());
        Err(QueryError::new(span, "this quoted text is never closed").hint(format!(
            "close it with {quote}; inside the text, write \\{quote} for a quote and \\\\ for a backslash"
        )))
    }

    fn number(&mut self) -> Result<String> {
        let start = self.at;
        let mut number = self.eat_while(|c| matches!(c, '-' | '+'));
        number += &self.eat_while(|c| c.is_ascii_digit());
        let mut ahead = self.rest().chars();
        if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            number.push('.');
            number += &self.eat_while(|c| c.is_ascii_digit());
        }
        let tail = self.eat_while(|c| is_name(c) || matches!(c, '-' | ':' | '.' | '+'));
        if tail.is_empty() {
            return Ok(number);
        }
        let whole = format!("{number}{tail}");
        Err(QueryError::new(Span::new(start, self.at), format!("`{whole}` is neither a number nor a name"))
            .hint(format!("put a date, an id or any other text in quotes: '{whole}'")))
    }

    fn word(&mut self) -> Result<Vec<Part>> {
        let mut parts = vec![self.part(is_name)];
        while self.peek() == Some('.') {
            let dot = self.at;
            self.at += 1;
            match self.peek() {
                Some('{') => parts.push(self.braced()?),
                Some(c) if is_name(c) => parts.push(self.part(is_name)),
                _ => {
                    return Err(QueryError::new(Span::new(dot, dot + 1), "expected a name after this dot")
                        .hint("for example Requestor.Name, or CF.{Room No.} with braces"));
                }
            }
        }
        Ok(parts)
    }

    fn part(&mut self, wanted: impl Fn(char) -> bool) -> Part {
        Part { text: self.eat_while(wanted), is_braced: false }
    }

    fn braced(&mut self) -> Result<Part> {
        let start = self.at;
        self.at += 1;
        let text = self.eat_while(|c| c != '}' && c != '{');
        if !self.eat("}") {
            return Err(QueryError::new(Span::new(start, self.at), "this brace is never closed")
                .hint("write a custom field as CF.{Severity}"));
        }
        if text.trim().is_empty() {
            return Err(QueryError::new(Span::new(start, self.at), "there is no name in these braces")
                .hint("write a custom field as CF.{Severity}"));
        }
        Ok(Part { text: text.trim().to_owned(), is_braced: true })
    }
}

fn stray(span: Span, c: char) -> QueryError {
    let error = QueryError::new(span, format!("unexpected character `{}`", c.escape_debug()));
    match c {
        '!' => error.hint("write != for \"is not equal\", or NOT before a test"),
        '&' => error.hint("write AND, or put a name that contains & in quotes: 'R&D'"),
        '@' => error.hint("put an address in quotes: 'eve@example.com'"),
        '|' => error.hint("write OR"),
        '#' => error.hint("write the number without #: id = 12"),
        '~' => error.hint("use LIKE for a pattern or MATCHES for words"),
        ';' => error.hint("a query is one expression; join tests with AND or OR"),
        '*' => {
            error.hint("write a pattern in quotes, as in Subject LIKE 'print%'; a query starts with its first test, without SELECT")
        }
        '%' => error.hint("write a pattern in quotes: Subject LIKE 'print%'"),
        '{' | '}' => error.hint("braces are for the name of a custom field: CF.{Severity}"),
        '[' | ']' => error.hint("write a list in parentheses: Status IN ('new', 'open')"),
        '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => error.hint("use straight quotes: ' or \""),
        _ => error.hint("put a text in quotes"),
    }
}
