//! Full-text search: the words of a text as PostgreSQL stores them, and MATCHES, with the same meaning in both back ends.

use crate::models::text::caseless;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Only this many words at the start of a text are stored. PostgreSQL supports positions up to 16,383.
pub const WORDS_MAX: u16 = 16_000;
/// Only this many characters of a word are stored, of at most 4 bytes each. PostgreSQL supports 2,046 bytes.
pub const WORD_MAX: usize = 100;
/// The maximum number of words after MATCHES, including those of phrases.
pub const TERMS_MAX: usize = 50;

/// The maximum size of the stored words of a text, in bytes. PostgreSQL supports 1,048,575.
const BYTES_MAX: usize = 1_000_000;
/// PostgreSQL's overhead for a word with one position, in bytes: the number of positions, the position, and alignment.
const BESIDES: usize = 5;
/// The maximum number of stored positions of a word. PostgreSQL ignores positions after the 255th.
const PLACES_MAX: usize = 255;

/// Returns the words of a text in the text form of a `tsvector`, exactly as PostgreSQL prints it: each word once, in byte order,
/// with its positions. Nothing needs to be escaped, because words consist of letters, digits and marks.
pub fn vector(text: &str) -> String {
    let folded = caseless(text);
    let mut vector = String::new();
    for (word, places) in index(&folded) {
        let places: Vec<String> = places.iter().map(u16::to_string).collect();
        let space = if vector.is_empty() { "" } else { " " };
        vector.push_str(&format!("{space}'{word}':{}", places.join(",")));
    }
    vector
}

/// The value of MATCHES: `word`, `"a phrase"`, `prefix*`, and with a `-` before it terms that must not occur. All terms must hold
/// for the same text. A word that is stored as several words (`foo-bar`, all Chinese) is a phrase.
///
/// Its `Display` parses to the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    terms: Vec<Term>,
}

/// Words that must follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    is_negative: bool,
    words: Vec<String>,
    /// True if the last word is a prefix.
    is_prefix: bool,
}

/// The reason why a value of MATCHES is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MatchError {
    /// The position in the text, in bytes.
    pub at: Range<usize>,
    /// The message, with a suggestion.
    pub message: String,
}

impl Matcher {
    /// Parses the value of MATCHES. Terms without a letter or digit are ignored: `R & D` is `R D`.
    ///
    /// # Errors
    /// No terms, or only excluded ones; a quote that is never closed; a `*` that is not at the end of a word; more than
    /// [`TERMS_MAX`] words.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        let mut terms = Vec::new();
        let (mut at, mut words) = (0, 0);
        while let Some((term, range)) = next_term(text, at)? {
            at = range.end;
            words += term.words.len();
            if words > TERMS_MAX {
                let message = format!("MATCHES takes at most {TERMS_MAX} words; remove some");
                return Err(MatchError { at: range, message });
            }
            if !term.words.is_empty() {
                terms.push(term);
            }
        }
        let nothing = |message: &str| Err(MatchError { at: 0..text.len(), message: message.to_owned() });
        if terms.is_empty() {
            return nothing("there is no word to search for; write one, as in 'printer'");
        }
        if terms.iter().all(|term| term.is_negative) {
            return nothing("all words are excluded; add a word that must occur, or write NOT MATCHES");
        }
        Ok(Self { terms })
    }

    /// Returns the text form of a `tsquery`.
    pub fn tsquery(&self) -> String {
        let terms: Vec<String> = self.terms.iter().map(Term::tsquery).collect();
        terms.join(" & ")
    }

    /// Returns the words that must occur, including prefixes.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        let positive = self.terms.iter().filter(|term| !term.is_negative);
        positive.flat_map(|term| term.words.iter().map(String::as_str))
    }

    /// Returns true if a text matches, with the same result as `vector(text) @@ tsquery`.
    pub fn matches(&self, text: &str) -> bool {
        let folded = caseless(text);
        let index = index(&folded);
        self.terms.iter().all(|term| term.is_in(&index) != term.is_negative)
    }
}

impl FromStr for Matcher {
    type Err = MatchError;

    fn from_str(text: &str) -> Result<Self, MatchError> {
        Self::parse(text)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, term) in self.terms.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{term}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minus = if self.is_negative { "-" } else { "" };
        match (self.words.as_slice(), self.is_prefix) {
            // A phrase in quotes cannot have a `*`, but words joined by hyphens are a phrase too.
            (words, true) => write!(f, "{minus}{}*", words.join("-")),
            ([word], false) => write!(f, "{minus}{word}"),
            (words, false) => write!(f, "{minus}\"{}\"", words.join(" ")),
        }
    }
}

impl Term {
    fn tsquery(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| format!("'{word}'")).collect();
        let star = if self.is_prefix { ":*" } else { "" };
        let words = format!("{}{star}", words.join(" <-> "));
        match (self.is_negative, self.words.len()) {
            (false, 1) => words,
            (false, _) => format!("({words})"),
            (true, _) => format!("!({words})"),
        }
    }

    fn is_in(&self, index: &Index<'_>) -> bool {
        let last = self.words.len().saturating_sub(1);
        let mut ends: Option<Vec<u16>> = None;
        for (n, word) in self.words.iter().enumerate() {
            let places = places(index, word, self.is_prefix && n == last);
            let follows = |place: &u16| {
                ends.as_ref().is_none_or(|ends| {
                    place.checked_sub(1).is_some_and(|end| ends.binary_search(&end).is_ok())
                })
            };
            ends = Some(places.into_iter().filter(follows).collect());
        }
        ends.is_some_and(|ends| !ends.is_empty())
    }
}

/// The next term from byte `at` on, which may have no words, and its position; `None` at the end.
fn next_term(text: &str, at: usize) -> Result<Option<(Term, Range<usize>)>, MatchError> {
    let rest = text.get(at..).unwrap_or_default().trim_start();
    if rest.is_empty() {
        return Ok(None);
    }
    let start = text.len() - rest.len();
    let (is_negative, asked) = rest.strip_prefix('-').map_or((false, rest), |asked| (true, asked));
    let minus = usize::from(is_negative);
    let (part, end) = match asked.strip_prefix('"') {
        Some(quoted) => {
            let part = quoted.split_once('"').map(|(phrase, _)| phrase).ok_or_else(|| MatchError {
                at: start + minus..text.len(),
                message: "this quote is never closed; add a \" at the end of the phrase".to_owned(),
            })?;
            (part, start + minus + part.len() + 2)
        }
        None => {
            let part = asked.split(|c: char| c == '"' || c.is_whitespace()).next().unwrap_or_default();
            (part, start + minus + part.len())
        }
    };
    let (words, is_prefix) = if asked.starts_with('"') { (part, false) } else { beginning(part) };
    if let Some(star) = words.find('*') {
        let star = end - usize::from(asked.starts_with('"')) - part.len() + star;
        let message = "* is only allowed at the end of a word outside quotes, as in 'print*'".to_owned();
        return Err(MatchError { at: star..star + 1, message });
    }
    let words = words_of(&caseless(words)).map(|(_, word)| word.to_owned()).collect();
    Ok(Some((Term { is_negative, words, is_prefix }, start..end)))
}

/// Splits off a `*` at the end of a word. It must follow a letter, a digit or a mark.
fn beginning(part: &str) -> (&str, bool) {
    match part.strip_suffix('*') {
        Some(word) if word.ends_with(is_of_a_word) => (word, true),
        _ => (part, false),
    }
}

/// The words of a text with their positions.
type Index<'t> = BTreeMap<&'t str, Vec<u16>>;

fn index(folded: &str) -> Index<'_> {
    let mut index = Index::new();
    for (place, word) in words_of(folded) {
        let places = index.entry(word).or_default();
        if places.len() < PLACES_MAX {
            places.push(place);
        }
    }
    index
}

/// The positions of a word, or of all words that begin with it.
fn places(index: &Index<'_>, word: &str, is_prefix: bool) -> Vec<u16> {
    if !is_prefix {
        return index.get(word).cloned().unwrap_or_default();
    }
    let from_there = index.range(word..).take_while(|(longer, _)| longer.starts_with(word));
    from_there.flat_map(|(_, places)| places).copied().collect()
}

/// The words of a folded text with their positions, from 1 on, within the limits above.
fn words_of(folded: &str) -> impl Iterator<Item = (u16, &str)> {
    let mut rest = folded;
    let words = std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| !is_of_a_word(c));
        let first = rest.chars().next()?;
        let end = match stands_alone(first) {
            true => first.len_utf8(),
            false => rest.find(|c| stands_alone(c) || !is_of_a_word(c)).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        let cut = word.char_indices().nth(WORD_MAX).map_or(word.len(), |(cut, _)| cut);
        word.get(..cut)
    });
    let mut bytes = 0;
    (1..=WORDS_MAX).zip(words).take_while(move |(_, word)| {
        bytes += word.len() + BESIDES;
        bytes <= BYTES_MAX
    })
}

/// Returns true for characters that are words of their own, in scripts without spaces between words.
fn stands_alone(c: char) -> bool {
    let is_of_such_a_script = matches!(c,
        '\u{E00}'..='\u{EFF}'           // Thai, Lao
        | '\u{1000}'..='\u{109F}'       // Burmese
        | '\u{1780}'..='\u{17FF}'       // Khmer
        | '\u{2E80}'..='\u{2FDF}'       // radicals
        | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{312F}' // kana, Bopomofo
        | '\u{31A0}'..='\u{31BF}' | '\u{31F0}'..='\u{31FF}' // more of both
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' // Han
        | '\u{F900}'..='\u{FAFF}'       // Han for compatibility
        | '\u{FF66}'..='\u{FF9F}'       // kana of half the width
        | '\u{1B000}'..='\u{1B16F}'     // old kana
        | '\u{20000}'..='\u{3FFFD}'     // more Han
    );
    is_of_such_a_script && is_of_a_word(c)
}

/// Returns true for characters of words: letters, digits, and marks that belong to the letter before them.
fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || (!c.is_ascii() && is_mark(c))
}

/// The common marks that Unicode does not classify as alphabetic.
fn is_mark(c: char) -> bool {
    match c {
        '\u{300}'..='\u{36F}' | '\u{483}'..='\u{487}' => true, // Latin, Greek, Cyrillic
        '\u{591}'..='\u{5C7}' => !matches!(c, '\u{5BE}' | '\u{5C0}' | '\u{5C3}' | '\u{5C6}'), // Hebrew
        '\u{610}'..='\u{61A}' | '\u{64B}'..='\u{65F}' | '\u{6D6}'..='\u{6ED}' => true, // Arabic
        // In the Indic blocks, everything but letters and dandas joins letters (virama, nukta) or is rare.
        '\u{900}'..='\u{DFF}' => !matches!(c, '\u{964}' | '\u{965}' | '\u{970}'),
        '\u{E47}'..='\u{E4E}' | '\u{EC8}'..='\u{ECE}' => true, // Thai, Lao
        '\u{1037}'..='\u{103A}' | '\u{17C9}'..='\u{17D3}' | '\u{17DD}' => true, // Burmese, Khmer
        '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20F0}' => true, // for any script
        '\u{3099}'..='\u{309A}' | '\u{FE20}'..='\u{FE2F}' => true, // kana, halves
        _ => false,
    }
}

#[cfg(test)]
mod tests;
