//! OpenAPI schemas of the core's types: documents as sent and as returned, their versions, pages, trees.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};
use tessera_core::Code;
use tessera_core::models::text::{CONTENT_MAX, VALUE_MAX};
use tessera_core::query::ast::{PREDICATES_MAX, VALUES_MAX};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};

/// Defines a type that stands for a schema with this name.
macro_rules! body {
    ($type:ident, $name:expr, $schema:expr) => {
        pub(crate) struct $type;

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $schema
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                std::borrow::Cow::Borrowed($name)
            }
        }
    };
}
pub(crate) use body;

/// Returns the schema of error codes.
pub fn error_code() -> RefOr<Schema> {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    openapi(json!({
        "type": "string",
        "enum": codes,
        "description": "A stable name for one kind of error."
    }))
}

/// All JSON types: OpenAPI's schema type here requires at least one.
const ANY: [&str; 6] = ["string", "number", "boolean", "object", "array", "null"];

/// Returns the schema of a document in a request. An optional member may be null, which is the same as omitting it.
pub fn sent<D: JsonSchema>() -> RefOr<Schema> {
    let mut schema = document::<D>();
    let required = required(&schema);
    for (member, schema) in members(&mut schema) {
        if !required.contains(member) {
            allow_null(schema);
        }
    }
    openapi(schema)
}

/// Returns the schema of a change: any of a document's members; null resets one to its default.
pub fn patch<D: JsonSchema>() -> RefOr<Schema> {
    let mut schema = document::<D>();
    let required = required(&schema);
    for (member, schema) in members(&mut schema) {
        if !required.contains(member) {
            allow_null(schema);
        }
    }
    without(&mut schema, "required");
    openapi(schema)
}

/// Returns the schema of a document in a response.
pub fn answered<D: JsonSchema>() -> RefOr<Schema> {
    let mut schema = document::<D>();
    let mut all: Vec<String> = members(&mut schema).map(|(member, _)| member.clone()).collect();
    all.extend(["id".to_owned(), "created_at".to_owned()]);
    let added = json!({
        "id": { "type": "string", "format": "uuid" },
        "version": { "type": "integer", "format": "int32", "minimum": 1, "description": "Only for objects that have versions." },
        "created_at": { "type": "string", "format": "date-time" },
        "warnings": {
            "type": "array", "items": { "type": "string" },
            "description": "After a change: problems to review."
        }
    });
    let members = schema.get_mut("properties").and_then(Value::as_object_mut);
    if let (Value::Object(added), Some(members)) = (added, members) {
        members.extend(added);
    }
    without(&mut schema, "additionalProperties");
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".to_owned(), json!(all));
    }
    openapi(schema)
}

/// Returns the schema of a version of a document. Old versions may lack members that were added later.
pub fn version<D: JsonSchema>() -> RefOr<Schema> {
    let mut document = document::<D>();
    without(&mut document, "required");
    without(&mut document, "additionalProperties");
    for (_, schema) in members(&mut document) {
        allow_null(schema);
    }
    openapi(json!({
        "type": "object",
        "required": ["id", "version", "creator", "created_at", "document"],
        "properties": {
            "id": { "type": "string", "format": "uuid", "description": "Identifies the version in records of what a scrip did." },
            "version": { "type": "integer", "format": "int32", "minimum": 1 },
            "creator": { "type": "string", "description": "The username of its creator." },
            "created_at": { "type": "string", "format": "date-time" },
            "document": document
        }
    }))
}

/// Returns the schema of a page of items with this schema.
pub fn page(item: &str) -> RefOr<Schema> {
    openapi(json!({
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": { "type": "array", "items": reference(item) },
            "next_cursor": { "type": ["string", "null"], "description": "`cursor` of the next page; null on the last." }
        }
    }))
}

/// Returns the schema of a comparison of two versions with this schema.
pub fn comparison(version: &str) -> RefOr<Schema> {
    openapi(json!({
        "type": "object",
        "required": ["from", "to", "differences"],
        "properties": {
            "from": reference(version),
            "to": reference(version),
            "differences": { "type": "array", "items": {
                "type": "object",
                "required": ["member", "before", "after"],
                "properties": {
                    "member": { "type": "string", "description": "The path of the member, such as `action_config.to`." },
                    "before": { "type": ANY, "description": "The old value; null also if it did not exist." },
                    "after": { "type": ANY, "description": "The new value; null also if it no longer exists." },
                    "diff": { "type": "string", "description": "For multi-line texts: the changed lines as a unified diff." }
                }
            } }
        }
    }))
}

/// Returns the schema of the check of a lifecycle.
pub fn lifecycle_check() -> RefOr<Schema> {
    let tickets = json!({ "type": "array", "items": {
        "type": "object",
        "required": ["queue", "status", "tickets", "class"],
        "properties": {
            "queue": { "type": "string" },
            "status": { "type": "string" },
            "tickets": { "type": "integer", "format": "int64", "minimum": 1 },
            "class": { "type": ["string", "null"], "enum": ["initial", "active", "inactive", null],
                       "description": "The list of the definition that contains the status; null if none does." }
        }
    } });
    openapi(json!({
        "type": "object",
        "required": ["is_savable", "replaces", "faults", "findings", "tickets", "stranded"],
        "properties": {
            "is_savable": { "type": "boolean", "description": "Whether it can be saved without force." },
            "replaces": {
                "type": ["object", "null"], "description": "The lifecycle that it would replace; null for a new one.",
                "required": ["id", "name", "version"],
                "properties": {
                    "id": { "type": "string", "format": "uuid" },
                    "name": { "type": "string" },
                    "version": { "type": "integer", "format": "int32", "minimum": 1 }
                }
            },
            "faults": { "type": "array", "items": reference("FieldError"), "description": "All errors in the definition, with their paths." },
            "findings": { "type": "array", "description": "Findings of the linter; empty while there are faults.", "items": {
                "type": "object",
                "required": ["severity", "code", "place", "text"],
                "properties": {
                    "severity": { "type": "string", "enum": ["mend", "know"] },
                    "code": { "type": "string" },
                    "place": { "type": "string" },
                    "text": { "type": "string" }
                }
            } },
            "tickets": tickets,
            "stranded": {
                "type": "object", "description": "References that the change would leave without a target; saving it fails.",
                "required": ["tickets", "scrips", "maps"],
                "properties": {
                    "tickets": tickets,
                    "scrips": { "type": "array", "items": {
                        "type": "object",
                        "required": ["scrip", "status"],
                        "properties": { "scrip": { "type": "string" }, "status": { "type": "string" } }
                    } },
                    "maps": { "type": "array", "items": { "type": "string" }, "description": "Lifecycles whose maps refer to it or to a status that the change removes." }
                }
            }
        }
    }))
}

/// Returns the schema of the conditions and actions that scrips can use.
pub fn scrip_types() -> RefOr<Schema> {
    let words = json!({ "type": "array", "items": { "type": "string" } });
    let types = |more: Value| {
        json!({ "type": "object", "additionalProperties": {
            "type": "object",
            "required": ["schema"],
            "properties": { "schema": { "type": "object", "description": "The JSON Schema of its configuration." }, "transaction_types": more }
        } })
    };
    openapi(json!({
        "type": "object",
        "required": ["conditions", "actions", "kinds", "stages", "states", "transaction_types"],
        "properties": {
            "conditions": types(words.clone()),
            "actions": types(words.clone()),
            "kinds": { "type": "object", "description": "The kinds of deliveries that connectors handle, by name.", "additionalProperties": {
                "type": "object",
                "required": ["schema", "is_announced"],
                "properties": {
                    "schema": { "type": ["object", "boolean", "null"], "description": "The JSON Schema of a payload; null = any JSON." },
                    "is_announced": { "type": "boolean", "description": "Whether a connector has ever announced the kind; until then its deliveries are held." }
                }
            } },
            "stages": words, "states": words, "transaction_types": words
        }
    }))
}

/// Returns the schema of an explanation: a predicate, or a group of them.
fn why() -> RefOr<Schema> {
    openapi(json!({
        "type": "object",
        "required": ["predicate", "result"],
        "properties": {
            "predicate": { "type": "string", "description": "The predicate, such as `status.to`; `all` for a group." },
            "expected": { "type": ANY, "description": "The value that would satisfy it." },
            "actual": { "type": ANY, "description": "The value found." },
            "result": { "type": "boolean" },
            "reason": { "type": "string", "description": "A sentence with further details." },
            "children": { "type": "array", "items": reference("WhyTree"), "description": "The predicates of a group." }
        }
    }))
}

body!(WhyTree, "WhyTree", why());

/// Returns the schema of a message's content type.
pub fn content_type() -> RefOr<Schema> {
    openapi(json!({ "type": "string", "enum": ["text/plain", "text/html"] }))
}

/// Returns the schema of a message: a text, or an object with its content type.
pub fn message() -> RefOr<Schema> {
    openapi(json!({ "oneOf": [{ "type": "string", "maxLength": CONTENT_MAX }, reference("ContentBody")] }))
}

fn value() -> Value {
    json!({ "type": ["string", "number"], "maxLength": VALUE_MAX })
}

/// Returns the schema of the values of a custom field.
pub fn field_values() -> RefOr<Schema> {
    openapi(json!({ "oneOf": [value(), { "type": "null" }, { "type": "array", "items": value() }] }))
}

/// Returns the schema of a change of the values of a custom field.
pub fn field_change() -> RefOr<Schema> {
    openapi(json!({
        "oneOf": [value(), { "type": "null" }, { "type": "array", "items": value() }, reference("DifferenceBody")]
    }))
}

/// Returns the schema of a filter: a tree, or a flat object of conditions.
pub fn filter() -> RefOr<Schema> {
    let word = json!({ "type": ["string", "number", "null"] });
    let words =
        json!({ "oneOf": [word, { "type": "array", "items": word, "minItems": 1, "maxItems": VALUES_MAX }] });
    openapi(json!({
        "anyOf": [
            reference("FilterTree"),
            {
                "type": "object",
                "description": "All conditions must hold. A key is a field as in a query; a value is a text, a number, null for no value, or a list of alternatives. `Subject` matches a part of the subject.",
                "additionalProperties": words
            }
        ]
    }))
}

/// Returns the schema of a query as a tree.
fn filter_tree() -> RefOr<Schema> {
    let closed = |required: Value, properties: Value| json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false });
    let members = json!({ "type": "array", "items": reference("FilterTree"), "minItems": 1, "maxItems": PREDICATES_MAX });
    let field = json!({ "type": "string", "description": "A field, such as `Status` or `CF.{Severity}`." });
    let one = json!({ "oneOf": [
        { "type": ["string", "number"] },
        { "type": "object", "required": ["field"], "properties": { "field": field }, "additionalProperties": false,
          "description": "Another field." },
        { "type": "object", "required": ["number"], "properties": { "number": { "type": "string" } }, "additionalProperties": false,
          "description": "An exact number, such as 1.50." }
    ] });
    let value = json!({ "oneOf": [one, { "type": "null" }, { "type": "array", "items": one, "minItems": 1, "maxItems": VALUES_MAX }],
        "description": "A text, a number or another field; null with =, != and IS; a list with IN, and [low, high] with BETWEEN." });
    openapi(json!({
        "oneOf": [
            closed(json!(["and"]), json!({ "and": members })),
            closed(json!(["or"]), json!({ "or": members })),
            closed(json!(["not"]), json!({ "not": reference("FilterTree") })),
            closed(json!(["field", "op"]), json!({
                "field": field,
                "op": { "type": "string", "description": "An operator as in a query, case-insensitive: `=`, `NOT IN`, `IS NULL`." },
                "value": value
            }))
        ]
    }))
}

body!(FilterTree, "FilterTree", filter_tree());

/// Returns the schema of a part of `T`: no member is required.
pub fn part_of<T: utoipa::PartialSchema>() -> RefOr<Schema> {
    let mut schema = T::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required.clear();
    }
    schema
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn required(schema: &Value) -> Vec<String> {
    let words = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn members(schema: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
}

/// Allows null as a value.
fn allow_null(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else { return };
    if let Some(words) = keywords.get_mut("enum").and_then(Value::as_array_mut)
        && !words.contains(&Value::Null)
    {
        words.push(Value::Null);
    }
    for several in ["anyOf", "oneOf"] {
        if let Some(schemas) = keywords.get_mut(several).and_then(Value::as_array_mut) {
            let null = json!({ "type": "null" });
            if !schemas.contains(&null) {
                schemas.push(null);
            }
        }
    }
    match keywords.get_mut("type") {
        Some(Value::Array(types)) if !types.contains(&json!("null")) => types.push(json!("null")),
        Some(Value::String(only)) if only != "null" => {
            let both = json!([only.as_str(), "null"]);
            keywords.insert("type".to_owned(), both);
        }
        _ => {}
    }
}

fn without(schema: &mut Value, keyword: &str) {
    if let Some(keywords) = schema.as_object_mut() {
        keywords.remove(keyword);
    }
}

fn document<D: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.push(Box::new(RecursiveTransform(listed)));
    });
    settings.into_generator().into_root_schema_for::<D>().to_value()
}

/// Replaces `const` with an `enum` of one value, which is all that OpenAPI's schema type here supports.
fn listed(schema: &mut schemars::Schema) {
    if let Some(word) = schema.remove("const") {
        schema.insert("enum".to_owned(), json!([word]));
    }
}

/// Converts a JSON Schema to an OpenAPI schema; falls back to one that allows anything.
fn openapi(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).map_or_else(|_| ObjectBuilder::new().into(), RefOr::T)
}
