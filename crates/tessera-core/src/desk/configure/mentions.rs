//! Mentions: what a scrip names in plain words, so that it can be looked up when the scrip or the thing changes.

use crate::models::StatusClass;
use crate::plan::Catalog;
use crate::plan::documents::ScripDocument;
use crate::query::{Purpose, Read, reads};
use crate::scrip::condition::{Condition, Event};
use serde_json::Value;

/// Where a scrip's query stands.
pub(super) const QUERY: &str = "condition_config.query";

/// A kind of thing that a scrip can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    Field,
    /// A custom field that a queue must have, as a query writes it.
    FieldOfQueue,
    /// A status of the lifecycles of the scrip's queues.
    Status,
    /// A status of any lifecycle.
    AnyStatus,
    Queue,
    Lifecycle,
    /// A username or an address of somebody who may own.
    Owner,
    /// A username, or an address of anybody.
    Person,
}

/// A thing that a scrip names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    pub thing: Thing,
    pub name: String,
    /// `condition_config.field`, `action_config.from[1]`.
    pub place: String,
}

/// Everything that a scrip names. What a template renders to is known only when it runs; what a query names is known where
/// it is understood, and where it is not there is nothing to lose.
pub(super) fn of(catalog: &Catalog, scrip: &ScripDocument) -> Vec<Mention> {
    let condition = Condition::parse(&scrip.condition_type, &scrip.condition_config).ok();
    let asked = condition.as_ref().and_then(|condition| condition.query.as_ref());
    let query = asked.and_then(|asked| asked.resolve(&catalog.query_fields(Purpose::Condition)).ok());
    let mut mentions: Vec<Mention> = query.iter().flat_map(reads).map(of_query).collect();
    let mut add = |thing, place: String, name: &str| {
        let is_class = thing == Thing::Status && StatusClass::parse(name).is_some();
        if !is_class && !is_template(name) {
            mentions.push(Mention { thing, name: name.trim().to_owned(), place });
        }
    };
    match condition.map(|condition| condition.event) {
        Some(Event::OnStatusChange(config)) => {
            for (side, words) in [("from", &config.from), ("to", &config.to)] {
                for (at, word) in words.iter().enumerate() {
                    add(Thing::Status, format!("condition_config.{side}[{at}]"), word);
                }
            }
        }
        Some(Event::OnCustomFieldChange(config)) => {
            add(Thing::Field, "condition_config.field".to_owned(), &config.field);
        }
        _ => {}
    }
    let text = |member: &str| scrip.action_config.get(member).and_then(Value::as_str);
    let named = match scrip.action_type.as_str() {
        "SetCustomField" => Some((Thing::Field, "field")),
        "SetStatus" => Some((Thing::Status, "status")),
        "SetOwner" => Some((Thing::Owner, "value")),
        "SetQueue" => Some((Thing::Queue, "value")),
        "AddWatcher" | "RemoveWatcher" => Some((Thing::Person, "who")),
        _ => None,
    };
    if let Some((thing, member)) = named
        && let Some(name) = text(member)
    {
        add(thing, format!("action_config.{member}"), name);
    }
    if scrip.action_type == "SetStatus" {
        let from = scrip.action_config.get("from").and_then(Value::as_array).into_iter().flatten();
        for (at, word) in from.enumerate() {
            add(Thing::Status, format!("action_config.from[{at}]"), word.as_str().unwrap_or_default());
        }
    }
    mentions
}

fn of_query(read: Read) -> Mention {
    let (thing, name) = match read {
        Read::Field(name) => (Thing::Field, name),
        Read::FieldOfQueue(name) => (Thing::FieldOfQueue, name),
        Read::Queue(name) => (Thing::Queue, name),
        Read::Lifecycle(name) => (Thing::Lifecycle, name),
        Read::Status(name) => (Thing::AnyStatus, name),
        Read::Owner(word) => (Thing::Owner, word),
        Read::Person(word) => (Thing::Person, word),
    };
    Mention { thing, name, place: QUERY.to_owned() }
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{$", "{#"].iter().any(|mark| text.contains(mark))
}
