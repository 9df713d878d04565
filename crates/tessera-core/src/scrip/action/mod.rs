//! Actions: what a scrip does. [`ACTIONS`] defines every type; a plan renders an action and carries it out.

pub mod connector;
pub mod mail;
mod read;
pub mod ticket;
pub mod webhook;

use super::mention::{Mention, Thing};
use super::template::Compiled;
use crate::error::Fault;
use crate::models::{DeliveryKind, Role};
use connector::{Connector, ConnectorConfig};
use mail::{SendEmail, SendEmailConfig};
use read::read;
use schemars::{Schema, schema_for};
use serde_json::Value;
use std::fmt;
use ticket::{
    Column, Message, MessageConfig, SetConfig, SetCustomField, SetCustomFieldConfig, SetStatusConfig,
    WatcherConfig,
};
use webhook::{Webhook, WebhookConfig};

/// A type of action: everything that must be known about it before a scrip runs.
pub struct ActionType {
    /// The name in `action_type`.
    pub name: &'static str,
    /// The JSON Schema of `action_config`.
    schema: fn() -> Schema,
    /// Compiles `action_config`, templates included.
    compile: fn(&Value) -> Result<Effect, Vec<Fault>>,
    /// The members of `action_config` that name an object of the configuration or a person.
    names: &'static [(Thing, &'static str)],
}

/// Every type of action, in the order of the documentation.
pub static ACTIONS: [ActionType; 14] = [
    ActionType {
        name: "SendEmail",
        schema: || schema_for!(SendEmailConfig),
        compile: |config| SendEmail::compile(read(config)?).map(Effect::SendEmail),
        names: &[],
    },
    ActionType {
        name: "Webhook",
        schema: || schema_for!(WebhookConfig),
        compile: |config| Ok(Effect::Webhook(Box::new(Webhook::compile(read(config)?)?))),
        names: &[],
    },
    ActionType {
        name: "Connector",
        schema: || schema_for!(ConnectorConfig),
        compile: |config| Ok(Effect::Connector(Box::new(Connector::compile(read(config)?)?))),
        names: &[],
    },
    ActionType {
        name: "SetCustomField",
        schema: || schema_for!(SetCustomFieldConfig),
        compile: |config| SetCustomField::compile(read(config)?).map(Effect::SetCustomField),
        names: &[(Thing::Field, "field")],
    },
    ActionType {
        name: "SetStatus",
        schema: || schema_for!(SetStatusConfig),
        compile: |config| read(config).map(Effect::SetStatus),
        names: &[(Thing::Status, "status"), (Thing::Status, "from")],
    },
    set("SetOwner", |config| column(Column::Owner, config), &[(Thing::Owner, "value")]),
    set("SetPriority", |config| column(Column::Priority, config), &[]),
    set("SetSubject", |config| column(Column::Subject, config), &[]),
    set("SetQueue", |config| column(Column::Queue, config), &[(Thing::Queue, "value")]),
    set("SetDue", |config| column(Column::Due, config), &[]),
    ActionType {
        name: "AddComment",
        schema: || schema_for!(MessageConfig),
        compile: |config| message(Message::Comment, config),
        names: &[],
    },
    ActionType {
        name: "AddCorrespondence",
        schema: || schema_for!(MessageConfig),
        compile: |config| message(Message::Correspondence, config),
        names: &[],
    },
    ActionType {
        name: "AddWatcher",
        schema: || schema_for!(WatcherConfig),
        compile: |config| watcher(config).map(|(role, who)| Effect::AddWatcher(role, who)),
        names: &[(Thing::Person, "who")],
    },
    ActionType {
        name: "RemoveWatcher",
        schema: || schema_for!(WatcherConfig),
        compile: |config| watcher(config).map(|(role, who)| Effect::RemoveWatcher(role, who)),
        names: &[(Thing::Person, "who")],
    },
];

/// The type of an action that sets one column.
const fn set(
    name: &'static str,
    compile: fn(&Value) -> Result<Effect, Vec<Fault>>,
    names: &'static [(Thing, &'static str)],
) -> ActionType {
    ActionType { name, schema: || schema_for!(SetConfig), compile, names }
}

fn column(column: Column, config: &Value) -> Result<Effect, Vec<Fault>> {
    Ok(Effect::Set(column, read::<SetConfig>(config)?.compile(column)?))
}

fn message(message: Message, config: &Value) -> Result<Effect, Vec<Fault>> {
    Ok(Effect::AddMessage(message, read::<MessageConfig>(config)?.compile()?))
}

fn watcher(config: &Value) -> Result<(Role, Compiled), Vec<Fault>> {
    read::<WatcherConfig>(config)?.compile()
}

impl ActionType {
    /// Returns the type of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ACTIONS.iter().find(|action| action.name == name)
    }

    /// Returns the JSON Schema of `action_config`.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// Returns the objects and people that an `action_config` names. It may be invalid otherwise.
    pub fn mentions(&self, config: &Value) -> Vec<Mention> {
        let named = self.names.iter();
        named
            .flat_map(|(thing, member)| Mention::in_member(*thing, config, "action_config", member))
            .collect()
    }
}

impl fmt::Debug for ActionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// An action, compiled from `action_type` and `action_config`.
#[derive(Debug)]
pub struct Action {
    /// Its type.
    pub action_type: &'static ActionType,
    /// Its effect, with the templates compiled.
    pub effect: Effect,
}

/// The effect of an action, before its templates are rendered.
#[derive(Debug)]
pub enum Effect {
    /// Sends a mail with the words of the scrip's template. RT: `SendEmail`, `Notify`, `Autoreply`.
    SendEmail(SendEmail),
    /// Sends an HTTP request.
    Webhook(Box<Webhook>),
    /// Creates a delivery for a connector.
    Connector(Box<Connector>),
    /// Changes a custom field.
    SetCustomField(SetCustomField),
    /// Moves the ticket along its lifecycle. RT: `SetStatus`, `AutoOpen`, `AutoOpenInactive`.
    SetStatus(SetStatusConfig),
    /// Changes a column.
    Set(Column, Compiled),
    /// Adds a message, with the body of the scrip's template unless it has words of its own. RT: `RecordComment`,
    /// `RecordCorrespondence`.
    AddMessage(Message, Option<Compiled>),
    /// Gives a person a role.
    AddWatcher(Role, Compiled),
    /// Removes a person from a role.
    RemoveWatcher(Role, Compiled),
}

impl Action {
    /// Compiles an action as it is stored.
    ///
    /// # Errors
    /// Faults of `action_type` or `action_config.…`, those of templates with line and column.
    pub fn compile(action_type: &str, config: &Value) -> Result<Self, Vec<Fault>> {
        let action_type = ActionType::find(action_type).ok_or_else(|| {
            let known = ACTIONS.each_ref().map(|action| action.name).join(", ");
            vec![Fault::new("action_type", format!("unknown action \"{action_type}\"; use one of: {known}"))]
        })?;
        Ok(Self { action_type, effect: (action_type.compile)(config)? })
    }

    /// The kind of the deliveries that it creates; `None` if it only changes the ticket.
    pub fn delivers(&self) -> Option<DeliveryKind> {
        match &self.effect {
            Effect::SendEmail(_) => Some(DeliveryKind::Email),
            Effect::Webhook(_) => Some(DeliveryKind::Webhook),
            Effect::Connector(connector) => Some(DeliveryKind::Connector(connector.kind.clone())),
            Effect::SetCustomField(_)
            | Effect::SetStatus(_)
            | Effect::Set(..)
            | Effect::AddMessage(..)
            | Effect::AddWatcher(..)
            | Effect::RemoveWatcher(..) => None,
        }
    }

    /// Whether it creates deliveries.
    pub fn is_external(&self) -> bool {
        self.delivers().is_some()
    }

    /// Whether it cannot run without a template.
    pub fn needs_template(&self) -> bool {
        matches!(self.effect, Effect::SendEmail(_) | Effect::AddMessage(_, None))
    }

    /// Returns the templates of its configuration.
    pub fn texts(&self) -> Vec<&Compiled> {
        match &self.effect {
            Effect::SendEmail(send) => send.texts(),
            Effect::Webhook(webhook) => webhook.texts(),
            Effect::Connector(connector) => connector.texts(),
            Effect::SetCustomField(set) => set.values.iter().collect(),
            Effect::SetStatus(_) | Effect::AddMessage(_, None) => Vec::new(),
            Effect::Set(_, text)
            | Effect::AddMessage(_, Some(text))
            | Effect::AddWatcher(_, text)
            | Effect::RemoveWatcher(_, text) => vec![text],
        }
    }

    /// Returns the names of the secrets that it uses.
    pub fn secrets(&self) -> Vec<&str> {
        match &self.effect {
            Effect::Webhook(webhook) => webhook.secrets(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
