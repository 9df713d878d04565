//! HTML: its text, which people search and read in plain mails, and its cleaned form, which HTML mails carry.
//!
//! The text is made from the tokens of the HTML alone, in time that grows with its length, except for the attributes of a tag, which
//! `PAIRS_MAX` bounds; no tree is built. Cleaning builds a tree, so what it takes is bounded by `Shape`.

mod text;

pub use text::to_text;

use super::text::CONTENT_MAX;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The longest HTML that is cleaned, in bytes.
const CLEANED_MAX: usize = CONTENT_MAX;
/// The longest cleaned HTML, in bytes: cleaning closes and repeats tags, so its result may be longer.
const RESULT_MAX: usize = 4 * CONTENT_MAX;
/// The most tags of HTML that is cleaned.
const TAGS_MAX: usize = 20_000;
/// The deepest nesting of HTML that is cleaned, in tags: the time to parse it grows with the square of the depth.
const DEPTH_MAX: usize = 500;
/// The most formatting tags, such as `<b>`, that are open at once: a parser repeats each of them in each paragraph that follows.
const FORMATS_MAX: usize = 20;

/// The most pairs of attributes that a reader of tokens compares: it compares each attribute of a tag with those before it.
const PAIRS_MAX: usize = 400_000_000;
/// The bytes that the reader of tokens gets at a time.
const PIECE: usize = 1024;

/// Returns HTML without scripts, forms and everything else that could act or hide, as a complete fragment: every tag in it is
/// closed. Returns `None` for HTML that exceeds a limit; its text is still readable.
pub fn clean(html: &str) -> Option<String> {
    if html.len() > CLEANED_MAX || !Shape::of(html).is_bounded() {
        return None;
    }
    Some(CLEANER.clean(html).to_string()).filter(|cleaned| cleaned.len() <= RESULT_MAX)
}

/// Escapes a text for HTML, with its lines.
pub fn from_text(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\r' => html.push_str("<br>"),
            _ => html.push(c),
        }
    }
    html
}

/// Properties of `style` that change how a text looks, and can neither load anything nor move it over something else.
const STYLES: [&str; 45] = [
    "background-color",
    "border",
    "border-bottom",
    "border-collapse",
    "border-color",
    "border-left",
    "border-radius",
    "border-right",
    "border-spacing",
    "border-style",
    "border-top",
    "border-width",
    "clear",
    "color",
    "direction",
    "display",
    "float",
    "font",
    "font-family",
    "font-size",
    "font-style",
    "font-variant",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "list-style-type",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-width",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "text-align",
    "text-decoration",
    "text-indent",
    "text-transform",
    "vertical-align",
    "white-space",
    "width",
];

static CLEANER: LazyLock<ammonia::Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = ammonia::Builder::default();
    cleaner
        .add_tags(["font"])
        .add_tag_attributes("font", ["color", "face", "size"])
        .add_generic_attributes(["style", "dir"])
        .filter_style_properties(STYLES.into())
        .url_schemes(["http", "https", "mailto", "tel", "cid"].into())
        .add_clean_content_tags([
            "iframe", "noembed", "noframes", "object", "template", "textarea", "title", "xmp",
        ])
        .link_rel(Some("noopener noreferrer"));
    cleaner
});

/// The number and nesting of tags, as far as they limit the work of a parser.
#[derive(Default)]
struct Shape {
    tags: usize,
    open: Vec<String>,
    deepest: usize,
    formats: HashMap<String, usize>,
    most_formats: usize,
    is_whole: bool,
}

impl Shape {
    fn of(html: &str) -> Self {
        let (shape, is_whole) = tokenize(html, Self::default(), Self::read);
        Self { is_whole, ..shape }
    }

    fn is_bounded(&self) -> bool {
        self.is_whole
            && self.tags <= TAGS_MAX
            && self.deepest <= DEPTH_MAX
            && self.most_formats <= FORMATS_MAX
    }

    fn read(&mut self, token: Token) {
        let Token::TagToken(tag) = token else { return };
        self.tags += 1;
        if self.tags > TAGS_MAX {
            return;
        }
        let (name, is_start) = (&*tag.name, tag.kind == TagKind::StartTag);
        if is_format(name) {
            let count = self.formats.entry(name.to_owned()).or_default();
            *count = if is_start { *count + 1 } else { count.saturating_sub(1) };
            self.most_formats = self.most_formats.max(self.formats.values().sum());
        }
        if is_start {
            while self.open.last().is_some_and(|open| is_closed_by(open, name)) {
                self.open.pop();
            }
            if !is_void(name) {
                // What is deeper than the limit needs no name.
                self.open.truncate(DEPTH_MAX);
                self.open.push(name.to_owned());
            }
            self.deepest = self.deepest.max(self.open.len());
        } else if let Some(opened) = self.open.iter().rposition(|open| open == name) {
            self.open.truncate(opened);
        }
    }
}

/// Whether an open element ends where another begins, although it has no end tag.
fn is_closed_by(open: &str, next: &str) -> bool {
    match open {
        "p" => !(is_format(next) || is_void(next) || next == "span"),
        "li" => next == "li",
        "td" | "th" => matches!(next, "td" | "th" | "tr"),
        "tr" => next == "tr",
        "dt" | "dd" => matches!(next, "dt" | "dd"),
        "option" => next == "option",
        _ => false,
    }
}

/// Whether the element has no content, and so no end tag.
fn is_void(name: &str) -> bool {
    const VOID: [&str; 15] = [
        "area", "base", "br", "col", "embed", "frame", "hr", "img", "input", "link", "meta", "param",
        "source", "track", "wbr",
    ];
    VOID.contains(&name)
}

/// Whether a parser opens the element again in the next paragraph if it is not closed.
fn is_format(name: &str) -> bool {
    const FORMATS: [&str; 14] =
        ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];
    FORMATS.contains(&name)
}

/// Passes the tokens of HTML to a reader, and returns the reader and whether it got all of them.
fn tokenize<R>(html: &str, reader: R, read: fn(&mut R, Token)) -> (R, bool) {
    let sink = Sink { reader: RefCell::new(reader), read, tokens: Cell::new(0) };
    let input = BufferQueue::default();
    let tokenizer = Tokenizer::new(sink, Default::default());
    let (mut rest, mut gaps, mut pairs) = (html, 0, 0_usize);
    while !rest.is_empty() && pairs <= PAIRS_MAX {
        let (piece, others) = rest.split_at(rest.floor_char_boundary(PIECE));
        rest = others;
        let before = tokenizer.sink.tokens.get();
        input.push_back(piece.into());
        // A script stops the tokenizer, which goes on where it stopped; this sink lets none stop it.
        let _ = tokenizer.feed(&input);
        if tokenizer.sink.tokens.get() > before {
            gaps = 0;
            continue;
        }
        // No token has ended, so all of this may be attributes of one tag.
        let more = piece.bytes().filter(|byte| byte.is_ascii_whitespace() || b"/\"'".contains(byte)).count();
        gaps += more;
        pairs = pairs.saturating_add(gaps * more);
    }
    let is_whole = pairs <= PAIRS_MAX;
    if is_whole {
        tokenizer.end();
    }
    (tokenizer.sink.reader.into_inner(), is_whole)
}

struct Sink<R> {
    reader: RefCell<R>,
    read: fn(&mut R, Token),
    tokens: Cell<usize>,
}

impl<R> TokenSink for Sink<R> {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let next = match &token {
            Token::TagToken(tag) => raw_kind(tag),
            _ => TokenSinkResult::Continue,
        };
        if !matches!(token, Token::ParseError(_)) {
            self.tokens.set(self.tokens.get() + 1);
        }
        (self.read)(&mut self.reader.borrow_mut(), token);
        next
    }
}

/// Returns how the text after this tag is read: in some elements, tags are text.
fn raw_kind(tag: &Tag) -> TokenSinkResult<()> {
    use html5ever::tokenizer::states::RawKind;
    if tag.kind != TagKind::StartTag {
        return TokenSinkResult::Continue;
    }
    match &*tag.name {
        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(RawKind::Rawtext),
        "script" => TokenSinkResult::RawData(RawKind::ScriptData),
        _ => TokenSinkResult::Continue,
    }
}

#[cfg(test)]
mod tests;
