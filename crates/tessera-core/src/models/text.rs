//! Text: its one form, folding for comparisons, limits, forbidden characters, and how messages quote and list names.

use std::borrow::Cow;
use unicase::UniCase;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Returns the composed form of a text (Unicode NFC), the one form in which names, subjects and values are stored: `u` with a
/// diaeresis is one character however it was typed.
pub fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

/// Returns what a person means who types a name, a subject or a value: composed, and without the blanks around it.
pub fn typed(text: &str) -> Cow<'_, str> {
    composed(text.trim_matches(is_blank))
}

/// As [`typed`], for members of JSON objects.
///
/// # Errors
/// The member is not a string.
pub fn typed_member<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let given = <Cow<'_, str> as serde::Deserialize>::deserialize(deserializer)?;
    Ok(typed(&given).into_owned())
}

/// As [`typed_member`], for members that can be null.
///
/// # Errors
/// The member is neither a string nor null.
pub fn typed_option<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let given = <Option<String> as serde::Deserialize>::deserialize(deserializer)?;
    Ok(given.map(|text| typed(&text).into_owned()))
}

/// As [`typed_member`], for lists.
///
/// # Errors
/// The member is not a list of strings.
pub fn typed_list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let given = <Vec<String> as serde::Deserialize>::deserialize(deserializer)?;
    Ok(given.iter().map(|text| typed(text).into_owned()).collect())
}

/// Returns true if a text shows nothing: it has only blanks and characters without a shape of their own.
pub fn is_empty(text: &str) -> bool {
    text.chars().all(|c| is_blank(c) || is_invisible(c))
}

/// The blanks of all scripts, and those without a width.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{180E}' | '\u{200B}' | '\u{2060}' | '\u{2800}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}'
        )
}

/// The characters that change how others are shown but show nothing themselves: joiners, directions, variations and tags.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// Returns the form in which names are compared: of people, addresses, queues, fields, statuses and so on. As RFC 8265 compares
/// usernames, it is composed and in lower case, which PostgreSQL's `lower()` gives too.
pub fn fold(name: &str) -> String {
    composed(name).to_lowercase()
}

/// Returns the form in which texts are compared: subjects, values, messages and words. It is composed and folded by Unicode's full
/// case folding, so that `STRASSE` is `straße`. It is stored too, so that SQL and memory compare the same bytes.
pub fn caseless(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let folded = UniCase::unicode(composed(text)).to_folded_case();
    match composed(&folded) {
        Cow::Borrowed(_) => folded,
        Cow::Owned(composed) => composed,
    }
}

/// The maximum length of a subject, in bytes of UTF-8.
pub const SUBJECT_MAX: usize = 1_000;
/// The maximum length of a value of a custom field, in bytes of UTF-8, both as written and folded.
pub const VALUE_MAX: usize = 2_000;
/// The maximum length of a comment or reply, in bytes of UTF-8.
pub const CONTENT_MAX: usize = 1_048_576;
/// The maximum length of the name of a configuration object, in bytes of UTF-8.
pub const NAME_MAX: usize = 200;
/// The maximum length of a mail address, in bytes (RFC 5321).
pub const ADDRESS_MAX: usize = 254;

/// Returns the reason for rejecting a text: it is longer than `max` bytes, or contains U+0000, which PostgreSQL cannot store.
pub fn fault(text: &str, max: usize) -> Option<String> {
    if text.len() > max {
        return Some(format!("is {} bytes long; at most {max} are allowed", text.len()));
    }
    text.contains('\0').then(|| "contains the character U+0000, which cannot be stored; remove it".to_owned())
}

/// As [`fault`], for a single line such as a subject, a name or an address: also rejects control characters.
pub fn line_fault(text: &str, max: usize) -> Option<String> {
    fault(text, max).or_else(|| {
        text.chars()
            .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
            .then(|| "contains a line break or another control character; it must be one line".to_owned())
    })
}

/// As [`line_fault`], for the name of a configuration object: 1 to [`NAME_MAX`] bytes without spaces around them, all of which
/// people can see.
pub fn name_fault(name: &str) -> Option<String> {
    if is_empty(name) {
        return Some(format!("is empty; a name has 1 to {NAME_MAX} bytes"));
    }
    line_fault(name, NAME_MAX)
        .or_else(|| unseen_fault(name))
        .or_else(|| (name.trim() != name).then(|| "begins or ends with a space; remove it".to_owned()))
        .or_else(|| {
            let is_id = uuid::Uuid::parse_str(name).is_ok();
            is_id.then(|| {
                "has the form of an id, so it could be mistaken for one; choose another name".to_owned()
            })
        })
}

/// Returns the reason for rejecting a name that people cannot tell from another one: it has characters that cannot be seen, or
/// that turn the direction of the text. Joiners and variations stay where a script or an emoji needs them.
pub fn unseen_fault(name: &str) -> Option<String> {
    let mut before = None;
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let is_needed = match c {
            '\u{200C}' | '\u{200D}' => {
                before.is_some_and(joins) && rest.peek().is_some_and(|after| joins(*after))
            }
            '\u{FE0E}' | '\u{FE0F}' => before.is_some_and(|c| !is_invisible(c) && !c.is_alphabetic()),
            _ => !is_invisible(c),
        };
        if !is_needed {
            let code = u32::from(c);
            return Some(format!("contains U+{code:04X}, which cannot be seen; remove it"));
        }
        before = Some(c);
    }
    None
}

/// Returns true for the characters between which a joiner changes what people see: those of scripts that join letters, from
/// Arabic to Khmer, and emoji.
fn joins(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{17FF}' | '\u{A840}'..='\u{ABFF}' | '\u{1E900}'..='\u{1E95F}')
        || matches!(c, '\u{2190}'..='\u{2BFF}' | '\u{FE0F}' | '\u{1F000}'..='\u{1FAFF}')
}

/// Returns a text from a request as messages quote it: with escapes for unprintable characters, and cut after 80 characters.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!("{:?}", shown + rest)
}

/// Returns true if this is a bare mail address (`local@domain`) that is safe to use in SMTP and in headers.
pub fn is_address(text: &str) -> bool {
    // Angle brackets delimit an address in headers and in SMTP. Quotes or a domain literal could contain one, but no real
    // address does.
    line_fault(text, ADDRESS_MAX).is_none()
        && unseen_fault(text).is_none()
        && !text.contains(['<', '>'])
        && text.parse::<lettre::Address>().is_ok()
}

/// Returns the address of `Foo Bar <foo@example.com>`, `<foo@example.com>` or `foo@example.com (Foo Bar)`; any other word
/// unchanged, without the blanks around it.
pub fn address_in(word: &str) -> &str {
    let word = word.trim();
    let named = word.strip_suffix('>').and_then(|word| word.rsplit_once('<')).map(|(_, address)| address);
    let commented =
        || word.strip_suffix(')').and_then(|word| word.split_once('(')).map(|(address, _)| address);
    named.or_else(commented).map(str::trim).filter(|address| is_address(address)).unwrap_or(word)
}

/// Returns the known name that a misspelled word probably means, compared without case: at most one edit per three letters,
/// plus one, and fewer than the name has letters.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// The number of characters that are compared; longer words are not misspelled names.
    const COMPARED: usize = 64;
    let word: String = fold(word).chars().take(COMPARED).collect();
    let length = word.chars().count();
    let slips = |name: &str| {
        let count = name.chars().count();
        let most = (length / 3 + 1).min(count.saturating_sub(1));
        let is_near = length.abs_diff(count) <= most;
        is_near.then(|| strsim::osa_distance(&word, &fold(name))).filter(|slips| *slips <= most)
    };
    let near = known.into_iter().filter_map(|name| Some((slips(name)?, name)));
    near.min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

/// Splits a text at its commas, except within braces, where a comma is part of a name: `Status,CF.{a, b}`.
pub fn between_commas(text: &str) -> Vec<String> {
    let (mut words, mut is_braced) = (vec![String::new()], false);
    for c in text.chars() {
        is_braced = (is_braced || c == '{') && c != '}';
        match words.last_mut() {
            Some(word) if c != ',' || is_braced => word.push(c),
            _ => words.push(String::new()),
        }
    }
    words.iter().map(|word| word.trim().to_owned()).collect()
}

/// Returns the names as `"a", "b" and "c"`, for messages that list valid names; only the first 20 are listed.
pub fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<String> = names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    match names.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) if names.len() <= SHOWN => format!("{} and {last}", rest.join(", ")),
        Some(_) => {
            let shown: Vec<_> = names.iter().take(SHOWN).cloned().collect();
            format!("{} and {} more", shown.join(", "), names.len() - SHOWN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_type_is_composed_and_has_no_blanks_around_it() {
        for (given, stored) in [
            ("", ""),
            ("  padded  ", "padded"),
            ("A2\n", "A2"),
            ("\u{a0}\u{3000}two words\u{2003}\t", "two words"),
            ("\u{feff}\u{200b}BOM\u{2060}", "BOM"),
            ("Bu\u{308}ro", "B\u{fc}ro"),
            ("\u{212b}", "\u{c5}"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            // Persian and Indic words need their joiners, and Hebrew its marks.
            (
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            ),
            ("\u{5d0}!\u{200f}", "\u{5d0}!\u{200f}"),
        ] {
            assert_eq!(typed(given), stored, "{given:?}");
        }
        for nothing in [
            "",
            "   ",
            "\u{a0}\u{3000}",
            "\u{200b}",
            "\u{feff}\u{200d}",
            "\u{fe0f}",
            "\u{e0041}",
            "\u{2800}",
            "\r\n",
        ] {
            assert!(is_empty(nothing), "{nothing:?}");
        }
        assert!(!is_empty(" \u{200f}x"));
    }

    #[test]
    fn texts_that_differ_only_in_case_or_composition_have_one_caseless_form() {
        for (one, other) in [
            ("STRASSE", "straße"),
            ("STRAẞE", "strasse"),
            ("ﬁle", "FILE"),
            ("oﬃce", "OFFICE"),
            ("ὈΔΟΣ", "ὀδος"),
            ("ΟΔΟΣ", "οδοσ"),
            ("ſet", "SET"),
            ("5 µm", "5 ΜM"),
            ("gru\u{308}n", "GRÜN"),
            ("ᾳ", "ΑΙ"),
            ("ŉ", "ʼN"),
            ("եւ", "և"),
            ("Ꭰ", "ꭰ"),
        ] {
            assert_eq!(caseless(one), caseless(other), "{one} {other}");
        }
        // A dotless i and a dotted one are two letters, in Turkish and elsewhere.
        assert_ne!(caseless("ılık"), caseless("ilik"));
        assert_eq!(caseless("İ"), "i\u{307}");
        assert_ne!(caseless("Maße"), caseless("Mase"));
    }

    #[test]
    fn names_are_composed_and_compared_in_lower_case_alone() {
        assert_eq!(fold("Ju\u{308}rgen"), fold("JÜRGEN"));
        assert_ne!(fold("Groß"), fold("Gross"), "two people can be called so");
    }

    #[test]
    fn a_name_is_all_that_people_see_of_it() {
        for good in [
            "Support",
            "Büro 2",
            "日本語",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "❤\u{fe0f} Love",
            "👩\u{200d}💻",
            "a b",
        ] {
            assert_eq!(name_fault(good), None, "{good:?}");
        }
        for (bad, message) in [
            ("", "is empty"),
            ("\u{200b}", "is empty"),
            ("\u{fe0f}", "is empty"),
            ("Sup\u{200b}port", "U+200B"),
            ("Sup\u{200d}port", "U+200D"),
            ("ann\u{200e}", "U+200E"),
            ("\u{202e}nna", "U+202E"),
            ("a\u{2066}b", "U+2066"),
            ("\u{feff}ann", "U+FEFF"),
            ("ann\u{e0041}", "U+E0041"),
            ("a\u{fe0f}nn", "U+FE0F"),
            ("so\u{ad}ft", "U+00AD"),
            ("a\u{3164}b", "U+3164"),
            ("a\u{2028}b", "one line"),
        ] {
            let fault = name_fault(bad).unwrap_or_default();
            assert!(fault.contains(message), "{bad:?} {fault}");
        }
    }

    proptest! {
        #[test]
        fn each_form_of_a_text_is_its_own_form(text in "\\PC{0,12}|[ßẞﬁİıςΣσſée\u{301}\u{308}\u{345}ᾳΩÅ가각각 ]{0,8}") {
            let caseless_form = caseless(&text);
            prop_assert_eq!(&caseless(&caseless_form), &caseless_form);
            let once = typed(&text);
            prop_assert_eq!(typed(&once), once.as_ref());
            prop_assert_eq!(&composed(&caseless_form), &caseless_form);
            prop_assert_eq!(caseless(&composed(&text)), caseless_form);
        }
    }

    #[test]
    fn an_address_is_bare_and_holds_nothing_that_frames_one() {
        for good in [
            "eve@example.net",
            "a.b+c@sub.example.org",
            "\"q x\"@example.net",
            "a@[127.0.0.1]",
            "ü@exämple.net",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "eve",
            "Eve <eve@example.net>",
            "<eve@example.net>",
            "\"a<b\"@example.net",
            "a@[1<2]",
            "a@[1>2]",
            "e\u{200b}ve@example.net",
            "eve@example.net\u{200e}",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_is_found_beside_a_name_and_every_other_word_stays() {
        for word in [
            "foo@example.com",
            "  foo@example.com ",
            "<foo@example.com>",
            "Foo Bar <foo@example.com>",
            "\"Foo Bar\" <foo@example.com>",
            "\"Bar, Foo (Sales) <x>\" < foo@example.com >",
            "J. Doe<foo@example.com>",
            "foo@example.com (Foo Bar)",
        ] {
            assert_eq!(address_in(word), "foo@example.com", "{word}");
        }
        for word in
            ["ann", "Foo <ann>", "Foo <foo@example.com", "a@b.example, Foo <>", "ann (foo@example.com)", "()"]
        {
            assert_eq!(address_in(word), word);
        }
    }
}
