//! Tests of a text: equality, patterns, order and words, always on its folded form.

use super::ast::{Like, Order};
use super::words::Matcher;
use crate::models::steps::{COPIED, FOLDED, READ, steps};
use crate::models::text::caseless;

/// A test of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum TextTest {
    /// The text exists.
    Present,
    /// The text is one of these, which are folded.
    Equal(Vec<String>),
    /// The text matches a pattern.
    Like(Pattern),
    /// The text compares in this order to the given one, which is folded, byte by byte.
    Order(Order, String),
    /// The text lies between these, which are folded, both included.
    Between(String, String),
    /// The text is a number that compares in this order to the given one.
    Number(Order, Decimal),
    /// The text is a number between these, both included.
    NumberBetween(Decimal, Decimal),
    /// The text contains these words.
    Words(Matcher),
}

impl TextTest {
    /// Returns true if a text passes.
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Equal(words) => {
                let folded = caseless(text);
                words.contains(&folded)
            }
            Self::Like(pattern) => pattern.matches(&caseless(text)),
            Self::Order(order, word) => order.holds(caseless(text).as_str(), word.as_str()),
            Self::Between(low, high) => (low..=high).contains(&&caseless(text)),
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

impl TextTest {
    /// Returns the steps for testing a text of this many bytes ([`crate::models::steps`]).
    pub fn cost(&self, bytes: usize) -> u64 {
        /// Bytes of which one step makes an index of words.
        const INDEXED: usize = 1;
        match self {
            Self::Present => 0,
            Self::Equal(words) => steps(bytes, FOLDED) + words.len() as u64,
            Self::Like(pattern) => steps(bytes, FOLDED) + pattern.cost(bytes),
            Self::Order(..) | Self::Between(..) => steps(bytes, FOLDED),
            Self::Number(..) | Self::NumberBetween(..) => steps(bytes, READ),
            Self::Words(matcher) => steps(bytes, INDEXED) + matcher.wanted().count() as u64,
        }
    }
}

/// Returns true if one text compares to another: by number if both are numbers and their order is asked for, otherwise folded, byte
/// by byte; `None` = equal.
pub fn compares(one: &str, order: Option<Order>, other: &str) -> bool {
    let folded = || (caseless(one), caseless(other));
    let Some(order) = order else { return folded().0 == folded().1 };
    match (Decimal::parse(one), Decimal::parse(other)) {
        (Some(one), Some(other)) => order.holds(&one, &other),
        _ => order.holds(&folded().0, &folded().1),
    }
}

/// A pattern for a whole folded text: parts that `%` separates, each of literal runs that `_` separates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

/// A part between two `%`: its first run, and the others, each after any one character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Part {
    first: String,
    others: Vec<String>,
}

impl Pattern {
    /// Returns the pattern of an operator and its text, in which `\%`, `\_` and `\\` are literal.
    ///
    /// LIKE without wildcards matches anywhere in a text. STARTSWITH and ENDSWITH have no wildcards.
    pub fn new(like: Like, kept: &str) -> Self {
        let (mut parts, mut part) = (Vec::new(), Part::default());
        let mut chars = kept.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => part.push(chars.next().unwrap_or('\\')),
                '%' if like == Like::Like => parts.push(std::mem::take(&mut part).folded()),
                '_' if like == Like::Like => part.others.push(String::new()),
                other => part.push(other),
            }
        }
        let has_wildcards = !parts.is_empty() || !part.others.is_empty();
        parts.push(part.folded());
        if like == Like::End || (like == Like::Like && !has_wildcards) {
            parts.insert(0, Part::default());
        }
        if like == Like::Start || (like == Like::Like && !has_wildcards) {
            parts.push(Part::default());
        }
        Self(parts)
    }

    /// Returns the pattern for SQL's `LIKE` with a backslash as escape.
    pub fn sql(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(Part::sql).collect();
        parts.join("%")
    }

    /// The steps for matching a folded text. A part with `_` is compared again at each character of the text.
    fn cost(&self, bytes: usize) -> u64 {
        let part = |part: &Part| match part.others.len() {
            0 => steps(bytes, COPIED),
            _ => {
                bytes as u64
                    * (1 + steps(
                        part.first.len() + part.others.iter().map(|run| run.len() + 1).sum::<usize>(),
                        READ,
                    ))
            }
        };
        self.0.iter().map(part).sum()
    }

    /// Returns true if a folded text matches. Each part between two `%` is matched at its first occurrence, so the time is linear
    /// except for parts with `_`.
    pub fn matches(&self, folded: &str) -> bool {
        self.rest_of(folded).is_some_and(str::is_empty)
    }

    /// The rest of a text after the pattern; `None` = no match.
    fn rest_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (first, others) = self.0.split_first()?;
        let mut rest = first.strip_from_start(text)?;
        let Some((last, middle)) = others.split_last() else { return Some(rest) };
        for part in middle {
            rest = part.find_in(rest)?;
        }
        last.strip_from_end(rest).map(|_| "")
    }
}

impl Part {
    fn push(&mut self, c: char) {
        self.others.last_mut().unwrap_or(&mut self.first).push(c);
    }

    /// The part with each run folded as a whole, because a character can be composed of several.
    fn folded(self) -> Self {
        Self { first: caseless(&self.first), others: self.others.iter().map(|run| caseless(run)).collect() }
    }

    fn sql(&self) -> String {
        let mut sql = String::new();
        for (n, run) in std::iter::once(&self.first).chain(&self.others).enumerate() {
            if n > 0 {
                sql.push('_');
            }
            for c in run.chars() {
                if matches!(c, '%' | '_' | '\\') {
                    sql.push('\\');
                }
                sql.push(c);
            }
        }
        sql
    }

    /// The text after the part, if it begins with the part.
    fn strip_from_start<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.others.iter().try_fold(text.strip_prefix(&self.first)?, |rest, run| {
            let mut chars = rest.chars();
            chars.next()?;
            chars.as_str().strip_prefix(run)
        })
    }

    /// The text before the part, if it ends with the part.
    fn strip_from_end<'t>(&self, text: &'t str) -> Option<&'t str> {
        let rest = self.others.iter().rev().try_fold(text, |rest, run| {
            let mut chars = rest.strip_suffix(run)?.chars();
            chars.next_back()?;
            Some(chars.as_str())
        });
        rest?.strip_suffix(&self.first)
    }

    /// The text after the first occurrence of the part.
    fn find_in<'t>(&self, text: &'t str) -> Option<&'t str> {
        if self.others.is_empty() {
            return text.split_once(&self.first).map(|(_, rest)| rest);
        }
        let mut chars = text.chars();
        loop {
            if let Some(rest) = self.strip_from_start(chars.as_str()) {
                return Some(rest);
            }
            chars.next()?;
        }
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
    /// Parses a decimal number such as `-12` or `3.50`. Returns `None` for anything else.
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
        let all = is_number.then(|| format!("{whole}{fraction:0<9}"))?;
        all.parse::<i128>().ok().map(|number| Self(sign * number))
    }

    /// The number in SQL's form.
    pub fn sql(self) -> String {
        let Self(scaled) = self;
        let sign = if scaled < 0 { "-" } else { "" };
        let scaled = scaled.unsigned_abs();
        format!("{sign}{}.{:09}", scaled / 1_000_000_000, scaled % 1_000_000_000)
    }

    /// A regular expression in PostgreSQL's form for the texts that are numbers.
    pub const SQL_PATTERN: &'static str = r"^[-+]?[0-9]{1,18}(\.[0-9]{1,9})?$";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts of at most `most` of these characters.
    fn texts(of: &[char], most: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut from = 0;
        for _ in 0..most {
            let longer: Vec<String> =
                texts[from..].iter().flat_map(|text| of.iter().map(move |c| format!("{text}{c}"))).collect();
            from = texts.len();
            texts.extend(longer);
        }
        texts
    }

    /// The meaning of LIKE, written as simply as possible.
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => (0..=text.len()).any(|at| fits(rest, &text[at..])),
            ['_', rest @ ..] => !text.is_empty() && fits(rest, &text[1..]),
            [c, rest @ ..] => text.first() == Some(c) && fits(rest, &text[1..]),
        }
    }

    #[test]
    fn a_pattern_fits_what_it_says_whatever_its_wildcards() {
        let texts_tried = texts(&['a', 'é'], 5);
        for pattern in texts(&['a', 'é', '%', '_'], 5) {
            let like = Pattern::new(Like::Like, &pattern);
            let has_wildcards = pattern.contains(['%', '_']);
            let whole = if has_wildcards { pattern.clone() } else { format!("%{pattern}%") };
            assert_eq!(like.sql(), whole);
            let whole: Vec<char> = whole.chars().collect();
            for text in &texts_tried {
                let chars: Vec<char> = text.chars().collect();
                assert_eq!(like.matches(text), fits(&whole, &chars), "{text} LIKE {pattern}");
            }
        }
    }

    #[test]
    fn an_escaped_wildcard_and_one_after_startswith_and_endswith_is_itself() {
        for (like, kept, sql, fitting, other) in [
            (Like::Like, r"\%_\\%", r"\%_\\%", r"%x\y", r"xx\y"),
            (Like::Like, r"\_", r"%\_%", "a_b", "ab"),
            (Like::Start, "a%", r"a\%%", "A%b", "ab"),
            (Like::End, "_A", r"%\_a", "b_a", "bba"),
            (Like::End, "a", "%a", "aba", "ab"),
        ] {
            let pattern = Pattern::new(like, kept);
            assert_eq!(pattern.sql(), sql);
            assert!(pattern.matches(&caseless(fitting)) && !pattern.matches(other), "{kept}");
        }
    }

    #[test]
    fn a_pattern_that_almost_fits_everywhere_costs_no_more_than_another() {
        let text = "a".repeat(1024 * 1024);
        let almost = format!("{}b", "a".repeat(8_000));
        // Character by character these would be 8 billion steps each.
        for pattern in [format!("%{almost}%"), format!("%a%{almost}%"), almost.clone(), format!("%{almost}")]
        {
            assert!(!Pattern::new(Like::Like, &pattern).matches(&text));
        }
    }
}
