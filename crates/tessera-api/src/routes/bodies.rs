//! The JSON bodies of requests about tickets, and their conversion to commands, which are not validated yet.

use crate::json::{given, given_moment, moment};
use crate::schema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use tessera_core::error::{Error, Fault};
use tessera_core::models::Role;
use tessera_core::models::json;
use tessera_core::models::text::quote;
use tessera_core::models::transaction::Content;
use tessera_core::plan::command::{CreateTicket, Difference, FieldChange, UpdateTicket};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A new ticket.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// Name or id of the queue.
    #[schema(min_length = 1, max_length = 200)]
    queue: String,
    /// One line of at most 1000 bytes.
    #[schema(min_length = 1, max_length = 1000)]
    subject: String,
    /// A status that the lifecycle allows for new tickets; default: its `on_create`.
    #[serde(default)]
    #[schema(max_length = 64)]
    status: Option<String>,
    /// A username; null or `Nobody` for no owner.
    #[serde(default)]
    #[schema(max_length = 254)]
    owner: Option<String>,
    /// Default: 0.
    #[serde(default)]
    #[schema(minimum = -2147483648, maximum = 2147483647)]
    priority: Option<i32>,
    /// An RFC 3339 time.
    #[serde(default, deserialize_with = "moment")]
    due_at: Option<OffsetDateTime>,
    /// Usernames or email addresses.
    #[serde(default)]
    #[schema(max_items = 200)]
    requestors: Vec<String>,
    /// Usernames or email addresses.
    #[serde(default)]
    #[schema(max_items = 200)]
    cc: Vec<String>,
    /// Usernames or email addresses.
    #[serde(default)]
    #[schema(max_items = 200)]
    admin_cc: Vec<String>,
    /// Values by field name: a text, a number, a list, or null.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, FieldInput>)]
    custom_fields: BTreeMap<String, FieldBody>,
    /// The first message: a text, or `{content, content_type?}`.
    #[serde(default)]
    #[schema(value_type = Option<MessageInput>)]
    content: Option<MessageBody>,
}

/// A change of a ticket. Omitted members stay unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    /// One line of at most 1000 bytes.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 1000)]
    subject: Option<String>,
    /// A status that the lifecycle allows after the current one.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    status: Option<String>,
    /// A username; null or `Nobody` for no owner.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 254)]
    owner: Option<Option<String>>,
    /// Name or id of another queue.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 200)]
    queue: Option<String>,
    /// A larger number is more urgent.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = -2147483648, maximum = 2147483647)]
    priority: Option<i32>,
    /// An RFC 3339 time; null clears it.
    #[serde(default, deserialize_with = "given_moment")]
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Option<OffsetDateTime>>,
    /// Requestors to add and remove.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    requestors: Option<DifferenceBody>,
    /// Watchers to add and remove.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    cc: Option<DifferenceBody>,
    /// Watchers to add and remove.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    admin_cc: Option<DifferenceBody>,
    /// Values by field name: a text, a number, a list, null to clear, or `{add?, remove?}`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, FieldChangeInput>)]
    custom_fields: BTreeMap<String, FieldBody>,
    /// A message to the team: a text, or `{content, content_type?}`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = MessageInput, required = false)]
    comment: Option<MessageBody>,
    /// A message to the requestor: a text, or `{content, content_type?}`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = MessageInput, required = false)]
    reply: Option<MessageBody>,
}

schema::body!(ContentTypeInput, "ContentTypeInput", schema::content_type());
schema::body!(MessageInput, "MessageInput", schema::message());
schema::body!(FieldInput, "FieldInput", schema::field_values());
schema::body!(FieldChangeInput, "FieldChangeInput", schema::field_change());

/// Values to add and to remove.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct DifferenceBody {
    /// Values to add.
    #[serde(default)]
    add: Vec<String>,
    /// Values to remove.
    #[serde(default)]
    remove: Vec<String>,
}

impl<'de> Deserialize<'de> for DifferenceBody {
    /// Accepts only an object: a plain list could mean either additions or the complete new list.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = DifferenceBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"{"add": [..], "remove": [..]}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                DifferenceBody::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl From<DifferenceBody> for Difference {
    fn from(body: DifferenceBody) -> Self {
        Self { add: body.add, remove: body.remove }
    }
}

/// The body of `/comment` and `/correspond`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentBody {
    /// The text, or the HTML with `text/html`.
    #[schema(max_length = 1048576)]
    content: String,
    /// `text/plain` (default) or `text/html`.
    #[serde(default)]
    #[schema(value_type = Option<ContentTypeInput>)]
    content_type: Option<String>,
}

impl ContentBody {
    /// Converts the body to a message.
    ///
    /// # Errors
    /// The content type is not one of the two.
    pub fn into_content(self, field: &str) -> Result<Content, Fault> {
        Content::of_type(self.content_type, self.content)
            .map_err(|message| Fault::new(format!("{field}.content_type"), message))
    }
}

/// A message as a text or as an object.
#[derive(Debug)]
pub struct MessageBody(ContentBody);

impl<'de> Deserialize<'de> for MessageBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(content) => Ok(Self(ContentBody { content, content_type: None })),
            object @ serde_json::Value::Object(_) => {
                ContentBody::deserialize(object).map(Self).map_err(de::Error::custom)
            }
            _ => Err(de::Error::custom("must be a text or {content, content_type}")),
        }
    }
}

/// The new values of a custom field, or a change of them.
#[derive(Debug, Clone)]
pub struct FieldBody(FieldChange);

impl<'de> Deserialize<'de> for FieldBody {
    /// Reads the JSON as it was sent, because a number keeps its digits: a number of 20 digits, and `1.10`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let change = match text.as_bytes().first() {
            Some(b'n') => FieldChange::Replace(Vec::new()),
            Some(b'[') => {
                let values: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(de::Error::custom)?;
                FieldChange::Replace(
                    values.iter().map(|value| value_in(value.get())).collect::<Result<_, _>>()?,
                )
            }
            Some(b'{') => {
                let difference: DifferenceBody =
                    json::from_slice(text.as_bytes()).map_err(de::Error::custom)?;
                FieldChange::Difference(difference.into())
            }
            _ => FieldChange::Replace(vec![value_in(text)?]),
        };
        Ok(Self(change))
    }
}

/// The text of a JSON string, or the digits of a number.
fn value_in<E: de::Error>(json: &str) -> Result<String, E> {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map_err(E::custom),
        Some(b'-' | b'0'..=b'9') => Ok(json.to_owned()),
        _ => Err(E::custom(format!("contains {}; a value is a text or a number", quote(json)))),
    }
}

/// Returns the value, or records the fault.
fn taken<T>(result: Option<Result<T, Fault>>, faults: &mut Vec<Fault>) -> Option<T> {
    result.and_then(|result| result.map_err(|fault| faults.push(fault)).ok())
}

impl TryFrom<CreateBody> for CreateTicket {
    type Error = Error;

    fn try_from(body: CreateBody) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let content = taken(body.content.map(|message| message.0.into_content("content")), &mut faults);
        let mut custom_fields = BTreeMap::new();
        for (name, FieldBody(change)) in body.custom_fields {
            match change {
                FieldChange::Replace(values) => {
                    custom_fields.insert(name, values);
                }
                FieldChange::Difference(_) => {
                    let message = "a new ticket has no values to change; use a value, a list or null";
                    faults.push(Fault::new(format!("custom_fields.{name}"), message));
                }
            }
        }
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        Ok(Self {
            queue: body.queue,
            subject: body.subject,
            status: body.status,
            owner: body.owner,
            priority: body.priority,
            due_at: body.due_at,
            requestors: body.requestors,
            cc: body.cc,
            admin_cc: body.admin_cc,
            custom_fields,
            content,
        })
    }
}

impl TryFrom<UpdateBody> for UpdateTicket {
    type Error = Error;

    fn try_from(body: UpdateBody) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let comment = taken(body.comment.map(|message| message.0.into_content("comment")), &mut faults);
        let reply = taken(body.reply.map(|message| message.0.into_content("reply")), &mut faults);
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        let roles = [(Role::Requestor, body.requestors), (Role::Cc, body.cc), (Role::AdminCc, body.admin_cc)];
        Ok(Self {
            subject: body.subject,
            status: body.status,
            owner: body.owner,
            queue: body.queue,
            priority: body.priority,
            due_at: body.due_at,
            watchers: roles
                .into_iter()
                .filter_map(|(role, body)| body.map(|body| (role, body.into())))
                .collect(),
            custom_fields: body
                .custom_fields
                .into_iter()
                .map(|(name, FieldBody(change))| (name, change))
                .collect(),
            comment,
            reply,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_core::models::json::Unique;

    #[test]
    fn a_number_in_a_field_keeps_its_digits() {
        for (json, values) in [
            ("89490200001234567890", vec!["89490200001234567890"]),
            (
                "[1.10, -0, 1e3, \"x\", 0.10000000000000000555]",
                vec!["1.10", "-0", "1e3", "x", "0.10000000000000000555"],
            ),
            ("\"\\u00fc\"", vec!["\u{fc}"]),
            ("null", Vec::new()),
        ] {
            let body = format!(
                "{{\"queue\": \"General\", \"subject\": \"x\", \"custom_fields\": {{\"F\": {json}}}}}"
            );
            let mut reader = serde_json::Deserializer::from_str(&body);
            let body: CreateBody = serde_path_to_error::deserialize(Unique(&mut reader)).unwrap();
            let FieldBody(FieldChange::Replace(found)) = &body.custom_fields["F"] else { panic!("{json}") };
            assert_eq!(*found, values);
        }
        let body = "{\"custom_fields\": {\"F\": {\"add\": [\"a\"], \"remove\": [\"b\"]}}}";
        let body: UpdateBody = serde_json::from_str(body).unwrap();
        let FieldBody(FieldChange::Difference(found)) = &body.custom_fields["F"] else { panic!("{body:?}") };
        assert_eq!(
            (found.add.as_slice(), found.remove.as_slice()),
            (&["a".to_owned()][..], &["b".to_owned()][..])
        );
        for wrong in
            ["{\"add\": [], \"add\": []}", "true", "[[1]]", "[null]", "{\"add\": 1}", "{\"other\": []}"]
        {
            let body = format!("{{\"custom_fields\": {{\"F\": {wrong}}}}}");
            assert!(serde_json::from_str::<UpdateBody>(&body).is_err(), "{wrong}");
        }
    }
}
