//! The text of HTML: what a reader sees, in lines that are as long as they were written.

use super::super::text::CONTENT_MAX;
use super::tokenize;
use html5ever::tokenizer::{Tag, TagKind, Token};

/// The mark at the end of a text that is cut at [`CONTENT_MAX`].
const CUT_MARK: &str = "\n[cut]";
/// The deepest nesting of quotes and lists that the text shows.
const NESTING_MAX: usize = 10;
/// The most line breaks between two words.
const BREAKS_MAX: usize = 20;
/// The text of HTML that has nothing but pictures without a description.
const PICTURE: &str = "[image]";

/// Returns the text of HTML: paragraphs, lists and quotes as in plain mails, and the address of a link in one piece behind its
/// text. Tags, attributes, comments, styles and scripts are left out, entities are their characters. At most [`CONTENT_MAX`]
/// bytes; a longer text is cut, with a mark.
pub fn to_text(html: &str) -> String {
    let (mut writer, is_whole) = tokenize(html, Writer::default(), Writer::read);
    writer.end_link();
    writer.is_full |= !is_whole;
    if writer.text.is_empty() && writer.has_pictures {
        writer.text.push_str(PICTURE);
    }
    if writer.is_full {
        let end = writer.text.floor_char_boundary(CONTENT_MAX - CUT_MARK.len());
        writer.text.truncate(end);
        writer.text.push_str(CUT_MARK);
    }
    writer.text
}

/// The gap between the next word and the one before.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Gap {
    #[default]
    None,
    Space,
    Tab,
}

#[derive(Default)]
struct Writer {
    text: String,
    is_full: bool,
    /// Line breaks, a gap and the mark of a list's item, written before the next word.
    breaks: usize,
    gap: Gap,
    mark: String,
    /// The depth of quotes and of preformatted text.
    quotes: usize,
    preformatted: usize,
    /// The number of the next item of each open list; `None` for bullets.
    lists: Vec<Option<u32>>,
    /// The element whose content is not shown, and how often it is open.
    hidden: Option<(String, usize)>,
    /// The address of the open link, and where its text begins.
    link: Option<(String, usize)>,
    has_pictures: bool,
}

impl Writer {
    fn read(&mut self, token: Token) {
        match token {
            Token::TagToken(tag) => self.tag(&tag),
            Token::CharacterTokens(text) if self.hidden.is_none() => self.characters(&text),
            _ => {}
        }
    }

    fn tag(&mut self, tag: &Tag) {
        let (name, is_start) = (&*tag.name, tag.kind == TagKind::StartTag);
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden.as_str() == name {
                *depth = if is_start { *depth + 1 } else { *depth - 1 };
            }
            if *depth == 0 {
                self.hidden = None;
            }
            return;
        }
        match name {
            "script" | "style" | "title" | "template" | "xmp" | "iframe" | "noembed" | "noframes"
            | "object"
                if is_start =>
            {
                self.hidden = Some((name.to_owned(), 1));
            }
            "br" => self.breaks = (self.breaks + 1).min(BREAKS_MAX),
            "hr" => {
                self.end_block(1);
                self.word("-----");
                self.end_block(1);
            }
            "img" => {
                self.has_pictures = true;
                self.characters(&attribute(tag, "alt"));
            }
            "a" => {
                self.end_link();
                if is_start {
                    self.link = Some((attribute(tag, "href"), self.text.len()));
                }
            }
            "td" | "th" => self.gap = Gap::Tab,
            "ul" | "ol" | "dl" | "menu" => self.list(name, is_start),
            "li" => self.item(is_start),
            "blockquote" => {
                self.end_block(2);
                self.quotes = if is_start { self.quotes + 1 } else { self.quotes.saturating_sub(1) };
            }
            "pre" | "textarea" | "listing" => {
                self.end_block(2);
                self.preformatted =
                    if is_start { self.preformatted + 1 } else { self.preformatted.saturating_sub(1) };
            }
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "table" | "figure" => self.end_block(2),
            _ if is_block(name) => self.end_block(1),
            _ => {}
        }
    }

    /// Ends the line, and leaves as many line breaks before the next word.
    fn end_block(&mut self, breaks: usize) {
        self.breaks = self.breaks.max(breaks);
        self.gap = Gap::None;
    }

    fn list(&mut self, name: &str, is_start: bool) {
        self.end_block(if self.lists.len() > usize::from(!is_start) { 1 } else { 2 });
        if !is_start {
            self.lists.pop();
        } else if self.lists.len() < NESTING_MAX {
            self.lists.push((name == "ol").then_some(1));
        }
    }

    fn item(&mut self, is_start: bool) {
        self.end_block(1);
        if !is_start {
            return;
        }
        let indent = "  ".repeat(self.lists.len().saturating_sub(1));
        self.mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                format!("{indent}{}. ", *number - 1)
            }
            _ => format!("{indent}* "),
        };
    }

    /// Writes the address of the open link behind its text, unless the text is the address.
    fn end_link(&mut self) {
        let Some((address, start)) = self.link.take() else { return };
        let address: String = address.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
        let scheme =
            address.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
        if !["http", "https", "ftp", "mailto", "tel"].contains(&scheme.as_str()) {
            return;
        }
        let shown = self.text.get(start..).unwrap_or_default().trim();
        let is_shown = |address: &str| shown == address || shown == address.trim_end_matches('/');
        if shown.is_empty() {
            self.word(&address);
        } else if !is_shown(&address)
            && !address.split_once("://").or(address.split_once(':')).is_some_and(|(_, rest)| is_shown(rest))
        {
            self.push(&format!(" <{address}>"));
        }
    }

    fn characters(&mut self, text: &str) {
        if self.preformatted > 0 {
            for (index, line) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
                self.breaks = (self.breaks + usize::from(index > 0)).min(BREAKS_MAX);
                if !line.is_empty() {
                    self.word(line);
                }
            }
            return;
        }
        // A no-break space separates words as well, and a soft hyphen is seen only where a line is broken.
        let is_space = |c: char| c.is_ascii_whitespace() || c == '\u{a0}';
        let mut words = text.split(is_space).peekable();
        while let Some(word) = words.next() {
            if !word.is_empty() {
                self.word(&word.replace('\u{ad}', ""));
            }
            if words.peek().is_some() && self.gap == Gap::None {
                self.gap = Gap::Space;
            }
        }
    }

    /// Writes a word after the line breaks, marks and gaps that are due.
    fn word(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        let quote = "> ".repeat(self.quotes.min(NESTING_MAX));
        if self.text.is_empty() {
            self.push(&quote);
        } else {
            for left in (0..self.breaks).rev() {
                self.push("\n");
                self.push(if left > 0 { quote.trim_end() } else { &quote });
            }
            match self.gap {
                Gap::Space if self.breaks == 0 => self.push(" "),
                Gap::Tab if self.breaks == 0 => self.push("\t"),
                _ => {}
            }
        }
        let mark = std::mem::take(&mut self.mark);
        self.push(&mark);
        self.push(word);
        (self.breaks, self.gap) = (0, Gap::None);
    }

    fn push(&mut self, text: &str) {
        if self.text.len() + text.len() > CONTENT_MAX {
            self.is_full = true;
        }
        if !self.is_full {
            self.text.push_str(text);
        }
    }
}

fn attribute(tag: &Tag, name: &str) -> String {
    let found = tag.attrs.iter().find(|attribute| &*attribute.name.local == name);
    found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

/// Whether an element begins and ends on lines of its own.
fn is_block(name: &str) -> bool {
    const BLOCKS: [&str; 28] = [
        "address",
        "article",
        "aside",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dir",
        "div",
        "dt",
        "fieldset",
        "figcaption",
        "footer",
        "form",
        "head",
        "header",
        "html",
        "legend",
        "main",
        "nav",
        "option",
        "section",
        "summary",
        "tbody",
        "tfoot",
        "thead",
        "tr",
    ];
    BLOCKS.contains(&name)
}
