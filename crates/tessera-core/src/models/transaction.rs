//! Transactions: the lines of a ticket's history. "Transaction" always means this, never the database's.

use super::id::{
    CustomFieldId, DeliveryId, LifecycleVersionId, QueueId, RequestId, ScripVersionId, TicketId,
    TransactionId, UserId,
};
use super::ticket::{Role, StatusClass, Ticket, Watcher};
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

/// The kind of a transaction, by RT's names.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum TransactionType {
    /// The ticket was made.
    Create,
    /// Its status changed.
    #[serde(alias = "StatusChange")]
    Status,
    /// Another column changed; `field` names it.
    Set,
    /// Somebody wrote to the requestor.
    #[serde(alias = "Reply")]
    Correspond,
    /// Somebody wrote to the team.
    Comment,
    /// A custom field changed; `field` names it.
    CustomField,
    /// A person got a role.
    AddWatcher,
    /// A person lost a role.
    DelWatcher,
    /// A mail was accepted by the mail server.
    EmailRecord,
    /// The same, of a mail sent as a comment.
    CommentEmailRecord,
    /// A webhook was accepted.
    WebhookDelivery,
    /// A connector delivered; `data.kind` says what.
    ConnectorDelivery,
    /// A delivery was given up.
    DeliveryFailed,
    /// Automation could not do something.
    SystemError,
    /// The ticket came from elsewhere, as it is from here on; what stands before it is told, not proved.
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

    /// The type of a name; the original design's `StatusChange` is `Status`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "StatusChange" => Some(Self::Status),
            _ => Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name)),
        }
    }

    /// Whether it starts a pass of scrips. The closed list of those that do not is what ends loops.
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

/// What a transaction changed, exactly and complete: this is its `data`. Applying it is the only way a ticket changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The whole first state.
    Create(Box<Ticket>),
    /// Along an edge of a lifecycle, or by the map of a queue move.
    Status {
        /// From.
        old: String,
        /// To.
        new: String,
        /// The class of the old status.
        old_class: StatusClass,
        /// The class of the new status.
        class: StatusClass,
        /// The version of the lifecycle that allowed it.
        lifecycle_version: LifecycleVersionId,
        /// Whether the map of a queue move did it, rather than a transition.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mapped: bool,
    },
    /// An edit of the lifecycle moved the status to another of its lists.
    StatusClass {
        /// From.
        old: StatusClass,
        /// To.
        new: StatusClass,
    },
    /// The subject.
    Subject {
        /// From.
        old: String,
        /// To.
        new: String,
    },
    /// The owner; `null` is Nobody.
    Owner {
        /// From.
        old: Option<UserId>,
        /// To.
        new: Option<UserId>,
    },
    /// The queue.
    Queue {
        /// From.
        old: QueueId,
        /// To.
        new: QueueId,
    },
    /// The priority.
    Priority {
        /// From.
        old: i32,
        /// To.
        new: i32,
    },
    /// When it should be done.
    Due {
        /// From.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// To.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// When it first left an initial status.
    Started {
        /// From.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// To.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// When it last became inactive.
    Resolved {
        /// From.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// To.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// When the requestor was last written to.
    Told {
        /// From.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// To.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// A person got a role.
    AddWatcher {
        /// The role.
        role: Role,
        /// Who.
        watcher: Watcher,
    },
    /// A person lost a role.
    DelWatcher {
        /// The role.
        role: Role,
        /// Who.
        watcher: Watcher,
    },
    /// One value of a custom field left, came, or gave way to another.
    CustomField {
        /// The field.
        field: CustomFieldId,
        /// The value that left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed: Option<String>,
        /// The value that came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        added: Option<String>,
    },
    /// A message to the requestor; its text is the transaction's content.
    Correspond,
    /// A message to the team; its text is the transaction's content.
    Comment,
    /// Automation could not do something; `new_value` says what in a sentence.
    SystemError {
        /// The verdict or budget behind it: `failed`, `refused`, `stopped`.
        reason: String,
    },
    /// What became of a delivery (`EmailRecord` and its kin).
    Outcome(Outcome),
    /// A line of a history that was kept elsewhere: its type, field, values and content are as given, and it changes nothing.
    Imported,
    /// The whole state of a ticket that was kept elsewhere; a history is folded from here on.
    Import(Box<Ticket>),
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its kind: `email`, `webhook`, or a connector's.
    pub kind: String,
    /// What the receiver answered, or why it was given up; no secrets, at most 500 characters.
    pub answer: String,
    /// How many attempts it took.
    pub attempts: i32,
    /// Mail addresses, or the URL without its query; of a mail that arrived, those that took it.
    pub to: Vec<String>,
    /// Addresses that a mail which arrived did not reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<String>,
    /// Why it failed, for `DeliveryFailed`: `permanent`, `exhausted`, `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The text of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// `text/plain` or `text/html`.
    pub content_type: String,
    /// The text.
    pub body: String,
}

impl Content {
    /// A message of the type that somebody said, or of plain text.
    ///
    /// # Errors
    /// The type is none of the two; what to say of it.
    pub fn of_type(content_type: Option<String>, body: String) -> Result<Self, String> {
        let content_type = content_type.unwrap_or_else(|| "text/plain".to_owned());
        if !matches!(content_type.as_str(), "text/plain" | "text/html") {
            return Err(format!("\"{content_type}\" is not understood; text/plain and text/html are"));
        }
        Ok(Self { content_type, body })
    }
}

/// A line of a ticket's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its id.
    pub id: TransactionId,
    /// The ticket.
    pub ticket: TicketId,
    /// Its place in the ticket's history, from 1 without gaps; `None` for outcomes of deliveries.
    pub seq: Option<i64>,
    /// The kind.
    pub transaction_type: TransactionType,
    /// The column or custom field that changed, by name.
    pub field: Option<String>,
    /// The readable old value.
    pub old_value: Option<String>,
    /// The readable new value.
    pub new_value: Option<String>,
    /// The exact change.
    pub change: Change,
    /// The message, for Create, Correspond and Comment.
    pub content: Option<Content>,
    /// Who made it; the system user where a scrip did.
    pub creator: UserId,
    /// When.
    pub created_at: OffsetDateTime,
    /// Followed from another change of the request by a rule of tickets (Started, Resolved, Told); starts no pass.
    pub derived: bool,
    /// The transaction whose scrip made this one.
    pub caused_by: Option<TransactionId>,
    /// The version of the scrip that made it.
    pub scrip_version: Option<ScripVersionId>,
    /// The request it belongs to.
    pub request: RequestId,
    /// Its place within the request, from 1.
    pub batch_seq: i32,
}

impl Transaction {
    /// Whether scrips are tried on it: outcomes of deliveries, what follows by a rule of tickets and what was imported start
    /// no pass.
    pub fn starts_pass(&self) -> bool {
        self.transaction_type.is_activating() && !self.derived && self.change != Change::Imported
    }
}
