//! The syntax tree of a query, and its printed form, which parses to the same tree.

use super::error::Span;
use super::lexer::{self, Part, is_name};
use std::fmt;

/// The longest query, in bytes of UTF-8.
pub const QUERY_MAX: usize = 8 * 1024;
/// The maximum nesting depth of parentheses and NOT.
pub const DEPTH_MAX: usize = 100;
/// The maximum number of tests in a query.
pub const PREDICATES_MAX: usize = 200;
/// The maximum number of values in a list after IN.
pub const VALUES_MAX: usize = 1_000;
/// The maximum length of a pattern after LIKE, STARTSWITH and ENDSWITH, in bytes of UTF-8. Every text is compared with it at each of
/// its characters.
pub const PATTERN_MAX: usize = 1_000;
/// The maximum number of wildcards in a pattern. Between two of them, a text is searched again.
pub const WILDCARDS_MAX: usize = 50;

/// A query. `P` is the type of its tests, which depends on the stage. `None` = no tests, which matches every ticket.
#[derive(Debug, Clone, PartialEq)]
pub struct Query<P>(pub Option<Expr<P>>);

/// Tests joined by AND, OR and NOT.
///
/// An AND in an AND, an OR in an OR, and an AND of one test have parentheses of their own, because tests of the history in the
/// same parentheses apply to the same transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr<P> {
    /// All members must hold.
    And(Vec<Expr<P>>),
    /// Any member must hold.
    Or(Vec<Expr<P>>),
    /// The inner expression must not hold.
    Not(Box<Expr<P>>),
    /// A test.
    Test(P),
}

/// A test as written.
#[derive(Debug, Clone)]
pub struct Predicate {
    /// The field.
    pub field: Name,
    /// True for the opposite: `!=`, `NOT LIKE`, `IS NOT NULL`.
    pub is_negated: bool,
    /// The operator and its values.
    pub verb: Verb,
    /// Its position in the query.
    pub span: Span,
}

/// An operator with its values. All except `Order` and `Changed` can be negated.
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
    /// `BETWEEN … AND …`, both ends included
    Between(Value, Value),
    /// `CHANGED FROM … TO …`
    Changed {
        /// The old value; `None` = any value.
        from: Option<Value>,
        /// The new value; `None` = any value.
        to: Option<Value>,
    },
}

impl Verb {
    /// Returns the keyword of the operator without NOT.
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

    /// Returns all values.
    pub fn values(&self) -> Vec<&Value> {
        match self {
            Self::Equal(value) | Self::Order(_, value) | Self::Like(_, value) | Self::Matches(value) => {
                vec![value]
            }
            Self::Null => Vec::new(),
            Self::In(values) => values.iter().collect(),
            Self::Between(low, high) => vec![low, high],
            Self::Changed { from, to } => from.iter().chain(to).collect(),
        }
    }

    /// The operator with other values. Patterns and the values of CHANGED stay.
    pub(super) fn map_values(self, mut change: impl FnMut(Value) -> Value) -> Self {
        match self {
            Self::Equal(value) => Self::Equal(change(value)),
            Self::Order(order, value) => Self::Order(order, change(value)),
            Self::In(values) => Self::In(values.into_iter().map(change).collect()),
            Self::Between(low, high) => Self::Between(change(low), change(high)),
            other => other,
        }
    }

    /// Returns the values of `=` and IN.
    pub fn equals(&self) -> Option<&[Value]> {
        match self {
            Self::Equal(value) => Some(std::slice::from_ref(value)),
            Self::In(values) => Some(values),
            _ => None,
        }
    }
}

/// An order comparison.
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
    /// All variants.
    pub const ALL: [Self; 4] = [Self::Less, Self::AtMost, Self::More, Self::AtLeast];

    /// Returns the sign, which is the same in queries and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Returns true if two values are in this order.
    pub fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// The part of a text to which a pattern applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Like {
    /// `LIKE`: anywhere in the text, or the whole text if the pattern has wildcards.
    Like,
    /// `STARTSWITH`
    Start,
    /// `ENDSWITH`
    End,
}

impl Like {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Like, Self::Start, Self::End];

    /// Returns the keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Like => "LIKE",
            Self::Start => "STARTSWITH",
            Self::End => "ENDSWITH",
        }
    }
}

/// A value in a query.
#[derive(Debug, Clone)]
pub struct Value {
    /// The value.
    pub kind: ValueKind,
    /// Its position in the query.
    pub span: Span,
}

/// The kinds of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKind {
    /// A text in quotes. The escapes `\%`, `\_` and `\\` are kept for patterns; it contains no other backslash.
    Text(String),
    /// A number as written.
    Number(String),
    /// A word without quotes: the name of a status or a queue, a placeholder, or another field.
    Name(Name),
}

/// The name of a field, which consists of parts separated by dots.
#[derive(Debug, Clone)]
pub struct Name {
    /// The parts; at least one.
    pub parts: Vec<String>,
    /// Its position in the query.
    pub span: Span,
}

// Trees are equal if they mean the same; positions are ignored.
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
    /// Returns a name without a position.
    pub fn of(parts: &[&str]) -> Self {
        Self { parts: parts.iter().map(|part| (*part).to_owned()).collect(), span: Span::default() }
    }

    /// Parses a text that is one whole name, such as `CF.{Severity}`, or `CF.My Queue.{Severity}`, which needs no braces around the
    /// queue, because the name ends where the text does. The name has no position.
    pub fn parse(text: &str) -> Option<Self> {
        lexer::name(text).map(|parts| Self::of_parts(parts, Span::default()))
    }

    /// A name that was parsed at a position.
    pub(super) fn of_parts(parts: Vec<Part>, span: Span) -> Self {
        Self { parts: parts.into_iter().map(|part| part.text).collect(), span }
    }

    /// Returns the parts as slices, for matching.
    pub fn parts(&self) -> Vec<&str> {
        self.parts.iter().map(String::as_str).collect()
    }
}

impl Value {
    /// Returns a literal text. The wildcards of patterns are escaped.
    pub fn text(text: &str) -> Self {
        Self { kind: ValueKind::Text(text.replace('\\', "\\\\")), span: Span::default() }
    }

    /// Returns a pattern for LIKE with its own wildcards and escapes.
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

/// Returns a text without the escapes of patterns.
pub fn unescape(kept: &str) -> String {
    let mut plain = String::with_capacity(kept.len());
    let mut chars = kept.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// Returns true if a pattern has `%` or `_` outside escapes.
pub(super) fn has_wildcards(kept: &str) -> bool {
    wildcards(kept) > 0
}

/// The number of `%` and `_` outside escapes in a pattern.
pub(super) fn wildcards(kept: &str) -> usize {
    let mut chars = kept.chars();
    let mut count = 0;
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '%' | '_' => count += 1,
            _ => {}
        }
    }
    count
}

/// The members joined; a single member stays as it is.
pub(super) fn joined<T>(members: Vec<T>, join: impl FnOnce(Vec<T>) -> T) -> T {
    match <[T; 1]>::try_from(members) {
        Ok([only]) => only,
        Err(members) => join(members),
    }
}

impl<P> Query<P> {
    /// Returns all tests in the order of the text.
    pub fn tests(&self) -> Vec<&P> {
        self.0.as_ref().map_or_else(Vec::new, Expr::tests)
    }

    /// Returns the query with its tests converted.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn try_map<Q, E>(&self, mut change: impl FnMut(&P) -> Result<Q, E>) -> Result<Query<Q>, E> {
        let expr = self.0.as_ref().map(|expr| expr.try_map(&mut change));
        Ok(Query(expr.transpose()?))
    }
}

impl<P> Expr<P> {
    /// Returns all tests in the order of the text.
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
            // An AND of one is written in parentheses, even if it is the whole query.
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
            // Backslashes are already escapes; only quotes need one.
            ValueKind::Text(text) => write!(f, "'{}'", text.replace('\'', "\\'")),
            ValueKind::Number(number) => f.write_str(number),
            ValueKind::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name of a custom field is always in braces, so that it is never parsed as a part.
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
