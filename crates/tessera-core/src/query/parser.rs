//! The parser: recursive descent over the tokens. Every error has a position and a hint.

use super::ast::{
    DEPTH_MAX, Expr, Like, Name, Order, PREDICATES_MAX, Predicate, QUERY_MAX, Query, VALUES_MAX, Value,
    ValueKind, Verb, joined,
};
use super::error::{QueryError, Result, Span};
use super::lexer::{self, Token, TokenKind};
use super::rt;

/// How a query is read: its AND and OR without parentheses, its dates and its patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// AND binds tighter than OR.
    #[default]
    Tessera,
    /// As in RT: all operators on a level are read as the last one, a day without a time is its midnight, and a pattern matches
    /// anywhere in a text. RT: `RT::SQL::ParseToArray`, `RT::Tickets`.
    Rt,
}

/// A parsed query.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The syntax tree.
    pub query: Query<Predicate>,
    /// Remarks on how it was read.
    pub warnings: Vec<QueryError>,
}

/// The words that cannot be names of fields.
pub const KEYWORDS: [&str; 15] = [
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "LIKE",
    "STARTSWITH",
    "ENDSWITH",
    "MATCHES",
    "BETWEEN",
    "CHANGED",
    "FROM",
    "TO",
    "SHALLOW",
];

/// Parses a query. An empty text is a query without tests.
///
/// # Errors
/// The first error.
pub fn parse(text: &str, dialect: Dialect) -> Result<Parsed> {
    if text.len() > QUERY_MAX {
        let message = format!("the query is {} bytes long; at most {QUERY_MAX} are allowed", text.len());
        return Err(QueryError::new(Span::new(0, text.len()), message)
            .hint("split a long list of ids into several searches"));
    }
    if let Some(at) = text.find('\0') {
        return Err(QueryError::new(
            Span::new(at, at + 1),
            "the query contains the character U+0000, which no ticket contains",
        )
        .hint("remove it"));
    }
    let tokens = lexer::lex(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, tests: 0, dialect, warnings: Vec::new() };
    if parser.peek().kind == TokenKind::End {
        return Ok(Parsed { query: Query(None), warnings: Vec::new() });
    }
    let expr = parser.level()?;
    match parser.peek() {
        Token { kind: TokenKind::End, .. } => {
            Ok(Parsed { query: Query(Some(expr)), warnings: parser.warnings })
        }
        Token { kind: TokenKind::Close, span } => {
            Err(QueryError::new(*span, "this parenthesis has no matching (")
                .hint("remove it, or add ( before it"))
        }
        _ => Err(parser.goes_on("join two tests with AND or OR")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    tests: usize,
    dialect: Dialect,
    warnings: Vec<QueryError>,
}

/// A fallback that is never used, because the lexer's last token is `End`.
static END: Token = Token { kind: TokenKind::End, span: Span { start: 0, end: 0 } };

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).or(self.tokens.last()).unwrap_or(&END)
    }

    /// The previous token.
    fn last(&self) -> &Token {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).unwrap_or(&END)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// Returns true if the next token is this keyword, ignoring case.
    fn sees(&self, keyword: &str) -> bool {
        word(&self.peek().kind).is_some_and(|found| found.eq_ignore_ascii_case(keyword))
    }

    fn eat(&mut self, keyword: &str) -> bool {
        let is_there = self.sees(keyword);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, keyword: &str, hint: &str) -> Result<()> {
        if self.eat(keyword) {
            return Ok(());
        }
        Err(QueryError::new(self.peek().span, format!("expected {keyword}")).hint(hint))
    }

    /// Everything up to a closing parenthesis or the end.
    fn level(&mut self) -> Result<Expr<Predicate>> {
        match self.dialect {
            Dialect::Tessera => self.any(),
            Dialect::Rt => self.rt_level(),
        }
    }

    fn any(&mut self) -> Result<Expr<Predicate>> {
        let mut members = vec![self.all()?];
        while self.eat("OR") {
            members.push(self.all()?);
        }
        Ok(joined(members, Expr::Or))
    }

    fn all(&mut self) -> Result<Expr<Predicate>> {
        let mut members = vec![self.one()?];
        while self.eat("AND") {
            members.push(self.one()?);
        }
        Ok(joined(members, Expr::And))
    }

    fn rt_level(&mut self) -> Result<Expr<Predicate>> {
        let start = self.peek().span;
        let mut members = vec![self.one()?];
        let mut words = Vec::new();
        loop {
            if self.eat("AND") {
                words.push("AND");
            } else if self.eat("OR") {
                words.push("OR");
            } else {
                break;
            }
            members.push(self.one()?);
        }
        let Some(last) = words.last() else { return Ok(joined(members, Expr::And)) };
        if words.iter().any(|word| word != last) {
            let span = start.to(self.last().span);
            let message = format!(
                "AND and OR are mixed without parentheses; as in RT, all of them are read as {last}, the last one"
            );
            self.warnings.push(
                QueryError::new(span, message).hint("add parentheses, which both dialects read the same way"),
            );
        }
        Ok(joined(members, if *last == "OR" { Expr::Or } else { Expr::And }))
    }

    fn one(&mut self) -> Result<Expr<Predicate>> {
        let start = self.peek().span;
        if self.eat("NOT") {
            let inner = self.deeper(start, Self::one)?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.peek().kind != TokenKind::Open {
            return self.predicate().map(Expr::Test);
        }
        self.at += 1;
        if self.peek().kind == TokenKind::Close {
            return Err(QueryError::new(start.to(self.peek().span), "these parentheses are empty")
                .hint("remove them, or write a test inside"));
        }
        let inner = self.deeper(start, Self::level)?;
        match self.peek() {
            Token { kind: TokenKind::Close, .. } => self.at += 1,
            Token { kind: TokenKind::End, .. } => {
                return Err(
                    QueryError::new(start, "this parenthesis is never closed").hint("add ) where it ends")
                );
            }
            _ => return Err(self.goes_on("join two tests with AND or OR, or close the parenthesis")),
        }
        // Parentheses around one test are an AND of one; around anything else they add nothing to the tree.
        Ok(match inner {
            Expr::Test(_) => Expr::And(vec![inner]),
            other => other,
        })
    }

    /// The error for a token after a complete test.
    fn goes_on(&self, hint: &str) -> QueryError {
        let token = self.peek();
        let error = QueryError::new(token.span, "expected AND or OR before this");
        match (&self.last().kind, word(&token.kind).map(str::to_lowercase).as_deref()) {
            (_, Some("order" | "sort" | "limit" | "group")) => error.hint(
                "a query only selects tickets; their order and number are separate parameters of the search",
            ),
            (TokenKind::Word(_), Some(_)) => {
                error.hint(format!("{hint}; put a text of several words in quotes: 'on hold'"))
            }
            _ => error.hint(hint),
        }
    }

    fn deeper<T>(&mut self, span: Span, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            let message = format!("parentheses and NOT are nested more than {DEPTH_MAX} levels deep here");
            return Err(QueryError::new(span, message).hint("remove those that are not needed"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn predicate(&mut self) -> Result<Predicate> {
        self.tests += 1;
        let mut field = self.field()?;
        let start = field.span;
        if self.tests > PREDICATES_MAX {
            let message = format!("this is test number {}; a query has at most {PREDICATES_MAX}", self.tests);
            return Err(QueryError::new(start, message).hint("use IN for a list of values"));
        }
        let (is_negated, verb) = if is_changed(&field) {
            field.parts.remove(0);
            if !field.parts.first().is_some_and(|first| begins_name(first)) {
                return Err(QueryError::new(start, "expected a field after Changed")
                    .hint("for example Changed.Status or Changed.CF.{Severity}"));
            }
            self.eat("CHANGED");
            (false, self.changed()?)
        } else {
            self.verb(&field)?
        };
        let predicate = Predicate { field, is_negated, verb, span: start.to(self.last().span) };
        Ok(match self.dialect {
            Dialect::Tessera => predicate,
            Dialect::Rt => rt::rewritten(predicate),
        })
    }

    fn field(&mut self) -> Result<Name> {
        let token = self.next();
        let refused = |message: &str, hint: &str| Err(QueryError::new(token.span, message).hint(hint));
        match token.kind {
            TokenKind::Word(parts) => {
                let name = Name::of_parts(parts, token.span);
                match name.parts.as_slice() {
                    [only] if !begins_name(only) => {
                        let message = format!("expected a test, but {} is a keyword", only.to_uppercase());
                        refused(&message, "a test is a field, an operator and a value, as in Status = 'open'")
                    }
                    _ => Ok(name),
                }
            }
            TokenKind::Quoted(text) => match Name::parse(&text) {
                Some(name) => Ok(Name { span: token.span, ..name }),
                None => refused(
                    "expected a field, but this text is not a field",
                    "a test begins with its field: Subject LIKE 'printer'",
                ),
            },
            TokenKind::End => {
                refused("expected a test, but the query ends here", "add a test such as Status = 'open'")
            }
            _ => refused(
                "expected a field",
                "a test is a field, an operator and a value, as in Status = 'open'",
            ),
        }
    }

    fn verb(&mut self, field: &Name) -> Result<(bool, Verb)> {
        if let TokenKind::Operator(sign) = self.peek().kind {
            self.at += 1;
            let value = self.value()?;
            let order = Order::ALL.into_iter().find(|order| order.as_str() == sign);
            return Ok(match order {
                Some(order) => (false, Verb::Order(order, value)),
                None => (sign == "!=", Verb::Equal(value)),
            });
        }
        if self.eat("SHALLOW") {
            let message = "SHALLOW is not supported: people are never searched for in groups";
            return Err(QueryError::new(self.last().span, message).hint("remove it"));
        }
        if self.eat("IS") {
            let is_negated = self.eat("NOT");
            self.expect(
                "NULL",
                "IS only tests whether there is a value: IS NULL or IS NOT NULL; to compare values, use =",
            )?;
            return Ok((is_negated, Verb::Null));
        }
        if self.eat("CHANGED") {
            return Ok((false, self.changed()?));
        }
        let is_negated = self.eat("NOT");
        if let Some(like) = Like::ALL.into_iter().find(|like| self.sees(like.as_str())) {
            self.at += 1;
            return Ok((is_negated, Verb::Like(like, self.value()?)));
        }
        if self.eat("MATCHES") {
            return Ok((is_negated, Verb::Matches(self.value()?)));
        }
        if self.eat("IN") {
            return Ok((is_negated, Verb::In(self.values()?)));
        }
        if self.eat("BETWEEN") {
            let low = self.value()?;
            self.expect("AND", "write BETWEEN low AND high")?;
            return Ok((is_negated, Verb::Between(low, self.value()?)));
        }
        Err(self.no_operator(field, is_negated))
    }

    fn no_operator(&self, field: &Name, is_negated: bool) -> QueryError {
        let token = self.peek();
        let error = QueryError::new(token.span, format!("expected an operator after {field}"));
        let all = "the operators are =, !=, <, <=, >, >=, LIKE, STARTSWITH, ENDSWITH, MATCHES, IN, BETWEEN, IS NULL, CHANGED";
        let next = word(&token.kind).map(str::to_lowercase);
        if is_negated {
            return error.hint(match (next.as_deref(), &token.kind) {
                (Some("is"), _) => "write IS NOT NULL".to_owned(),
                _ => "write != for \"is not equal\"; NOT can only come before a whole test or before LIKE, STARTSWITH, ENDSWITH, MATCHES, IN and BETWEEN".to_owned(),
            });
        }
        if field
            .parts
            .first()
            .is_some_and(|first| ["select", "where"].contains(&first.to_lowercase().as_str()))
        {
            return error.hint("start with the first test, without SELECT and WHERE: Status = 'open'");
        }
        match next.as_deref() {
            Some("and" | "or") | None if !matches!(token.kind, TokenKind::Quoted(_) | TokenKind::Number(_)) => {
                error.hint(format!("a test is a field, an operator and a value; to compare a field with several values, write Status IN ('new', 'open'); {all}"))
            }
            Some("contains" | "has" | "includes") => error.hint("use LIKE for part of a text"),
            Some("equals" | "eq" | "is") => error.hint("write ="),
            Some("starts" | "begins" | "startwith") => error.hint("write STARTSWITH"),
            Some("ends" | "endwith") => error.hint("write ENDSWITH"),
            Some("before" | "lt") => error.hint("write <"),
            Some("after" | "gt") => error.hint("write >"),
            Some("match") => error.hint("write MATCHES"),
            _ => error.hint(all),
        }
    }

    fn changed(&mut self) -> Result<Verb> {
        let from = if self.eat("FROM") { Some(self.value()?) } else { None };
        let to = if self.eat("TO") { Some(self.value()?) } else { None };
        for later in ["BY", "AFTER", "BEFORE", "FROM"] {
            if self.sees(later) {
                let error = QueryError::new(self.peek().span, format!("CHANGED does not take {later} here"));
                return Err(error.hint(
                    "write CHANGED FROM 'old' TO 'new'; for the user who makes the change, use Actor",
                ));
            }
        }
        Ok(Verb::Changed { from, to })
    }

    fn values(&mut self) -> Result<Vec<Value>> {
        let open = self.next();
        let example = "write a list in parentheses: IN ('new', 'open')";
        if open.kind != TokenKind::Open {
            return Err(QueryError::new(open.span, "expected a list after IN").hint(example));
        }
        let mut values = Vec::new();
        loop {
            if self.peek().kind == TokenKind::Close {
                let message = if values.is_empty() { "this list is empty" } else { "expected a value" };
                return Err(QueryError::new(self.peek().span, message).hint(example));
            }
            values.push(self.value()?);
            if values.len() > VALUES_MAX {
                let message = format!("this list has more than {VALUES_MAX} values");
                return Err(QueryError::new(open.span.to(self.peek().span), message)
                    .hint("split it into several lists joined by OR"));
            }
            let next = self.next();
            match next.kind {
                TokenKind::Comma => {}
                TokenKind::Close => return Ok(values),
                _ => return Err(QueryError::new(next.span, "expected a comma or )").hint(example)),
            }
        }
    }

    fn value(&mut self) -> Result<Value> {
        let token = self.peek().clone();
        let kind = match token.kind {
            TokenKind::Quoted(text) => ValueKind::Text(text),
            TokenKind::Number(number) => ValueKind::Number(number),
            TokenKind::Word(parts) => match Name::of_parts(parts, token.span) {
                name if matches!(name.parts.as_slice(), [only] if is_keyword(only)) => {
                    return Err(keyword_for_value(token.span, &name));
                }
                name => ValueKind::Name(name),
            },
            TokenKind::End => {
                return Err(QueryError::new(token.span, "expected a value, but the query ends here")
                    .hint("write a text in quotes or a number"));
            }
            TokenKind::Open => {
                return Err(QueryError::new(token.span, "expected a single value").hint("use IN for a list"));
            }
            TokenKind::Operator(_) => {
                return Err(QueryError::new(token.span, "expected a value, but this is another operator")
                    .hint("write the operators =, !=, <>, <, <=, > and >= without spaces in them"));
            }
            _ => {
                return Err(QueryError::new(token.span, "expected a value")
                    .hint("write a text in quotes or a number"));
            }
        };
        self.at += 1;
        Ok(Value { kind, span: token.span })
    }
}

fn is_keyword(part: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(part))
}

fn keyword_for_value(span: Span, name: &Name) -> QueryError {
    if name.parts.first().is_some_and(|part| part.eq_ignore_ascii_case("NULL")) {
        return QueryError::new(span, "NULL cannot be compared").hint("write IS NULL or IS NOT NULL");
    }
    QueryError::new(span, format!("expected a value, but {name} is a keyword"))
        .hint(format!("if it is the value, put it in quotes: '{name}'"))
}

/// `Changed.Status` means the same as `Status CHANGED`.
fn is_changed(field: &Name) -> bool {
    field.parts.len() > 1 && field.parts.first().is_some_and(|part| part.eq_ignore_ascii_case("Changed"))
}

/// Returns true if a name can begin with this part.
fn begins_name(part: &str) -> bool {
    !is_keyword(part) && !part.starts_with(|c: char| c.is_ascii_digit()) && part.chars().all(lexer::is_name)
}

fn word(kind: &TokenKind) -> Option<&str> {
    match kind {
        TokenKind::Word(parts) => match parts.as_slice() {
            [only] if !only.is_braced => Some(&only.text),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
