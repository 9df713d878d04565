//! Checks an expression: every path, filter, test, function and argument in it must exist.

use super::filters::{self, Offered};
use super::lex::Kind;
use super::scan::Scan;
use super::variables::{self, Meaning};
use super::{BRACKETS_MAX, aliases};

/// The kind of an open bracket.
enum Bracket {
    /// `(` of a call, with the names of its arguments if they are known.
    Call(Option<&'static [&'static str]>),
    /// `[` of a list of literals.
    List,
    /// Another `(`, or `[` of an index.
    Other,
}

/// The state of reading an expression.
#[derive(Default)]
struct State {
    brackets: Vec<Bracket>,
    /// Whether the previous token ends an operand.
    operand: bool,
}

impl Scan<'_> {
    /// Checks and copies the tokens up to the end of the tag, which is not consumed. Only the first error is reported, because
    /// others often follow from it.
    pub(super) fn expression(&mut self) {
        let before = self.troubles();
        let mut state = State::default();
        while let Some(token) = self.peek().filter(|token| token.kind != Kind::Close) {
            match token.kind {
                Kind::Name => self.read_name(&mut state),
                Kind::Sign => self.read_sign(&mut state),
                _ => {
                    self.begin_operand(&mut state);
                    self.copy();
                }
            }
            if state.brackets.len() > BRACKETS_MAX {
                self.trouble(token.range.start, format!("more than {BRACKETS_MAX} brackets are open here"));
                break;
            }
        }
        if !state.operand {
            self.trouble(self.here(), "a value is missing here");
        }
        if !state.brackets.is_empty() {
            self.trouble(self.here(), "a bracket is still open here; close it");
        }
        self.keep_troubles(before + 1);
    }

    fn read_name(&mut self, state: &mut State) {
        let (name, at) = (self.name().unwrap_or_default(), self.here());
        let next = self.peek_after(1).map(|token| self.word(token)).unwrap_or_default();
        match name.as_str() {
            "true" | "True" | "false" | "False" | "none" | "None" | "null" => {
                self.begin_operand(state);
                self.copy();
            }
            "is" => self.read_test(state),
            "and" | "or" | "not" | "in" | "if" | "else" => {
                self.copy();
                state.operand = false;
            }
            "for" => {
                self.trouble(at, "list comprehensions are not supported; use {% for %}");
                self.copy();
            }
            _ if next == "=" && matches!(state.brackets.last(), Some(Bracket::Call(_))) => {
                if let Some(Bracket::Call(Some(arguments))) = state.brackets.last()
                    && !arguments.contains(&name.as_str())
                {
                    self.trouble(at, variables::unknown("", "argument", &name, arguments.to_vec()));
                }
                self.copy();
                state.operand = false;
            }
            _ if next == "(" => self.read_offered(state, "function", filters::FUNCTIONS),
            _ if matches!(state.brackets.last(), Some(Bracket::List)) => {
                self.trouble(at, "a list literal can contain only texts and numbers");
                self.copy();
            }
            _ => {
                self.begin_operand(state);
                self.read_path();
            }
        }
    }

    fn begin_operand(&mut self, state: &mut State) {
        if std::mem::replace(&mut state.operand, true) {
            self.trouble(self.here(), "an operator such as + or | is missing before this");
        }
    }

    fn read_sign(&mut self, state: &mut State) {
        let at = self.here();
        let sign = self.peek().map(|token| self.word(&token).to_owned()).unwrap_or_default();
        let operand = std::mem::replace(&mut state.operand, matches!(sign.as_str(), ")" | "]"));
        let refused = match sign.as_str() {
            "~" => Some("\"~\" is not supported; write {{ a }}{{ b }}, or a | append(text=b)"),
            "{" | "}" => Some("map literals are not supported"),
            "@" | "</" => Some("components are not supported"),
            "<" if !operand => Some("components are not supported"),
            "." | "?." if !operand => Some("a dot must follow a name"),
            ")" | "]" if state.brackets.is_empty() => Some("no bracket is open here"),
            _ => None,
        };
        if let Some(reason) = refused {
            self.trouble(at, reason);
        }
        self.copy();
        match sign.as_str() {
            "(" => state.brackets.push(Bracket::Other),
            "[" | "?[" if operand => state.brackets.push(Bracket::Other),
            "[" | "?[" => state.brackets.push(Bracket::List),
            ")" | "]" => drop(state.brackets.pop()),
            "|" if self.name().is_some() => self.read_offered(state, "filter", filters::FILTERS),
            "." | "?." if self.name().is_some() => {
                self.copy();
                state.operand = true;
            }
            _ => {}
        }
    }

    /// `is defined`, `is not containing(pat="x")`.
    fn read_test(&mut self, state: &mut State) {
        self.copy();
        if self.name().as_deref() == Some("not") {
            self.copy();
        }
        if self.name().is_some() {
            self.read_offered(state, "test", filters::TESTS);
        }
    }

    /// Reads the name of a filter, a test or a function, and the bracket after it.
    fn read_offered(&mut self, state: &mut State, what: &str, offered: &'static [Offered]) {
        let (name, at) = (self.name().unwrap_or_default(), self.here());
        let found = offered.iter().find(|one| one.name == name);
        if found.is_none() {
            let known = offered.iter().map(|one| one.name).collect();
            self.trouble(at, variables::unknown("", what, &name, known));
        }
        self.copy();
        state.operand = true;
        if self.is_sign("(") {
            self.copy();
            state.brackets.push(Bracket::Call(found.map(|one| one.arguments)));
            state.operand = false;
        }
    }

    /// Reads a variable, with the literal parts of its path.
    fn read_path(&mut self) {
        let (root, at, prints) = (self.name().unwrap_or_default(), self.here(), self.begins_print());
        if self.is_bound(&root) {
            return self.copy();
        }
        let alias = if root == "cf" { Some("ticket.cf".to_owned()) } else { aliases::path_of(&root) };
        match &alias {
            Some(path) => self.replace(path),
            None => self.copy(),
        }
        let mut path: Vec<String> = alias.unwrap_or(root).split('.').map(str::to_owned).collect();
        while let Some(part) = self.read_part() {
            path.push(part);
        }
        let ends = self.peek().is_none_or(|token| token.kind == Kind::Close);
        match variables::meaning(&path) {
            Err(reason) => self.trouble(at, reason),
            Ok(Meaning::Group(parts)) if prints && ends => {
                self.trouble(at, format!("\"{}\" has parts; name one: {parts}", path.join(".")));
            }
            Ok(Meaning::Field(name)) => {
                self.facts.paths.insert("ticket.cf".to_owned());
                self.facts.custom_fields.insert(name);
            }
            Ok(_) => drop(self.facts.paths.insert(path.join("."))),
        }
    }

    /// `.part` or `["part"]`.
    fn read_part(&mut self) -> Option<String> {
        let after = self.peek_after(1)?;
        let part = self.word(after).to_owned();
        if after.kind == Kind::Name && (self.is_sign(".") || self.is_sign("?.")) {
            self.copy();
            self.copy();
            return Some(part);
        }
        let closed = self.peek_after(2).is_some_and(|token| self.word(token) == "]");
        if after.kind == Kind::Quoted && closed && (self.is_sign("[") || self.is_sign("?[")) {
            (0..3).for_each(|_| self.copy());
            return Some(filters::unquoted(&part));
        }
        None
    }
}
