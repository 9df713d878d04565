//! Intents: the effect of an action with its words rendered, before it is carried out.

use super::draft::{Cause, Draft};
use crate::error::Result;
use crate::models::DeliveryId;
use crate::models::delivery::{Custom, Email, Webhook};
use serde_json::{Value, json};

/// The effect of an action, unless the commit phase finds that it is not allowed or changes nothing.
pub(super) enum Intent<'a> {
    /// Creates a delivery. The value is its canonical form, for the hash.
    Send(Message, Value),
    /// Changes the ticket.
    Change(TicketChange<'a>),
}

/// The message of a delivery.
pub(super) enum Message {
    Email(Box<Mail>),
    Webhook(Box<Webhook>),
    Connector(Box<Custom>),
}

/// A mail, and its subject without the ticket's number, which the hash of a create must not contain.
#[derive(Debug)]
pub(super) struct Mail {
    pub email: Email,
    pub bare_subject: String,
    /// The ticket's number, or its placeholder.
    pub number: String,
}

/// A change of the ticket by an operation that requests use as well.
pub(super) struct TicketChange<'a> {
    /// The change as a preview shows it for a scrip on trial.
    pub would: Value,
    /// Carries it out; `false` if the value is already set.
    pub carry_out: Operation<'a>,
}

/// An operation of the draft with its arguments.
type Operation<'a> = Box<dyn FnOnce(&mut Draft<'_>, Cause) -> Result<bool> + 'a>;

impl<'a> Intent<'a> {
    pub fn change(would: Value, carry_out: impl FnOnce(&mut Draft<'_>, Cause) -> Result<bool> + 'a) -> Self {
        Self::Change(TicketChange { would, carry_out: Box::new(carry_out) })
    }

    /// The effect as a preview shows it for a scrip on trial.
    pub fn would(self) -> Value {
        match self {
            Self::Send(Message::Email(mail), _) => json!({ "kind": "email", "email": mail.email }),
            Self::Send(Message::Webhook(webhook), _) => {
                json!({ "kind": "webhook", "method": webhook.method, "url": webhook.url, "headers": webhook.headers, "body": webhook.body })
            }
            Self::Send(Message::Connector(custom), _) => {
                json!({ "kind": "connector", "connector": custom.connector, "json": custom.json })
            }
            Self::Change(change) => change.would,
        }
    }
}

impl Mail {
    /// Returns the mail with its Message-ID, which consists of ticket, delivery and installation, and is the same at every
    /// attempt.
    pub fn identified(mut self, id: DeliveryId, installation: &str) -> Email {
        let message_id = format!("<ticket-{}.{id}@{}>", self.number, host_part(installation));
        self.email.headers.insert("Message-ID".to_owned(), message_id);
        self.email
    }
}

/// A name as the right side of a Message-ID.
pub(super) fn host_part(name: &str) -> String {
    let safe: String =
        name.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c.to_ascii_lowercase() } else { '-' }
            })
            .collect();
    let safe = safe.trim_matches(['.', '-']);
    if safe.is_empty() { "tessera".to_owned() } else { safe.to_owned() }
}
