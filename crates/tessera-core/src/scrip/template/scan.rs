//! Scans a template before Tera does: rejects unsupported constructs, records the variables used, and writes the text for Tera.

use super::braces::Braces;
use super::html::{self, Markup};
use super::lex::{self, Kind, Token, Trouble};
use super::{BLOCKS_MAX, FAULTS_MAX, LOOPS_MAX, Mode, NAMES_MAX, aliases, filters, variables};
use crate::models::text;
use std::collections::BTreeSet;

/// The bytes of an expression that the message of a failure repeats.
const SHOWN: usize = 80;
const TAGS: [&str; 9] = ["if", "elif", "else", "endif", "for", "endfor", "set", "break", "continue"];
/// The message for other things than a name in `{$…}`.
pub(super) const SHORT: &str = "{$...} can contain only a name, such as {$TicketSubject} or {$ticket.subject}; use {{ ... }} for \
    anything else, as RT's Perl code is not supported";
/// The message for Perl code that does not begin with `{$`.
const PERL: &str = "RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the \
    text, write {{ \"{\" }}";
const KEYWORDS: [&str; 15] = [
    "and", "or", "not", "in", "is", "if", "else", "for", "true", "True", "false", "False", "none", "None",
    "null",
];

/// The variables that a text uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Paths on known roots, each cut at the first part that is known only at run time.
    pub(super) paths: BTreeSet<String>,
    /// Names of custom fields.
    pub(super) custom_fields: BTreeSet<String>,
}

/// The text for Tera, with the positions in the source.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) tera: String,
    pub(super) positions: Positions,
    pub(super) facts: Facts,
}

/// Scans a whole text, up to [`FAULTS_MAX`] errors.
pub(super) fn scan(source: &str, mode: Mode) -> Result<Scanned, Vec<Trouble>> {
    let tokens = lex::lex(source).map_err(|trouble| vec![trouble])?;
    let mut scan = Scan::new(source, mode, tokens);
    while let Some(token) = scan.peek().filter(|_| scan.troubles.len() < FAULTS_MAX) {
        match token.kind {
            Kind::Print | Kind::Short => scan.print(token.kind),
            Kind::Tag => scan.tag(),
            _ => scan.text(&token),
        }
    }
    scan.finish()
}

/// Maps a byte of the text for Tera to a byte of the source.
#[derive(Debug, Default)]
pub(super) struct Positions(Vec<Stretch>);

/// The bytes from `tera` on: copies of those from `typed` on if `copied`, otherwise inserted at `typed`.
#[derive(Debug)]
struct Stretch {
    tera: usize,
    typed: usize,
    copied: bool,
}

impl Positions {
    /// Returns the byte of the source.
    pub(super) fn typed(&self, tera: usize) -> usize {
        let before = self.0.partition_point(|stretch| stretch.tera <= tera).checked_sub(1);
        match before.and_then(|index| self.0.get(index)) {
            Some(stretch) if stretch.copied => stretch.typed + (tera - stretch.tera),
            Some(stretch) => stretch.typed,
            None => 0,
        }
    }
}

/// An open `{% if %}` or `{% for %}`.
struct Block {
    opened: usize,
    is_loop: bool,
    branches: usize,
    bound: BTreeSet<String>,
    in_quotes: bool,
}

/// Tracks whether the text is inside a JSON string.
#[derive(Default)]
pub(super) struct Quotes {
    pub(super) inside: bool,
    escaped: bool,
}

impl Quotes {
    pub(super) fn read(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' if self.inside => self.escaped = true,
                '"' => self.inside = !self.inside,
                _ => {}
            }
        }
        self.escaped = false;
    }
}

pub(super) struct Scan<'s> {
    pub(super) source: &'s str,
    pub(super) at: usize,
    pub(super) facts: Facts,
    /// The values, parts, operators and filters of the current expression so far, and how deep it is nested here.
    pub(super) parts: usize,
    pub(super) depth: usize,
    mode: Mode,
    tokens: Vec<Token>,
    tera: String,
    positions: Positions,
    /// The end of the part of the source that has been copied.
    copied: usize,
    troubles: Vec<Trouble>,
    blocks: Vec<Block>,
    bound: BTreeSet<String>,
    quotes: Quotes,
    markup: Markup,
    braces: Braces,
}

impl<'s> Scan<'s> {
    fn new(source: &'s str, mode: Mode, tokens: Vec<Token>) -> Self {
        Self {
            source,
            at: 0,
            facts: Facts::default(),
            parts: 0,
            depth: 0,
            mode,
            tokens,
            tera: String::with_capacity(source.len() * 2),
            positions: Positions::default(),
            copied: 0,
            troubles: Vec::new(),
            blocks: Vec::new(),
            bound: BTreeSet::new(),
            quotes: Quotes::default(),
            markup: Markup::default(),
            braces: Braces::default(),
        }
    }

    fn finish(mut self) -> Result<Scanned, Vec<Trouble>> {
        let is_whole = self.at >= self.tokens.len();
        for block in std::mem::take(&mut self.blocks).into_iter().filter(|_| is_whole) {
            let name = if block.is_loop { "for" } else { "if" };
            self.trouble(block.opened, format!("this {name} is never closed; add {{% end{name} %}}"));
        }
        if self.mode == Mode::Json && self.quotes.inside {
            self.trouble(self.source.len(), "the JSON ends inside a string; close its quotes");
        }
        if self.troubles.is_empty() {
            return Ok(Scanned { tera: self.tera, positions: self.positions, facts: self.facts });
        }
        self.troubles.sort();
        self.troubles.truncate(FAULTS_MAX);
        Err(self.troubles)
    }

    /// Copies text between tags.
    fn text(&mut self, token: &Token) {
        let text = self.word(token);
        let one_line = self.mode.is_one_line();
        let refused = text.find(|c: char| c == '\0' || (one_line && c.is_control()));
        if let Some(index) = refused.filter(|_| token.kind == Kind::Text) {
            let why = if one_line { "; this must be a single line" } else { "; remove U+0000" };
            self.trouble(token.range.start + index, format!("a control character is not allowed here{why}"));
        }
        if token.kind == Kind::Text {
            self.quotes.read(text);
            self.markup.read(text);
            for at in self.braces.read(text, token.range.start) {
                self.trouble(at, PERL);
            }
        }
        self.copy();
    }

    /// `{{ ... }}` or `{$...}`: adds the filter that prints the value in this mode.
    fn print(&mut self, kind: Kind) {
        let opened = self.here();
        if kind == Kind::Short {
            self.replace("{{ ");
            if !self.is_only_a_path() {
                let hint =
                    self.rt_name().map_or_else(String::new, |name| format!("; write {{${name}}} here"));
                self.trouble(opened, format!("{SHORT}{hint}"));
                return self.copy_rest();
            }
        } else {
            self.copy();
        }
        let start = self.here();
        self.insert("(", start);
        self.expression();
        let shown = self.source.get(start..self.here()).unwrap_or("").trim();
        let mut of = filters::literal(shown.get(..shown.floor_char_boundary(SHOWN)).unwrap_or(shown));
        let filter = match self.mode {
            Mode::Json if self.quotes.inside => "json_inside",
            Mode::Json => "json_value",
            Mode::Html if !self.markup.is_in_tag => {
                if let Some(path) = html::path_of(shown, |name| self.is_bound(name)) {
                    of.push_str(&format!(", html={path}"));
                }
                "show_html"
            }
            _ => "show",
        };
        self.insert(&format!(") | {filter}(of={of})"), start);
        if kind == Kind::Short { self.replace(" }}") } else { self.copy() }
    }

    fn is_only_a_path(&self) -> bool {
        let mut rest = self.tokens.iter().skip(self.at).take_while(|token| token.kind != Kind::Close);
        rest.all(|token| match token.kind {
            Kind::Name | Kind::Quoted => true,
            _ => matches!(self.word(token), "." | "[" | "]"),
        })
    }

    /// Returns the name in RT's simple templates for code such as `$Ticket->Subject`.
    fn rt_name(&self) -> Option<String> {
        let words: Vec<_> = (0..4).filter_map(|index| Some(self.word(self.peek_after(index)?))).collect();
        let [object, "-", ">", method] = words.as_slice() else { return None };
        let mut letters = method.chars();
        let first = letters.next()?.to_uppercase();
        let name: String = object.chars().chain(first).chain(letters).collect();
        aliases::meaning(&name).map(|_| name)
    }

    /// `{% ... %}`.
    fn tag(&mut self) {
        let opened = self.here();
        self.copy();
        let name = self.name().unwrap_or_default();
        if !TAGS.contains(&name.as_str()) {
            self.trouble(
                opened,
                format!("unknown tag {}; known tags: {}", text::quote(&name), text::list(TAGS)),
            );
            return self.copy_rest();
        }
        self.copy();
        match name.as_str() {
            "if" => {
                self.open(opened, false, BTreeSet::new());
                self.expression();
            }
            "elif" => {
                self.branch(opened);
                self.expression();
            }
            "else" => self.branch(opened),
            "endif" | "endfor" => self.close(opened, name == "endfor"),
            "for" => self.for_each(opened),
            "set" => self.set(opened),
            _ => {}
        }
        self.copy_rest();
    }

    /// `x in list` or `key, x in fields`: adds the filter that counts iterations.
    fn for_each(&mut self, opened: usize) {
        let mut bound = BTreeSet::new();
        while let Some(name) = self.name().filter(|name| name != "in") {
            self.check_new_name(&name);
            bound.insert(name);
            self.copy();
            if self.is_sign(",") {
                self.copy();
            }
        }
        if self.name().is_none() {
            return self.trouble(opened, "write {% for one in list %}");
        }
        self.copy();
        let start = self.here();
        self.insert("(", start);
        self.expression();
        let steps = self.steps_of_body();
        self.insert(&format!(") | each(steps={steps})"), start);
        self.open(opened, true, bound);
    }

    fn set(&mut self, opened: usize) {
        let Some(name) = self.name() else { return };
        self.check_new_name(&name);
        self.copy();
        if !self.is_sign("=") {
            return self.trouble(opened, "write {% set name = value %}; {% endset %} is not supported");
        }
        self.copy();
        self.expression();
        let innermost = self.blocks.iter_mut().rev().find(|block| block.is_loop);
        let bound = innermost.map_or(&mut self.bound, |block| &mut block.bound);
        bound.insert(name);
        if bound.len() > NAMES_MAX {
            self.trouble(opened, format!("a text sets at most {NAMES_MAX} names (NAMES_MAX)"));
        }
    }

    fn check_new_name(&mut self, name: &str) {
        let taken =
            variables::is_root(name) || KEYWORDS.contains(&name) || ["cf", "loop", "self"].contains(&name);
        if taken || aliases::meaning(name).is_some() || name.starts_with("__") {
            self.trouble(self.here(), format!("the name {} is taken; choose another", text::quote(name)));
        }
    }

    fn open(&mut self, opened: usize, is_loop: bool, bound: BTreeSet<String>) {
        self.blocks.push(Block { opened, is_loop, branches: 1, bound, in_quotes: self.quotes.inside });
        self.check_depth(opened);
        if is_loop && self.blocks.iter().filter(|block| block.is_loop).count() > LOOPS_MAX {
            self.trouble(opened, format!("loops can be nested at most {LOOPS_MAX} deep"));
        }
    }

    /// Each `elif` counts as a block inside the one before, as in the engine.
    fn check_depth(&mut self, opened: usize) {
        if self.blocks.iter().map(|block| block.branches).sum::<usize>() > BLOCKS_MAX {
            self.trouble(opened, format!("at most {BLOCKS_MAX} blocks and branches may be open at once"));
        }
    }

    fn branch(&mut self, opened: usize) {
        self.check_quotes(opened);
        match self.blocks.last_mut() {
            Some(block) => block.branches += 1,
            None => self.trouble(opened, "no if or for is open here"),
        }
        self.check_depth(opened);
    }

    fn close(&mut self, opened: usize, is_loop: bool) {
        self.check_quotes(opened);
        if self.blocks.last().is_some_and(|block| block.is_loop == is_loop) {
            self.blocks.pop();
        } else {
            self.trouble(opened, format!("no {} is open here", if is_loop { "for" } else { "if" }));
        }
    }

    fn check_quotes(&mut self, opened: usize) {
        let Some(block) = self.blocks.last() else { return };
        let at_start = block.in_quotes;
        if self.mode == Mode::Json && at_start != self.quotes.inside {
            self.trouble(opened, "a JSON string must end in the block or branch in which it begins");
        }
        self.quotes.inside = at_start;
    }

    /// Returns the most tokens that one iteration of the loop executes whose tag ends here.
    fn steps_of_body(&self) -> usize {
        let rest = self.tokens.get(self.at..).unwrap_or(&[]);
        let mut depth = 1_usize;
        let end = rest.windows(2).position(|pair| {
            if let [Token { kind: Kind::Tag, .. }, name] = pair {
                match self.word(name) {
                    "for" => depth += 1,
                    "endfor" => depth -= 1,
                    _ => {}
                }
            }
            depth == 0
        });
        end.unwrap_or(rest.len())
    }
}

/// Reading and writing token by token, also for the checks of expressions.
impl<'s> Scan<'s> {
    pub(super) fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).cloned()
    }

    pub(super) fn peek_after(&self, count: usize) -> Option<&Token> {
        self.tokens.get(self.at + count)
    }

    pub(super) fn word(&self, token: &Token) -> &'s str {
        self.source.get(token.range.clone()).unwrap_or("")
    }

    /// Returns the byte at which the next token begins.
    pub(super) fn here(&self) -> usize {
        self.peek().map_or(self.source.len(), |token| token.range.start)
    }

    pub(super) fn name(&self) -> Option<String> {
        let token = self.peek().filter(|token| token.kind == Kind::Name)?;
        Some(self.word(&token).to_owned())
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.peek().is_some_and(|token| token.kind == Kind::Sign && self.word(&token) == sign)
    }

    /// Whether the previous token opened a print.
    pub(super) fn begins_print(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|index| self.tokens.get(index));
        before.is_some_and(|token| matches!(token.kind, Kind::Print | Kind::Short))
    }

    pub(super) fn is_bound(&self, name: &str) -> bool {
        let in_loop = self.blocks.iter().any(|block| block.is_loop);
        let is_set = self.bound.contains(name) || self.blocks.iter().any(|block| block.bound.contains(name));
        is_set || (name == "loop" && in_loop)
    }

    pub(super) fn trouble(&mut self, at: usize, message: impl Into<String>) {
        if self.troubles.len() < FAULTS_MAX {
            self.troubles.push((at, message.into()));
        }
    }

    /// Copies the next token, with the white space before it.
    pub(super) fn copy(&mut self) {
        let Some(token) = self.peek() else { return };
        self.copy_to(token.range.end);
        self.at += 1;
    }

    /// Replaces the next token by another text.
    pub(super) fn replace(&mut self, text: &str) {
        let Some(token) = self.peek() else { return };
        self.copy_to(token.range.start);
        self.insert(text, token.range.start);
        self.copied = token.range.end;
        self.at += 1;
    }

    /// Leaves out the next token.
    pub(super) fn skip(&mut self) {
        let Some(token) = self.peek() else { return };
        self.copied = token.range.end;
        self.at += 1;
    }

    /// Inserts a text. Errors in it are reported at the byte `typed`.
    pub(super) fn insert(&mut self, text: &str, typed: usize) {
        self.positions.0.push(Stretch { tera: self.tera.len(), typed, copied: false });
        self.tera.push_str(text);
    }

    fn copy_to(&mut self, end: usize) {
        let copied = self.copied.min(end);
        self.positions.0.push(Stretch { tera: self.tera.len(), typed: copied, copied: true });
        self.tera.push_str(self.source.get(copied..end).unwrap_or(""));
        self.copied = end;
    }

    /// Copies the rest of a tag, including its end.
    fn copy_rest(&mut self) {
        while self.peek().is_some_and(|token| token.kind != Kind::Close) {
            self.copy();
        }
        self.copy();
    }
}
