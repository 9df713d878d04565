//! Text as it is compared and limited: folding, lengths, forbidden characters.

/// The form in which text is compared: made here and stored, so that SQL and memory compare the same bytes.
pub fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// The longest subject, in bytes of UTF-8.
pub const SUBJECT_MAX: usize = 1_000;
/// The longest value of a custom field, in bytes of UTF-8, folded or not.
pub const VALUE_MAX: usize = 2_000;
/// The longest comment or reply, in bytes of UTF-8.
pub const CONTENT_MAX: usize = 1_048_576;
/// The longest name of a thing that is configured, in bytes of UTF-8.
pub const NAME_MAX: usize = 200;
/// The longest mail address, in bytes (RFC 5321).
pub const ADDRESS_MAX: usize = 254;

/// Says why a text cannot be taken, if it cannot: too long for `max` bytes, or holding U+0000, which PostgreSQL cannot store.
pub fn fault(text: &str, max: usize) -> Option<String> {
    if text.len() > max {
        return Some(format!("is {} bytes long; at most {max} are allowed", text.len()));
    }
    text.contains('\0').then(|| "holds the character U+0000, which cannot be stored; remove it".to_owned())
}

/// The same, for a line: a subject, a name, an address. Line breaks are refused too.
pub fn line_fault(text: &str, max: usize) -> Option<String> {
    fault(text, max).or_else(|| {
        text.chars()
            .any(|c| c.is_control())
            .then(|| "holds a line break or another control character; it must be one line".to_owned())
    })
}

/// The same, for the name of a thing that is configured: 1 to [`NAME_MAX`] bytes with no space around them.
pub fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("is empty; a name has 1 to {NAME_MAX} bytes"));
    }
    line_fault(name, NAME_MAX)
        .or_else(|| (name.trim() != name).then(|| "begins or ends with a space; remove it".to_owned()))
        .or_else(|| {
            let is_id = uuid::Uuid::parse_str(name).is_ok();
            is_id.then(|| {
                "has the form of an id, so that nobody could tell the two apart; take another".to_owned()
            })
        })
}

/// A text that somebody sent, as messages quote it: what cannot be printed escaped, and cut after 80 characters.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!("{:?}", shown + rest)
}

/// Whether this reads as a bare mail address (`local@domain`), as far as is needed to send to it and to keep it out of headers.
pub fn is_address(text: &str) -> bool {
    // Angle brackets frame an address in headers and in SMTP; quotes or a domain literal could hold one, and nobody's does.
    line_fault(text, ADDRESS_MAX).is_none()
        && !text.contains(['<', '>'])
        && text.parse::<lettre::Address>().is_ok()
}

/// The name among those known that was probably meant by a word, compared without case: one slip of the fingers in each
/// three letters, and not all of the name.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Characters of a word that are looked at: longer ones are no slips.
    const LOOKED_AT: usize = 64;
    let word: String = fold(word).chars().take(LOOKED_AT).collect();
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

/// Words between commas; a comma within braces is part of a name: `Status,CF.{a, b}`.
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

/// "a, b and c", for messages that name what exists.
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
}
