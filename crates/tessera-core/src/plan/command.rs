//! Commands: what a request asks for, parsed and not yet believed.

use crate::models::Role;
use crate::models::transaction::Content;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A new ticket.
    Create(CreateTicket),
    /// A change of a ticket.
    Update(UpdateTicket),
}

/// A new ticket. People are usernames or mail addresses; queue and fields are names or ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateTicket {
    /// Where.
    pub queue: String,
    /// One line.
    pub subject: String,
    /// `None` = the lifecycle's `on_create`.
    pub status: Option<String>,
    /// `None` = Nobody.
    pub owner: Option<String>,
    /// `None` = 0.
    pub priority: Option<i32>,
    /// When it should be done.
    pub due_at: Option<OffsetDateTime>,
    /// Who asks.
    pub requestors: Vec<String>,
    /// Who is told what the requestor is told.
    pub cc: Vec<String>,
    /// Who is told everything.
    pub admin_cc: Vec<String>,
    /// Values by field.
    pub custom_fields: BTreeMap<String, Vec<String>>,
    /// The first message.
    pub content: Option<Content>,
}

impl CreateTicket {
    /// The people of a role.
    pub fn people(&self, role: Role) -> &[String] {
        match role {
            Role::Requestor => &self.requestors,
            Role::Cc => &self.cc,
            Role::AdminCc => &self.admin_cc,
        }
    }
}

/// A change of a ticket; what is `None` or empty stays as it is.
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
    /// Who comes and goes, by role.
    pub watchers: BTreeMap<Role, Difference>,
    /// What changes, by field.
    pub custom_fields: BTreeMap<String, FieldChange>,
    /// A message to the team.
    pub comment: Option<Content>,
    /// A message to the requestor.
    pub reply: Option<Content>,
}

/// What comes and what goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// What comes.
    pub add: Vec<String>,
    /// What goes.
    pub remove: Vec<String>,
}

/// A change of a field's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldChange {
    /// These and no others; none clears the field.
    Replace(Vec<String>),
    /// Some more, some fewer.
    Difference(Difference),
}

impl Command {
    /// Every username or address that the command names: the load looks them up.
    pub fn people(&self) -> Vec<&str> {
        match self {
            Self::Create(create) => Role::ALL
                .into_iter()
                .flat_map(|role| create.people(role))
                .chain(&create.owner)
                .map(String::as_str)
                .collect(),
            Self::Update(update) => update
                .watchers
                .values()
                .flat_map(|difference| difference.add.iter().chain(&difference.remove))
                .chain(update.owner.iter().flatten())
                .map(String::as_str)
                .collect(),
        }
    }
}
