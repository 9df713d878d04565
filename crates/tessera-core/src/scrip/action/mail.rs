//! The action `SendEmail`: the people that a mail is addressed to. Its words are those of the scrip's template.

use super::read::{bounded, template};
use crate::error::Fault;
use crate::models::Role;
use crate::models::text::is_address;
use crate::scrip::template::{Compiled, Mode as Escape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration of `SendEmail`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendEmailConfig {
    /// Roles (`requestor`, `owner`, `cc`, `admin_cc`, `queue_cc`, `queue_admin_cc`, `creator`), addresses, or templates
    /// that render to addresses separated by commas.
    #[serde(default)]
    pub to: Vec<String>,
    /// Recipients in Cc, in the same form.
    #[serde(default)]
    pub cc: Vec<String>,
    /// Recipients in Bcc, in the same form.
    #[serde(default)]
    pub bcc: Vec<String>,
    /// Whether the person who made the change can be a recipient. RT: `$NotifyActor`.
    #[serde(default)]
    pub notify_actor: bool,
    /// Sends from the queue's comment address, and records the mail as `CommentEmailRecord`. RT: `NotifyAsComment`.
    #[serde(default)]
    pub as_comment: bool,
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

/// The header that an address is listed in.
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

/// An entry of a list of recipients.
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
    /// The ticket's owner.
    Owner,
    /// The ticket's creator.
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

    /// The word in configuration and responses.
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

impl SendEmail {
    pub(super) fn compile(config: SendEmailConfig) -> Result<Self, Vec<Fault>> {
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
                "is empty, as are cc and bcc; give at least one role or address",
            )]);
        }
        Ok(Self { lists, notify_actor: config.notify_actor, as_comment: config.as_comment })
    }

    /// Returns the templates among the recipients.
    pub(super) fn texts(&self) -> Vec<&Compiled> {
        let addressees = self.lists.iter().flat_map(|(_, list)| list);
        addressees
            .filter_map(|addressee| match addressee {
                Addressee::Template(text) => Some(text.as_ref()),
                Addressee::Role(_) | Addressee::Address(_) => None,
            })
            .collect()
    }
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
