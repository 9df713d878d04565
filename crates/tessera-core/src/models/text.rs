//! Text: folding for comparisons, limits, forbidden characters, and how messages quote and list names.

/// Returns the form in which text is compared. It is stored too, so that SQL and memory compare the same bytes.
pub fn fold(text: &str) -> String {
    text.to_lowercase()
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
            .any(|c| c.is_control())
            .then(|| "contains a line break or another control character; it must be one line".to_owned())
    })
}

/// As [`line_fault`], for the name of a configuration object: 1 to [`NAME_MAX`] bytes without spaces around them.
pub fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("is empty; a name has 1 to {NAME_MAX} bytes"));
    }
    line_fault(name, NAME_MAX)
        .or_else(|| (name.trim() != name).then(|| "begins or ends with a space; remove it".to_owned()))
        .or_else(|| {
            let is_id = uuid::Uuid::parse_str(name).is_ok();
            is_id.then(|| {
                "has the form of an id, so it could be mistaken for one; choose another name".to_owned()
            })
        })
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
