//! Configurations of conditions: which are accepted, and the errors for the others. The tests of plans cover when they hold; here are names that a
//! lifecycle gives to statuses.

use super::*;
use crate::models::{LifecycleVersionId, RequestId, TicketId, TransactionId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

fn words(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n}")).collect()
}

#[test]
fn rts_argument_is_read_into_from_and_to() {
    let read = |argument: &str| {
        let plain = Condition::parse("OnStatusChange", &json!(argument)).unwrap();
        let keyed = Condition::parse("OnStatusChange", &json!({ "argument": argument })).unwrap();
        assert_eq!(plain, keyed);
        match plain.event {
            Event::OnStatusChange(config) => (config.from.join(" "), config.to.join(" ")),
            other => panic!("{other:?}"),
        }
    };
    let both = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(read("old: new, open ; NEW: resolved"), both("new open", "resolved"));
    assert_eq!(read("resolved"), both("", "resolved"));
    assert_eq!(read("old: new;; ,"), both("new", ""));
    let faults = Condition::parse("OnStatusChange", &json!("odd: x")).unwrap_err();
    assert!(faults[0].message.starts_with("unknown key \"odd\""), "{faults:?}");
}

#[test]
fn lists_of_words_have_their_limit() {
    let tables = [
        ("OnStatusChange", json!({}), "from"),
        ("OnStatusChange", json!({}), "to"),
        ("OnCustomFieldChange", json!({"field": "F"}), "from"),
        ("OnCustomFieldChange", json!({"field": "F"}), "to"),
    ];
    for (kind, mut config, side) in tables {
        config[side] = json!(words(WORDS_MAX));
        assert!(Condition::parse(kind, &config).is_ok(), "{kind}");
        for more in [1, 2] {
            config[side] = json!(words(WORDS_MAX + more));
            let faults = Condition::parse(kind, &config).unwrap_err();
            assert_eq!(faults[0].field, format!("condition_config.{side}"));
        }
    }
}

#[test]
fn every_condition_publishes_its_configuration() {
    for kind in Condition::TYPES {
        let schema = Condition::schema(kind).unwrap();
        let has = |key| schema.get("properties").and_then(|keys| keys.get(key)).is_some();
        assert_eq!(has("to"), ["OnStatusChange", "OnCustomFieldChange"].contains(&kind), "{kind}");
        assert_eq!(has("field"), kind == "OnCustomFieldChange", "{kind}");
        assert!(has("query"), "{kind}");
        let needs_query = schema.get("required").is_some_and(|names| names == &json!(["query"]));
        assert_eq!(needs_query, kind == "UserDefined", "{kind}");
        assert_eq!(schema.get("additionalProperties"), Some(&json!(false)), "{kind}");
    }
    assert!(Condition::schema("OnFullMoon").is_none());
}

#[test]
fn every_type_takes_a_query_and_user_defined_needs_one() {
    let query = "CF.{Severity} = 'high' OR Priority > 5";
    for kind in Condition::TYPES {
        let mut config = json!({ "query": query });
        if kind == "OnCustomFieldChange" {
            config["field"] = json!("F");
        }
        let condition = Condition::parse(kind, &config).unwrap();
        assert_eq!(condition.query.unwrap().text, query, "{kind}");
        config["query"] = Value::Null;
        let without = Condition::parse(kind, &config);
        match kind {
            "UserDefined" => assert_eq!(without.unwrap_err()[0].field, "condition_config.query"),
            _ => assert_eq!(without.unwrap().query, None, "{kind}"),
        }
    }
    let both = json!({ "argument": "old: new", "query": query });
    let Condition { event: Event::OnStatusChange(config), query: Some(_) } =
        Condition::parse("OnStatusChange", &both).unwrap()
    else {
        panic!("RT's argument beside a query");
    };
    assert_eq!(config.from, ["new"]);
}

#[test]
fn a_query_that_cannot_be_read_is_refused_with_its_place_and_what_to_write() {
    let refused = |config: Value| Condition::parse("OnCreate", &config).unwrap_err();
    let faults = refused(json!({ "query": "Priority > 5\n  AND Subject contains 'x'" }));
    let fault = &faults[0];
    assert_eq!((fault.field.as_str(), faults.len()), ("condition_config.query", 1));
    assert_eq!((fault.line, fault.column, fault.span), (Some(2), Some(15), Some((27, 35))));
    assert_eq!(fault.message, "expected an operator after Subject");
    assert_eq!(fault.hint.as_deref(), Some("use LIKE for part of a text"));
    assert!(refused(json!({ "query": " " }))[0].message.starts_with("contains no test"));
    assert!(refused(json!({ "query": 7 }))[0].message.starts_with("is not a string"));
    let both = refused(json!({ "query": "x", "colour": "red" }));
    let fields: Vec<&str> = both.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["condition_config", "condition_config.query"], "every fault at once");
}

#[test]
fn a_word_that_is_a_status_of_the_lifecycle_means_no_list() {
    let change = Change::Status {
        old: "draft".to_owned(),
        new: "trial".to_owned(),
        old_class: StatusClass::Initial,
        class: StatusClass::Active,
        lifecycle_version: LifecycleVersionId(Uuid::nil()),
        mapped: false,
    };
    let transaction = Transaction {
        id: TransactionId(Uuid::nil()),
        ticket: TicketId(Uuid::nil()),
        seq: Some(2),
        transaction_type: TransactionType::Status,
        field: None,
        old_value: Some("draft".to_owned()),
        new_value: Some("trial".to_owned()),
        change,
        content: None,
        creator: UserId(Uuid::nil()),
        created_at: OffsetDateTime::UNIX_EPOCH,
        derived: false,
        caused_by: None,
        scrip_version: None,
        request: RequestId(Uuid::nil()),
        batch_seq: 0,
    };
    let event = |to: &str| Event::parse("OnStatusChange", &json!({ "to": [to] })).unwrap();
    let holds = |event: &Event, lifecycle| event.evaluate(&transaction, Some(lifecycle)).result;
    let lifecycle = |active: &[&str]| {
        let graph = json!({
            "initial": ["draft"], "active": active, "inactive": ["expired"],
            "transitions": {"": ["draft"], "draft": active},
        });
        let (id, version) = (Uuid::nil().into(), Uuid::nil().into());
        Lifecycle::compile(id, version, "contract", serde_json::from_value(graph).unwrap()).unwrap()
    };
    let (plain, named) = (lifecycle(&["trial"]), lifecycle(&["trial", "Active"]));
    assert!(holds(&event("active"), &plain) && !holds(&event("active"), &named));
    assert!(holds(&event("Trial"), &plain) && holds(&event("Trial"), &named));
    let close = Event::parse("OnClose", &json!({})).unwrap();
    assert!(!holds(&close, &plain) && !holds(&close, &named));
}
