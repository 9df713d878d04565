//! Commands: the changes that a request asks for, parsed but not yet validated.

use crate::models::text::address_in;
use crate::models::transaction::Content;
use crate::models::{Role, TransactionType};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// The change that a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Creates a ticket.
    Create(CreateTicket),
    /// Changes a ticket.
    Update(UpdateTicket),
}

/// A new ticket. People are usernames or mail addresses, with or without a name (`Eve <eve@example.net>`); queue and fields are names or ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateTicket {
    /// The queue, by name or id.
    pub queue: String,
    /// The subject: one line.
    pub subject: String,
    /// The status; `None` = the lifecycle's `on_create`.
    pub status: Option<String>,
    /// The owner; `None` = Nobody.
    pub owner: Option<String>,
    /// The priority; `None` = 0.
    pub priority: Option<i32>,
    /// The due date.
    pub due_at: Option<OffsetDateTime>,
    /// The requestors.
    pub requestors: Vec<String>,
    /// People who get the same mail as the requestors.
    pub cc: Vec<String>,
    /// People who get all mail, comments included.
    pub admin_cc: Vec<String>,
    /// Values by field name or id.
    pub custom_fields: BTreeMap<String, Vec<String>>,
    /// The first message.
    pub content: Option<Content>,
}

impl CreateTicket {
    /// Returns the people of a role.
    pub fn people(&self, role: Role) -> &[String] {
        match role {
            Role::Requestor => &self.requestors,
            Role::Cc => &self.cc,
            Role::AdminCc => &self.admin_cc,
        }
    }
}

/// A change of a ticket. Members that are `None` or empty change nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateTicket {
    /// A new subject.
    pub subject: Option<String>,
    /// A new status.
    pub status: Option<String>,
    /// A new owner; `Some(None)` = Nobody.
    pub owner: Option<Option<String>>,
    /// Another queue.
    pub queue: Option<String>,
    /// A new priority.
    pub priority: Option<i32>,
    /// A new due time; `Some(None)` clears it.
    pub due_at: Option<Option<OffsetDateTime>>,
    /// People to add and remove, by role.
    pub watchers: BTreeMap<Role, Difference>,
    /// Changes of custom fields, by name or id.
    pub custom_fields: BTreeMap<String, FieldChange>,
    /// A message to the team.
    pub comment: Option<Content>,
    /// A message to the requestors.
    pub reply: Option<Content>,
}

impl UpdateTicket {
    /// Returns the types of the transactions that it may add.
    pub fn changes(&self) -> BTreeSet<TransactionType> {
        use TransactionType as Kind;
        let moves = self.queue.is_some();
        let sets = moves
            || self.subject.is_some()
            || self.owner.is_some()
            || self.priority.is_some()
            || self.due_at.is_some();
        [
            (sets, Kind::Set),
            (moves || self.status.is_some(), Kind::Status),
            (!self.watchers.is_empty(), Kind::AddWatcher),
            (!self.watchers.is_empty(), Kind::DelWatcher),
            (!self.custom_fields.is_empty(), Kind::CustomField),
            (self.comment.is_some(), Kind::Comment),
            (self.reply.is_some(), Kind::Correspond),
        ]
        .into_iter()
        .filter_map(|(is_made, kind)| is_made.then_some(kind))
        .collect()
    }
}

/// Items to add and to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Items to add.
    pub add: Vec<String>,
    /// Items to remove.
    pub remove: Vec<String>,
}

/// A change of a field's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldChange {
    /// Replaces all values; an empty list clears the field.
    Replace(Vec<String>),
    /// Adds and removes values.
    Difference(Difference),
}

impl Command {
    /// Returns every username and address in the command. Loading the situation looks them up.
    pub fn people(&self) -> Vec<&str> {
        match self {
            Self::Create(create) => Role::ALL
                .into_iter()
                .flat_map(|role| create.people(role))
                .map(|word| address_in(word))
                .chain(create.owner.as_deref())
                .collect(),
            Self::Update(update) => update
                .watchers
                .values()
                .flat_map(|difference| difference.add.iter().chain(&difference.remove))
                .map(|word| address_in(word))
                .chain(update.owner.iter().flatten().map(String::as_str))
                .collect(),
        }
    }
}
