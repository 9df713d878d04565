//! The actions that change the ticket: their configurations, compiled.

use super::read::{bounded, template};
use crate::error::Fault;
use crate::models::Role;
use crate::models::text::{SUBJECT_MAX, line_fault, quote};
use crate::scrip::template::{Compiled, Mode as Escape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// The columns that an action can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The owner: a username, the address of an agent, or `Nobody`.
    Owner,
    /// The priority: a whole number.
    Priority,
    /// The subject.
    Subject,
    /// The queue: a name.
    Queue,
    /// The due date: RFC 3339, or an empty text to clear it.
    Due,
}

impl Column {
    /// Returns the reason why the column can never have a value that does not depend on the ticket.
    fn fault(self, value: &str) -> Option<String> {
        match self {
            Self::Priority => parse_priority(value).err(),
            Self::Due => match parse_due(value) {
                Ok(None) => None,
                Ok(Some(due)) => {
                    let year = due.checked_to_offset(UtcOffset::UTC).map(OffsetDateTime::year);
                    let is_known = year.is_some_and(|year| (1..=9_999).contains(&year));
                    (!is_known).then(|| "is not within the years 1 to 9999 of UTC".to_owned())
                }
                Err(reason) => Some(reason),
            },
            Self::Subject if value.is_empty() => Some("is empty; a ticket has a subject".to_owned()),
            Self::Subject => line_fault(value, SUBJECT_MAX),
            // These name an object, which must exist.
            Self::Owner | Self::Queue => None,
        }
    }
}

/// Reads a priority.
///
/// # Errors
/// The reason if it is not a whole number of 32 bits.
pub fn parse_priority(word: &str) -> Result<i32, String> {
    word.trim().parse().map_err(|_| format!("{} is not a whole number", quote(word)))
}

/// Reads a due date; an empty text means no date.
///
/// # Errors
/// The reason if it is not a time in RFC 3339.
pub fn parse_due(word: &str) -> Result<Option<OffsetDateTime>, String> {
    /// The longest time that is read, in bytes.
    const DATE_MAX: usize = 64;
    let word = word.trim();
    if word.is_empty() {
        return Ok(None);
    }
    let parsed = if word.len() <= DATE_MAX { OffsetDateTime::parse(word, &Rfc3339).ok() } else { None };
    parsed.map(Some).ok_or_else(|| format!("{} is not a time; write 2026-11-23T10:00:00Z", quote(word)))
}

/// The configuration of the actions that set one column.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    /// A template.
    pub value: String,
}

impl SetConfig {
    pub(super) fn compile(self, column: Column) -> Result<Compiled, Vec<Fault>> {
        let value = template("value", &self.value, Escape::Text)?;
        match value.literal().and_then(|literal| column.fault(literal)) {
            Some(reason) => Err(vec![Fault::new("action_config.value", reason)]),
            None => Ok(value),
        }
    }
}

/// The configuration of `SetStatus`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetStatusConfig {
    /// A status; or `initial`, `active` or `inactive` for the first allowed status of that list, unless a status has that name.
    pub status: String,
    /// Only if the status before the request was one of these statuses or classes, and the request does not set the status
    /// itself; empty = always. RT: `AutoOpenInactive` is `active` from `inactive`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

/// The configuration of `SetCustomField`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCustomFieldConfig {
    /// The field's name.
    pub field: String,
    /// A template, or a list of templates for a field with several values; not with `clear`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Values>,
    /// The effect on the values that the field has.
    #[serde(default)]
    pub mode: Mode,
}

/// One value or several.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Values {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The effect of an action on the present values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Replaces all values.
    #[default]
    Set,
    /// Adds values.
    Add,
    /// Removes the given values.
    Remove,
    /// Removes all values.
    Clear,
}

/// A compiled `SetCustomField`.
#[derive(Debug)]
pub struct SetCustomField {
    /// The field's name.
    pub field: String,
    /// Templates, one for each value.
    pub values: Vec<Compiled>,
    /// The effect on the present values.
    pub mode: Mode,
}

impl SetCustomField {
    pub(super) fn compile(config: SetCustomFieldConfig) -> Result<Self, Vec<Fault>> {
        let sources = match config.value {
            None => Vec::new(),
            Some(Values::One(value)) => vec![value],
            Some(Values::Many(values)) => values,
        };
        bounded("value", sources.len())?;
        let fault = |message: &str| Err(vec![Fault::new("action_config.value", message)]);
        match (config.mode, sources.is_empty()) {
            (Mode::Clear, false) => return fault("is not allowed with mode clear; remove it"),
            (Mode::Set | Mode::Add | Mode::Remove, true) => {
                return fault("is missing; give a template, or use mode clear");
            }
            _ => {}
        }
        let values = sources
            .iter()
            .enumerate()
            .map(|(index, source)| template(&format!("value[{index}]"), source, Escape::Text))
            .collect::<Result<_, _>>()?;
        Ok(Self { field: config.field, values, mode: config.mode })
    }
}

/// The audience of a message that an action adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The team.
    Comment,
    /// The requestors.
    Correspondence,
}

/// The configuration of `AddComment` and `AddCorrespondence`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageConfig {
    /// A template; default: the body of the scrip's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl MessageConfig {
    pub(super) fn compile(self) -> Result<Option<Compiled>, Vec<Fault>> {
        self.content.map(|text| template("content", &text, Escape::Text)).transpose()
    }
}

/// The configuration of `AddWatcher` and `RemoveWatcher`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatcherConfig {
    /// The role.
    pub role: Role,
    /// A template that renders to a username or an address.
    pub who: String,
}

impl WatcherConfig {
    pub(super) fn compile(self) -> Result<(Role, Compiled), Vec<Fault>> {
        Ok((self.role, template("who", &self.who, Escape::Line)?))
    }
}
