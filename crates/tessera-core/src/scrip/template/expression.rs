//! Parses an expression: every path, filter, test, function and argument in it must exist. Operators, parts and slices become the
//! filters of [`super::operators`], so that an unset value ends no rendering.
//!
//! Precedence is Tera's. Values and nesting are counted here, before Tera sees the text: its parser is recursive.

use super::aliases::{self, Meaning as RtName};
use super::filters::{self, Offered};
use super::lex::{Kind, Trouble};
use super::operators::{ARITHMETIC, COMPARISONS};
use super::scan::Scan;
use super::variables::{self, Meaning};
use super::{DEPTH_MAX, LIST_MAX, PARTS_MAX};
use crate::models::text;

type Parsed = Result<(), Trouble>;

/// How tightly operators bind; a larger number binds tighter.
mod power {
    pub(super) const IF: u8 = 0;
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 3;
    pub(super) const TEST: u8 = 5;
    pub(super) const COMPARISON: u8 = 7;
    pub(super) const SUM: u8 = 11;
    pub(super) const PRODUCT: u8 = 13;
    pub(super) const EXPONENT: u8 = 15;
    pub(super) const FILTER: u8 = 17;
    pub(super) const SIGN: u8 = 20;
}

/// The parts of `loop`.
const LOOP: [&str; 5] = ["index", "index0", "first", "last", "length"];

const OPERATOR_MISSING: &str = "an operator such as + or | is missing before this";

impl<'s> Scan<'s> {
    /// Checks and writes the tokens up to the end of the tag, which is not consumed. Only the first error is reported, because
    /// others often follow from it.
    pub(super) fn expression(&mut self) {
        (self.parts, self.depth) = (0, 0);
        if let Err((at, message)) = self.whole() {
            self.trouble(at, message);
        }
        while !self.is_at_end() {
            self.copy();
        }
    }

    fn whole(&mut self) -> Parsed {
        self.value(power::IF)?;
        match self.is_at_end() {
            true => Ok(()),
            false if self.is_sign(")") || self.is_sign("]") => self.refused("no bracket is open here"),
            false => self.refused(OPERATOR_MISSING),
        }
    }

    /// An operand, and the operators after it that bind at least so tightly.
    fn value(&mut self, least: u8) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.refused(format!("an expression is nested at most {DEPTH_MAX} deep (DEPTH_MAX)"));
        }
        self.operand()?;
        while self.operator(least)? {}
        self.depth -= 1;
        Ok(())
    }

    fn operand(&mut self) -> Parsed {
        self.count(1)?;
        let Some(token) = self.peek().filter(|token| token.kind != Kind::Close) else {
            return self.refused("a value is missing here");
        };
        match (token.kind, self.word(&token)) {
            (Kind::Quoted | Kind::Number, _) => self.copy(),
            (Kind::Name, "true" | "True" | "false" | "False" | "none" | "None" | "null") => self.copy(),
            (Kind::Name, "not") => return self.negation(),
            (Kind::Name, "and" | "or" | "in" | "is" | "if" | "else") => {
                return self.refused("a value is missing here");
            }
            (Kind::Name, _) if self.word_after() == "(" => self.function()?,
            (Kind::Name, _) => self.path()?,
            (Kind::Sign, "-") => return self.negative(),
            (Kind::Sign, "(") => {
                self.copy();
                self.value(power::IF)?;
                self.closing(")")?;
            }
            (Kind::Sign, "[") => self.list(true)?,
            (Kind::Sign, "{" | "}") => return self.refused("map literals are not supported"),
            (Kind::Sign, "@" | "</" | "<") => return self.refused("components are not supported"),
            (Kind::Sign, "." | "?.") => return self.refused("a dot must follow a name"),
            (Kind::Sign, ")" | "]") if self.depth == 1 => return self.refused("no bracket is open here"),
            _ => return self.refused("a value is missing here"),
        }
        self.parts_of_value()
    }

    /// `not x`
    fn negation(&mut self) -> Parsed {
        self.copy();
        if self.is_sign("-") || self.name().as_deref() == Some("not") {
            return self.refused("\"-\" and \"not\" cannot be used consecutively");
        }
        self.value(power::TEST)
    }

    /// `-x`
    fn negative(&mut self) -> Parsed {
        let at = self.here();
        if self.peek_after(1).is_some_and(|token| token.kind == Kind::Number) {
            self.copy();
            self.copy();
            return Ok(());
        }
        if self.word_after() == "-" || self.word_after() == "not" {
            self.skip();
            return self.refused("\"-\" and \"not\" cannot be used consecutively");
        }
        self.replace(" ");
        self.value(power::SIGN)?;
        self.insert(" | negative", at);
        Ok(())
    }

    /// Literals in brackets; a list of lists is not nested deeper.
    fn list(&mut self, is_outer: bool) -> Parsed {
        self.copy();
        let mut items = 0;
        while !self.is_sign("]") {
            items += 1;
            if items > LIST_MAX {
                return self.refused(format!("a list literal has at most {LIST_MAX} items (LIST_MAX)"));
            }
            if self.is_sign("-") {
                self.copy();
            }
            let token = self.peek().map(|token| (token.kind, self.word(&token)));
            match token {
                Some((Kind::Quoted | Kind::Number, _) | (Kind::Name, "true" | "false" | "null")) => {
                    self.copy()
                }
                Some((_, "[")) if is_outer => self.list(false)?,
                Some((Kind::Close, _)) | None => return self.closing("]"),
                _ => return self.refused("a list literal can contain only texts and numbers"),
            }
            match self.is_sign(",") {
                true => self.copy(),
                false if self.is_sign("]") => {}
                false => return self.closing("]"),
            }
        }
        self.closing("]")
    }

    /// An operator, with its right operand. Returns `false` if none follows that binds so tightly.
    fn operator(&mut self, least: u8) -> Result<bool, Trouble> {
        let Some(token) = self.peek().filter(|token| token.kind != Kind::Close) else { return Ok(false) };
        let (word, at) = (self.word(&token), self.here());
        if let Some((_, filter)) = COMPARISONS.iter().find(|(sign, _)| *sign == word) {
            return self.binary(power::COMPARISON, least, &format!(" | {filter}(to="), power::COMPARISON + 1);
        }
        if let Some((_, filter)) = ARITHMETIC.iter().find(|(sign, _)| *sign == word) {
            let (left, right) = match word {
                "+" | "-" => (power::SUM, power::SUM + 1),
                "**" => (power::EXPONENT + 1, power::EXPONENT),
                _ => (power::PRODUCT, power::PRODUCT + 1),
            };
            return self.binary(left, least, &format!(" | {filter}(by="), right);
        }
        match (token.kind, word) {
            (Kind::Name, "in") => self.binary(power::TEST, least, " | within(of=", power::TEST + 1),
            (Kind::Name, "not") if self.word_after() != "in" => Err((at, OPERATOR_MISSING.to_owned())),
            (Kind::Name, "not") if power::TEST >= least => {
                self.skip();
                self.binary(power::TEST, least, " | outside(of=", power::TEST + 1)
            }
            (Kind::Name, "and") if power::AND >= least => self.logic(power::AND + 1),
            (Kind::Name, "or") if power::OR >= least => self.logic(power::OR + 1),
            (Kind::Name, "is") if power::TEST >= least => self.test(),
            (Kind::Name, "if") if least == power::IF => self.choice(),
            (Kind::Sign, "|") if power::FILTER >= least => {
                self.count(1)?;
                self.copy();
                self.offered("filter", filters::FILTERS).map(|()| true)
            }
            (Kind::Sign, "[" | "?[") => self.index().map(|()| true),
            (Kind::Sign, "~") => self
                .refused("\"~\" is not supported; write {{ a }}{{ b }}, or a | append(text=b)")
                .map(|()| false),
            (Kind::Sign, "{" | "}") => self.refused("map literals are not supported").map(|()| false),
            (Kind::Sign, "@" | "</") => self.refused("components are not supported").map(|()| false),
            (Kind::Sign, "." | "?.") => self.refused("a dot must follow a name").map(|()| false),
            _ => Ok(false),
        }
    }

    /// Writes an operator as a filter with its right operand, and returns whether it binds tightly enough.
    fn binary(&mut self, left: u8, least: u8, filter: &str, right: u8) -> Result<bool, Trouble> {
        if left < least {
            return Ok(false);
        }
        self.count(1)?;
        let at = self.here();
        self.replace(filter);
        self.value(right)?;
        self.insert(")", at);
        Ok(true)
    }

    fn logic(&mut self, right: u8) -> Result<bool, Trouble> {
        self.count(1)?;
        self.copy();
        self.value(right)?;
        Ok(true)
    }

    /// `is defined`, `is not containing(pat="x")`
    fn test(&mut self) -> Result<bool, Trouble> {
        self.count(1)?;
        self.copy();
        if self.name().as_deref() == Some("not") {
            self.copy();
        }
        self.offered("test", filters::TESTS)?;
        Ok(true)
    }

    /// `a if b else c`
    fn choice(&mut self) -> Result<bool, Trouble> {
        self.count(1)?;
        self.copy();
        self.value(power::IF)?;
        if self.name().as_deref() != Some("else") {
            return self.refused("write a if b else c; \"else\" is missing here").map(|()| false);
        }
        self.copy();
        self.value(power::IF)?;
        Ok(false)
    }

    fn function(&mut self) -> Parsed {
        self.offered("function", filters::FUNCTIONS)
    }

    /// The name of a filter, a test or a function, and its arguments.
    fn offered(&mut self, what: &str, offered: &'static [Offered]) -> Parsed {
        let Some(name) = self.name() else {
            return self.refused(format!("the name of a {what} is missing here"));
        };
        let Some(found) = offered.iter().find(|one| one.name == name) else {
            let known = offered.iter().map(|one| one.name).collect();
            return self.refused(variables::unknown("", what, &name, known));
        };
        self.copy();
        if self.is_sign("(") { self.arguments(found.arguments) } else { Ok(()) }
    }

    /// `(name=value, …)`
    fn arguments(&mut self, known: &'static [&'static str]) -> Parsed {
        self.copy();
        while !self.is_sign(")") {
            let Some(name) = self.name().filter(|_| self.word_after() == "=") else {
                if self.is_at_end() {
                    return self.closing(")");
                }
                return self.refused(format!("write arguments by name; the names are {}", text::list(known)));
            };
            if !known.contains(&name.as_str()) {
                return self.refused(variables::unknown("", "argument", &name, known.to_vec()));
            }
            self.copy();
            self.copy();
            self.value(power::IF)?;
            match self.is_sign(",") {
                true => self.copy(),
                false if self.is_sign(")") => {}
                false => return self.closing(")"),
            }
        }
        self.closing(")")
    }

    /// A variable, with the literal parts of its path.
    fn path(&mut self) -> Parsed {
        let (root, at, prints) = (self.name().unwrap_or_default(), self.here(), self.begins_print());
        if self.is_bound(&root) {
            self.copy();
            return if root == "loop" { self.part_of_loop(at) } else { Ok(()) };
        }
        let mut path = vec![root.clone()];
        match aliases::meaning(&root) {
            Some(RtName::Field(name)) => {
                self.count(2)?;
                self.replace(&format!("ticket.cf | field(name={})", filters::literal(&name)));
                return self.uses_field(name, at);
            }
            Some(RtName::Path(alias)) => {
                path = alias.split('.').map(str::to_owned).collect();
                self.replace(alias);
            }
            None if root == "cf" => {
                path = vec!["ticket".to_owned(), "cf".to_owned()];
                self.replace("ticket.cf");
            }
            None => self.copy(),
        }
        self.count(path.len() - 1)?;
        while let Some((part, tokens)) = self.literal_part() {
            self.count(1)?;
            if path == ["ticket", "cf"] {
                self.insert(" | item(at=", self.here());
                self.part(&part, tokens);
                self.insert(")", at);
                if let Some((more, _)) = self.literal_part() {
                    path.extend([part, more]);
                    return Err((at, variables::meaning(&path).err().unwrap_or_default()));
                }
                return self.uses_field(part, at);
            }
            path.push(part);
            (0..tokens).for_each(|_| self.copy());
        }
        match variables::meaning(&path) {
            Err(reason) => return Err((at, reason)),
            Ok(Meaning::Group(parts)) if prints && self.is_at_end() => {
                return Err((at, format!("\"{}\" has parts; name one: {parts}", path.join("."))));
            }
            Ok(_) => drop(self.facts.paths.insert(path.join("."))),
        }
        Ok(())
    }

    fn uses_field(&mut self, name: String, at: usize) -> Parsed {
        if name.len() > text::NAME_MAX {
            return Err((at, format!("the name of a custom field has at most {} bytes", text::NAME_MAX)));
        }
        self.facts.paths.insert("ticket.cf".to_owned());
        self.facts.custom_fields.insert(name);
        Ok(())
    }

    fn part_of_loop(&mut self, at: usize) -> Parsed {
        let part = self.word_after();
        if !self.is_sign(".") || !LOOP.contains(&part) {
            let known = LOOP.to_vec();
            return Err((at, variables::unknown("loop.", "variable", part, known)));
        }
        self.copy();
        self.copy();
        Ok(())
    }

    /// `.part` or `["part"]`, with the number of its tokens.
    fn literal_part(&self) -> Option<(String, usize)> {
        let after = self.peek_after(1)?;
        let part = self.word(after);
        if after.kind == Kind::Name && (self.is_sign(".") || self.is_sign("?.")) {
            return Some((part.to_owned(), 2));
        }
        let is_closed = self.peek_after(2).is_some_and(|token| self.word(token) == "]");
        let is_quoted = after.kind == Kind::Quoted && is_closed && (self.is_sign("[") || self.is_sign("?["));
        is_quoted.then(|| (filters::unquoted(part), 3))
    }

    /// Writes the name of a literal part as a text.
    fn part(&mut self, name: &str, tokens: usize) {
        self.skip();
        if tokens == 2 {
            self.replace(&filters::literal(name))
        } else {
            self.copy()
        }
        (2..tokens).for_each(|_| self.skip());
    }

    /// The parts of a value that are known only when it is rendered: `.part`, `[index]`, `[from:to]`.
    fn parts_of_value(&mut self) -> Parsed {
        loop {
            if self.is_sign("[") || self.is_sign("?[") {
                self.index()?;
            } else if self.is_sign(".") || self.is_sign("?.") {
                let Some((name, _)) = self.literal_part() else {
                    return self.refused("a dot must follow a name");
                };
                self.count(1)?;
                let (at, maybe) = (self.here(), self.is_sign("?."));
                self.insert(&format!(" | item(maybe={maybe}, at="), at);
                self.part(&name, 2);
                self.insert(")", at);
            } else {
                return Ok(());
            }
        }
    }

    fn index(&mut self) -> Parsed {
        self.count(1)?;
        let maybe = self.is_sign("?[");
        self.replace(&format!(" | item(maybe={maybe}"));
        if !self.is_sign(":") {
            self.insert(", at=", self.here());
            self.value(power::IF)?;
        }
        if self.is_sign(":") {
            self.replace(", slice=true");
            if self.is_sign(":") {
                return self.refused("a slice has no step; write [from:to]");
            }
            if !self.is_sign("]") {
                self.insert(", to=", self.here());
                self.value(power::IF)?;
            }
            if self.is_sign(":") {
                return self.refused("a slice has no step; write [from:to]");
            }
        }
        if self.is_sign("]") {
            self.replace(")");
            return Ok(());
        }
        self.closing("]")
    }

    /// Consumes a closing bracket.
    fn closing(&mut self, bracket: &str) -> Parsed {
        if self.is_sign(bracket) {
            self.copy();
            return Ok(());
        }
        let is_open = self.is_at_end() || self.is_sign(")") || self.is_sign("]");
        self.refused(if is_open { "a bracket is still open here; close it" } else { OPERATOR_MISSING })
    }

    /// Counts values, parts, operators and filters.
    fn count(&mut self, parts: usize) -> Parsed {
        self.parts += parts;
        if self.parts <= PARTS_MAX {
            return Ok(());
        }
        let why = "an expression has at most";
        self.refused(format!(
            "{why} {PARTS_MAX} values, parts, operators and filters (PARTS_MAX); split it with {{% set %}}"
        ))
    }

    fn refused(&self, message: impl Into<String>) -> Parsed {
        Err((self.here(), message.into()))
    }

    fn is_at_end(&self) -> bool {
        self.peek().is_none_or(|token| token.kind == Kind::Close)
    }

    /// Returns the word after the next one.
    fn word_after(&self) -> &'s str {
        self.peek_after(1).map(|token| self.word(token)).unwrap_or_default()
    }
}
