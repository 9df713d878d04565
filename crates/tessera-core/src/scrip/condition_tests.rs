//! What may be configured as a condition; when conditions hold, the tests of plans say.

use super::*;

fn words(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n}")).collect()
}

#[test]
fn rts_argument_is_read_into_from_and_to() {
    let read = |argument: &str| {
        let plain = Condition::parse("OnStatusChange", &json!(argument)).unwrap();
        let keyed = Condition::parse("OnStatusChange", &json!({ "argument": argument })).unwrap();
        assert_eq!(plain, keyed);
        match plain {
            Condition::OnStatusChange(config) => (config.from.join(" "), config.to.join(" ")),
            other => panic!("{other:?}"),
        }
    };
    let both = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(read("old: new, open ; NEW: resolved"), both("new open", "resolved"));
    assert_eq!(read("resolved"), both("", "resolved"));
    assert_eq!(read("old: new;; ,"), both("new", ""));
    let faults = Condition::parse("OnStatusChange", &json!("odd: x")).unwrap_err();
    assert!(faults[0].message.starts_with("odd: is not understood"), "{faults:?}");
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
        assert_eq!(schema.get("additionalProperties"), Some(&json!(false)), "{kind}");
    }
    assert!(Condition::schema("OnFullMoon").is_none());
}
