//! Tests of TicketSQL from outside: tables of queries on a fixed desk, with results that are written by hand, evaluated by a slow
//! and obvious judge, and found by SQL.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking, its helpers too"
)]

mod calendar;
mod desk;
mod dice;
mod judge;
mod random;
mod read;
mod table;

use desk::Desk;
use judge::Judge;
use std::collections::BTreeSet;
use std::sync::Arc;
use table::{Answer, Case, FINDS, REFUSED, cases, contract};
use tessera_core::db::connections::Connections;
use tessera_core::db::search::{self, Count, Search};
use tessera_core::models::{User, UserId};
use tessera_core::plan::Catalog;
use tessera_core::query::ast::{Predicate, Verb};
use tessera_core::query::sql::Asker;
use tessera_core::query::{Dialect, Purpose, Zone, parse, resolve};
use tessera_core::testing::{TestDb, properties};
use time::OffsetDateTime;
use time::macros::datetime;

/// The time of the searches: the Monday after summer time began in Berlin.
const NOW: OffsetDateTime = datetime!(2026-03-30 10:30:15.5 UTC);

fn dialect(case: &Case) -> Dialect {
    if case.is_rt { Dialect::Rt } else { Dialect::Tessera }
}

async fn numbers(
    searches: &Arc<Connections>,
    catalog: &Catalog,
    query: &str,
    dialect: Dialect,
    asker: Asker,
) -> Result<Vec<i64>, String> {
    let search =
        Search { query, dialect, order: &[], limit: 1_000, cursor: None, count: Count::Exact, asker };
    let found = search::tickets(searches, catalog, &search).await.map_err(|error| format!("{error:?}"))?;
    let mut numbers: Vec<i64> = found.page.items.iter().map(|ticket| ticket.number.unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(found.count.unwrap().tickets, i64::try_from(numbers.len()).unwrap(), "the count of {query}");
    Ok(numbers)
}

#[tokio::test]
async fn every_query_of_the_tables_finds_the_tickets_that_they_say_by_the_judge_and_by_sql() {
    let db = TestDb::new().await;
    let desk = Desk::fixed();
    let catalog = desk.write(&db.pools.write).await;
    let mut judge = Judge::of(&db.pools.read, "ann", NOW).await;
    let (mut wrong, mut by_hand, mut all) = (Vec::new(), 0, 0);
    for case in FINDS.into_iter().flat_map(cases) {
        let Answer::Finds { tickets, source } = &case.answer else { panic!("{} finds nothing", case.place) };
        (by_hand, all) = (by_hand + usize::from(source.starts_with("hand")), all + 1);
        (judge.asker, judge.zone, judge.is_rt) = (case.asker.clone(), case.zone.clone(), case.is_rt);
        let asker = || Asker {
            user: UserId(desk.user(&case.asker).unwrap()),
            now: NOW,
            zone: Zone::parse(&case.zone).unwrap(),
        };
        let printed = parse(&case.query, dialect(&case))
            .map_or_else(|error| error.to_string(), |parsed| parsed.query.to_string());
        let answers = [
            ("the judge", Ok(judge.find(&case.query))),
            ("SQL", numbers(&db.pools.searches, &catalog, &case.query, dialect(&case), asker()).await),
            (
                "SQL of the printed query",
                numbers(&db.pools.searches, &catalog, &printed, Dialect::Tessera, asker()).await,
            ),
        ];
        for (who, found) in answers {
            if found.as_ref() != Ok(tickets) {
                let found = found.map_or_else(|error| error, |found| contract(&found));
                wrong.push(format!(
                    "{}: {}\n  {source}: {}\n  {who}: {found}",
                    case.place,
                    case.query,
                    contract(tickets)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong of {all}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(by_hand >= 40 && all >= 150, "{by_hand} of {all} by hand");
}

#[tokio::test]
async fn every_wrong_query_of_the_tables_is_refused_at_its_place_with_what_to_write_instead() {
    let db = TestDb::new().await;
    let catalog = Desk::fixed().write(&db.pools.write).await;
    let users: Vec<User> =
        sqlx::query_as::<_, (UserId, String, Option<String>)>("SELECT id, username, email FROM users")
            .fetch_all(&db.pools.read)
            .await
            .unwrap()
            .into_iter()
            .map(|(id, username, email)| User {
                id,
                username,
                email,
                name: None,
                privileged: false,
                disabled: false,
            })
            .collect();
    let mut wrong = Vec::new();
    for case in REFUSED.into_iter().flat_map(cases) {
        let purpose = if case.is_condition { Purpose::Condition } else { Purpose::Search(&users) };
        let fields = catalog.query_fields(purpose);
        let error =
            parse(&case.query, dialect(&case)).and_then(|parsed| resolve(&parsed.query, &fields)).err();
        let refused = error.map(|error| Answer::Refused {
            at: case.query.get(error.span.start..error.span.end).unwrap().replace('\n', " "),
            message: error.message,
            hint: error.hint.unwrap_or_default(),
        });
        if refused.as_ref().is_none_or(|refused| !is_same(refused, &case.answer)) {
            wrong.push(format!(
                "{}: {}\n  expected {:?}\n  but is   {refused:?}",
                case.place, case.query, case.answer
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// An expected text that ends in … matches every text that begins with it.
fn is_same(refused: &Answer, expected: &Answer) -> bool {
    let (
        Answer::Refused { at, message, hint },
        Answer::Refused { at: at_expected, message: message_expected, hint: hint_expected },
    ) = (refused, expected)
    else {
        return false;
    };
    [(at, at_expected), (message, message_expected), (hint, hint_expected)].into_iter().all(
        |(is, expected)| match expected.strip_suffix('…') {
            Some(begin) => is.starts_with(begin),
            None => is == expected,
        },
    )
}

/// These queries are too long for the tables.
#[tokio::test]
async fn every_limit_of_a_query_is_told_with_its_number() {
    let nested = |depth: usize| format!("{}id = 1{}", "(".repeat(depth), ")".repeat(depth));
    let joined = |tests: usize| vec!["id = 1"; tests].join(" OR ");
    let list = |values: usize| format!("id IN ({})", vec!["1"; values].join(","));
    let db = TestDb::new().await;
    let catalog = Desk::fixed().write(&db.pools.write).await;
    let fields = catalog.query_fields(Purpose::Search(&[]));
    for (fits, too_much, at, message, hint) in [
        (
            nested(100),
            nested(101),
            100..101,
            "parentheses and NOT are nested more than 100 levels deep here",
            "remove those that are not needed",
        ),
        (
            format!("{}id = 1", "NOT ".repeat(100)),
            format!("{}id = 1", "NOT ".repeat(101)),
            400..403,
            "parentheses and NOT are nested more than 100 levels deep here",
            "remove those that are not needed",
        ),
        (
            joined(200),
            joined(201),
            2_000..2_002,
            "this is test number 201; a query has at most 200",
            "use IN for a list of values",
        ),
        (
            list(1_000),
            list(1_001),
            6..2_009,
            "this list has more than 1000 values",
            "split it into several lists joined by OR",
        ),
        (
            format!("{}id = 1", " ".repeat(8_186)),
            format!("{}id = 1", " ".repeat(8_187)),
            0..8_193,
            "the query is 8193 bytes long; at most 8192 are allowed",
            "split a long list of ids into several searches",
        ),
        (
            format!("id = 1 OR Subject LIKE '{}'", "é".repeat(500)),
            format!("id = 1 OR Subject LIKE '{}'", "é".repeat(501)),
            23..1_027,
            "this pattern is 1002 bytes long; at most 1000 are allowed",
            "search for whole words with MATCHES, or join shorter patterns with AND",
        ),
        (
            format!("Subject LIKE '{}\\%'", "%a".repeat(50)),
            format!("Subject LIKE '{}_'", "%a".repeat(50)),
            13..116,
            "this pattern has 51 wildcards; at most 50 are allowed",
            "search for whole words with MATCHES, or join shorter patterns with AND",
        ),
        (
            "Subject = 'a\u{1}'".to_owned(),
            "Subject = 'a\0'".to_owned(),
            12..13,
            "the query contains the character U+0000, which no ticket contains",
            "remove it",
        ),
    ] {
        let checked =
            |text: &str| parse(text, Dialect::Tessera).and_then(|parsed| resolve(&parsed.query, &fields));
        assert_eq!(checked(&fits).err(), None);
        let error = checked(&too_much).unwrap_err();
        let told = (error.span.start..error.span.end, error.message.as_str(), error.hint.as_deref());
        assert_eq!(told, (at, message, Some(hint)));
    }
}

#[test]
fn a_place_is_told_in_characters_lines_and_columns() {
    let text = "Subject = 'Ä€😀'\n  AND Sttus = 'x'";
    let error = parse("Subject = 'Ä€😀'\n  AND Status ! 'x'", Dialect::Tessera).unwrap_err();
    let place = error.span.place(text);
    assert_eq!((place.start, place.end, place.line, place.column), (29, 30, 2, 14));
}

#[test]
fn what_rt_would_read_otherwise_is_warned_of_where_it_stands() {
    let text = "Status = 'new' AND (id = 1 OR id = 2 AND id = 3) AND id = 4";
    let [warning] = parse(text, Dialect::Rt).unwrap().warnings.try_into().unwrap();
    assert_eq!(&text[warning.span.start..warning.span.end], "id = 1 OR id = 2 AND id = 3");
    assert_eq!(
        warning.to_string(),
        "AND and OR are mixed without parentheses; as in RT, all of them are read as AND, the last one; \
         add parentheses, which both dialects read the same way"
    );
    assert_eq!(parse(text, Dialect::Tessera).unwrap().warnings, []);
}

/// The tables also seed the fuzz target.
#[test]
fn every_query_of_the_tables_keeps_the_property_of_any_text() {
    for case in FINDS.into_iter().chain(REFUSED).flat_map(cases) {
        properties::ticketsql(case.query.as_bytes());
    }
}

/// The forms of tests in a query: the kind of a field, and the operator.
fn forms(query: &str) -> Vec<String> {
    let Ok(parsed) = parse(query, Dialect::Tessera) else { return Vec::new() };
    let form = |test: &&Predicate| {
        let field = test.field.parts[0].to_lowercase();
        let kind = KINDS.into_iter().find(|(_, fields)| fields.contains(&field.as_str()));
        let verb = match &test.verb {
            Verb::Equal(_) => "=",
            Verb::Order(order, _) => order.as_str(),
            Verb::Like(like, _) => like.as_str(),
            Verb::Matches(_) => "MATCHES",
            Verb::Null => "NULL",
            Verb::In(_) => "IN",
            Verb::Between(..) => "BETWEEN",
            Verb::Changed { .. } => "CHANGED",
        };
        format!(
            "{}{verb} of {}",
            if test.is_negated { "NOT " } else { "" },
            kind.map_or("none", |(kind, _)| kind)
        )
    };
    parsed.query.tests().iter().map(form).collect()
}

/// Fields with the same operators.
const KINDS: [(&str, &[&str]); 10] = [
    ("a number", &["id", "priority"]),
    ("a subject", &["subject"]),
    ("a status", &["status"]),
    ("a queue", &["queue", "lifecycle"]),
    ("a person", &["owner", "creator", "lastupdatedby"]),
    ("a role", &["requestor", "requestors", "cc", "admincc", "watcher", "watchers"]),
    ("a date", &["created", "lastupdated", "started", "due", "resolved", "told"]),
    ("a custom field", &["cf", "customfield"]),
    ("the history", &["updated", "updatedby"]),
    ("the content", &["content", "historycontent"]),
];

#[test]
fn the_tables_have_every_operator_on_every_kind_of_field_and_every_field() {
    let texts: Vec<String> =
        FINDS.into_iter().chain(REFUSED).flat_map(cases).map(|case| case.query).collect();
    let found: BTreeSet<String> = texts.iter().flat_map(|text| forms(text)).collect();
    let negatable = ["=", "LIKE", "STARTSWITH", "ENDSWITH", "MATCHES", "NULL", "IN", "BETWEEN"];
    let verbs = negatable.iter().flat_map(|verb| [(*verb).to_owned(), format!("NOT {verb}")]);
    let verbs: Vec<String> = verbs.chain(["<", "<=", ">", ">="].map(str::to_owned)).collect();
    let wanted = KINDS.iter().flat_map(|(kind, _)| verbs.iter().map(move |verb| format!("{verb} of {kind}")));
    let missing: Vec<String> = wanted.filter(|form| !found.contains(form)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let fields: BTreeSet<String> = FINDS
        .into_iter()
        .flat_map(cases)
        .filter_map(|case| parse(&case.query, Dialect::Tessera).ok())
        .flat_map(|parsed| {
            parsed.query.tests().iter().map(|test| test.field.parts[0].to_lowercase()).collect::<Vec<_>>()
        })
        .collect();
    let unseen: Vec<&str> = KINDS
        .iter()
        .flat_map(|(_, fields)| *fields)
        .filter(|field| !fields.contains(**field))
        .copied()
        .collect();
    assert_eq!(unseen, [""; 0]);
}
