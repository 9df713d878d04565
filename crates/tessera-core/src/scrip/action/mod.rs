//! Actions: what a scrip does. Parsed and compiled when the scrip is saved; the plan renders and carries them out.

pub mod config;
pub mod connector;

pub use config::*;
pub use connector::{Connector, ConnectorConfig};

use super::template::{Compiled, Mode as Escape};
use crate::error::Fault;
use crate::models::text::is_address;
use crate::models::{DeliveryKind, Role};
use schemars::{Schema, schema_for};
use serde_json::Value;
use std::collections::BTreeMap;
use url::Url;

/// An action, compiled from `action_type` and `action_config`.
#[derive(Debug)]
pub enum Action {
    /// Sends a mail with the words of the scrip's template. RT: `SendEmail`, `Notify`, `Autoreply`.
    SendEmail(SendEmail),
    /// Sends an HTTP request.
    Webhook(Box<Webhook>),
    /// Hands a payload to whoever delivers its kind.
    Connector(Box<Connector>),
    /// Changes a custom field.
    SetCustomField(SetCustomField),
    /// Moves the ticket along its lifecycle. RT: `SetStatus`, `AutoOpen`, `AutoOpenInactive`.
    SetStatus(SetStatusConfig),
    /// Changes a column.
    Set(Column, Compiled),
    /// Adds a message; without words of its own it takes the template's. RT: `RecordComment`, `RecordCorrespondence`.
    AddMessage(Message, Option<Compiled>),
    /// Gives a person a role.
    AddWatcher(Role, Compiled),
    /// Takes a role from a person.
    RemoveWatcher(Role, Compiled),
}

/// The columns that an action can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The owner: a username, an address of an agent, or `Nobody`.
    Owner,
    /// The priority: a whole number.
    Priority,
    /// The subject.
    Subject,
    /// The queue: a name.
    Queue,
    /// The due time: RFC 3339, or nothing to clear it.
    Due,
}

/// To whom a message speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The team.
    Comment,
    /// The requestor.
    Correspondence,
}

/// A compiled `SendEmail`.
#[derive(Debug)]
pub struct SendEmail {
    /// To, Cc and Bcc.
    pub lists: [(Header, Vec<Addressee>); 3],
    /// See [`SendEmailConfig::notify_actor`].
    pub notify_actor: bool,
    /// See [`SendEmailConfig::as_comment`].
    pub as_comment: bool,
}

/// Where an address stands in a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// To.
    To,
    /// Cc.
    Cc,
    /// Bcc: in the envelope only.
    Bcc,
}

impl Header {
    /// The header's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::To => "To",
            Self::Cc => "Cc",
            Self::Bcc => "Bcc",
        }
    }
}

/// Who a mail is for.
#[derive(Debug)]
pub enum Addressee {
    /// Everybody in a role.
    Role(MailRole),
    /// A literal address.
    Address(String),
    /// A template that renders to addresses.
    Template(Box<Compiled>),
}

/// Roles that mail can be addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailRole {
    /// A role on the ticket.
    Ticket(Role),
    /// Who works on it.
    Owner,
    /// Who made it.
    Creator,
    /// The queue's Cc.
    QueueCc,
    /// The queue's AdminCc.
    QueueAdminCc,
}

impl MailRole {
    const ALL: [Self; 7] = [
        Self::Ticket(Role::Requestor),
        Self::Owner,
        Self::Ticket(Role::Cc),
        Self::Ticket(Role::AdminCc),
        Self::QueueCc,
        Self::QueueAdminCc,
        Self::Creator,
    ];

    /// The word in configuration and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket(role) => role.as_str(),
            Self::Owner => "owner",
            Self::Creator => "creator",
            Self::QueueCc => "queue_cc",
            Self::QueueAdminCc => "queue_admin_cc",
        }
    }
}

/// A compiled `Webhook`.
#[derive(Debug)]
pub struct Webhook {
    /// Scheme, host and port: literal, so that no value can move a webhook elsewhere.
    pub origin: Url,
    /// Path and query.
    pub target: Compiled,
    /// The method.
    pub method: String,
    /// Headers.
    pub headers: BTreeMap<String, WebhookHeader>,
    /// The body, if it has one of its own.
    pub body: Option<Compiled>,
    /// The name of the secret that signs it.
    pub secret: Option<String>,
}

/// A compiled header value.
#[derive(Debug)]
pub enum WebhookHeader {
    /// A template.
    Text(Compiled),
    /// The value of the secret of this name.
    Secret(String),
}

/// A compiled `SetCustomField`.
#[derive(Debug)]
pub struct SetCustomField {
    /// The field's name.
    pub field: String,
    /// What renders to its values.
    pub values: Vec<Compiled>,
    /// What to do with what is there.
    pub mode: Mode,
}

/// The most addressees, headers or values in one configuration.
const ITEMS_MAX: usize = 100;
const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "GET"];
/// Headers that the transport makes.
const OWN_HEADERS: [&str; 9] = [
    "tessera-depth",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "user-agent",
];

impl Action {
    /// Every type, in the order of the documentation.
    pub const TYPES: [&str; 14] = [
        "SendEmail",
        "Webhook",
        "Connector",
        "SetCustomField",
        "SetStatus",
        "SetOwner",
        "SetPriority",
        "SetSubject",
        "SetQueue",
        "SetDue",
        "AddComment",
        "AddCorrespondence",
        "AddWatcher",
        "RemoveWatcher",
    ];

    /// The kind of the deliveries that it makes, if it makes any.
    pub fn delivers(&self) -> Option<DeliveryKind> {
        match self {
            Self::SendEmail(_) => Some(DeliveryKind::Email),
            Self::Webhook(_) => Some(DeliveryKind::Webhook),
            Self::Connector(connector) => Some(DeliveryKind::Connector(connector.kind.clone())),
            Self::SetCustomField(_)
            | Self::SetStatus(_)
            | Self::Set(..)
            | Self::AddMessage(..)
            | Self::AddWatcher(..)
            | Self::RemoveWatcher(..) => None,
        }
    }

    /// Compiles an action as it is stored.
    ///
    /// # Errors
    /// Faults of `action_type` or `action_config.…`, those of templates with line and column.
    pub fn compile(action_type: &str, config: &Value) -> Result<Self, Vec<Fault>> {
        let column = |column| {
            read::<SetConfig>(config)
                .and_then(|config| Ok(Self::Set(column, template("value", &config.value, Escape::Text)?)))
        };
        let message = |message| {
            read::<MessageConfig>(config).and_then(|config| {
                let content =
                    config.content.map(|text| template("content", &text, Escape::Text)).transpose()?;
                Ok(Self::AddMessage(message, content))
            })
        };
        let watcher = || {
            read::<WatcherConfig>(config)
                .and_then(|config| Ok((config.role, template("who", &config.who, Escape::Line)?)))
        };
        match action_type {
            "SendEmail" => send_email(read(config)?).map(Self::SendEmail),
            "Webhook" => webhook(read(config)?).map(|webhook| Self::Webhook(Box::new(webhook))),
            "Connector" => {
                Connector::compile(read(config)?).map(|connector| Self::Connector(Box::new(connector)))
            }
            "SetCustomField" => set_custom_field(read(config)?).map(Self::SetCustomField),
            "SetStatus" => read(config).map(Self::SetStatus),
            "SetOwner" => column(Column::Owner),
            "SetPriority" => column(Column::Priority),
            "SetSubject" => column(Column::Subject),
            "SetQueue" => column(Column::Queue),
            "SetDue" => column(Column::Due),
            "AddComment" => message(Message::Comment),
            "AddCorrespondence" => message(Message::Correspondence),
            "AddWatcher" => watcher().map(|(role, who)| Self::AddWatcher(role, who)),
            "RemoveWatcher" => watcher().map(|(role, who)| Self::RemoveWatcher(role, who)),
            unknown => Err(vec![Fault::new(
                "action_type",
                format!("there is no action {unknown}; there are {}", Self::TYPES.join(", ")),
            )]),
        }
    }

    /// The JSON Schema of the configuration of a type.
    pub fn schema(action_type: &str) -> Option<Schema> {
        Some(match action_type {
            "SendEmail" => schema_for!(SendEmailConfig),
            "Webhook" => schema_for!(WebhookConfig),
            "Connector" => schema_for!(ConnectorConfig),
            "SetCustomField" => schema_for!(SetCustomFieldConfig),
            "SetStatus" => schema_for!(SetStatusConfig),
            "SetOwner" | "SetPriority" | "SetSubject" | "SetQueue" | "SetDue" => schema_for!(SetConfig),
            "AddComment" | "AddCorrespondence" => schema_for!(MessageConfig),
            "AddWatcher" | "RemoveWatcher" => schema_for!(WatcherConfig),
            _ => return None,
        })
    }

    /// Whether something leaves because of it.
    pub fn is_external(&self) -> bool {
        self.delivers().is_some()
    }

    /// The name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::SendEmail(_) => "SendEmail",
            Self::Webhook(_) => "Webhook",
            Self::Connector(_) => "Connector",
            Self::SetCustomField(_) => "SetCustomField",
            Self::SetStatus(_) => "SetStatus",
            Self::Set(Column::Owner, _) => "SetOwner",
            Self::Set(Column::Priority, _) => "SetPriority",
            Self::Set(Column::Subject, _) => "SetSubject",
            Self::Set(Column::Queue, _) => "SetQueue",
            Self::Set(Column::Due, _) => "SetDue",
            Self::AddMessage(Message::Comment, _) => "AddComment",
            Self::AddMessage(Message::Correspondence, _) => "AddCorrespondence",
            Self::AddWatcher(..) => "AddWatcher",
            Self::RemoveWatcher(..) => "RemoveWatcher",
        }
    }

    /// Whether the action needs the words of a template to do anything.
    pub fn needs_template(&self) -> bool {
        matches!(self, Self::SendEmail(_) | Self::AddMessage(_, None))
    }

    /// The texts that the action renders besides the scrip's template.
    pub fn texts(&self) -> Vec<&Compiled> {
        match self {
            Self::SendEmail(send) => send
                .lists
                .iter()
                .flat_map(|(_, list)| list)
                .filter_map(|addressee| match addressee {
                    Addressee::Template(text) => Some(text.as_ref()),
                    Addressee::Role(_) | Addressee::Address(_) => None,
                })
                .collect(),
            Self::Webhook(webhook) => {
                let headers = webhook.headers.values().filter_map(|value| match value {
                    WebhookHeader::Text(text) => Some(text),
                    WebhookHeader::Secret(_) => None,
                });
                std::iter::once(&webhook.target).chain(headers).chain(&webhook.body).collect()
            }
            Self::Connector(connector) => connector.texts(),
            Self::SetCustomField(set) => set.values.iter().collect(),
            Self::SetStatus(_) | Self::AddMessage(_, None) => Vec::new(),
            Self::Set(_, text)
            | Self::AddMessage(_, Some(text))
            | Self::AddWatcher(_, text)
            | Self::RemoveWatcher(_, text) => vec![text],
        }
    }

    /// The names of the secrets that it needs.
    pub fn secrets(&self) -> Vec<&str> {
        let Self::Webhook(webhook) = self else { return Vec::new() };
        let headers = webhook.headers.values().filter_map(|value| match value {
            WebhookHeader::Secret(name) => Some(name.as_str()),
            WebhookHeader::Text(_) => None,
        });
        headers.chain(webhook.secret.as_deref()).collect()
    }
}

fn read<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T, Vec<Fault>> {
    T::deserialize(config).map_err(|error| vec![Fault::new("action_config", error.to_string())])
}

/// Compiles a text of the configuration; its faults name the place in the configuration.
fn template(place: &str, source: &str, escape: Escape) -> Result<Compiled, Vec<Fault>> {
    Compiled::compile(source, escape).map_err(|faults| {
        let placed = |fault: Fault| Fault { field: format!("action_config.{place}"), ..fault };
        faults.into_iter().map(placed).collect()
    })
}

fn bounded(place: &str, items: usize) -> Result<(), Vec<Fault>> {
    if items > ITEMS_MAX {
        let message = format!("has {items} items; at most {ITEMS_MAX} are allowed");
        return Err(vec![Fault::new(format!("action_config.{place}"), message)]);
    }
    Ok(())
}

fn send_email(config: SendEmailConfig) -> Result<SendEmail, Vec<Fault>> {
    let list = |header: Header, place: &str, words: &[String]| -> Result<_, Vec<Fault>> {
        bounded(place, words.len())?;
        let addressees =
            words.iter().enumerate().map(|(index, word)| addressee(&format!("{place}[{index}]"), word));
        Ok((header, addressees.collect::<Result<Vec<_>, _>>()?))
    };
    let lists = [
        list(Header::To, "to", &config.to)?,
        list(Header::Cc, "cc", &config.cc)?,
        list(Header::Bcc, "bcc", &config.bcc)?,
    ];
    if lists.iter().all(|(_, list)| list.is_empty()) {
        return Err(vec![Fault::new(
            "action_config.to",
            "names nobody; give at least one role or address in to, cc or bcc",
        )]);
    }
    Ok(SendEmail { lists, notify_actor: config.notify_actor, as_comment: config.as_comment })
}

fn addressee(place: &str, word: &str) -> Result<Addressee, Vec<Fault>> {
    if let Some(role) = MailRole::ALL.into_iter().find(|role| role.as_str() == word) {
        return Ok(Addressee::Role(role));
    }
    if ["{{", "{%", "{$"].iter().any(|mark| word.contains(mark)) {
        return template(place, word, Escape::Line).map(|text| Addressee::Template(Box::new(text)));
    }
    if is_address(word) {
        return Ok(Addressee::Address(word.to_owned()));
    }
    let roles = MailRole::ALL.map(MailRole::as_str).join(", ");
    Err(vec![Fault::new(
        format!("action_config.{place}"),
        format!("\"{word}\" is neither a mail address nor a role; the roles are {roles}"),
    )])
}

fn webhook(config: WebhookConfig) -> Result<Webhook, Vec<Fault>> {
    let (origin, target) = split_url(&config.url)?;
    let method = config.method.unwrap_or_else(|| "POST".to_owned()).to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        let message = format!("\"{method}\" is not one of {}", METHODS.join(", "));
        return Err(vec![Fault::new("action_config.method", message)]);
    }
    bounded("headers", config.headers.len())?;
    let json = config.headers.iter().all(|(name, value)| {
        !name.eq_ignore_ascii_case("content-type")
            || matches!(value, HeaderConfig::Text(text) if text.to_ascii_lowercase().contains("json"))
    });
    let mut headers = BTreeMap::new();
    for (name, value) in config.headers {
        let place = format!("headers.{name}");
        check_header_name(&place, &name)?;
        let value = match value {
            HeaderConfig::Text(text) => WebhookHeader::Text(template(&place, &text, Escape::Line)?),
            HeaderConfig::Secret(SecretName { secret }) => WebhookHeader::Secret(secret),
        };
        headers.insert(name, value);
    }
    let escape = if json { Escape::Json } else { Escape::Text };
    let body = config.body.map(|text| template("body", &text, escape)).transpose()?;
    Ok(Webhook {
        origin,
        target: template("url", &target, Escape::UrlPart)?,
        method,
        headers,
        body,
        secret: config.secret,
    })
}

fn check_header_name(place: &str, name: &str) -> Result<(), Vec<Fault>> {
    let fault = |message: String| Err(vec![Fault::new(format!("action_config.{place}"), message)]);
    if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return fault("is not a header name: use letters, digits and hyphens".to_owned());
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return fault(format!("{name} is made by Tessera; remove it"));
    }
    Ok(())
}

/// Cuts a URL where its path begins. What stands before must be literal.
fn split_url(url: &str) -> Result<(Url, String), Vec<Fault>> {
    let fault = |message: &str| vec![Fault::new("action_config.url", message)];
    let authority = url
        .find("://")
        .map(|scheme| scheme + 3)
        .ok_or_else(|| fault("must begin with https:// or http://"))?;
    let end = url
        .char_indices()
        .find(|(at, c)| *at >= authority && matches!(c, '/' | '?' | '#' | '\\'))
        .map_or(url.len(), |(at, _)| at);
    let (head, target) = url.split_at(end);
    if head.contains(['{', '}']) {
        return Err(fault("scheme, host and port must be written out; only path and query may be templates"));
    }
    let origin = Url::parse(head).map_err(|error| fault(&format!("is not a URL: {error}")))?;
    if !matches!(origin.scheme(), "http" | "https") || origin.host().is_none() {
        return Err(fault("must begin with https:// or http:// and name a host"));
    }
    if !origin.username().is_empty() || origin.password().is_some() {
        return Err(fault("must not hold a user or password; put credentials into a secret and a header"));
    }
    if target.contains('#') && !target.contains("{#") {
        return Err(fault("must not have a fragment (#): receivers never see it"));
    }
    Ok((origin, target.to_owned()))
}

fn set_custom_field(config: SetCustomFieldConfig) -> Result<SetCustomField, Vec<Fault>> {
    let sources = match config.value {
        None => Vec::new(),
        Some(Values::One(value)) => vec![value],
        Some(Values::Many(values)) => values,
    };
    bounded("value", sources.len())?;
    match (config.mode, sources.is_empty()) {
        (Mode::Clear, false) => {
            return Err(vec![Fault::new("action_config.value", "mode clear takes no value; remove it")]);
        }
        (Mode::Set | Mode::Add | Mode::Remove, true) => {
            return Err(vec![Fault::new(
                "action_config.value",
                "is missing; give a template, or mode clear",
            )]);
        }
        _ => {}
    }
    let values = sources
        .iter()
        .enumerate()
        .map(|(index, source)| template(&format!("value[{index}]"), source, Escape::Text))
        .collect::<Result<_, _>>()?;
    Ok(SetCustomField { field: config.field, values, mode: config.mode })
}

#[cfg(test)]
mod tests;
