//! JSON: finds texts that no values can make valid JSON.

use super::lex::{self, Kind, Trouble};
use super::scan::Quotes;

/// Returns the place and reason if a text cannot render JSON, whatever its values are. A text with blocks is checked up to the first
/// one, because what follows depends on values.
pub(super) fn trouble(source: &str) -> Option<Trouble> {
    let (sample, is_whole) = Sample::of(source)?;
    if sample.text.trim().is_empty() {
        return None;
    }
    let error = serde_json::from_str::<serde::de::IgnoredAny>(&sample.text).err()?;
    if error.is_eof() && !is_whole {
        return None;
    }
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    Some((sample.place(error.line(), error.column()), format!("this cannot become valid JSON: {reason}")))
}

/// A text with an example in the place of each value.
#[derive(Default)]
struct Sample {
    text: String,
    /// The beginnings of its parts: in the sample, and in the source.
    parts: Vec<(usize, usize)>,
    quotes: Quotes,
}

impl Sample {
    /// Returns the sample, and whether it is the whole text; otherwise it ends at the first block.
    fn of(source: &str) -> Option<(Self, bool)> {
        let tokens = lex::lex(source).ok()?;
        let mut sample = Self::default();
        let mut rest = tokens.iter();
        let word = |token: &lex::Token| source.get(token.range.clone()).unwrap_or("");
        while let Some(token) = rest.next() {
            match token.kind {
                Kind::Text => sample.push(word(token), token.range.start),
                Kind::Comment => {}
                Kind::Tag if rest.clone().next().map(word) != Some("set") => return Some((sample, false)),
                _ => {
                    let is_print = token.kind != Kind::Tag;
                    let end = rest
                        .by_ref()
                        .find(|token| token.kind == Kind::Close)
                        .map_or(source.len(), |end| end.range.end);
                    if is_print {
                        let example = sample.example(source.get(end..).unwrap_or(""));
                        sample.push(example, token.range.start);
                    }
                }
            }
        }
        Some((sample, true))
    }

    /// Returns a value that fits between what is before it and what comes after it: a number beside digits and other values, as the
    /// key of an object and elsewhere a text.
    fn example(&self, after: &str) -> &'static str {
        if self.quotes.inside {
            return "x";
        }
        let is_beside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let joins_before = self.text.chars().next_back().is_some_and(is_beside);
        let joins_after = after.starts_with(is_beside) || after.starts_with("{{") || after.starts_with("{$");
        if joins_before || joins_after { "1" } else { "\"x\"" }
    }

    fn push(&mut self, part: &str, typed: usize) {
        self.parts.push((self.text.len(), typed));
        self.text.push_str(part);
        self.quotes.read(part);
    }

    /// Returns the byte of the source for a line and column of the sample, both from 1; the column counts bytes.
    fn place(&self, line: usize, column: usize) -> usize {
        let lines = self.text.split_inclusive('\n').take(line.saturating_sub(1));
        let at = lines.map(str::len).sum::<usize>() + column.saturating_sub(1);
        let part = self.parts.partition_point(|(start, _)| *start <= at).checked_sub(1);
        part.and_then(|part| self.parts.get(part)).map_or(0, |(start, typed)| typed + (at - start))
    }
}
