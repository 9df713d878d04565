//! The schemas of documents in OpenAPI: those that the core publishes, with what an answer adds.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};

/// The schema of a document as it is sent.
pub(super) fn sent<D: JsonSchema>() -> RefOr<Schema> {
    openapi(document::<D>())
}

/// The schema of a change: any of a document's members.
pub(super) fn patch<D: JsonSchema>() -> RefOr<Schema> {
    let mut schema = document::<D>();
    without(&mut schema, "required");
    openapi(schema)
}

/// The schema of a document as it is answered.
pub(super) fn answered<D: JsonSchema>() -> RefOr<Schema> {
    let mut schema = document::<D>();
    let added = json!({
        "id": { "type": "string", "format": "uuid" },
        "version": { "type": "integer", "description": "From 1, for what has versions." },
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
    openapi(schema)
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
