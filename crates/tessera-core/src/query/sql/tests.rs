//! The shape of statements, and that their text contains no values of the query.

use super::*;
use crate::query::{Dialect, Purpose, parse, resolve};
use crate::testing::desk::Desk;
use time::macros::datetime;

fn compile<T>(text: &str, frequencies: &Frequencies, of: impl FnOnce(&Compiler<'_>) -> T) -> T {
    let desk = Desk::of(&[0; 64]);
    let fields = desk.catalog.query_fields(Purpose::Search(&[]));
    let query = parse(text, Dialect::Tessera).unwrap_or_else(|error| panic!("{text}: {error}")).query;
    let query = resolve(&query, &fields).unwrap_or_else(|error| panic!("{text}: {error}"));
    let asker = Asker {
        user: crate::models::user::ADMIN_USER,
        now: datetime!(2026-11-23 10:00 UTC),
        zone: crate::query::Zone::utc(),
    };
    of(&Compiler { query: &query, asker: &asker, frequencies, keys: &Keys::default() })
}

fn page(text: &str) -> Statement {
    compile(text, &Frequencies::default(), |compiler| compiler.page(None, 51).unwrap())
}

#[test]
fn queries_that_differ_in_their_values_are_one_statement() {
    for (one, other) in [
        ("Subject = 'a' AND Priority > 3", "Subject = 'it\\'s; DROP TABLE tickets --' AND Priority > 4"),
        ("Content MATCHES 'fire -smoke'", "Content MATCHES '\"two words\" begin*'"),
        ("Subject LIKE 'a%b' OR Subject STARTSWITH 'c'", "Subject LIKE '$1' OR Subject STARTSWITH '%'"),
        ("id IN (1, 2) AND Created > '2 days ago'", "id IN (3, 4, 5) AND Created > 'yesterday'"),
        ("Updated BETWEEN 'yesterday' AND 'today'", "Updated BETWEEN '2020-01-01' AND 'now'"),
    ] {
        let (one, other) = (page(one), page(other));
        assert_eq!(one.text, other.text);
        assert_ne!(one.binds, other.binds);
        for at in 1..=one.binds.len() {
            assert!(one.text.contains(&format!("${at}::")), "every value is named: ${at} in {}", one.text);
        }
    }
}

#[test]
fn an_or_of_sets_is_a_union_of_ordered_pages_until_there_are_too_many() {
    let union = |text: &str| page(text).text.matches("UNION ALL").count();
    let text = "Updated > 'today' OR Content MATCHES 'a'";
    assert_eq!(union(text), 3, "a branch, the two ways of a text, and the two places it stands in");
    assert_eq!(union("Priority > 1 OR Subject = 'a'"), 0, "conditions on the row stay one condition");
    let or = "(Updated > 'today' OR Priority > 3)";
    assert_eq!(union(&[or, or].join(" AND ")), 3);
    assert_eq!(union(&[or; 4].join(" AND ")), 15, "16 branches");
    let many = page(&[or; 5].join(" AND "));
    assert_eq!(many.text.matches("UNION ALL").count(), 15, "the fifth is a condition of each");
    assert!(many.text.contains("OFFSET 0"), "{}", many.text);
    for at in 1..=many.binds.len() {
        assert!(many.text.contains(&format!("${at}::")), "no value is left of what was not used: ${at}");
    }
}

#[test]
fn no_more_sets_are_joined_than_are_planned_at_once() {
    let joins = |text: &str| page(text).text.matches("JOIN (").count();
    let many = vec!["Watcher IS NOT NULL"; 150].join(" AND ");
    assert_eq!(joins(&many), 7, "the others are looked up one by one");
    let or = "(Watcher IS NOT NULL OR Updated > 'today')";
    assert_eq!(joins(&[or; 3].join(" AND ")), 24, "8 branches of 3");
    assert_eq!(joins(&[or; 4].join(" AND ")), 24, "16 of 4 would be 64");
    let anti = page(&vec!["Watcher IS NULL"; 150].join(" AND ")).text;
    let not_ordered = anti.matches("NOT EXISTS").count() - anti.matches("OFFSET 0").count();
    assert_eq!(not_ordered, 7, "so many may become anti-joins");
}

#[test]
fn a_statement_has_no_more_look_ups_than_are_planned_at_once() {
    let or = "(Updated > 'today' OR Priority > 3)";
    let shared = |tests: usize| vec!["Watcher IS NULL"; tests].join(" AND ");
    let look_ups = |text: &str| page(text).text.matches("SELECT").count();
    let branches = |text: &str| page(text).text.matches("UNION ALL").count() + 1;
    assert_eq!(branches(&format!("{} AND {}", [or; 4].join(" AND "), shared(40))), 16, "800 by 44 tests");
    let many = format!("{} AND {}", [or; 4].join(" AND "), shared(190));
    assert_eq!(branches(&many), 4, "800 by 194");
    assert!(look_ups(&many) < 900, "{}", look_ups(&many));
}

#[test]
fn a_text_is_fenced_unless_its_words_are_known_to_be_frequent() {
    assert!(page("Content MATCHES 'fire'").text.contains("AS MATERIALIZED"));
    let words = [("fire".to_owned(), 0.2), ("smoke".to_owned(), 0.02)].into();
    let frequencies = Frequencies { messages: 4_000.0, words };
    let is_fenced = |text: &str| {
        compile(text, &frequencies, |compiler| {
            compiler.page(None, 51).unwrap().text.contains("AS MATERIALIZED")
        })
    };
    assert!(!is_fenced("Content MATCHES 'fire'"));
    assert!(is_fenced("Content MATCHES 'fire smoke'"), "in 16, which are fetched");
    assert!(is_fenced("Content MATCHES 'fire engine'"), "one is not known");
    assert!(!is_fenced("Content MATCHES 'fire -engine'"), "what must not be there says nothing");
}

#[test]
fn a_time_is_said_of_the_ids_and_a_place_of_every_set() {
    let text = page("Created > '2026-11-01' AND Updated > 'today' AND NOT Created > '2027-01-01'").text;
    assert!(text.contains("t.id >= ") && text.contains("j0.id >= ") && !text.contains("t.id < "), "{text}");
    let place = uuid::Uuid::from_u128(7);
    let next = compile("Updated > 'today'", &Frequencies::default(), |compiler| {
        compiler.page(Some((&[], place)), 51).unwrap()
    });
    assert!(next.text.contains("t.id < ") && next.text.contains("j0.id < "), "{}", next.text);
}

#[test]
fn deleted_tickets_are_hidden_until_the_status_is_named() {
    assert!(page("").text.contains("t.status <> 'deleted'"));
    assert!(!page("Status = 'deleted' OR Priority > 5").text.contains("<> 'deleted'"));
}
