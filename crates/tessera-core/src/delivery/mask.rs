//! Masks secrets in what receivers answer: a receiver may send back what it got, also encoded, reversed, in capitals or broken
//! into lines.
//!
//! A text and the forms of a secret are compared by their letters and digits only, in lower case, with escapes decoded. What is
//! shorter than [`FORM_MIN`] then is compared byte for byte.

use super::Attempt;
use crate::models::delivery::{EXCERPT_MAX, RecipientAnswer, excerpt, sentence};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;
use std::ops::Range;

/// The part of a text that is searched and kept, in bytes.
const TEXT_MAX: usize = 4 * EXCERPT_MAX;
/// The minimum length of a form of a secret, in letters and digits.
const FORM_MIN: usize = 4;
/// The minimum length of the beginning of a form that is masked at the end of a truncated text, in letters and digits.
const BEGUN_MIN: usize = 6;
/// The minimum length of a word in a secret that is masked alone, in letters and digits.
const WORD_MIN: usize = 8;
/// The maximum number of parts of one secret, such as the password of `Basic` credentials.
const PARTS_MAX: usize = 12;
/// How many times escapes are decoded: a URL in a URL is escaped twice.
const ESCAPED_MAX: usize = 3;
/// The letters at each end of a secret in base64 that depend on its neighbours.
const BASE64_EDGE: usize = 2;

/// Secrets to mask, by name.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    secrets: Vec<Hidden>,
}

#[derive(Clone)]
struct Hidden {
    name: String,
    /// Compared byte for byte.
    exact: Vec<String>,
    /// Compared by letters and digits; with the number of neighbours at each end that belong to it.
    forms: BTreeSet<(String, usize)>,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hidden").field(&self.name).finish()
    }
}

impl Mask {
    /// Creates a mask for these names and values.
    pub fn new<'v>(secrets: impl IntoIterator<Item = (&'v str, &'v str)>) -> Self {
        let hidden = |(name, value): (&str, &str)| {
            let bare = value.strip_prefix("whsec_").unwrap_or(value);
            let escaped = serde_json::Value::from(bare).to_string();
            let exact = [value, bare, escaped.trim_matches('"')].into_iter().filter(|text| !text.is_empty());
            Hidden {
                name: name.to_owned(),
                exact: exact.map(str::to_owned).collect(),
                forms: parts(value).iter().flat_map(|part| forms(part)).collect(),
            }
        };
        Self { secrets: secrets.into_iter().map(hidden).collect() }
    }

    /// Masks the texts of an attempt and truncates them to the size that is stored.
    pub fn attempt(&self, attempt: Attempt) -> Attempt {
        Attempt {
            detail: sentence(&self.text(&attempt.detail)),
            response: attempt.response.map(|text| excerpt(&self.text(&text))),
            recipients: attempt
                .recipients
                .into_iter()
                .map(|one| RecipientAnswer { answer: sentence(&self.text(&one.answer)), ..one })
                .collect(),
            ..attempt
        }
    }

    /// Returns the beginning of a text, with each secret replaced by its name.
    pub fn text(&self, text: &str) -> String {
        // At the end of a truncated text, a secret may have begun.
        let is_cut = text.len() > EXCERPT_MAX - char::MAX.len_utf8() || text.ends_with('…');
        let text = text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or(text);
        if self.secrets.is_empty() {
            return text.to_owned();
        }
        let views = views(text);
        let mut found: Vec<(Range<usize>, &str)> = Vec::new();
        for secret in &self.secrets {
            let exact = secret.exact.iter().flat_map(|form| text.match_indices(form.as_str()));
            found.extend(exact.map(|(at, form)| (at..at + form.len(), secret.name.as_str())));
            for (form, edge) in &secret.forms {
                let places = views.iter().flat_map(|view| view.places(text, form, *edge, is_cut));
                found.extend(places.map(|place| (place, secret.name.as_str())));
            }
        }
        replaced(text, found)
    }
}

/// Replaces the places that were found; those that overlap or touch become one.
fn replaced(text: &str, mut found: Vec<(Range<usize>, &str)>) -> String {
    found.sort_by_key(|(place, _)| (place.start, std::cmp::Reverse(place.end)));
    let (mut masked, mut from) = (String::with_capacity(text.len()), 0);
    let mut places = found.into_iter().peekable();
    while let Some((mut place, name)) = places.next() {
        while let Some((next, _)) = places.next_if(|(next, _)| next.start <= place.end) {
            place.end = place.end.max(next.end);
        }
        masked.push_str(text.get(from..place.start).unwrap_or_default());
        masked.push_str(&format!("(secret {name})"));
        from = place.end;
    }
    masked + text.get(from..).unwrap_or_default()
}

/// Returns the parts of a secret that a receiver may send back alone: without its scheme or prefix, words, what is in its
/// base64, and the password after a user.
fn parts(value: &str) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut add = |part: &[u8]| {
        if parts.len() < PARTS_MAX && !parts.iter().any(|known| known == part) {
            parts.push(part.to_vec());
        }
    };
    add(value.as_bytes());
    let bare = value.strip_prefix("whsec_").unwrap_or(value);
    // The first of several words is a scheme, such as Bearer.
    let bare = bare.split_once(char::is_whitespace).map_or(bare, |(_, rest)| rest.trim());
    add(bare.as_bytes());
    let words = || {
        let words = bare.split(|c: char| c.is_whitespace() || ",;=\"'/?&".contains(c));
        [bare].into_iter().chain(words.filter(|word| letters(word).len() >= WORD_MIN))
    };
    for word in words() {
        if let Some((_, password)) = word.split_once(':') {
            add(password.as_bytes());
        }
        let decoded = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD].into_iter();
        if let Some(decoded) = decoded.filter_map(|engine| engine.decode(word).ok()).next() {
            add(&decoded);
            if let Some((_, password)) =
                std::str::from_utf8(&decoded).ok().and_then(|text| text.split_once(':'))
            {
                add(password.as_bytes());
            }
        }
        add(word.as_bytes());
    }
    parts
}

/// Returns the forms of a part of a secret, with the number of neighbours at each end that belong to it.
fn forms(part: &[u8]) -> Vec<(String, usize)> {
    let (mut forms, mut spellings) = (Vec::new(), vec![part.to_vec()]);
    if let Ok(text) = std::str::from_utf8(part) {
        forms.push((letters(text), 0));
        // In URLs, other characters are escaped byte by byte, and are not compared.
        forms.push((letters(&text.replace(|c: char| !c.is_ascii(), "")), 0));
        forms.push((View::of(&decoded(units(text), false)).letters, 0));
        spellings.extend([text.to_uppercase().into_bytes(), text.to_lowercase().into_bytes()]);
        spellings.push(text.chars().rev().collect::<String>().into_bytes());
    }
    spellings.push(STANDARD_NO_PAD.encode(part).into_bytes());
    spellings.push(part.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    spellings.push(part.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes());
    for bytes in spellings {
        let each = |write: &dyn Fn(&u8) -> String| bytes.iter().map(write).collect::<String>();
        forms.push((each(&|byte| format!("{byte:02x}")), 0));
        forms.push((each(&|byte| format!("0x{byte:02x}")), 0));
        forms.push((each(&|byte| byte.to_string()), 0));
        forms.extend((0..3).map(|offset| (letters(&base64_within(&bytes, offset)), BASE64_EDGE)));
    }
    let backwards: Vec<_> = forms.iter().map(|(form, edge)| (form.chars().rev().collect(), *edge)).collect();
    forms.extend(backwards);
    forms.retain(|(form, _)| form.len() >= FORM_MIN);
    forms
}

/// Returns the letters that bytes become in base64 after `offset` others, without those that depend on their neighbours.
fn base64_within(bytes: &[u8], offset: usize) -> String {
    let padded = [&vec![0; offset], bytes].concat();
    let text = STANDARD_NO_PAD.encode(padded);
    let end = if (offset + bytes.len()).is_multiple_of(3) { 0 } else { 1 };
    let start = if offset == 0 { 0 } else { offset + 1 };
    text.get(start..text.len() - end).unwrap_or_default().to_owned()
}

/// Returns the letters and digits of a text in lower case.
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A character with its place in the text.
type Unit = (char, usize, usize);

fn units(text: &str) -> Vec<Unit> {
    text.char_indices().map(|(at, c)| (c, at, at + c.len_utf8())).collect()
}

/// The letters and digits of a text, perhaps decoded, with the place of each byte.
struct View {
    letters: String,
    places: Vec<(usize, usize)>,
}

/// Returns the text as it is, with escapes decoded once and more often, and as quoted-printable.
fn views(text: &str) -> Vec<View> {
    let plain = units(text);
    let mut views = vec![View::of(&plain)];
    if text.contains(['%', '\\', '&']) {
        let mut units = plain.clone();
        for _ in 0..ESCAPED_MAX {
            units = decoded(units, false);
            views.push(View::of(&units));
        }
    }
    if text.contains('=') {
        views.push(View::of(&decoded(plain, true)));
    }
    views
}

impl View {
    fn of(units: &[Unit]) -> Self {
        let mut view = Self { letters: String::new(), places: Vec::new() };
        for (c, start, end) in units.iter().filter(|(c, ..)| c.is_alphanumeric()) {
            view.letters.extend(c.to_lowercase());
            view.places.resize(view.letters.len(), (*start, *end));
        }
        view
    }

    /// Returns the places of a form in the text, and that of its beginning at the end of a text that is cut.
    fn places(&self, text: &str, form: &str, edge: usize, is_cut: bool) -> Vec<Range<usize>> {
        let whole = self.letters.match_indices(form).map(|(at, form)| (at, at + form.len()));
        let most = if is_cut { self.letters.len().min(form.len().saturating_sub(1)) } else { 0 };
        let begun = (BEGUN_MIN..=most).rev().filter(|length| form.is_char_boundary(*length));
        let begun = begun
            .map(|length| (self.letters.len() - length, length))
            .find(|(at, length)| self.letters.get(*at..) == form.get(..*length))
            .map(|(at, _)| (at, self.letters.len()));
        let all = whole.chain(begun);
        all.filter_map(|(from, to)| {
            let (mut start, mut end) = (self.places.get(from)?.0, self.places.get(to - 1)?.1);
            // Neighbours with nothing or a line break between them.
            let is_near = |from: usize, to: usize| {
                text.get(from..to).is_some_and(|gap| gap.chars().all(|c| matches!(c, '\r' | '\n' | '=')))
            };
            for at in (from.saturating_sub(edge)..from).rev() {
                if let Some(place) = self.places.get(at).filter(|place| is_near(place.1, start)) {
                    start = place.0;
                }
            }
            for place in self.places.iter().skip(to).take(edge) {
                if is_near(end, place.0) {
                    end = place.1;
                }
            }
            Some(start..end)
        })
        .collect()
    }
}

/// Decodes escapes of URLs, JSON and HTML, or with `printable` those of quoted-printable.
fn decoded(units: Vec<Unit>, printable: bool) -> Vec<Unit> {
    let mut output = Vec::with_capacity(units.len());
    let mut rest = units.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        let escape = if printable { quoted_printable(rest) } else { escape(rest) };
        let Some((length, c)) = escape else {
            output.push(*first);
            rest = tail;
            continue;
        };
        let last = rest.get(length - 1).unwrap_or(first);
        output.extend(c.map(|c| (c, first.1, last.2)));
        rest = rest.get(length..).unwrap_or_default();
    }
    output
}

/// Returns the length of an escape at the beginning of `units`, and the character for which it stands.
fn escape(units: &[Unit]) -> Option<(usize, Option<char>)> {
    let at = |index: usize| units.get(index).map(|(c, ..)| *c);
    let hex = |from: usize, digits: usize| number(units, from, digits, 16);
    match (at(0)?, at(1)?) {
        ('%', _) => Some((3, byte(hex(1, 2)?))),
        ('\\', 'u') => Some((6, char::from_u32(hex(2, 4)?))),
        ('\\', 'x') => Some((4, byte(hex(2, 2)?))),
        ('\\', 'n' | 'r' | 't' | 'b' | 'f') => Some((2, None)),
        ('\\', _) => Some((1, None)),
        ('&', _) => {
            let end = (1..12).find(|index| at(*index) == Some(';'))?;
            let value = match (at(1)?, at(2)?) {
                ('#', 'x' | 'X') => number(units, 3, end.checked_sub(3)?, 16),
                ('#', _) => number(units, 2, end.checked_sub(2)?, 10),
                // Named ones are no letters and digits, except in languages whose letters are not escaped.
                _ => return Some((end + 1, None)),
            };
            Some((end + 1, value.and_then(char::from_u32)))
        }
        _ => None,
    }
}

fn quoted_printable(units: &[Unit]) -> Option<(usize, Option<char>)> {
    let at = |index: usize| units.get(index).map(|(c, ..)| *c);
    match (at(0)?, at(1)?, at(2)) {
        ('=', '\n', _) => Some((2, None)),
        ('=', '\r', Some('\n')) => Some((3, None)),
        ('=', _, Some(_)) => Some((3, byte(number(units, 1, 2, 16)?))),
        _ => None,
    }
}

/// Returns the character of a byte; bytes beyond ASCII are parts of a character, which is compared without them.
fn byte(value: u32) -> Option<char> {
    char::from_u32(value).filter(char::is_ascii)
}

fn number(units: &[Unit], from: usize, digits: usize, radix: u32) -> Option<u32> {
    let digits: Option<Vec<u32>> =
        units.get(from..from + digits)?.iter().map(|(c, ..)| c.to_digit(radix)).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len() <= 8)?;
    Some(digits.into_iter().fold(0u32, |value, digit| value.wrapping_mul(radix).wrapping_add(digit)))
}

#[cfg(test)]
mod tests;
