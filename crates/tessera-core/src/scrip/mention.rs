//! Mentions: configuration objects and people that a scrip names literally, each with its place in the scrip.

use crate::models::StatusClass;
use serde_json::Value;

/// A kind of object that a scrip can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A custom field.
    Field,
    /// A custom field of one queue, as a query writes it.
    FieldOfQueue,
    /// A status of the lifecycles of the scrip's queues.
    Status,
    /// A status of any lifecycle.
    AnyStatus,
    /// A queue.
    Queue,
    /// A lifecycle.
    Lifecycle,
    /// The username or address of a user who can own tickets.
    Owner,
    /// A username, or any mail address.
    Person,
}

/// An object that a scrip names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The kind of object.
    pub thing: Thing,
    /// Its name, as the scrip writes it.
    pub name: String,
    /// The member of the scrip that names it: `condition_config.field`, `action_config.from[1]`.
    pub place: String,
}

impl Mention {
    /// Returns the mention of a word; `None` if the word is a template, whose result is known only at run time, or the class
    /// of a status.
    pub fn of(thing: Thing, word: &str, place: String) -> Option<Self> {
        let is_class = thing == Thing::Status && StatusClass::parse(word).is_some();
        let is_literal = !is_class && !is_template(word);
        is_literal.then(|| Self { thing, name: word.trim().to_owned(), place })
    }

    /// Returns the mentions in one member of a configuration, which holds a word or a list of words.
    pub fn in_member(thing: Thing, config: &Value, parent: &str, member: &str) -> Vec<Self> {
        match config.get(member) {
            Some(Value::String(word)) => {
                Self::of(thing, word, format!("{parent}.{member}")).into_iter().collect()
            }
            Some(Value::Array(words)) => {
                let words = words.iter().map(|word| word.as_str().unwrap_or_default());
                let placed = words
                    .enumerate()
                    .map(|(at, word)| Self::of(thing, word, format!("{parent}.{member}[{at}]")));
                placed.flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Whether a text contains template syntax.
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{$", "{#"].iter().any(|mark| text.contains(mark))
}
