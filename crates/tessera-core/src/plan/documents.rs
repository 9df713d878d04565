//! Documents: the objects of the configuration as people write them and read them, in the words of the API.
//!
//! One shape goes both ways: what `GET` answers is what `POST` takes, plus `id`, `version` and `created_at`.

use crate::error::{Error, Fault, Result};
use crate::lifecycle::Definition;
use crate::models::FieldType;
use crate::models::template::ContentType;
use crate::models::text::{ADDRESS_MAX, NAME_MAX};
use crate::scrip::State;
use crate::scrip::action::ACTIONS;
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::Stage;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// The longest description, in bytes.
pub const DESCRIPTION_MAX: usize = 10_000;
/// The most people of a queue in one role, and the most fields of it.
pub const QUEUE_LIST_MAX: usize = 200;

/// A document with what Tessera adds to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored<D> {
    /// Its id.
    pub id: Uuid,
    /// The number of its version, from 1; scrips, templates and lifecycles have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// What it says.
    #[serde(flatten)]
    pub document: D,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDocument {
    /// Unique, compared without case.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// For people.
    #[serde(default)]
    #[schemars(length(max = DESCRIPTION_MAX))]
    pub description: Option<String>,
    /// The name or id of the lifecycle of its tickets; `default` unless given.
    #[serde(default = "default_lifecycle")]
    pub lifecycle: String,
    /// `From` of replies.
    #[serde(default)]
    #[schemars(length(max = ADDRESS_MAX))]
    pub correspond_address: Option<String>,
    /// `From` of comments.
    #[serde(default)]
    #[schemars(length(max = ADDRESS_MAX))]
    pub comment_address: Option<String>,
    /// Usernames or mail addresses: told what the requestors are told.
    #[serde(default)]
    #[schemars(length(max = QUEUE_LIST_MAX))]
    pub cc: Vec<String>,
    /// Usernames or mail addresses: told everything.
    #[serde(default)]
    #[schemars(length(max = QUEUE_LIST_MAX))]
    pub admin_cc: Vec<String>,
    /// The names or ids of its custom fields, in their order.
    #[serde(default)]
    #[schemars(length(max = QUEUE_LIST_MAX))]
    pub custom_fields: Vec<String>,
    /// Whether it takes no new tickets.
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
    /// Unique, compared without case.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// Its statuses and the ways between them.
    pub definition: Definition,
    /// Whether no queue may take it; one that a queue has cannot be disabled.
    #[serde(default)]
    pub disabled: bool,
}

/// A custom field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomFieldDocument {
    /// Unique, compared without case.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// How it is filled in.
    pub field_type: FieldType,
    /// What may be chosen, for the two Select types.
    #[serde(default)]
    pub values: Vec<String>,
    /// How many values a ticket may have; 0 = any number. Else 1, for SelectMulti 0.
    #[serde(default)]
    pub max_values: Option<u32>,
    /// A regular expression that a whole Freeform value must match.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Whether it is shown nowhere; its values stay.
    #[serde(default)]
    pub disabled: bool,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateDocument {
    /// Unique in its queue. Scrips name it.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// The name or id of the queue it belongs to; `null` = global. In its queue it wins over a global one of its name.
    #[serde(default)]
    pub queue: Option<String>,
    /// The subject line; empty = the ticket's.
    #[serde(default)]
    pub subject_template: String,
    /// The body.
    pub body_template: String,
    /// What the body is: `text` unless given.
    #[serde(default)]
    pub content_type: ContentType,
    /// More headers, each a template.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether it is as if it were not there.
    #[serde(default)]
    pub disabled: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserDocument {
    /// Unique, compared without case.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub username: String,
    /// Unique where given, compared without case.
    #[serde(default)]
    #[schemars(length(max = ADDRESS_MAX))]
    pub email: Option<String>,
    /// What people call them.
    #[serde(default)]
    #[schemars(length(max = NAME_MAX))]
    pub name: Option<String>,
    /// Whether they may own tickets.
    #[serde(default)]
    pub privileged: bool,
    /// Whether they keep their history and get nothing.
    #[serde(default)]
    pub disabled: bool,
}

/// A scrip. `queue` and `disabled` are short forms of `queues` and `state`; answers have both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScripDocument {
    /// Unique, compared without case.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: String,
    /// For people.
    #[serde(default)]
    #[schemars(length(max = DESCRIPTION_MAX))]
    pub description: Option<String>,
    /// The one queue it is attached to, by name or id; `null` = see `queues`.
    #[serde(default)]
    pub queue: Option<String>,
    /// The queues it is attached to; `null`, and no `queue` either = every queue.
    #[serde(default)]
    pub queues: Option<Vec<Place>>,
    /// When it fires; `GET /api/scrip-types` lists the types.
    #[schemars(extend("enum" = Condition::TYPES))]
    pub condition_type: String,
    /// What the condition needs to know.
    #[serde(default = "nothing")]
    #[schemars(extend("type" = ["object", "string"]))]
    pub condition_config: Value,
    /// The transaction types it is tried on, of those that the condition can hold for; `null` = all of them.
    #[serde(default)]
    pub applicable_types: Option<Vec<String>>,
    /// What it does; `GET /api/scrip-types` lists the types.
    #[schemars(extend("enum" = ACTIONS.each_ref().map(|action| action.name)))]
    pub action_type: String,
    /// What the action needs to know.
    #[serde(default = "nothing")]
    #[schemars(extend("type" = "object"))]
    pub action_config: Value,
    /// The name of the template with its words.
    #[serde(default)]
    pub template: Option<String>,
    /// When it runs: `TransactionCreate` unless given.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Its place among the scrips of its stage; 0 unless given.
    #[serde(default)]
    pub sort_order: Option<i32>,
    /// Whether it runs: `enabled` unless given.
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
    /// By name or id; stage and order are the scrip's.
    Named(String),
    /// With a stage and an order of its own.
    At(PlaceAt),
}

/// A queue that a scrip is attached to, with a stage and an order of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceAt {
    /// Name or id; `null` = every other queue.
    pub queue: Option<String>,
    /// The scrip's unless given.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// The scrip's unless given.
    #[serde(default)]
    pub sort_order: Option<i32>,
}

/// Reads a document from the members of a JSON object. A member that is `null` is as if it were not there.
///
/// # Errors
/// `422 invalid`, naming the member that is unknown, missing or of the wrong type, or every text that holds U+0000.
pub fn read<D: DeserializeOwned>(members: Map<String, Value>) -> Result<D> {
    let given = Value::Object(members.into_iter().filter(|(_, value)| !value.is_null()).collect());
    let mut faults = Vec::new();
    find_nul(String::new(), &given, &mut faults);
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    serde_path_to_error::deserialize(given).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // For a member that is missing, the path ends before it.
        let named = message.split('`').nth(1).filter(|_| path == ".").unwrap_or(&path).to_owned();
        Error::invalid(vec![Fault::new(named, message)])
    })
}

/// Texts with U+0000, wherever they stand: PostgreSQL cannot store it, in JSON neither.
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
    /// The same with its short forms and defaults written out: every place with its stage and order, `state` and
    /// `disabled`, `queue` where there is just one.
    ///
    /// # Errors
    /// Short forms that contradict the long ones.
    pub fn settled(mut self) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let state = match (self.state, self.disabled) {
            (Some(State::Enabled | State::Shadow), Some(true)) | (Some(State::Disabled), Some(false)) => {
                faults.push(Fault::new("disabled", "contradicts state; give one of the two"));
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
                faults.push(Fault::new("queue", "contradicts queues; give one of the two"));
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

    /// Where it is attached, once it is settled.
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
#[path = "documents_tests.rs"]
mod tests;
