//! The rules of custom fields, by tables; and what holds for any field, by properties.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

fn define(definition: Value) -> Result<CustomField, Vec<Fault>> {
    CustomField::define(Uuid::from_u128(1).into(), serde_json::from_value(definition).unwrap())
}

fn severity() -> CustomField {
    define(json!({"name": "Severity", "field_type": "SelectSingle", "values": ["Low", "High"]})).unwrap()
}

fn order() -> CustomField {
    define(json!({"name": "Order", "field_type": "Freeform", "pattern": "FL-[0-9]{5}|none"})).unwrap()
}

fn note() -> CustomField {
    define(json!({"name": "Note", "field_type": "Freeform"})).unwrap()
}

#[test]
fn each_type_has_its_usual_number_of_values() {
    let max = |definition| define(definition).unwrap().max_values;
    assert_eq!(max(json!({"name": "F", "field_type": "Freeform"})), 1);
    assert_eq!(max(json!({"name": "F", "field_type": "Freeform", "max_values": 0})), 0);
    assert_eq!(max(json!({"name": "F", "field_type": "SelectSingle", "values": ["a"]})), 1);
    assert_eq!(max(json!({"name": "F", "field_type": "SelectSingle", "values": ["a"], "max_values": 1})), 1);
    assert_eq!(max(json!({"name": "F", "field_type": "SelectMulti", "values": ["a"]})), 0);
    assert_eq!(max(json!({"name": "F", "field_type": "SelectMulti", "values": ["a"], "max_values": 3})), 3);
    assert!(!severity().is_multiple() && !severity().disabled);
}

#[test]
fn every_broken_rule_of_a_definition_is_a_fault_with_its_place() {
    let long = "x".repeat(VALUE_MAX + 1);
    let many: Vec<_> = (0..=CHOICES_MAX).map(|at| at.to_string()).collect();
    let table = [
        (json!({"name": ""}), "name", "is empty"),
        (json!({"name": "x".repeat(201)}), "name", "at most 200"),
        (json!({"name": "a\u{0}"}), "name", "U+0000"),
        (json!({"name": "a\nb"}), "name", "one line"),
        (json!({"name": "a "}), "name", "ends with a space"),
        (json!({"name": "a}b"}), "name", "brace"),
        (json!({"values": []}), "values", "at least one value"),
        (json!({"values": many}), "values", "at most 1000"),
        (json!({"values": ["a", ""]}), "values[1]", "is empty"),
        (json!({"values": ["a", long]}), "values[1]", "at most 2000"),
        (json!({"values": ["\u{130}".repeat(1000)]}), "values[0]", "at most 2000"),
        (json!({"values": ["a\nb"]}), "values[0]", "one line"),
        (json!({"values": ["a", " b"]}), "values[1]", "begins or ends with a space"),
        (json!({"values": ["a", "b", "A"]}), "values[2]", "\"A\" duplicates values[0]"),
        (json!({"max_values": 2}), "max_values", "SelectSingle takes exactly 1"),
        (json!({"max_values": 0}), "max_values", "SelectSingle takes exactly 1"),
        (json!({"field_type": "SelectMulti", "max_values": 1001}), "max_values", "at most 1000"),
        (json!({"pattern": "a"}), "pattern", "for Freeform fields only"),
        (json!({"field_type": "Freeform"}), "values", "for Select fields only"),
        (json!({"field_type": "Freeform", "pattern": ""}), "pattern", "is empty"),
        (json!({"field_type": "Freeform", "pattern": "a\u{0}"}), "pattern", "U+0000"),
        (json!({"field_type": "Freeform", "pattern": "x".repeat(1001)}), "pattern", "at most 1000"),
        (json!({"field_type": "Freeform", "pattern": "(a"}), "pattern", "unclosed group"),
        (json!({"field_type": "Freeform", "pattern": "(?=a)"}), "pattern", "look-around"),
        (
            json!({"field_type": "Freeform", "pattern": "\\w{999}{999}"}),
            "pattern",
            "is larger than 1048576 bytes",
        ),
        (json!({"field_type": "Freeform", "pattern": "a)|(?:b"}), "pattern", "unopened group"),
        (json!({"field_type": "Freeform", "pattern": "(?x)a # b"}), "pattern", "unclosed group"),
    ];
    for (change, field, message) in table {
        let mut definition = json!({"name": "F", "field_type": "SelectSingle", "values": ["a", "b"]});
        definition.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let faults = define(definition).unwrap_err();
        let found = faults.iter().any(|fault| fault.field == field && fault.message.contains(message));
        assert!(found, "{field}: {message}\n{faults:#?}");
    }
}

#[test]
fn faults_of_a_field_are_told_all_at_once() {
    let definition = json!({
        "name": "", "field_type": "SelectSingle", "values": ["", "a", "A"], "max_values": 5, "pattern": "x"
    });
    let fields: Vec<_> = define(definition).unwrap_err().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["name", "values[0]", "values[2]", "max_values", "pattern"]);
}

#[test]
fn a_definition_of_a_field_refuses_what_it_does_not_know_and_reads_back_equal() {
    let json = json!({"name": "F", "field_type": "SelectMulti", "values": ["a"], "max_values": 2});
    let definition: Definition = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(definition).unwrap(), json);
    let error = serde_json::from_value::<Definition>(json!({"name": "F", "field_type": "Date"})).unwrap_err();
    assert!(error.to_string().contains("SelectMulti"), "{error}");
    let unknown = json!({"name": "F", "field_type": "Freeform", "hint": "x"});
    assert!(serde_json::from_value::<Definition>(unknown).unwrap_err().to_string().contains("`hint`"));
}

#[test]
fn a_choice_is_stored_as_it_is_listed_and_another_is_refused_with_those_there_are() {
    assert_eq!(severity().check_value("hIGH").unwrap(), "High");
    let error = severity().check_value("hihg").unwrap_err();
    assert_eq!(error, "\"hihg\" is not a value of \"Severity\"; valid values are \"Low\" and \"High\"");
}

#[test]
fn a_pattern_must_match_the_whole_value() {
    for good in ["FL-12345", "none", " FL-12345\n", "\u{a0}none\u{3000}"] {
        assert_eq!(order().check_value(good).unwrap(), good.trim());
    }
    for bad in ["FL-123456", "xFL-12345", "none at all", "FL-12345\nx", "a\nnone"] {
        let error = order().check_value(bad).unwrap_err();
        assert!(error.ends_with("which the whole value must match: FL-[0-9]{5}|none"), "{error}");
    }
    assert_eq!(order().pattern.unwrap().as_str(), "FL-[0-9]{5}|none");
}

#[test]
fn a_value_that_cannot_be_stored_is_refused_with_the_reason() {
    let grows = "\u{130}".repeat(900);
    assert!(grows.len() <= VALUE_MAX);
    for (value, message) in [
        ("", "is empty; use null to clear \"Note\""),
        (" \u{3000}\n", "is empty; use null to clear \"Note\""),
        ("\u{200b}\u{200d}", "is empty; use null to clear \"Note\""),
        ("a\u{0}", "U+0000"),
        (&"x".repeat(VALUE_MAX + 1), "is 2001 bytes long; at most 2000"),
        (&grows, "is 2700 bytes long in lower case; at most 2000"),
    ] {
        let error = note().check_value(value).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    let longest = "x".repeat(VALUE_MAX);
    assert_eq!(note().check_value(&longest).unwrap(), longest);
    assert_eq!(note().check_value("two\nlines").unwrap(), "two\nlines");
}

#[test]
fn a_ticket_has_no_more_values_than_the_field_allows() {
    assert_eq!(severity().check_count(1), Ok(()));
    let error = severity().check_count(2).unwrap_err();
    assert_eq!(error, "\"Severity\" allows at most 1 value, and this would make 2");
    let any = CustomField { max_values: 0, ..note() };
    assert_eq!(any.check_count(1_000), Ok(()));
    assert!(any.check_count(1_001).unwrap_err().contains("at most 1000 values"));
    assert!(any.check_count(usize::MAX).is_err());
}

proptest! {
    #[test]
    fn a_value_that_was_taken_is_taken_again_unchanged(value in any::<String>(), choice in "[lhLH][a-zA-Z]{0,4}") {
        for (field, value) in [(note(), &value), (order(), &value), (severity(), &choice)] {
            if let Ok(stored) = field.check_value(value) {
                prop_assert_eq!(field.check_value(&stored).unwrap(), stored);
            }
        }
    }

    #[test]
    fn a_hostile_definition_of_a_field_never_panics_and_a_good_one_takes_its_own_values(
        name in any::<String>(), pattern in prop::option::of("[a-c()|?:*+{}0-9\\\\\\[\\]#]{0,20}"),
        values in prop::collection::vec("\\PC{0,4}", 0..4), multi in any::<bool>(),
    ) {
        let field_type = if multi { FieldType::SelectMulti } else { FieldType::Freeform };
        let definition = Definition { name, field_type, values: values.clone(), max_values: None, pattern };
        match CustomField::define(Uuid::from_u128(1).into(), definition) {
            Err(faults) => prop_assert!(!faults.is_empty()),
            Ok(field) => for value in values {
                prop_assert_eq!(field.check_value(&value), Ok(value));
            },
        }
    }
}
