//! Mentions: what a scrip names in plain words, so that it can be looked up when the scrip or the thing changes.

use crate::models::StatusClass;
use crate::plan::documents::ScripDocument;
use crate::scrip::condition::Condition;
use serde_json::Value;

/// A kind of thing that a scrip can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    Field,
    Status,
    Queue,
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

/// Everything that a scrip names. What a template renders to is known only when it runs.
pub(super) fn of(scrip: &ScripDocument) -> Vec<Mention> {
    let mut mentions = Vec::new();
    let mut add = |thing, place: String, name: &str| {
        let is_class = thing == Thing::Status && StatusClass::parse(name).is_some();
        if !is_class && !is_template(name) {
            mentions.push(Mention { thing, name: name.trim().to_owned(), place });
        }
    };
    match Condition::parse(&scrip.condition_type, &scrip.condition_config) {
        Ok(Condition::OnStatusChange(config)) => {
            for (side, words) in [("from", &config.from), ("to", &config.to)] {
                for (at, word) in words.iter().enumerate() {
                    add(Thing::Status, format!("condition_config.{side}[{at}]"), word);
                }
            }
        }
        Ok(Condition::OnCustomFieldChange(config)) => {
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

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{$", "{#"].iter().any(|mark| text.contains(mark))
}
