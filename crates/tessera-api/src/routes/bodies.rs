//! What clients send about tickets, and how it becomes a command: parsed, not yet believed.

use crate::schema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use tessera_core::error::{Error, Fault};
use tessera_core::models::Role;
use tessera_core::models::text::quote;
use tessera_core::models::transaction::Content;
use tessera_core::plan::command::{CreateTicket, Difference, FieldChange, UpdateTicket};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
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
    /// A status that the lifecycle allows at create; its `on_create` when not given.
    #[serde(default)]
    #[schema(max_length = 64)]
    status: Option<String>,
    /// A username, or null or `Nobody`.
    #[serde(default)]
    #[schema(max_length = 254)]
    owner: Option<String>,
    /// 0 when not given.
    #[serde(default)]
    #[schema(minimum = -2147483648, maximum = 2147483647)]
    priority: Option<i32>,
    /// RFC 3339.
    #[serde(default, deserialize_with = "moment")]
    due_at: Option<OffsetDateTime>,
    /// Usernames or mail addresses.
    #[serde(default)]
    #[schema(max_items = 200)]
    requestors: Vec<String>,
    /// Usernames or mail addresses.
    #[serde(default)]
    #[schema(max_items = 200)]
    cc: Vec<String>,
    /// Usernames or mail addresses.
    #[serde(default)]
    #[schema(max_items = 200)]
    admin_cc: Vec<String>,
    /// By name: a text, a number, a list, or null.
    #[serde(default, deserialize_with = "unique")]
    #[schema(value_type = BTreeMap<String, FieldInput>)]
    custom_fields: BTreeMap<String, FieldBody>,
    /// The first message: a text, or `{content, content_type?}`.
    #[serde(default)]
    #[schema(value_type = Option<MessageInput>)]
    content: Option<MessageBody>,
}

/// A change of a ticket. What is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    /// One line of at most 1000 bytes.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 1000)]
    subject: Option<String>,
    /// A status that the lifecycle allows from here.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    status: Option<String>,
    /// A username; null or `Nobody` for nobody.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 254)]
    owner: Option<Option<String>>,
    /// Name or id of another queue.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_length = 1, max_length = 200)]
    queue: Option<String>,
    /// Larger is more urgent.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, minimum = -2147483648, maximum = 2147483647)]
    priority: Option<i32>,
    /// RFC 3339; null clears.
    #[serde(default, deserialize_with = "given_moment")]
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Option<OffsetDateTime>>,
    /// Who comes and goes.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    requestors: Option<DifferenceBody>,
    /// Who comes and goes.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    cc: Option<DifferenceBody>,
    /// Who comes and goes.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    admin_cc: Option<DifferenceBody>,
    /// By name: a text, a number, a list, null to clear, or `{add?, remove?}`.
    #[serde(default, deserialize_with = "unique")]
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

/// What comes and what goes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct DifferenceBody {
    /// What comes.
    #[serde(default)]
    add: Vec<String>,
    /// What goes.
    #[serde(default)]
    remove: Vec<String>,
}

impl<'de> Deserialize<'de> for DifferenceBody {
    /// Takes an object and nothing else: a plain list might mean what comes, or all there shall be.
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

/// A message as `/comment` and `/correspond` take it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentBody {
    /// The text.
    #[schema(max_length = 1048576)]
    content: String,
    /// `text/plain` (or not given) or `text/html`.
    #[serde(default)]
    #[schema(value_type = Option<ContentTypeInput>)]
    content_type: Option<String>,
}

impl ContentBody {
    /// The message.
    ///
    /// # Errors
    /// The content type is none of the two.
    pub fn into_content(self, field: &str) -> Result<Content, Fault> {
        Content::of_type(self.content_type, self.content)
            .map_err(|message| Fault::new(format!("{field}.content_type"), message))
    }
}

/// A text, or a message.
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

/// The values of a field, or a change of them.
#[derive(Debug, Clone)]
pub struct FieldBody(FieldChange);

impl<'de> Deserialize<'de> for FieldBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(de::Error::custom(format!("holds {other}; a value is a text or a number"))),
        };
        let change = match Value::deserialize(deserializer)? {
            Value::Null => FieldChange::Replace(Vec::new()),
            Value::Array(values) => {
                FieldChange::Replace(values.into_iter().map(text).collect::<Result<_, _>>()?)
            }
            object @ Value::Object(_) => {
                let difference: DifferenceBody = serde_json::from_value(object).map_err(de::Error::custom)?;
                FieldChange::Difference(difference.into())
            }
            value => FieldChange::Replace(vec![text(value)?]),
        };
        Ok(Self(change))
    }
}

/// What is given is not left out: `null` is read, and is refused where it means nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A moment, or null.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let read = |word: String| {
        OffsetDateTime::parse(&word, &Rfc3339).map_err(|_| {
            de::Error::custom(format!("{} is not a time; write 2026-11-23T10:00:00Z", quote(&word)))
        })
    };
    Option::<String>::deserialize(deserializer)?.map(read).transpose()
}

fn given_moment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<OffsetDateTime>>, D::Error> {
    moment(deserializer).map(Some)
}

/// Members by name; one that is named twice is refused, because the second would silently win.
pub(super) fn unique<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, member)) = map.next_entry::<String, T>()? {
                if members.contains_key(&name) {
                    return Err(de::Error::custom(format!("names {} twice", quote(&name))));
                }
                members.insert(name, member);
            }
            Ok(members)
        }
    }

    deserializer.deserialize_map(Members(PhantomData))
}

/// JSON of any form, in which nothing is named twice.
pub(super) fn strict<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<serde_json::Value>, D::Error> {
    struct Strict(serde_json::Value);

    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Any).map(Self)
        }
    }

    struct Any;

    impl<'de> Visitor<'de> for Any {
        type Value = serde_json::Value;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(serde_json::Value::Null)
        }

        fn visit_bool<E>(self, is: bool) -> Result<Self::Value, E> {
            Ok(is.into())
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok(number.into())
        }

        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            Ok(number.into())
        }

        fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
            Ok(number.into())
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.into())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some(Strict(value)) = list.next_element()? {
                values.push(value);
            }
            Ok(values.into())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let members: BTreeMap<String, Strict> = unique(MapAccessDeserializer::new(map))?;
            Ok(members.into_iter().map(|(name, Strict(value))| (name, value)).collect())
        }
    }

    Option::<Strict>::deserialize(deserializer).map(|value| value.map(|Strict(value)| value))
}

/// Collects faults beside what could be read.
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
                    let message = "a new ticket has no values to add to; give a value, a list or null";
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
