//! [`text::caseless`] in SQL, for texts whose caseless form is not stored: messages, usernames and addresses.

use super::bind::Bind;
use super::builder::Builder;
use crate::models::text::{caseless, composed};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use unicode_normalization::{IsNormalized, is_nfc_quick};

/// Characters from here on that have a case or another form, except for [`COMPATIBILITY`], are below this one.
const CASED_END: u32 = 0x2_0000;
/// Han for compatibility, which is composed to other characters.
const COMPATIBILITY: std::ops::Range<u32> = 0x2_F800..0x2_FA20;

/// Letters that are common in some language, so that every text is searched for them: a sharp s and a final sigma.
const COMMON: [char; 2] = ['ß', 'ς'];
/// Letters that are common in some texts: the micro sign, and ligatures of copied pages.
const USUAL: [char; 6] = ['µ', 'ﬀ', 'ﬁ', 'ﬂ', 'ﬃ', 'ﬄ'];

/// What PostgreSQL must do beyond `lower()`.
struct Rules {
    /// A class of a regular expression: the characters for which `lower()` and the letters of [`COMMON`] do not suffice.
    rare: String,
    /// A class of those for which composing the text and the letters of [`USUAL`] do not suffice either.
    rarest: String,
    /// Characters that `lower()` would fold in another way, with their caseless form.
    before: Vec<(char, String)>,
    /// Lower-case characters with their caseless form.
    after: BTreeMap<char, String>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let (mut before, mut after) = (Vec::new(), BTreeMap::new());
    let (mut rare, mut rarest) = (Vec::new(), Vec::new());
    for code in (0x80..CASED_END).chain(COMPATIBILITY) {
        let Some(c) = char::from_u32(code) else { continue };
        let (letter, lower) = (String::from(c), lower(c));
        let form = caseless(&letter);
        let is_usual = form.chars().eq([lower]);
        if is_usual && is_nfc_quick(letter.chars()) == IsNormalized::Yes {
            continue;
        }
        if !COMMON.contains(&lower) {
            rare.push(code);
        }
        // A letter that is composed to another one is that one by then.
        if is_usual || composed(&letter) != letter {
            continue;
        }
        if !COMMON.contains(&lower) && !USUAL.contains(&lower) {
            rarest.push(code);
        }
        // Only İ has two characters in lower case, and PostgreSQL drops the second.
        if c.to_lowercase().count() == 1 && caseless(&String::from(lower)) == form {
            after.insert(lower, form);
        } else {
            before.push((c, form));
        }
    }
    Rules { rare: class(&rare), rarest: class(&rarest), before, after }
});

/// A class of a regular expression of PostgreSQL, for characters in order.
fn class(codes: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for code in codes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *code => *last = *code,
            _ => ranges.push((*code, *code)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| format!(r"\U{first:08X}-\U{last:08X}"));
    format!("[{}]", ranges.collect::<String>())
}

/// The lower case of a character where it is one character, as PostgreSQL has it.
fn lower(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

impl Builder<'_> {
    /// Returns an expression for the caseless form of the text of another one.
    pub(super) fn caseless(&mut self, text: &str) -> String {
        let [rare, rarest] =
            [&RULES.rare, &RULES.rarest].map(|class| self.binds.add(Bind::Text(class.clone())));
        expression(text, &rare, &rarest)
    }
}

/// The expression, with one for each class of the [`Rules`]. The more letters a text has that fold in a way of their own, the more it
/// costs: most texts need only `lower()` and two replacements.
fn expression(text: &str, rare: &str, rarest: &str) -> String {
    let Rules { before, after, .. } = &*RULES;
    let replaced = |of: String, (from, to): (&char, &String)| format!("replace({of}, '{from}', '{to}')");
    let these = |letters: &[char], of: String| {
        let letters = letters.iter().filter_map(|letter| after.get_key_value(letter));
        letters.fold(of, replaced)
    };
    let composed = format!("normalize({text}, NFC)");
    let common = these(&COMMON, format!("lower({text})"));
    let usual = these(&USUAL, these(&COMMON, format!("lower({composed})")));
    let all = before.iter().map(|(from, to)| (from, to)).fold(composed, replaced);
    let all = after.iter().fold(format!("lower({all})"), replaced);
    format!(
        "CASE WHEN {text} !~ {rare} THEN {common} WHEN {text} !~ {rarest} THEN normalize({usual}, NFC) ELSE normalize({all}, NFC) END"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;
    use sqlx::AssertSqlSafe;

    #[tokio::test]
    async fn postgresql_folds_every_character_as_memory_does() {
        let db = TestDb::new().await;
        let every = (0x20..CASED_END).chain(COMPATIBILITY).filter_map(char::from_u32);
        let letters: Vec<String> = every.clone().map(String::from).collect();
        let lowers: Vec<String> = every.clone().map(|c| lower(c).to_string()).collect();
        let texts: Vec<String> = every.map(|c| format!("A{c}b")).collect();
        let forms: Vec<String> = texts.iter().map(|text| caseless(text)).collect();
        // The two may know another version of Unicode, in which a letter has no lower case yet.
        let differ = format!(
            "SELECT p.text, {} FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS p (letter, lower, text, form)
             WHERE {} <> p.form AND lower(p.letter) = p.lower",
            expression("p.text", "$1", "$6"),
            expression("p.text", "$1", "$6")
        );
        let differ: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(differ))
            .bind(&RULES.rare)
            .bind(&letters)
            .bind(&lowers)
            .bind(&texts)
            .bind(&forms)
            .bind(&RULES.rarest)
            .fetch_all(&db.pools.write)
            .await
            .unwrap();
        assert!(differ.is_empty(), "{}: {:?}", differ.len(), differ.get(..20).unwrap_or(&differ));

        let words = [
            "Hauptstraße",
            "STRAẞE",
            "ΟΔΟΣ ὁδός",
            "İstanbul ılık",
            "Bu\u{308}ro 5 µm",
            "oﬃce ﬁle",
            "ᾳ Ǆ ŉ և",
            "한\u{1112}\u{1161}\u{11ab}",
        ];
        for word in words {
            let folded = AssertSqlSafe(format!("SELECT {}", expression("$2::text", "$1", "$3")));
            let folded = sqlx::query_scalar(folded).bind(&RULES.rare).bind(word).bind(&RULES.rarest);
            let folded: String = folded.fetch_one(&db.pools.write).await.unwrap();
            assert_eq!(folded, caseless(word), "{word}");
        }
        let length = RULES.rare.len() + RULES.rarest.len() + expression("c.body", "$1", "$2").len();
        assert!(length < 16 * 1024, "{length}");
    }
}
