//! Schemas that are small and would take for ever, and everyday ones that take few steps.

use super::super::{SCHEMA_MAX, Schema};
use super::*;
use serde_json::json;

/// A value nested so deep, with `width` members at each level.
fn nested(depth: usize, width: usize) -> Value {
    let below = if depth == 0 { json!("") } else { nested(depth - 1, width) };
    let members: Map<String, Value> = (0..width).map(|at| (format!("k{at}"), below.clone())).collect();
    Value::Object(members)
}

fn list(depth: usize, length: usize) -> Value {
    if depth == 0 { json!(1) } else { Value::Array(vec![list(depth - 1, length); length]) }
}

/// How a schema and a payload end: refused when it is saved, or when it is used, or checked.
#[derive(Debug, PartialEq)]
enum End {
    NotSaved,
    NotChecked,
    Checked,
}

fn end(schema: &Value, payload: &Value) -> End {
    assert!(schema.to_string().len() <= SCHEMA_MAX);
    let Ok(schema) = Schema::compile(schema.clone()) else { return End::NotSaved };
    let is_refused = |message: &str| message.contains("steps");
    if schema.misfits(payload).iter().any(|one| is_refused(&one.message)) {
        End::NotChecked
    } else {
        End::Checked
    }
}

#[test]
fn a_schema_whose_cost_grows_with_the_depth_of_the_payload_is_not_checked() {
    let again = json!({"$ref": "#"});
    let many = |word: &str, count: usize, part: Value| json!({ word: vec![part; count] });
    let deep = nested(12, 1);
    let table = [
        many("allOf", 60, json!({"items": again, "additionalProperties": again})),
        many("anyOf", 60, json!({"additionalProperties": again, "required": ["x"]})),
        many("oneOf", 60, json!({"additionalProperties": again})),
        many("allOf", 60, json!({"not": {"additionalProperties": again}})),
        many("allOf", 60, json!({"if": {"additionalProperties": again}, "then": true, "else": false})),
        many("allOf", 60, json!({"if": true, "then": {"additionalProperties": again}})),
        many("allOf", 60, json!({"patternProperties": {"^k": again}})),
        many("allOf", 60, json!({"properties": {"k0": again}})),
        many("allOf", 60, json!({"dependentSchemas": {"k0": {"properties": {"k0": again}}}})),
        many("allOf", 60, json!({"dependencies": {"k0": {"properties": {"k0": again}}}})),
        json!({"patternProperties": (0..60).map(|at| (format!("k|{at}"), again.clone())).collect::<Map<_, _>>()}),
        many(
            "allOf",
            60,
            json!({"additionalProperties": {"$dynamicRef": "#here"}, "$dynamicAnchor": "here"}),
        ),
        json!({"$anchor": "top", "allOf": vec![json!({"additionalProperties": {"$ref": "#top"}}); 60]}),
        json!({
            "$defs": {"a b": {"allOf": vec![json!({"additionalProperties": {"$ref": "#/$defs/a%20b"}}); 60]}},
            "$ref": "#/$defs/a%20b",
        }),
    ];
    for schema in table {
        assert_eq!(end(&schema, &deep), End::NotChecked, "{schema}");
        assert_eq!(end(&schema, &json!({})), End::Checked, "{schema}");
    }
    let items = [
        many("allOf", 60, json!({"items": again})),
        many("allOf", 60, json!({"prefixItems": [again, again]})),
        many("allOf", 60, json!({"contains": again})),
        many("allOf", 60, json!({"contains": again, "minContains": 0})),
    ];
    for schema in items {
        assert_eq!(end(&schema, &list(12, 1)), End::NotChecked, "{schema}");
    }
}

#[test]
fn a_schema_that_multiplies_itself_without_looking_into_the_payload_is_not_saved() {
    let chain = |link: &dyn Fn(Value) -> Value| {
        let defs: Map<String, Value> = (0..60)
            .map(|at| (at.to_string(), link(json!({"$ref": format!("#/$defs/{}", at + 1)}))))
            .chain([("60".to_owned(), json!({"type": "object"}))])
            .collect();
        json!({"$ref": "#/$defs/0", "$defs": defs})
    };
    let table = [
        chain(&|next| json!({"allOf": [next, next]})),
        chain(&|next| json!({"anyOf": [next, next]})),
        chain(&|next| json!({"oneOf": [next, next]})),
        chain(&|next| json!({"not": {"allOf": [next, next]}})),
        chain(&|next| json!({"if": next, "then": next, "else": next})),
        chain(&|next| json!({"dependentSchemas": {"a": next, "b": next}})),
        chain(&|next| json!({"allOf": [next], "unevaluatedProperties": false})),
        chain(&|next| json!({"allOf": [next], "unevaluatedItems": false})),
    ];
    for schema in table {
        assert_eq!(end(&schema, &json!({})), End::NotSaved, "{schema}");
    }
}

#[test]
fn what_is_left_unevaluated_is_bounded_when_the_schema_is_saved() {
    let nested = |depth: usize, word: &str| {
        (0..depth).fold(json!(true), |inner, _| json!({"allOf": [inner], word: false}))
    };
    for word in UNEVALUATED {
        assert_eq!(end(&nested(UNEVALUATED_MAX, word), &json!({})), End::Checked);
        for more in [UNEVALUATED_MAX + 1, 30, 60] {
            assert_eq!(end(&nested(more, word), &json!({})), End::NotSaved);
        }
        let again = json!({"properties": {"a": {"$ref": "#"}}, word: false});
        assert_eq!(end(&again, &json!({})), End::NotSaved);
        let many =
            json!({"anyOf": vec![json!({"$ref": "#/$defs/a"}); 9], "$defs": {"a": {word: {"$ref": "#"}}}});
        assert_eq!(end(&many, &json!({})), End::NotSaved);
    }
    let schema =
        json!({"allOf": [{"properties": {"a": {"type": "integer"}}}], "unevaluatedProperties": false});
    let misfits = Schema::compile(schema).unwrap().misfits(&json!({"a": "1", "b": 2}));
    assert_eq!(misfits.len(), 2, "{misfits:?}");
}

#[test]
fn long_chains_of_references_are_not_saved_and_overflow_no_stack() {
    let links = 1_500;
    let defs: Map<String, Value> = (0..links)
        .map(|at| (format!("{at}"), json!({"$ref": format!("#/$defs/{}", (at + 1) % links)})))
        .collect();
    let ring = json!({"$ref": "#/$defs/0", "$defs": defs});
    assert_eq!(end(&ring, &json!({})), End::NotSaved);
    let defs: Map<String, Value> = (0..links)
        .map(|at| (format!("{at}"), json!({"properties": {"a": {"$ref": format!("#/$defs/{}", at + 1)}}})))
        .chain([(links.to_string(), json!(true))])
        .collect();
    let long = json!({"$ref": "#/$defs/0", "$defs": defs});
    if long.to_string().len() <= SCHEMA_MAX {
        assert_eq!(end(&long, &json!({"a": {"a": 1}})), End::Checked);
    }
}

#[test]
fn long_lists_texts_and_patterns_are_counted_too() {
    let words: Vec<String> = (0..5_000).map(|at| format!("w{at}")).collect();
    let choice = json!({"items": {"enum": words}});
    assert_eq!(end(&choice, &json!(["w1", "x"])), End::Checked);
    assert_eq!(end(&choice, &json!(vec!["x"; 100])), End::NotChecked);
    let required = json!({"items": {"required": words}});
    assert_eq!(end(&required, &json!(vec![json!({}); 100])), End::NotChecked);
    let unique = json!({"allOf": vec![json!({"uniqueItems": true}); 60]});
    assert_eq!(end(&unique, &json!([1, 2, 3])), End::Checked);
    assert_eq!(end(&unique, &json!((0..5_000).collect::<Vec<_>>())), End::NotChecked);

    let long = "a".repeat(200_000);
    assert_eq!(end(&json!({"pattern": "^a"}), &json!(long)), End::Checked);
    assert_eq!(end(&json!({"pattern": "(a?){500}b"}), &json!(long)), End::NotChecked);
    assert_eq!(end(&json!({"pattern": "(a?){500}b"}), &json!("aaa")), End::Checked);
    let patterns = |count: usize| -> Map<String, Value> {
        (0..count).map(|at| (format!("^{at}x"), json!(true))).collect()
    };
    assert_eq!(end(&json!({"patternProperties": patterns(PATTERNS_MAX)}), &json!({})), End::Checked);
    assert_eq!(end(&json!({"patternProperties": patterns(PATTERNS_MAX + 1)}), &json!({})), End::NotSaved);
    assert_eq!(end(&json!({"items": {"format": "regex"}}), &json!(vec!["(a{99}){99}"; 50])), End::NotChecked);
}

#[test]
fn a_reference_stays_in_the_document_and_leads_somewhere() {
    for schema in [
        json!({"$ref": "https://json-schema.org/draft/2020-12/schema"}),
        json!({"$ref": "other.json#/a"}),
        json!({"$ref": "#nowhere"}),
        json!({"$dynamicRef": "#nowhere"}),
        json!({"properties": {"a": {"$id": "https://example.org/a"}}}),
    ] {
        assert_eq!(end(&schema, &json!({})), End::NotSaved, "{schema}");
    }
    let schema = json!({
        "$id": "https://example.org/", "$defs": {"n": {"$anchor": "n", "type": "integer"}},
        "properties": {"$id": {"$ref": "#n"}, "$ref": {"type": "string"}},
    });
    let misfits = Schema::compile(schema).unwrap().misfits(&json!({"$id": "1", "$ref": "#x"}));
    assert_eq!(misfits.iter().map(|one| one.pointer.as_str()).collect::<Vec<_>>(), ["/$id"]);
}

#[test]
fn an_everyday_schema_takes_few_steps() {
    let block = json!({"oneOf": (0..20).map(|at| json!({
        "type": "object", "required": ["type"], "properties": {
            "type": {"const": format!("block{at}")},
            "text": {"type": "string", "maxLength": 3_000, "pattern": "^\\S[\\w .-]*@?"},
            "elements": {"type": "array", "items": {"$ref": "#/$defs/block"}},
        },
        "additionalProperties": false,
    })).collect::<Vec<_>>()});
    let schema = json!({"properties": {"blocks": {"type": "array", "items": {"$ref": "#/$defs/block"}}},
        "$defs": {"block": block}, "additionalProperties": false});
    let one = json!({"type": "block7", "text": "a text of some length, as people write them"});
    let payload = json!({"blocks": vec![one; 30]});
    let costs = Costs::of(&schema).unwrap();
    let steps = costs.count(&schema, &payload).unwrap();
    assert!((1_000..STEPS_MAX / 2).contains(&steps), "{steps}");
    assert!(Schema::compile(schema).unwrap().misfits(&payload).is_empty());
}
