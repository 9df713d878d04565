//! Documents: the objects of the configuration as the API reads and writes them.
//!
//! One shape serves both directions: `GET` returns what `POST` accepts, plus `id`, `version` and `created_at`.

use crate::error::{Error, Fault, Result};
use crate::lifecycle::Definition;
use crate::models::FieldType;
use crate::models::template::ContentType;
use crate::models::text::{ADDRESS_MAX, NAME_MAX, typed_list, typed_member, typed_option};
use crate::scrip::State;
use crate::scrip::action::ACTIONS;
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::Stage;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// The longest description, in bytes.
pub const DESCRIPTION_MAX: usize = 10_000;
/// The most people of a queue in one role, and the most fields of a queue.
pub const QUEUE_LIST_MAX: usize = 200;

/// A stored document, with the members that Tessera adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored<D> {
    /// Its id.
    pub id: Uuid,
    /// The number of its version, from 1; only scrips, templates and lifecycles have versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The time at which it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The document.
    #[serde(flatten)]
    pub document: D,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDocument {
    /// The name: unique, ignoring case.
    #[serde(deserialize_with = "typed_member")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// A description for people.
    #[serde(default)]
    #[schemars(length(max = DESCRIPTION_MAX))]
    pub description: Option<String>,
    /// The name or id of the lifecycle of its tickets; default `default`.
    #[serde(default = "default_lifecycle", deserialize_with = "typed_member")]
    pub lifecycle: String,
    /// `From` of replies.
    #[serde(default, deserialize_with = "typed_option")]
    #[schemars(length(max = ADDRESS_MAX))]
    pub correspond_address: Option<String>,
    /// `From` of comments.
    #[serde(default, deserialize_with = "typed_option")]
    #[schemars(length(max = ADDRESS_MAX))]
    pub comment_address: Option<String>,
    /// Usernames or mail addresses of people who get the same mail as the requestors.
    #[serde(default, deserialize_with = "typed_list")]
    #[schemars(length(max = QUEUE_LIST_MAX))]
    pub cc: Vec<String>,
    /// Usernames or mail addresses of people who get all mail, comments included.
    #[serde(default, deserialize_with = "typed_list")]
    #[schemars(length(max = QUEUE_LIST_MAX))]
    pub admin_cc: Vec<String>,
    /// The names or ids of its custom fields, in their order.
    #[serde(default, deserialize_with = "typed_list")]
    #[schemars(length(max = QUEUE_LIST_MAX))]
    pub custom_fields: Vec<String>,
    /// Whether new tickets are rejected.
    #[serde(default)]
    pub disabled: bool,
}

/// The name of the lifecycle that a new database has.
pub const DEFAULT_LIFECYCLE: &str = "default";

fn default_lifecycle() -> String {
    DEFAULT_LIFECYCLE.to_owned()
}

/// A lifecycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleDocument {
    /// The name: unique, ignoring case.
    #[serde(deserialize_with = "typed_member")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// Its statuses and transitions.
    pub definition: Definition,
    /// Whether queues can no longer select it. A lifecycle in use by a queue cannot be disabled.
    #[serde(default)]
    pub disabled: bool,
}

/// A custom field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomFieldDocument {
    /// The name: unique, ignoring case.
    #[serde(deserialize_with = "typed_member")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// The type of its values.
    pub field_type: FieldType,
    /// The allowed values, for the two Select types.
    #[serde(default, deserialize_with = "typed_list")]
    pub values: Vec<String>,
    /// The most values of a ticket; 0 = no limit. Default 1, for SelectMulti 0.
    #[serde(default)]
    pub max_values: Option<u32>,
    /// A regular expression that the whole value of a Freeform field must match.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Whether it is hidden everywhere; its values are kept.
    #[serde(default)]
    pub disabled: bool,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateDocument {
    /// The name: unique in its queue. Scrips refer to it.
    #[serde(deserialize_with = "typed_member")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// The name or id of its queue; `null` = global. In its queue it takes precedence over the global template of the same name.
    #[serde(default, deserialize_with = "typed_option")]
    pub queue: Option<String>,
    /// The subject line; empty = the ticket's subject.
    #[serde(default)]
    pub subject_template: String,
    /// The body.
    pub body_template: String,
    /// The content type of the body; default `text`.
    #[serde(default)]
    pub content_type: ContentType,
    /// Additional headers, each a template.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether it is ignored, as if it did not exist.
    #[serde(default)]
    pub disabled: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserDocument {
    /// The name: unique, ignoring case.
    #[serde(deserialize_with = "typed_member")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub username: String,
    /// The mail address: unique, ignoring case.
    #[serde(default, deserialize_with = "typed_option")]
    #[schemars(length(max = ADDRESS_MAX))]
    pub email: Option<String>,
    /// The display name.
    #[serde(default, deserialize_with = "typed_option")]
    #[schemars(length(max = NAME_MAX))]
    pub name: Option<String>,
    /// Whether the user can own tickets.
    #[serde(default)]
    pub privileged: bool,
    /// Whether the user is disabled: their history is kept, but they get no mail.
    #[serde(default)]
    pub disabled: bool,
}

/// A scrip. `queue` and `disabled` are short forms of `queues` and `state`; responses contain both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScripDocument {
    /// The name: unique, ignoring case.
    #[serde(deserialize_with = "typed_member")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// A description for people.
    #[serde(default)]
    #[schemars(length(max = DESCRIPTION_MAX))]
    pub description: Option<String>,
    /// The one queue it is attached to, by name or id; `null` = see `queues`.
    #[serde(default, deserialize_with = "typed_option")]
    pub queue: Option<String>,
    /// The queues it is attached to; `null`, and no `queue` either = every queue.
    #[serde(default)]
    pub queues: Option<Vec<Place>>,
    /// The type of its condition; `GET /api/scrip-types` lists the types.
    #[schemars(extend("enum" = Condition::TYPES))]
    pub condition_type: String,
    /// The configuration of the condition.
    #[serde(default = "nothing")]
    #[schemars(extend("type" = ["object", "string"]))]
    pub condition_config: Value,
    /// The transaction types that it is tried on, among those that the condition can hold for; `null` = all of them.
    #[serde(default)]
    pub applicable_types: Option<Vec<String>>,
    /// The type of its action; `GET /api/scrip-types` lists the types.
    #[schemars(extend("enum" = ACTIONS.each_ref().map(|action| action.name)))]
    pub action_type: String,
    /// The configuration of the action.
    #[serde(default = "nothing")]
    #[schemars(extend("type" = "object"))]
    pub action_config: Value,
    /// The name of its template.
    #[serde(default, deserialize_with = "typed_option")]
    pub template: Option<String>,
    /// The stage at which it runs; default `TransactionCreate`.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Its position among the scrips of its stage; default 0.
    #[serde(default)]
    pub sort_order: Option<i32>,
    /// Its state; default `enabled`.
    #[serde(default)]
    pub state: Option<State>,
    /// Short for the state `disabled`.
    #[serde(default)]
    pub disabled: Option<bool>,
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

/// A queue that a scrip is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be the name of a queue, or {queue, stage?, sort_order?}")]
pub enum Place {
    /// A queue by name or id, with the scrip's stage and order.
    Named(String),
    /// A queue with its own stage and order.
    At(PlaceAt),
}

/// A queue that a scrip is attached to, with its own stage and order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceAt {
    /// The queue's name or id; `null` = every other queue.
    #[serde(default, deserialize_with = "typed_option")]
    pub queue: Option<String>,
    /// The stage; default: the scrip's.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// The position; default: the scrip's.
    #[serde(default)]
    pub sort_order: Option<i32>,
}

/// Reads a document from the members of a JSON object. Members of the document that are `null` are ignored.
///
/// # Errors
/// `422 invalid`, with the member that is unknown, missing or of the wrong type, or every text that contains U+0000.
pub fn read<D: DeserializeOwned>(members: Map<String, Value>) -> Result<D> {
    let known = members_of::<D>();
    let is_given = |name: &str, value: &Value| !value.is_null() || !known.contains(&name);
    let given = Value::Object(members.into_iter().filter(|(name, value)| is_given(name, value)).collect());
    let mut faults = Vec::new();
    find_nul(String::new(), &given, &mut faults);
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    serde_path_to_error::deserialize(given).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // For a missing member, the path ends before it.
        let named = message.split('`').nth(1).filter(|_| path == ".").unwrap_or(&path).to_owned();
        Error::invalid(vec![Fault::new(named, message)])
    })
}

/// Returns the names of the members of a struct.
fn members_of<D: DeserializeOwned>() -> &'static [&'static str] {
    /// A deserializer that only notes which members it is asked for.
    struct Asked<'m>(&'m mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Asked<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            members: &'static [&'static str],
            visitor: V,
        ) -> std::result::Result<V::Value, Self::Error> {
            *self.0 = members;
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("nothing is read"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut members: &'static [&'static str] = &[];
    // It fails for every type.
    let _ = D::deserialize(Asked(&mut members));
    members
}

/// Finds texts that contain U+0000, which PostgreSQL cannot store, not even in JSON.
fn find_nul(place: String, value: &Value, faults: &mut Vec<Fault>) {
    let mut say = |place: &str, text: &str| {
        if text.contains('\0') {
            let message = "contains the character U+0000, which cannot be stored; remove it";
            faults.push(Fault::new(place, message));
        }
    };
    match value {
        Value::String(text) => say(&place, text),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                find_nul(format!("{place}[{at}]"), item, faults);
            }
        }
        Value::Object(members) => {
            for name in members.keys() {
                say(&place, name);
            }
            for (name, member) in members {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                find_nul(place, member, faults);
            }
        }
        _ => {}
    }
}

impl ScripDocument {
    /// Returns the document with short forms and defaults written out: every queue with its stage and order, `state` and
    /// `disabled`, and `queue` if there is only one.
    ///
    /// # Errors
    /// Short forms that contradict the long ones.
    pub fn settled(mut self) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let state = match (self.state, self.disabled) {
            (Some(State::Enabled | State::Shadow), Some(true)) | (Some(State::Disabled), Some(false)) => {
                faults.push(Fault::new("disabled", "contradicts state; send only one of them"));
                State::Disabled
            }
            (Some(state), _) => state,
            (None, Some(true)) => State::Disabled,
            (None, _) => State::Enabled,
        };
        (self.state, self.disabled) = (Some(state), Some(state == State::Disabled));
        let first = self.queues.as_deref().and_then(<[Place]>::first);
        let (first_stage, first_order) = match first {
            Some(Place::At(at)) => (at.stage, at.sort_order),
            _ => (None, None),
        };
        let stage = self.stage.or(first_stage).unwrap_or_default();
        let sort_order = self.sort_order.or(first_order).unwrap_or_default();
        let settle = |place| match place {
            Place::Named(queue) => {
                PlaceAt { queue: Some(queue), stage: Some(stage), sort_order: Some(sort_order) }
            }
            Place::At(at) => PlaceAt {
                stage: at.stage.or(Some(stage)),
                sort_order: at.sort_order.or(Some(sort_order)),
                ..at
            },
        };
        let named = self.queue.take();
        let places: Option<Vec<PlaceAt>> =
            self.queues.take().map(|places| places.into_iter().map(settle).collect());
        let places = match (named, places) {
            (Some(queue), None) => Some(vec![settle(Place::Named(queue))]),
            (Some(queue), Some(places))
                if places.iter().any(|place| place.queue.as_ref() != Some(&queue)) || places.len() != 1 =>
            {
                faults.push(Fault::new("queue", "contradicts queues; send only one of them"));
                Some(places)
            }
            (_, places) => places,
        };
        if places.as_ref().is_some_and(Vec::is_empty) {
            let message = "is empty; leave it out for every queue, or disable the scrip";
            faults.push(Fault::new("queues", message));
        }
        match places.as_deref() {
            Some([only]) => self.queue.clone_from(&only.queue),
            _ => self.queue = None,
        }
        (self.stage, self.sort_order) = (Some(stage), Some(sort_order));
        self.queues = places.map(|places| places.into_iter().map(Place::At).collect());
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Returns the queues that it is attached to. The document must be settled.
    pub fn places(&self) -> Vec<PlaceAt> {
        let everywhere = PlaceAt { queue: None, stage: self.stage, sort_order: self.sort_order };
        let at = |place: &Place| match place {
            Place::At(at) => at.clone(),
            Place::Named(queue) => PlaceAt { queue: Some(queue.clone()), ..everywhere.clone() },
        };
        match &self.queues {
            Some(places) => places.iter().map(at).collect(),
            None => vec![everywhere],
        }
    }
}

#[cfg(test)]
mod tests;
