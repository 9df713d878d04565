//! The tree of a query, and its printed form, which reads back as the same tree.

use super::error::Span;
use super::lexer::{self, Part, is_name};
use std::fmt;

/// The longest query, in bytes of UTF-8.
pub const QUERY_MAX: usize = 8 * 1024;
/// How deep parentheses and NOTs may be nested.
pub const DEPTH_MAX: usize = 100;
/// Tests in a query.
pub const PREDICATES_MAX: usize = 200;
/// Values in a list after IN.
pub const VALUES_MAX: usize = 1_000;

/// A query at a stage: `P` is what its tests are. `None` = no test at all, which everything passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Query<P>(pub Option<Expr<P>>);

/// Tests joined by AND, OR and NOT.
///
/// An AND within an AND, and an OR within an OR, stand in parentheses of their own, and so does an AND of one: tests of the
/// history that stand in one parenthesis speak of one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr<P> {
    /// All of them.
    And(Vec<Expr<P>>),
    /// Any of them.
    Or(Vec<Expr<P>>),
    /// Not it.
    Not(Box<Expr<P>>),
    /// One test.
    Test(P),
}

/// A test as it is written.
#[derive(Debug, Clone)]
pub struct Predicate {
    /// What is looked at.
    pub field: Name,
    /// Whether the opposite is asked for: `!=`, `NOT LIKE`, `IS NOT NULL`.
    pub is_negated: bool,
    /// How it is looked at.
    pub verb: Verb,
    /// Where it stands.
    pub span: Span,
}

/// How a field is tested. Every one can be negated but `Order` and `Changed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// `=`
    Equal(Value),
    /// `<`, `<=`, `>`, `>=`
    Order(Order, Value),
    /// `LIKE`, `STARTSWITH`, `ENDSWITH`
    Like(Like, Value),
    /// `MATCHES`
    Matches(Value),
    /// `IS NULL`
    Null,
    /// `IN (…)`
    In(Vec<Value>),
    /// `BETWEEN … AND …`, both included
    Between(Value, Value),
    /// `CHANGED FROM … TO …`
    Changed {
        /// The old value; `None` = any.
        from: Option<Value>,
        /// The new value; `None` = any.
        to: Option<Value>,
    },
}

impl Verb {
    /// How it is written where it is not negated.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Equal(_) => "=",
            Self::Order(order, _) => order.as_str(),
            Self::Like(like, _) => like.as_str(),
            Self::Matches(_) => "MATCHES",
            Self::Null => "IS NULL",
            Self::In(_) => "IN",
            Self::Between(..) => "BETWEEN",
            Self::Changed { .. } => "CHANGED",
        }
    }

    /// The values of `=` and IN.
    pub fn equals(&self) -> Option<&[Value]> {
        match self {
            Self::Equal(value) => Some(std::slice::from_ref(value)),
            Self::In(values) => Some(values),
            _ => None,
        }
    }
}

/// Less and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Order {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Less, Self::AtMost, Self::More, Self::AtLeast];

    /// The sign, in queries and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Whether two things are in this order.
    pub fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// Which part of a text a pattern speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Like {
    /// `LIKE`: anywhere, or the whole where the pattern has wildcards.
    Like,
    /// `STARTSWITH`
    Start,
    /// `ENDSWITH`
    End,
}

impl Like {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Like, Self::Start, Self::End];

    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Like => "LIKE",
            Self::Start => "STARTSWITH",
            Self::End => "ENDSWITH",
        }
    }
}

/// What a field is compared with.
#[derive(Debug, Clone)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKind {
    /// A text in quotes. The escapes `\%`, `\_` and `\\` are kept, for patterns; no other backslash is in it.
    Text(String),
    /// A number as it is written.
    Number(String),
    /// A word without quotes: a name of a status or a queue, a placeholder, or another field.
    Name(Name),
}

/// The name of a field: parts between dots.
#[derive(Debug, Clone)]
pub struct Name {
    /// The parts; at least one.
    pub parts: Vec<String>,
    /// Where it stands.
    pub span: Span,
}

// Trees are equal when they say the same, wherever it stands.
impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field && self.is_negated == other.is_negated && self.verb == other.verb
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Name {}

impl Name {
    /// A name of these parts, which stands nowhere.
    pub fn of(parts: &[&str]) -> Self {
        Self { parts: parts.iter().map(|part| (*part).to_owned()).collect(), span: Span::default() }
    }

    /// A text that is one whole name, such as `CF.{Severity}`, which stands nowhere; `None` when it is not.
    pub fn parse(text: &str) -> Option<Self> {
        lexer::name(text).map(|parts| Self::of_parts(parts, Span::default()))
    }

    /// A name that was read at a place.
    pub(super) fn of_parts(parts: Vec<Part>, span: Span) -> Self {
        Self { parts: parts.into_iter().map(|part| part.text).collect(), span }
    }

    /// The parts, to match on.
    pub fn parts(&self) -> Vec<&str> {
        self.parts.iter().map(String::as_str).collect()
    }
}

impl Value {
    /// A text, as it is: what a pattern would take for a wildcard stands for itself.
    pub fn text(text: &str) -> Self {
        Self { kind: ValueKind::Text(text.replace('\\', "\\\\")), span: Span::default() }
    }

    /// A pattern for LIKE, with its own wildcards and escapes.
    pub fn pattern(pattern: &str) -> Self {
        let mut kept = String::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some('%' | '_' | '\\')) => kept.extend(['\\'].into_iter().chain(chars.next())),
                ('\\', Some(_)) => {}
                ('\\', None) => kept.push_str("\\\\"),
                _ => kept.push(c),
            }
        }
        Self { kind: ValueKind::Text(kept), span: Span::default() }
    }
}

/// A text with the escapes of patterns undone.
pub fn unescape(kept: &str) -> String {
    let mut plain = String::with_capacity(kept.len());
    let mut chars = kept.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// The members joined; one alone is itself.
pub(super) fn joined<T>(members: Vec<T>, join: impl FnOnce(Vec<T>) -> T) -> T {
    match <[T; 1]>::try_from(members) {
        Ok([only]) => only,
        Err(members) => join(members),
    }
}

impl<P> Query<P> {
    /// Every test, in the order of the text.
    pub fn tests(&self) -> Vec<&P> {
        self.0.as_ref().map_or_else(Vec::new, Expr::tests)
    }

    /// The same query with other tests, or the first error.
    ///
    /// # Errors
    /// What `change` answered first.
    pub fn try_map<Q, E>(&self, mut change: impl FnMut(&P) -> Result<Q, E>) -> Result<Query<Q>, E> {
        let expr = self.0.as_ref().map(|expr| expr.try_map(&mut change));
        Ok(Query(expr.transpose()?))
    }
}

impl<P> Expr<P> {
    /// Every test, in the order of the text.
    pub fn tests(&self) -> Vec<&P> {
        let mut tests = Vec::new();
        self.collect(&mut tests);
        tests
    }

    fn collect<'a>(&'a self, tests: &mut Vec<&'a P>) {
        match self {
            Self::And(members) | Self::Or(members) => {
                members.iter().for_each(|member| member.collect(tests));
            }
            Self::Not(inner) => inner.collect(tests),
            Self::Test(test) => tests.push(test),
        }
    }

    fn try_map<Q, E>(&self, change: &mut impl FnMut(&P) -> Result<Q, E>) -> Result<Expr<Q>, E> {
        Ok(match self {
            Self::And(members) => {
                Expr::And(members.iter().map(|member| member.try_map(change)).collect::<Result<_, E>>()?)
            }
            Self::Or(members) => {
                Expr::Or(members.iter().map(|member| member.try_map(change)).collect::<Result<_, E>>()?)
            }
            Self::Not(inner) => Expr::Not(Box::new(inner.try_map(change)?)),
            Self::Test(test) => Expr::Test(change(test)?),
        })
    }
}

impl<P: fmt::Display> fmt::Display for Query<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // An AND of one is a parenthesis, at the outside too.
            Some(expr @ Expr::And(members)) if members.len() == 1 => write!(f, "({expr})"),
            Some(expr) => expr.fmt(f),
            None => Ok(()),
        }
    }
}

impl<P: fmt::Display> fmt::Display for Expr<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (members, word) = match self {
            Self::Test(test) => return test.fmt(f),
            Self::Not(inner) => {
                return match inner.as_ref() {
                    Self::And(_) | Self::Or(_) => write!(f, "NOT ({inner})"),
                    _ => write!(f, "NOT {inner}"),
                };
            }
            Self::And(members) => (members, " AND "),
            Self::Or(members) => (members, " OR "),
        };
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                f.write_str(word)?;
            }
            let is_apart = match (self, member) {
                (_, Self::And(inner)) => matches!(self, Self::And(_)) || inner.len() == 1,
                (_, Self::Or(_)) => true,
                _ => false,
            };
            if is_apart { write!(f, "({member})")? } else { member.fmt(f)? }
        }
        Ok(())
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.is_negated { "NOT " } else { "" };
        let (field, keyword) = (&self.field, self.verb.keyword());
        match &self.verb {
            Verb::Equal(value) if self.is_negated => write!(f, "{field} != {value}"),
            Verb::Null if self.is_negated => write!(f, "{field} IS NOT NULL"),
            Verb::Null => write!(f, "{field} {keyword}"),
            Verb::Equal(value) | Verb::Order(_, value) | Verb::Like(_, value) | Verb::Matches(value) => {
                write!(f, "{field} {not}{keyword} {value}")
            }
            Verb::In(values) => {
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                write!(f, "{field} {not}{keyword} ({})", values.join(", "))
            }
            Verb::Between(low, high) => write!(f, "{field} {not}{keyword} {low} AND {high}"),
            Verb::Changed { from, to } => {
                write!(f, "{field} {keyword}")?;
                from.iter().try_for_each(|from| write!(f, " FROM {from}"))?;
                to.iter().try_for_each(|to| write!(f, " TO {to}"))
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // Backslashes are escapes already; a quote becomes one.
            ValueKind::Text(text) => write!(f, "'{}'", text.replace('\'', "\\'")),
            ValueKind::Number(number) => f.write_str(number),
            ValueKind::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is after the CF of a custom field is always in braces, so that it never reads as a subfield.
        let is_field = self.parts.len() > 1 && self.parts.iter().any(|part| part.eq_ignore_ascii_case("cf"));
        for (at, part) in self.parts.iter().enumerate() {
            let is_last = at + 1 == self.parts.len();
            let is_plain = part.chars().all(is_name);
            if at > 0 {
                f.write_str(".")?;
            }
            if at > 0 && ((is_last && is_field) || !is_plain) {
                write!(f, "{{{part}}}")?;
            } else {
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}
