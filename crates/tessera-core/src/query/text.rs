//! Tests of a text: equality, patterns, order and words; always of its folded form.

use super::ast::{Like, Order};
use super::words::Matcher;
use crate::models::text::fold;

/// A test of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum TextTest {
    /// There is one.
    Present,
    /// It is one of these, which are folded.
    Equal(Vec<String>),
    /// It fits a pattern.
    Like(Pattern),
    /// It stands in an order to this, which is folded, byte by byte.
    Order(Order, String),
    /// Between these, which are folded, both included.
    Between(String, String),
    /// It reads as a number that stands in an order to this.
    Number(Order, Decimal),
    /// The same, between these, both included.
    NumberBetween(Decimal, Decimal),
    /// It has these words.
    Words(Matcher),
}

impl TextTest {
    /// Whether a text passes.
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Equal(words) => {
                let folded = fold(text);
                words.contains(&folded)
            }
            Self::Like(pattern) => pattern.matches(&fold(text)),
            Self::Order(order, word) => order.holds(fold(text).as_str(), word.as_str()),
            Self::Between(low, high) => (low..=high).contains(&&fold(text)),
            Self::Number(order, number) => {
                Decimal::parse(text).is_some_and(|value| order.holds(&value, number))
            }
            Self::NumberBetween(low, high) => {
                Decimal::parse(text).is_some_and(|value| (low..=high).contains(&&value))
            }
            Self::Words(matcher) => matcher.matches(text),
        }
    }
}

/// A pattern over a whole folded text: literal pieces, `%` for any characters, `_` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    One,
    Any,
}

impl Pattern {
    /// The pattern of an operator and its text, as queries keep it (`\%`, `\_` and `\\` stand for themselves).
    ///
    /// After LIKE a text without wildcards is looked for anywhere; STARTSWITH and ENDSWITH know no wildcards.
    pub fn new(like: Like, kept: &str) -> Self {
        let (mut pieces, mut has_wildcards) = (Vec::new(), false);
        let mut chars = kept.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '\\' => chars.next().map_or(Piece::Char('\\'), Piece::Char),
                '%' if like == Like::Like => Piece::Any,
                '_' if like == Like::Like => Piece::One,
                other => Piece::Char(other),
            };
            has_wildcards |= !matches!(piece, Piece::Char(_));
            match piece {
                // Folding one character may give several; the whole text is folded the same way but for a final sigma.
                Piece::Char(c) => pieces.extend(fold(c.encode_utf8(&mut [0; 4])).chars().map(Piece::Char)),
                wildcard => pieces.push(wildcard),
            }
        }
        let (before, after) = match like {
            Like::Like => (!has_wildcards, !has_wildcards),
            Like::Start => (false, true),
            Like::End => (true, false),
        };
        if before {
            pieces.insert(0, Piece::Any);
        }
        if after {
            pieces.push(Piece::Any);
        }
        Self(pieces)
    }

    /// The pattern in SQL's form, for `LIKE` with the usual escape.
    pub fn sql(&self) -> String {
        let mut sql = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Char(c @ ('%' | '_' | '\\')) => sql.extend(['\\', *c]),
                Piece::Char(c) => sql.push(*c),
                Piece::One => sql.push('_'),
                Piece::Any => sql.push('%'),
            }
        }
        sql
    }

    /// Whether a folded text fits. Linear but for the last `%` seen, which is tried again at each character.
    pub fn matches(&self, folded: &str) -> bool {
        let text: Vec<char> = folded.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            let fits = match self.0.get(piece) {
                Some(Piece::Any) => {
                    retry = Some((piece, at));
                    piece += 1;
                    continue;
                }
                Some(Piece::One) => true,
                Some(Piece::Char(c)) => text.get(at) == Some(c),
                None => false,
            };
            if fits {
                (at, piece) = (at + 1, piece + 1);
            } else if let Some((any, from)) = retry {
                (at, piece) = (from + 1, any + 1);
                retry = Some((any, from + 1));
            } else {
                return false;
            }
        }
        self.0.iter().skip(piece).all(|piece| *piece == Piece::Any)
    }
}

/// A decimal number with at most 18 digits before the point and 9 after it, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i128);

/// Digits before the point.
pub const WHOLE_DIGITS_MAX: usize = 18;
/// Digits after the point.
pub const FRACTION_DIGITS_MAX: usize = 9;

impl Decimal {
    /// A number as it is written: `-12`, `3.50`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let is_number = (1..=WHOLE_DIGITS_MAX).contains(&whole.len())
            && fraction.len() <= FRACTION_DIGITS_MAX
            && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        let all = format!("{whole}{fraction:0<9}");
        all.parse::<i128>().ok().filter(|_| is_number).map(|number| Self(sign * number))
    }

    /// The number in SQL's form.
    pub fn sql(self) -> String {
        let Self(scaled) = self;
        let sign = if scaled < 0 { "-" } else { "" };
        let scaled = scaled.unsigned_abs();
        format!("{sign}{}.{:09}", scaled / 1_000_000_000, scaled % 1_000_000_000)
    }

    /// The regular expression of the texts that read as numbers, in SQL's form.
    pub const SQL_PATTERN: &'static str = r"^[-+]?[0-9]{1,18}(\.[0-9]{1,9})?$";
}
