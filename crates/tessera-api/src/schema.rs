//! The schemas in OpenAPI of what the core publishes: documents as they are sent and answered, their versions, pages, trees.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};
use tessera_core::Code;
use tessera_core::models::text::{CONTENT_MAX, VALUE_MAX};
use tessera_core::query::ast::{PREDICATES_MAX, VALUES_MAX};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};

/// A type that stands for a schema of this name.
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

/// The schema of the codes of errors.
pub fn error_code() -> RefOr<Schema> {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    openapi(json!({
        "type": "string",
        "enum": codes,
        "description": "A stable name for one way in which a request can fail."
    }))
}

/// Whatever JSON can say: the schemas of OpenAPI that we have cannot be without a type.
const ANY: [&str; 6] = ["string", "number", "boolean", "object", "array", "null"];

/// The schema of a document as it is sent. A member that need not be given may be null, which says the same.
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

/// The schema of a change: any of a document's members; null puts back what holds where nothing is given.
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

/// The schema of a document as it is answered.
pub fn answered<D: JsonSchema>() -> RefOr<Schema> {
    let mut schema = document::<D>();
    let mut all: Vec<String> = members(&mut schema).map(|(member, _)| member.clone()).collect();
    all.extend(["id".to_owned(), "created_at".to_owned()]);
    let added = json!({
        "id": { "type": "string", "format": "uuid" },
        "version": { "type": "integer", "format": "int32", "minimum": 1, "description": "For what has versions." },
        "created_at": { "type": "string", "format": "date-time" },
        "warnings": {
            "type": "array", "items": { "type": "string" },
            "description": "After a change: what deserves a second look."
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

/// The schema of a version of a document. One of long ago may lack what documents have come to say since.
pub fn version<D: JsonSchema>() -> RefOr<Schema> {
    let mut said = document::<D>();
    without(&mut said, "required");
    without(&mut said, "additionalProperties");
    for (_, schema) in members(&mut said) {
        allow_null(schema);
    }
    openapi(json!({
        "type": "object",
        "required": ["id", "version", "creator", "created_at", "document"],
        "properties": {
            "id": { "type": "string", "format": "uuid", "description": "What a scrip did names the id of its version." },
            "version": { "type": "integer", "format": "int32", "minimum": 1 },
            "creator": { "type": "string", "description": "The username of who made it." },
            "created_at": { "type": "string", "format": "date-time" },
            "document": said
        }
    }))
}

/// The schema of a page of what has this name.
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

/// The schema of a comparison of two versions, whose name this is.
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
                    "member": { "type": "string", "description": "Its path, as `action_config.to`." },
                    "before": { "type": ANY, "description": "What it was; null also where there was none." },
                    "after": { "type": ANY, "description": "What it became; null also where there is none." },
                    "diff": { "type": "string", "description": "For texts of several lines: the lines that went and came, in the unified form." }
                }
            } }
        }
    }))
}

/// The schema of the check of a lifecycle.
pub fn lifecycle_check() -> RefOr<Schema> {
    let tickets = json!({ "type": "array", "items": {
        "type": "object",
        "required": ["queue", "status", "tickets", "class"],
        "properties": {
            "queue": { "type": "string" },
            "status": { "type": "string" },
            "tickets": { "type": "integer", "format": "int64", "minimum": 1 },
            "class": { "type": ["string", "null"], "enum": ["initial", "active", "inactive", null],
                       "description": "The list in which the definition has the status; null where it does not have it." }
        }
    } });
    openapi(json!({
        "type": "object",
        "required": ["is_savable", "replaces", "faults", "findings", "tickets", "stranded"],
        "properties": {
            "is_savable": { "type": "boolean", "description": "Whether it can be saved as it is, without force." },
            "replaces": {
                "type": ["object", "null"], "description": "The lifecycle that it would replace; null for a new one.",
                "required": ["id", "name", "version"],
                "properties": {
                    "id": { "type": "string", "format": "uuid" },
                    "name": { "type": "string" },
                    "version": { "type": "integer", "format": "int32", "minimum": 1 }
                }
            },
            "faults": { "type": "array", "items": reference("FieldError"), "description": "Everything that cannot be, each with its path." },
            "findings": { "type": "array", "description": "What the linter noticed; empty while there are faults.", "items": {
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
                "type": "object", "description": "What an edit would leave behind; saving refuses it.",
                "required": ["tickets", "scrips", "maps"],
                "properties": {
                    "tickets": tickets,
                    "scrips": { "type": "array", "items": {
                        "type": "object",
                        "required": ["scrip", "status"],
                        "properties": { "scrip": { "type": "string" }, "status": { "type": "string" } }
                    } },
                    "maps": { "type": "array", "items": { "type": "string" }, "description": "Lifecycles whose maps name it, or a status that goes." }
                }
            }
        }
    }))
}

/// The schema of what scrips can be made of.
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
            "kinds": { "type": "object", "description": "What connectors deliver, by name.", "additionalProperties": {
                "type": "object",
                "required": ["schema", "is_announced"],
                "properties": {
                    "schema": { "type": ["object", "boolean", "null"], "description": "The JSON Schema of a payload; null = any JSON." },
                    "is_announced": { "type": "boolean", "description": "Whether a connector of it has ever connected; until then its deliveries are held." }
                }
            } },
            "stages": words, "states": words, "transaction_types": words
        }
    }))
}

/// The schema of a why: a predicate, or a group of them.
fn why() -> RefOr<Schema> {
    openapi(json!({
        "type": "object",
        "required": ["predicate", "result"],
        "properties": {
            "predicate": { "type": "string", "description": "What was asked, as `status.to`; `all` for a group." },
            "expected": { "type": ANY, "description": "What would make it hold." },
            "actual": { "type": ANY, "description": "What was found." },
            "result": { "type": "boolean" },
            "reason": { "type": "string", "description": "A sentence, where there is more to say." },
            "children": { "type": "array", "items": reference("WhyTree"), "description": "The predicates of a group." }
        }
    }))
}

body!(WhyTree, "WhyTree", why());

/// The schema of what a message may be.
pub fn content_type() -> RefOr<Schema> {
    openapi(json!({ "type": "string", "enum": ["text/plain", "text/html"] }))
}

/// The schema of a message: a text, or one with its content type.
pub fn message() -> RefOr<Schema> {
    openapi(json!({ "oneOf": [{ "type": "string", "maxLength": CONTENT_MAX }, reference("ContentBody")] }))
}

fn value() -> Value {
    json!({ "type": ["string", "number"], "maxLength": VALUE_MAX })
}

/// The schema of the values of a custom field.
pub fn field_values() -> RefOr<Schema> {
    openapi(json!({ "oneOf": [value(), { "type": "null" }, { "type": "array", "items": value() }] }))
}

/// The schema of a change of the values of a custom field.
pub fn field_change() -> RefOr<Schema> {
    openapi(json!({
        "oneOf": [value(), { "type": "null" }, { "type": "array", "items": value() }, reference("DifferenceBody")]
    }))
}

/// The schema of a filter: a tree, or in short all that must hold.
pub fn filter() -> RefOr<Schema> {
    let word = json!({ "type": ["string", "number", "null"] });
    let words =
        json!({ "oneOf": [word, { "type": "array", "items": word, "minItems": 1, "maxItems": VALUES_MAX }] });
    openapi(json!({
        "anyOf": [
            reference("FilterTree"),
            {
                "type": "object",
                "description": "All of it must hold. A key is a field as in a query; a value is a text, a number, null where there is no value, or a list of which any may hold. `Subject` is looked for as a part.",
                "additionalProperties": words
            }
        ]
    }))
}

/// The schema of a query as a tree.
fn filter_tree() -> RefOr<Schema> {
    let closed = |required: Value, properties: Value| json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false });
    let members = json!({ "type": "array", "items": reference("FilterTree"), "minItems": 1, "maxItems": PREDICATES_MAX });
    let field = json!({ "type": "string", "description": "A field, as `Status` or `CF.{Severity}`." });
    let one = json!({ "oneOf": [
        { "type": ["string", "number"] },
        { "type": "object", "required": ["field"], "properties": { "field": field }, "additionalProperties": false,
          "description": "Another field." },
        { "type": "object", "required": ["number"], "properties": { "number": { "type": "string" } }, "additionalProperties": false,
          "description": "A number to the letter, as 1.50." }
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
                "op": { "type": "string", "description": "An operator as in a query, in any case: `=`, `NOT IN`, `IS NULL`." },
                "value": value
            }))
        ]
    }))
}

body!(FilterTree, "FilterTree", filter_tree());

/// The schema of a part of what has this one: no member needs to be there.
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

/// Lets null be given too.
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

/// One word that must be is a list of one: the schemas of OpenAPI that we have know lists only.
fn listed(schema: &mut schemars::Schema) {
    if let Some(word) = schema.remove("const") {
        schema.insert("enum".to_owned(), json!([word]));
    }
}

/// A schema of JSON as one of OpenAPI; anything, should OpenAPI not have it.
fn openapi(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).map_or_else(|_| ObjectBuilder::new().into(), RefOr::T)
}
