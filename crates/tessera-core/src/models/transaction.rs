//! Transactions: the entries of a ticket's history. "Transaction" always means this; the other kind is a "database transaction".

use super::change::Change;
use super::html;
use super::id::{RequestId, ScripVersionId, TicketId, TransactionId, UserId};
use super::text::{self, CONTENT_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, OnceLock};
use time::OffsetDateTime;

/// The type of a transaction, with RT's names.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum TransactionType {
    /// The ticket was created.
    Create,
    /// Its status changed.
    #[serde(alias = "StatusChange")]
    Status,
    /// Another column changed; `field` names it.
    Set,
    /// A message to the requestor.
    #[serde(alias = "Reply")]
    Correspond,
    /// A message to the team.
    Comment,
    /// A custom field changed; `field` names it.
    CustomField,
    /// A person was added to a role.
    AddWatcher,
    /// A person was removed from a role.
    DelWatcher,
    /// The mail server accepted an email.
    EmailRecord,
    /// The mail server accepted an email that was sent as a comment.
    CommentEmailRecord,
    /// The receiver accepted a webhook.
    WebhookDelivery,
    /// A connector delivered a message; `data.kind` is its kind.
    ConnectorDelivery,
    /// A delivery was given up.
    DeliveryFailed,
    /// Automation failed to do something.
    SystemError,
    /// The ticket was imported in this state. The entries before it are as the import gave them, and changed nothing.
    Import,
}

impl TransactionType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Create,
        Self::Status,
        Self::Set,
        Self::Correspond,
        Self::Comment,
        Self::CustomField,
        Self::AddWatcher,
        Self::DelWatcher,
        Self::EmailRecord,
        Self::CommentEmailRecord,
        Self::WebhookDelivery,
        Self::ConnectorDelivery,
        Self::DeliveryFailed,
        Self::SystemError,
        Self::Import,
    ];

    /// The name in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Status => "Status",
            Self::Set => "Set",
            Self::Correspond => "Correspond",
            Self::Comment => "Comment",
            Self::CustomField => "CustomField",
            Self::AddWatcher => "AddWatcher",
            Self::DelWatcher => "DelWatcher",
            Self::EmailRecord => "EmailRecord",
            Self::CommentEmailRecord => "CommentEmailRecord",
            Self::WebhookDelivery => "WebhookDelivery",
            Self::ConnectorDelivery => "ConnectorDelivery",
            Self::DeliveryFailed => "DeliveryFailed",
            Self::SystemError => "SystemError",
            Self::Import => "Import",
        }
    }

    /// The type with this name, compared without case; `StatusChange` is an alias of `Status`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "StatusChange" => Some(Self::Status),
            _ => Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name)),
        }
    }

    /// Returns true if it starts a pass of scrips. The results of deliveries and of automation do not, which prevents loops.
    pub fn is_activating(self) -> bool {
        !matches!(
            self,
            Self::EmailRecord
                | Self::CommentEmailRecord
                | Self::WebhookDelivery
                | Self::ConnectorDelivery
                | Self::DeliveryFailed
                | Self::SystemError
                | Self::Import
        )
    }
}

impl fmt::Display for TransactionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message: its text, and the HTML that it was sent as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The type that the message was sent as: `text/plain` or `text/html`.
    pub content_type: String,
    /// The text, also of HTML: what people search and read in plain mails, and what conditions test.
    pub body: String,
    /// The HTML as it was sent, not cleaned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[serde(skip)]
    cleaned: Cleaned,
}

/// The cleaned HTML of a message, made at the first use. Clones share it, and it says nothing that the HTML does not.
#[derive(Debug, Clone, Default)]
struct Cleaned(Arc<OnceLock<Option<String>>>);

impl PartialEq for Cleaned {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Cleaned {}

impl Content {
    /// A message of plain text.
    pub fn plain(body: String) -> Self {
        Self { content_type: PLAIN.to_owned(), body, html: None, cleaned: Cleaned::default() }
    }

    /// A message of HTML. Its text is made here, once.
    pub fn html(source: String) -> Self {
        let body = html::to_text(&source);
        Self { content_type: HTML.to_owned(), body, html: Some(source), cleaned: Cleaned::default() }
    }

    /// Creates a message of this type, or of plain text.
    ///
    /// # Errors
    /// A message if the type is neither `text/plain` nor `text/html`.
    pub fn of_type(content_type: Option<String>, sent: String) -> Result<Self, String> {
        match content_type.as_deref() {
            None | Some(PLAIN) => Ok(Self::plain(sent)),
            Some(HTML) => Ok(Self::html(sent)),
            Some(other) => Err(format!("\"{other}\" is not supported; use text/plain or text/html")),
        }
    }

    /// A message as it is stored, without its HTML. Versions before the column `html` stored the HTML as the text; `is_markup`
    /// marks such a row.
    pub fn stored(content_type: String, body: String, is_markup: bool) -> Self {
        let body = if is_markup { html::to_text(&body) } else { body };
        Self { content_type, body, html: None, cleaned: Cleaned::default() }
    }

    /// Returns the HTML as [`html::clean`] cleans it; `None` for a plain message, and for HTML that exceeds a limit.
    pub fn cleaned_html(&self) -> Option<&str> {
        self.cleaned.0.get_or_init(|| self.html.as_deref().and_then(html::clean)).as_deref()
    }

    /// Returns the steps ([`crate::models::steps`]) that [`Self::cleaned_html`] takes now: none if it was called before.
    pub fn cleaning(&self) -> u64 {
        /// The steps for cleaning a byte.
        const BYTE: u64 = 3;
        match (self.cleaned.0.get(), &self.html) {
            (None, Some(html)) => BYTE * html.len() as u64,
            _ => 0,
        }
    }

    /// Returns the reason why the message cannot be stored, if there is one: its size, or a character.
    pub fn fault(&self) -> Option<String> {
        text::fault(self.html.as_deref().unwrap_or(&self.body), CONTENT_MAX)
    }
}

const PLAIN: &str = "text/plain";
const HTML: &str = "text/html";

/// An entry of a ticket's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its id.
    pub id: TransactionId,
    /// The ticket.
    pub ticket: TicketId,
    /// Its number in the ticket's history, from 1 without gaps; `None` for outcomes of deliveries.
    pub seq: Option<i64>,
    /// The type.
    pub transaction_type: TransactionType,
    /// The column or custom field that changed, by name.
    pub field: Option<String>,
    /// The readable old value.
    pub old_value: Option<String>,
    /// The readable new value.
    pub new_value: Option<String>,
    /// The exact change.
    pub change: Change,
    /// The message, for `Create`, `Correspond` and `Comment`.
    pub content: Option<Content>,
    /// The user who made the change; the system user for a change by a scrip.
    pub creator: UserId,
    /// The time of the change.
    pub created_at: OffsetDateTime,
    /// True if a rule of tickets derived it from another change of the request (Started, Resolved, Told); it starts no pass.
    pub derived: bool,
    /// The transaction on which the scrip fired that made this change.
    pub caused_by: Option<TransactionId>,
    /// The version of that scrip.
    pub scrip_version: Option<ScripVersionId>,
    /// The request that it belongs to.
    pub request: RequestId,
    /// Its number within the request, from 1.
    pub batch_seq: i32,
}

impl Transaction {
    /// Returns true if it starts a pass of scrips: outcomes of deliveries, derived changes and imported entries do not.
    pub fn starts_pass(&self) -> bool {
        self.transaction_type.is_activating() && !self.derived && self.change != Change::Imported
    }
}
