//! Filters: both forms and their text, every fault with its path, and trees that read back unchanged.

use super::*;
use crate::query::parser::tests::{expr, value};
use crate::query::{Dialect, parse};
use proptest::prelude::*;

fn printed(filter: Json) -> String {
    match read(&filter) {
        Ok(query) => query.to_string(),
        Err(fault) => format!("{}: {}", fault.field, fault.message),
    }
}

#[test]
fn the_flat_form_is_an_and_of_what_each_key_says() {
    for (filter, expected) in [
        (json!({}), ""),
        (json!({ "Queue": "Support" }), "Queue = 'Support'"),
        (
            json!({ "Queue": "Support", "Status": ["new", "open"] }),
            "Queue = 'Support' AND Status IN ('new', 'open')",
        ),
        (json!({ "CF.{Sev erity}": null }), "CF.{Sev erity} IS NULL"),
        (json!({ "CF.Severity": [null, "low"] }), "CF.{Severity} = 'low' OR CF.{Severity} IS NULL"),
        (
            json!({ "Owner": ["ada", null, "bob"], "id": 7 }),
            "(Owner IN ('ada', 'bob') OR Owner IS NULL) AND id = 7",
        ),
        (json!({ "Subject": r"100%_\" }), r"Subject LIKE '100\%\_\\'"),
        (json!({ "subject": ["a", 1] }), "subject LIKE 'a' OR subject LIKE 1"),
        (json!({ "Requestor": r"it's \ a" }), r"Requestor = 'it\'s \\ a'"),
        (json!({ "Priority": [5, -7] }), "Priority IN (5, -7)"),
        (json!({ "Status": [["new"]] }), "filter.Status: is a list; only IN and BETWEEN take lists"),
        (json!({ "Status": true }), "filter.Status: is true; use a text, a number or null"),
        (json!({ "Status": [] }), "filter.Status: is a list of 0; it must have 1 to 1000"),
        (json!({ "status": "new", "Status": "open" }), "filter.status: occurs twice; use one list of values"),
        (json!({ "CF.{a}": 1, "CF.A": 2 }), "filter.CF.{a}: occurs twice; use one list of values"),
        (
            json!({ "Status = 1 OR id": 1 }),
            "filter.Status = 1 OR id: \"Status = 1 OR id\" is not the name of a field; write for example Status or CF.{Name}",
        ),
        (json!({ "Due": 1e300 }), "filter.Due: \"1e+300\" is not a plain decimal number, such as -12.5"),
        (json!([]), "filter: must be an object"),
    ] {
        assert_eq!(printed(filter.clone()), expected, "{filter}");
    }
}

#[test]
fn a_tree_says_what_its_text_says() {
    let test = |op: &str, value: Json| json!({ "field": "CF.{a b}", "op": op, "value": value });
    for (filter, expected) in [
        (test("=", json!("x%")), "CF.{a b} = 'x%'"),
        (test("==", json!(r"\%")), r"CF.{a b} = '\\%'"),
        (test("<>", json!(1.5)), "CF.{a b} != 1.5"),
        (test("=", Json::Null), "CF.{a b} IS NULL"),
        (test("!=", Json::Null), "CF.{a b} IS NOT NULL"),
        (test("is not", Json::Null), "CF.{a b} IS NOT NULL"),
        (json!({ "field": "Due", "op": "Is Null" }), "Due IS NULL"),
        (json!({ "field": "Due", "op": "is not null" }), "Due IS NOT NULL"),
        (test("like", json!(r"a\%_")), r"CF.{a b} LIKE 'a\%_'"),
        (test("not  endswith", json!(r"\_")), r"CF.{a b} NOT ENDSWITH '\\_'"),
        (test("matches", json!("\"a b\"")), "CF.{a b} MATCHES '\"a b\"'"),
        (test("not in", json!(["a", 1])), "CF.{a b} NOT IN ('a', 1)"),
        (test("between", json!([1, { "number": "2.50" }])), "CF.{a b} BETWEEN 1 AND 2.50"),
        (json!({ "field": "Resolved", "op": ">", "value": { "field": "Due" } }), "Resolved > Due"),
        (json!({ "field": "Status", "op": "changed", "to": "open" }), "Status CHANGED TO 'open'"),
        (json!({ "and": [test(">=", json!(1))] }), "(CF.{a b} >= 1)"),
        (
            json!({ "or": [{ "not": { "and": [test("=", json!(1)), test("=", json!(2))] } }, test("<", json!(3))] }),
            "NOT (CF.{a b} = 1 AND CF.{a b} = 2) OR CF.{a b} < 3",
        ),
    ] {
        assert_eq!(printed(filter.clone()), expected, "{filter}");
    }
}

#[test]
fn what_is_no_tree_is_refused_with_its_path() {
    let test = json!({ "field": "id", "op": "=", "value": 1 });
    let with = |member: &str, value: Json| {
        let mut test = test.clone();
        test[member] = value;
        json!({ "and": [{ "field": "id", "op": "=", "value": 1 }, { "not": test }] })
    };
    let deep = (0..=DEPTH_MAX).fold(test.clone(), |inner, _| json!({ "not": inner }));
    for (filter, place, says) in [
        (json!({ "and": [] }), "filter.and", "1 to 200"),
        (json!({ "and": test, }), "filter.and", "must be a list"),
        (json!({ "and": [test], "or": [test] }), "filter.or", "is not allowed together with"),
        (json!({ "and": [test], "Status": "new" }), "filter.Status", "is not allowed together with"),
        (json!({ "or": [{ "Status": "new" }] }), "filter.or[0]", "\"field\""),
        (json!({ "or": ["Status = 'new'"] }), "filter.or[0]", "must be an object"),
        (with("value", json!({ "field": 1 })), "filter.and[1].not.value", "another field"),
        (with("value", json!({ "field": "a b" })), "filter.and[1].not.value", "name of a field"),
        (
            with("value", json!({ "number": "1e5" })),
            "filter.and[1].not.value",
            "is not a plain decimal number",
        ),
        (
            with("value", json!({ "number": "1 OR 1" })),
            "filter.and[1].not.value",
            "is not a plain decimal number",
        ),
        (with("value", json!([1])), "filter.and[1].not.value", "IN and BETWEEN"),
        (with("values", json!([1])), "filter.and[1].not.values", "is not allowed together with"),
        (with("from", json!(1)), "filter.and[1].not.from", "is not allowed together with"),
        (with("op", json!("<=>")), "filter.and[1].not.op", "STARTSWITH"),
        (with("op", json!("NOT =")), "filter.and[1].not.op", "is not an operator"),
        (with("op", json!("NOT CHANGED")), "filter.and[1].not.op", "is not an operator"),
        (with("op", json!("CHANGED")), "filter.and[1].not.value", "is not allowed together with"),
        (with("op", json!("IS")), "filter.and[1].not.value", "must be null"),
        (with("op", json!("IN")), "filter.and[1].not.value", "must be a list"),
        (with("op", Json::Null), "filter.and[1].not.op", "must be a text"),
        (with("field", json!("'")), "filter.and[1].not.field", "name of a field"),
        (json!({ "field": "id", "value": 1 }), "filter.op", "is missing"),
        (json!({ "field": "id", "op": "=" }), "filter.value", "is missing"),
        (json!({ "field": "id", "op": "<", "value": null }), "filter.value", "cannot be null"),
        (json!({ "field": "id", "op": "BETWEEN", "value": [1] }), "filter.value", "[low, high]"),
        (json!({ "field": "id", "op": "IN", "value": vec![1; VALUES_MAX + 1] }), "filter.value", "1000"),
        (json!({ "or": vec![json!({ "and": vec![&test; 101] }); 2] }), "filter.or[1].and[99]", "too many"),
        (deep, "filter", "deep"),
    ] {
        let fault = read(&filter).unwrap_err();
        let place_is_right = fault.field == place || (says == "deep" && fault.field.starts_with(place));
        assert!(place_is_right && fault.message.contains(says), "{filter}: {fault:?}");
    }
}

/// Values as in JSON, where a text is literal.
fn plain() -> impl Strategy<Value = Value> {
    value().prop_map(|value| match &value.kind {
        ValueKind::Text(kept) => Value::text(&unescape(kept)),
        _ => value,
    })
}

proptest! {
    #[test]
    fn a_tree_written_as_json_reads_back_as_the_same(expr in expr(plain().boxed())) {
        let query = Query(Some(expr));
        prop_assert_eq!(read(&write(&query)).map_err(|fault| fault.message), Ok(query));
    }

    #[test]
    fn a_text_in_json_stands_for_itself_wherever_it_is(text in "[^\0]{0,12}", value in value()) {
        let tree = json!({ "field": "Subject", "op": "=", "value": text });
        let flat = json!({ "Queue": text });
        for filter in [tree, flat] {
            let query = read(&filter).unwrap();
            let Some(Expr::Test(Predicate { verb: Verb::Equal(found), .. })) = &query.0 else { panic!("{query:?}") };
            prop_assert_eq!(found, &Value::text(&text));
            let parsed = parse(&query.to_string(), Dialect::Tessera).unwrap();
            prop_assert_eq!(&parsed.query, &query);
        }
        let like = Query(Some(Expr::Test(Predicate {
            field: Name::of(&["Subject"]), is_negated: true, verb: Verb::Like(Like::Like, value), span: Span::default(),
        })));
        prop_assert_eq!(read(&write(&like)).map_err(|fault| fault.message), Ok(like));
    }
}
