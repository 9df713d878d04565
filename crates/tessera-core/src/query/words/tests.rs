//! Tables of words and of MATCHES, and a comparison of PostgreSQL's results with those in memory.

use super::*;
use crate::models::text::{CONTENT_MAX, composed};
use crate::testing::TestDb;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

fn words(text: &str) -> Vec<String> {
    words_of(&caseless(text)).map(|(_, word)| word.to_owned()).collect()
}

fn asked(text: &str) -> Matcher {
    Matcher::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn words_are_runs_of_letters_digits_and_marks_and_others_stand_alone() {
    let table: [(&str, &[&str]); 18] = [
        ("", &[]),
        (" . -- ' \\ \" : & \u{2764}\u{FE0F} ", &[]),
        ("The printer's on fire!", &["the", "printer", "s", "on", "fire"]),
        ("foo_bar-baz@qux.example", &["foo", "bar", "baz", "qux", "example"]),
        ("v1.2.3 №5 x²", &["v1", "2", "3", "5", "x²"]),
        ("STRASSE Straße ÉCOLE", &["strasse", "strasse", "école"]),
        ("e\u{301}cole \u{301}a", &["école", "\u{301}a"]),
        ("ΟΔΟΣ οδος ΣΑΣ.Β", &["οδοσ", "οδοσ", "σασ", "β"]),
        ("İstanbul", &["i\u{307}stanbul"]),
        ("東京タワー2号", &["東", "京", "タ", "ワ", "ー", "2", "号"]),
        ("プリンター、紙", &["プ", "リ", "ン", "タ", "ー", "紙"]),
        ("가격 인상", &["가격", "인상"]),
        ("ที่", &["ท", "\u{E35}", "\u{E48}"]),
        ("नमस्ते। दुनिया", &["नमस्ते", "दुनिया"]),
        ("שָׁלוֹם־עולם", &["שָׁלוֹם", "עולם"]),
        ("مُحَمَّد", &["مُحَمَّد"]),
        ("a\nb\tc\u{A0}d\u{200B}e", &["a", "b", "c", "d", "e"]),
        ("abc東def", &["abc", "東", "def"]),
    ];
    for (text, expected) in table {
        let expected: Vec<_> = expected.iter().map(|word| composed(word)).collect();
        assert_eq!(words(text), expected, "{text}");
    }
}

#[test]
fn a_vector_has_each_word_once_with_its_places() {
    let table = [
        ("", ""),
        ("b a B", "'a':2 'b':1,3"),
        ("it's \\ 'x':5", "'5':4 'it':1 's':2 'x':3"),
        ("ba b é", "'b':2 'ba':1 'é':3"),
    ];
    for (text, expected) in table {
        assert_eq!(vector(text), expected, "{text}");
    }
    let long = "ü".repeat(WORD_MAX + 50);
    assert_eq!(vector(&long), format!("'{}':1", "ü".repeat(WORD_MAX)));
}

#[test]
fn what_matches_asks_is_read_printed_and_compiled() {
    let table = [
        ("Printer", "printer", "'printer'"),
        ("  printer   FIRE ", "printer fire", "'printer' & 'fire'"),
        ("\"On fire\" -paper", "\"on fire\" -paper", "('on' <-> 'fire') & !('paper')"),
        ("a -\"b  c\"", "a -\"b c\"", "'a' & !('b' <-> 'c')"),
        ("print*", "print*", "'print':*"),
        ("a -print*", "a -print*", "'a' & !('print':*)"),
        ("foo-bar", "\"foo bar\"", "('foo' <-> 'bar')"),
        ("foo-ba*", "foo-ba*", "('foo' <-> 'ba':*)"),
        ("東京", "\"東 京\"", "('東' <-> '京')"),
        ("東京*", "東-京*", "('東' <-> '京':*)"),
        ("R & D", "r d", "'r' & 'd'"),
        ("a - b \"\" -\"\"", "a b", "'a' & 'b'"),
        ("--a b", "-a b", "!('a') & 'b'"),
        ("a\"b c\"d", "a \"b c\" d", "'a' & ('b' <-> 'c') & 'd'"),
        ("\"one\"", "one", "'one'"),
        ("it's", "\"it s\"", "('it' <-> 's')"),
    ];
    for (text, printed, tsquery) in table {
        let matcher = asked(text);
        assert_eq!(matcher.to_string(), printed, "{text}");
        assert_eq!(matcher.tsquery(), tsquery, "{text}");
        assert_eq!(asked(printed), matcher, "{text}");
    }
}

#[test]
fn what_asks_for_nothing_is_refused_with_its_place() {
    let many = "w ".repeat(TERMS_MAX) + "last";
    let table = [
        ("", 0..0, "no word"),
        (" & -- \"\" ", 0..9, "no word"),
        ("-a -\"b c\"", 0..9, "all words are excluded"),
        ("a \"b c", 2..6, "never closed"),
        ("a -\"b c", 3..7, "never closed"),
        ("é a*b", 4..5, "* is only allowed"),
        ("*", 0..1, "* is only allowed"),
        ("a **", 2..3, "* is only allowed"),
        ("a** b", 1..2, "* is only allowed"),
        ("x -\"a b*\"", 7..8, "* is only allowed"),
        ("\"a b\"*", 5..6, "* is only allowed"),
        (&many, 100..104, "at most 50 words"),
    ];
    for (text, at, message) in table {
        let error = Matcher::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{text}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_text_holds_all_that_is_asked_or_is_not_found() {
    let text = "The printer on floor 2 is on fire: foo-bar, 東京タワー";
    let table = [
        ("printer FIRE", true),
        ("printer paper", false),
        ("\"on fire\"", true),
        ("\"on floor\" -\"on printer\"", true),
        ("\"fire on\"", false),
        ("printer -fire", false),
        ("printer -paper", true),
        ("prin*", true),
        ("prin", false),
        ("\"foo bar\"", true),
        ("foo-b*", true),
        ("foo-z*", false),
        ("京タ", true),
        ("京東", false),
        ("on-f*", true),
    ];
    for (query, expected) in table {
        assert_eq!(asked(query).matches(text), expected, "{query}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_prints_to_the_same(text in "[aAÉßΣİ東ท\u{301}\\-\"*' :\\\\&0]{0,14}") {
        if let Ok(matcher) = Matcher::parse(&text) {
            prop_assert_eq!(Matcher::parse(&matcher.to_string()), Ok(matcher));
        }
    }

    #[test]
    fn no_text_is_too_strange(text in any::<String>()) {
        if let Ok(matcher) = Matcher::parse(&text) {
            prop_assert_eq!(Matcher::parse(&matcher.to_string()), Ok(matcher));
        }
        vector(&text);
    }
}

/// Texts that reach every limit, none longer than a message can be.
fn largest() -> Vec<String> {
    let fill = |word: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for n in 0.. {
            let word = word(n);
            if text.len() + word.len() + 1 > CONTENT_MAX {
                break;
            }
            text.push_str(&word);
            text.push(' ');
        }
        text
    };
    vec![
        fill(&|_| "a".to_owned()),
        fill(&|n| (n % 3).to_string()),
        fill(&|n| n.to_string()),
        fill(&|n| format!("{n:020}")),
        fill(&|n| format!("{n:057}")),
        fill(&|n| format!("{n:058}")),
        fill(&|n| format!("{n:090}{}", "x".repeat(20))),
        // Letters of four bytes, and letters that become longer when folded.
        fill(&|n| format!("{n:08}{}", "\u{10400}".repeat(WORD_MAX - 8))),
        fill(&|n| format!("{n:06}{}", "Ⱥ".repeat(26))),
        fill(&|n| char::from_u32(0x4E00 + u32::try_from(n % 20_000).unwrap()).unwrap().to_string()),
        "東".repeat(CONTENT_MAX / 3),
        "x".repeat(CONTENT_MAX),
    ]
}

#[tokio::test]
async fn the_largest_texts_fit_and_postgresql_prints_what_it_read() {
    let db = TestDb::new().await;
    for (n, text) in largest().iter().enumerate() {
        let vector = vector(text);
        let printed: String = sqlx::query_scalar("SELECT $1::tsvector::text")
            .bind(&vector)
            .fetch_one(&db.pools.read)
            .await
            .unwrap();
        assert!(printed == vector, "text {n}");
    }
}

#[tokio::test]
async fn places_and_words_beyond_the_limits_are_forgotten_by_both() {
    let db = TestDb::new().await;
    let text = "a ".repeat(PLACES_MAX) + "b a c " + &"d ".repeat(20_000) + "e";
    let table =
        [("a", true), ("\"a a\"", true), ("\"b a\"", false), ("\"a c\"", false), ("c", true), ("e", false)];
    for (query, expected) in table {
        let matcher = asked(query);
        let found: bool = sqlx::query_scalar("SELECT $1::tsvector @@ $2::tsquery")
            .bind(vector(&text))
            .bind(matcher.tsquery())
            .fetch_one(&db.pools.read)
            .await
            .unwrap();
        assert_eq!((matcher.matches(&text), found), (expected, expected), "{query}");
    }
}

/// The texts that PostgreSQL and memory find, for texts and queries with few letters.
#[tokio::test]
async fn postgresql_and_memory_find_the_same_texts() {
    const TEXTS: usize = 400;
    const QUERIES: usize = 600;
    const PIECE: &str = "[abAB1éÉΣ東京ท\u{301}]{1,3}";
    const GAP: &str = "[ '\\\\\":.&|!<>()*\\-\n]{1,2}";
    let mut runner = TestRunner::deterministic();
    let text = proptest::collection::vec((PIECE, GAP), 0..12)
        .prop_map(|parts| parts.into_iter().flat_map(|(word, gap)| [word, gap]).collect::<String>());
    let term = ("-?", "\"?", PIECE, "[ '\\\\:\\-]?", PIECE, "\\*?").prop_map(
        |(minus, quote, one, gap, two, star)| {
            let star = if quote.is_empty() { star } else { String::new() };
            format!("{minus}{quote}{one}{gap}{two}{quote}{star}")
        },
    );
    let query = proptest::collection::vec(prop_oneof![term, PIECE], 1..4).prop_map(|terms| terms.join(" "));
    let mut draw = |strategy: &dyn Fn(&mut TestRunner) -> String, n: usize| -> Vec<String> {
        (0..n).map(|_| strategy(&mut runner)).collect()
    };
    let texts = draw(&|runner| text.new_tree(runner).unwrap().current(), TEXTS);
    let queries = draw(&|runner| query.new_tree(runner).unwrap().current(), QUERIES);

    let db = TestDb::new().await;
    let mut conn = db.pools.write.acquire().await.unwrap();
    let table = "CREATE TABLE texts (n INT, words TSVECTOR); CREATE INDEX ON texts USING gin (words); SET enable_seqscan = off";
    sqlx::raw_sql(table).execute(&mut *conn).await.unwrap();
    let vectors: Vec<String> = texts.iter().map(|text| vector(text)).collect();
    sqlx::query(
        "INSERT INTO texts SELECT n, words::tsvector FROM unnest($1::text[]) WITH ORDINALITY AS t (words, n)",
    )
    .bind(&vectors)
    .execute(&mut *conn)
    .await
    .unwrap();
    let (mut asked, mut answers) = (0, 0);
    for query in &queries {
        let Ok(matcher) = Matcher::parse(query) else { continue };
        let found: Vec<i32> = sqlx::query_scalar("SELECT n FROM texts WHERE words @@ $1::tsquery ORDER BY n")
            .bind(matcher.tsquery())
            .fetch_all(&mut *conn)
            .await
            .unwrap();
        let here: Vec<i32> =
            (1..).zip(&texts).filter(|(_, text)| matcher.matches(text)).map(|(n, _)| n).collect();
        assert_eq!(here, found, "{query:?}: {matcher}, {}", matcher.tsquery());
        asked += 1;
        answers += found.len();
    }
    assert!(asked > QUERIES / 2 && answers > asked, "{asked} questions with {answers} answers prove little");
}
