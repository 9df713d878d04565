//! Reading documents of the configuration, and writing out their short forms.

use super::*;
use serde_json::json;

fn read_scrip(more: Value) -> Result<ScripDocument> {
    let mut members = json!({"name": "S", "condition_type": "OnCreate", "action_type": "SetPriority"});
    members.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    read(members.as_object().unwrap().clone())
}

/// Settles a scrip with these members. Returns queue, stage and order of each attachment.
fn places(more: Value) -> Vec<(Option<String>, Option<Stage>, Option<i32>)> {
    let settled = read_scrip(more).unwrap().settled().unwrap();
    settled.places().into_iter().map(|place| (place.queue, place.stage, place.sort_order)).collect()
}

#[test]
fn no_text_of_a_configuration_holds_u_0000_wherever_it_stands() {
    for (more, place) in [
        (json!({"description": "a\0b"}), "description"),
        (json!({"queues": ["A", "b\0"]}), "queues[1]"),
        (json!({"action_config": {"deep": [{"er": "\0"}]}}), "action_config.deep[0].er"),
        (json!({"action_config": {"k\0": 1}}), "action_config"),
    ] {
        let error = read_scrip(more).unwrap_err();
        assert_eq!(error.faults()[0].field, place);
        assert!(error.faults()[0].message.contains("U+0000"));
    }
    assert!(read_scrip(json!({"description": "all is well"})).is_ok());
}

#[test]
fn what_cannot_be_read_is_named_whether_unknown_missing_or_of_another_type() {
    let field = |error: Error| error.faults()[0].field.clone();
    assert_eq!(field(read_scrip(json!({"nmae": "x"})).unwrap_err()), "nmae");
    assert_eq!(field(read_scrip(json!({"sort_order": "first"})).unwrap_err()), "sort_order");
    assert_eq!(field(read::<ScripDocument>(Map::new()).unwrap_err()), "name");
    let null = read_scrip(json!({"description": null})).unwrap();
    assert_eq!(null.description, None, "a null member is ignored");
}

#[test]
fn a_place_has_the_stage_and_order_of_its_own_else_those_of_the_scrip_else_those_of_the_first() {
    let (create, batch) = (Some(Stage::TransactionCreate), Some(Stage::TransactionBatch));
    let at = |queue: &str, stage, order| (Some(queue.to_owned()), stage, Some(order));
    assert_eq!(places(json!({})), [(None, create, Some(0))]);
    assert_eq!(places(json!({"queue": "A", "sort_order": 5})), [at("A", create, 5)]);
    assert_eq!(
        places(json!({"queues": [{"queue": "A", "stage": "TransactionBatch", "sort_order": 7}, "B"]})),
        [at("A", batch, 7), at("B", batch, 7)]
    );
    assert_eq!(
        places(
            json!({"stage": "TransactionBatch", "queues": [{"queue": "A", "sort_order": 7}, {"queue": "B"}]})
        ),
        [at("A", batch, 7), at("B", batch, 7)]
    );
    let unsettled = read_scrip(json!({"queues": ["A"], "sort_order": 3})).unwrap().places();
    assert_eq!((unsettled[0].queue.as_deref(), unsettled[0].sort_order), (Some("A"), Some(3)));
}

#[test]
fn short_forms_may_repeat_the_long_ones_and_not_contradict_them() {
    let settled = |more| read_scrip(more).unwrap().settled();
    let same =
        settled(json!({"queue": "A", "queues": ["A"], "state": "disabled", "disabled": true})).unwrap();
    assert_eq!((same.queue.as_deref(), same.disabled), (Some("A"), Some(true)));
    assert_eq!(settled(json!({"queues": ["A", "B"]})).unwrap().queue, None);
    for (more, field) in [
        (json!({"queue": "A", "queues": ["B"]}), "queue"),
        (json!({"queue": "A", "queues": ["A", "A"]}), "queue"),
        (json!({"queue": "A", "queues": ["A", "B"]}), "queue"),
        (json!({"queues": []}), "queues"),
        (json!({"state": "enabled", "disabled": true}), "disabled"),
        (json!({"state": "shadow", "disabled": true}), "disabled"),
        (json!({"state": "disabled", "disabled": false}), "disabled"),
    ] {
        assert_eq!(settled(more.clone()).unwrap_err()[0].field, field, "{more}");
    }
}

#[test]
fn a_member_that_is_null_is_ignored_only_if_it_exists() {
    fn read_with<D: serde::de::DeserializeOwned>(members: Value, name: &str) -> Result<D> {
        let Value::Object(mut members) = members else { panic!("not an object") };
        members.insert(name.to_owned(), Value::Null);
        super::read(members)
    }
    let queue = || json!({ "name": "Support", "lifecycle": "default" });
    assert!(read_with::<QueueDocument>(queue(), "description").is_ok());
    for name in ["", "descriptoin", "Name"] {
        let refused = read_with::<QueueDocument>(queue(), name).unwrap_err();
        assert!(refused.to_string().contains("unknown field"), "{name}: {refused}");
    }
    let field = || json!({ "name": "Severity", "field_type": "Freeform" });
    assert!(read_with::<CustomFieldDocument>(field(), "pattern").is_ok());
    assert!(read_with::<CustomFieldDocument>(field(), "queues").is_err());
}
