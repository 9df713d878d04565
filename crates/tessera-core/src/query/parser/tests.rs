//! Parsed and rejected texts, and trees that are printed and parsed again.

use super::*;
use crate::query::ast::{Expr, Like, Name, Order, Predicate, Query, Value, ValueKind, Verb};
use proptest::prelude::*;

fn printed(text: &str) -> String {
    match parse(text, Dialect::Tessera) {
        Ok(parsed) => parsed.query.to_string(),
        Err(error) => format!("{}..{} {error}", error.span.start, error.span.end),
    }
}

#[test]
fn and_binds_tighter_than_or_and_a_printed_query_is_in_one_spelling() {
    for (text, expected) in [
        ("", ""),
        ("status=open", "status = open"),
        ("A = 1 and B = 2 or C = 3", "A = 1 AND B = 2 OR C = 3"),
        ("A = 1 AND (B = 2 OR C = 3)", "A = 1 AND (B = 2 OR C = 3)"),
        ("((A = 1 AND B = 2))", "A = 1 AND B = 2"),
        ("((A = 1))", "(A = 1)"),
        ("not not A <> \"x\"", "NOT NOT A != 'x'"),
        ("NOT (A = 1 OR B = 2)", "NOT (A = 1 OR B = 2)"),
        ("'CF.{Sev erity}' is not null", "CF.{Sev erity} IS NOT NULL"),
        ("CF.Severity not in ('a', \"b'c\", 3)", "CF.{Severity} NOT IN ('a', 'b\\'c', 3)"),
        ("Changed.Status FROM 'new' TO open", "Status CHANGED FROM 'new' TO open"),
        ("Priority not between -1 and 2.5", "Priority NOT BETWEEN -1 AND 2.5"),
        (r"Subject LIKE '100\% \\ \'x'", r"Subject LIKE '100\% \\ \'x'"),
    ] {
        assert_eq!(printed(text), expected, "{text}");
        assert_eq!(printed(expected), expected, "{expected}");
    }
}

#[test]
fn the_rt_dialect_takes_the_last_word_of_a_level_and_says_so() {
    for (text, expected) in [
        ("A = 1 AND B = 2 OR C = 3", "A = 1 OR B = 2 OR C = 3"),
        ("A = 1 OR B = 2 AND C = 3", "A = 1 AND B = 2 AND C = 3"),
    ] {
        let parsed = parse(text, Dialect::Rt).unwrap();
        assert_eq!(parsed.query.to_string(), expected);
        assert_eq!(parsed.warnings.len(), 1, "{:?}", parsed.warnings);
    }
    let parsed = parse("A = 1 AND (B = 2 OR C = 3)", Dialect::Rt).unwrap();
    assert_eq!((parsed.query.to_string().as_str(), parsed.warnings.len()), ("A = 1 AND (B = 2 OR C = 3)", 0));
}

#[test]
fn the_rt_dialect_reads_dates_patterns_and_priorities_as_rt_does() {
    for (text, expected) in [
        ("Created > '2026-01-05'", "Created > '2026-01-05 00:00:00'"),
        ("Created <= 2026", "Created <= 2026"),
        ("Created >= '2026-01-05 10:30'", "Created >= '2026-01-05 10:30:00'"),
        ("Created < '2026-01-05T10:30 -05:30'", "Created < '2026-01-05 10:30:00-05:30'"),
        ("Created < '2026-01-05 10:30:15'", "Created < '2026-01-05 10:30:15'"),
        ("Due < tomorrow", "Due < 'in 1 day'"),
        ("Due > 'Today'", "Due > 'now'"),
        ("Updated > 'yesterday'", "Updated > '1 day ago'"),
        ("Due > '2 days ago'", "Due > '2 days ago'"),
        (
            "Due BETWEEN '2026-01-05' AND '2026-01-06'",
            "Due BETWEEN '2026-01-05 00:00:00' AND '2026-01-06 00:00:00'",
        ),
        ("Created = '2026-01-05'", "Created = '2026-01-05'"),
        ("Created != ' 2 days ago'", "Created != 'day of 2 days ago'"),
        ("Created IN (now, today)", "Created IN ('day of now', today)"),
        ("Created = '2026-01-05 10:30'", "Created = 'day of 2026-01-05 10:30'"),
        ("Resolved > Due", "Resolved > Due"),
        ("Told > '0'", "Told IS NOT NULL"),
        ("Created > 'no date'", "Created > 'no date'"),
        ("Subject LIKE 'a'", "Subject LIKE 'a'"),
        ("Subject LIKE 'a%b'", "Subject LIKE '%a%b%'"),
        ("Requestor NOT STARTSWITH 'a_'", "Requestor NOT LIKE 'a_%'"),
        ("CF.{X} ENDSWITH 'a'", "CF.{X} ENDSWITH 'a'"),
        ("CF.{X} ENDSWITH '%a'", "CF.{X} LIKE '%%a'"),
        (r"Subject LIKE '50\\%'", r"Subject LIKE '50\%'"),
        (r"Subject LIKE '50\%'", "Subject LIKE '%50%%'"),
        ("Priority >= 'medium'", "Priority >= 50"),
        ("Priority = urgent", "Priority = urgent"),
        ("'CF.{X}' = 'CF.Any Queue.{Y}'", "CF.{X} = CF.{Any Queue}.{Y}"),
        ("CF.{X} = 'CF'", "CF.{X} = 'CF'"),
        ("CF.{X} = 'cf.example.com'", "CF.{X} = 'cf.example.com'"),
    ] {
        let parsed = parse(text, Dialect::Rt).unwrap();
        assert_eq!(parsed.query.to_string(), expected, "{text}");
        assert_eq!(parse(expected, Dialect::Tessera).unwrap().query, parsed.query, "{expected}");
    }
}

#[test]
fn a_whole_text_that_names_a_field_of_a_queue_needs_no_braces_around_the_queue() {
    for (text, expected) in [
        ("CF.{Severity}", Some("CF.{Severity}")),
        ("CF.My Queue.{Severity}", Some("CF.{My Queue}.{Severity}")),
        (" 'CF.My Queue.{Severity}' ", Some("CF.{My Queue}.{Severity}")),
        ("cf.{My Queue}.{Severity}", Some("cf.{My Queue}.{Severity}")),
        ("CF.R.D.{Room No.}", Some("CF.{R.D}.{Room No.}")),
        ("CF.Support.Severity", Some("CF.Support.{Severity}")),
        ("CF.Order number", Some("CF.{Order number}")),
        ("CustomField.R&D Lab's.{X}", Some("CustomField.{R&D Lab's}.X")),
        ("Subject", Some("Subject")),
        ("Requestor.Name", Some("Requestor.Name")),
        ("CF.My Queue.{}", None),
        ("CF..{X}", None),
        ("CF.{a{b}", None),
        ("CF.", None),
        ("My Queue.{X}", None),
        ("Subject = 'x'", None),
        ("''", None),
        ("'", None),
        ("", None),
    ] {
        assert_eq!(Name::parse(text).map(|name| name.to_string()).as_deref(), expected, "{text}");
    }
}

/// A worker of the server has a stack of 2 MiB, and its frames take some of it.
#[test]
fn the_deepest_query_fits_a_quarter_of_a_stack() {
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(|| {
        let desk = crate::testing::desk::Desk::of(&[]);
        let nested =
            |open: &str, close: &str| format!("{}id = 1{}", open.repeat(DEPTH_MAX), close.repeat(DEPTH_MAX));
        for (text, dialect) in [
            (nested("(Priority = 1 OR ", ")"), Dialect::Tessera),
            (nested("(Priority = 1 AND ", ")"), Dialect::Rt),
            (nested("NOT ", ""), Dialect::Tessera),
            (
                nested("NOT ", " AND Subject LIKE 'x'").replacen(" AND Subject LIKE 'x'", "", DEPTH_MAX),
                Dialect::Rt,
            ),
        ] {
            let parsed = parse(&text, dialect).unwrap().query;
            let printed = parsed.to_string();
            assert_eq!(parse(&printed, Dialect::Tessera).unwrap().query, parsed);
            let filter = crate::query::filter::write(&parsed);
            let filter = serde_json::from_str(&filter.to_string()).unwrap_or(filter);
            assert!(crate::query::filter::read(&filter).is_ok());
            let fields = desk.catalog.query_fields(crate::query::Purpose::Search(&[]));
            let resolved = crate::query::resolve(&parsed, &fields).unwrap();
            assert!(!resolved.tests().is_empty() && crate::query::reads(&resolved).is_empty());
            crate::testing::properties::ticketsql(text.as_bytes());
        }
    });
    thread.unwrap().join().unwrap();
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        ".{0,8}".prop_map(|text| Value::text(&text)),
        ".{0,8}".prop_map(|text| Value::pattern(&text)),
        "-?[0-9]{1,4}(\\.[0-9]{1,3})?"
            .prop_map(|number| Value { kind: ValueKind::Number(number), span: Span::default() }),
        "[a-z]{3,6}x"
            .prop_map(|word| Value { kind: ValueKind::Name(Name::of(&[&word])), span: Span::default() }),
    ]
    .prop_filter("holds U+0000", |value| !matches!(&value.kind, ValueKind::Text(text) if text.contains('\0')))
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        Just(Name::of(&["Status"])),
        Just(Name::of(&["Requestor", "EmailAddress"])),
        "[^{}\\p{C}]{1,6}"
            .prop_filter("is trimmed", |text| !text.trim().is_empty() && text.trim() == text)
            .prop_map(|text| Name::of(&["CF", &text])),
    ]
}

/// `other` generates the values of every operator except LIKE.
fn predicate(other: BoxedStrategy<Value>) -> impl Strategy<Value = Predicate> {
    let other = || other.clone();
    let verb = prop_oneof![
        other().prop_map(|value| (true, Verb::Equal(value))),
        (0_usize..4, other()).prop_map(|(at, value)| (false, Verb::Order(Order::ALL[at], value))),
        value().prop_map(|value| (true, Verb::Like(Like::Like, value))),
        (1_usize..3, other()).prop_map(|(at, value)| (true, Verb::Like(Like::ALL[at], value))),
        other().prop_map(|value| (true, Verb::Matches(value))),
        Just((true, Verb::Null)),
        prop::collection::vec(other(), 1..4).prop_map(|values| (true, Verb::In(values))),
        (other(), other()).prop_map(|(low, high)| (true, Verb::Between(low, high))),
        (prop::option::of(other()), prop::option::of(other()))
            .prop_map(|(from, to)| (false, Verb::Changed { from, to })),
    ];
    (name(), any::<bool>(), verb).prop_map(|(field, negate, (negatable, verb))| Predicate {
        field,
        is_negated: negate && negatable,
        verb,
        span: Span::default(),
    })
}

/// Trees as the parser builds them: an AND of one contains a test, never an OR or NOT.
pub(crate) fn expr(other: BoxedStrategy<Value>) -> impl Strategy<Value = Expr<Predicate>> {
    predicate(other.clone()).prop_map(Expr::Test).prop_recursive(4, 20, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
            predicate(other.clone()).prop_map(|test| Expr::And(vec![Expr::Test(test)])),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_tree_reads_back_as_the_same_tree(expr in expr(value().boxed())) {
        let query = Query(Some(expr));
        let text = query.to_string();
        prop_assume!(text.len() <= QUERY_MAX);
        prop_assert_eq!(parse(&text, Dialect::Tessera).map(|parsed| parsed.query), Ok(query), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_at_a_place_within_it(text in "\\PC{0,60}|([A-Za-z=<>!'\"(){}.,% 0-9]|AND|OR|NOT){0,40}") {
        if let Err(error) = parse(&text, Dialect::Tessera) {
            prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            prop_assert!(text.is_char_boundary(error.span.start) && text.is_char_boundary(error.span.end));
        }
    }
}
