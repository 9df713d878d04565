//! [`text::caseless`] in SQL, for texts whose caseless form is not stored: messages, usernames and addresses.

use super::bind::Bind;
use super::builder::Builder;
use crate::models::text::{caseless, composed};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;
use unicode_normalization::{IsNormalized, is_nfc_quick};

/// Characters from here on that have a case or another form, except for [`COMPATIBILITY`], are below this one.
const CASED_END: u32 = 0x2_0000;
/// Han for compatibility, which is composed to other characters.
const COMPATIBILITY: std::ops::Range<u32> = 0x2_F800..0x2_FA20;

/// What PostgreSQL must do beyond `lower()`.
struct Rules {
    /// A class of a regular expression: the characters for which `lower()` and two replacements do not suffice.
    rare: String,
    /// Characters that `lower()` would fold in another way.
    before: Vec<(char, String)>,
    /// Lower-case characters with their caseless form.
    after: BTreeMap<char, String>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let mut rules = Rules { rare: String::new(), before: Vec::new(), after: BTreeMap::new() };
    let mut rare: Vec<(u32, u32)> = Vec::new();
    for code in (0x80..CASED_END).chain(COMPATIBILITY) {
        let Some(c) = char::from_u32(code) else { continue };
        let (letter, lower) = (String::from(c), lower(c));
        let form = caseless(&letter);
        let is_usual = form.chars().eq([lower]);
        if is_usual && is_nfc_quick(letter.chars()) == IsNormalized::Yes {
            continue;
        }
        // A letter that is composed to another one is that one by then.
        if !is_usual && composed(&letter) == letter {
            match caseless(&String::from(lower)) == form {
                true => drop(rules.after.insert(lower, form)),
                false => rules.before.push((c, form)),
            }
        }
        if !matches!(c, 'ß' | 'ẞ' | 'ς') {
            match rare.last_mut() {
                Some((_, last)) if *last + 1 == code => *last = code,
                _ => rare.push((code, code)),
            }
        }
    }
    for (first, last) in rare {
        // Writing into memory does not fail.
        let _ = write!(rules.rare, r"\U{first:08X}-\U{last:08X}");
    }
    rules.rare = format!("[{}]", rules.rare);
    rules
});

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
        let rare = self.binds.add(Bind::Text(RULES.rare.clone()));
        expression(text, &rare)
    }
}

/// The expression, with one for [`Rules::rare`]. Most texts need only `lower()` and the letters that are common somewhere: a sharp s
/// and a final sigma.
fn expression(text: &str, rare: &str) -> String {
    let Rules { before, after, .. } = &*RULES;
    let replaced = |of: String, (from, to): (char, &str)| format!("replace({of}, '{from}', '{to}')");
    let common = [('ß', "ss"), ('ς', "σ")].into_iter().fold(format!("lower({text})"), replaced);
    let before = before.iter().map(|(from, to)| (*from, to.as_str()));
    let all = before.fold(format!("normalize({text}, NFC)"), replaced);
    let all = after.iter().map(|(from, to)| (*from, to.as_str())).fold(format!("lower({all})"), replaced);
    format!("CASE WHEN {text} ~ {rare} THEN normalize({all}, NFC) ELSE {common} END")
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
            expression("p.text", "$1"),
            expression("p.text", "$1")
        );
        let differ: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(differ))
            .bind(&RULES.rare)
            .bind(&letters)
            .bind(&lowers)
            .bind(&texts)
            .bind(&forms)
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
            let folded = AssertSqlSafe(format!("SELECT {}", expression("$2::text", "$1")));
            let folded: String = sqlx::query_scalar(folded)
                .bind(&RULES.rare)
                .bind(word)
                .fetch_one(&db.pools.write)
                .await
                .unwrap();
            assert_eq!(folded, caseless(word), "{word}");
        }
        assert!(
            RULES.rare.len() < 10_000 && expression("c.body", "$1").len() < 10_000,
            "{}",
            RULES.rare.len()
        );
    }
}
