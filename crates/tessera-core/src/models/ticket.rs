//! Tickets as they are in memory: the row, the people and the values, complete; every field of its JSON is here.

use super::id::{CustomFieldId, QueueId, TicketId, UserId, WatcherId};
use super::transaction::Change;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use time::OffsetDateTime;

/// Which of the three lists of its lifecycle a status stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusClass {
    /// Nobody has begun.
    Initial,
    /// Somebody is at it.
    Active,
    /// It is over.
    Inactive,
}

impl StatusClass {
    /// The letter in the database (`"char"`): i, a, x.
    pub fn as_char(self) -> i8 {
        match self {
            Self::Initial => b'i'.cast_signed(),
            Self::Active => b'a'.cast_signed(),
            Self::Inactive => b'x'.cast_signed(),
        }
    }

    /// The class of a letter in the database.
    pub fn from_char(letter: i8) -> Option<Self> {
        match letter.cast_unsigned() {
            b'i' => Some(Self::Initial),
            b'a' => Some(Self::Active),
            b'x' => Some(Self::Inactive),
            _ => None,
        }
    }

    /// Every class, in the order of a lifecycle's lists.
    pub const ALL: [Self; 3] = [Self::Initial, Self::Active, Self::Inactive];

    /// The class of its word, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str().eq_ignore_ascii_case(word))
    }

    /// The word: `initial`, `active`, `inactive`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

impl fmt::Display for StatusClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person is to a ticket (or, for the two copied ones, to a queue).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Who asked.
    #[serde(alias = "Requestor")]
    Requestor,
    /// Who is told what the requestor is told.
    #[serde(alias = "Cc")]
    Cc,
    /// Who is told everything.
    #[serde(alias = "AdminCc")]
    AdminCc,
}

impl Role {
    /// Every role, in the order in which requests change them.
    pub const ALL: [Self; 3] = [Self::Requestor, Self::Cc, Self::AdminCc];

    /// The word in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requestor => "requestor",
            Self::Cc => "cc",
            Self::AdminCc => "admin_cc",
        }
    }

    /// The role of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// RT's name, which history shows: `Requestor`, `Cc`, `AdminCc`.
    pub fn rt_name(self) -> &'static str {
        match self {
            Self::Requestor => "Requestor",
            Self::Cc => "Cc",
            Self::AdminCc => "AdminCc",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A person watching a ticket or a queue: a user, or a bare mail address. Exactly one of `user` and `address` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watcher {
    /// The row.
    pub id: WatcherId,
    /// The user, if they are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The address of somebody who is not a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Watcher {
    /// Whether both name the same person.
    pub fn is_same_person(&self, other: &Self) -> bool {
        self.user == other.user
            && match (&self.address, &other.address) {
                (Some(mine), Some(theirs)) => super::text::fold(mine) == super::text::fold(theirs),
                (None, None) => true,
                _ => false,
            }
    }
}

/// A ticket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// What people say and mail carries. `None` only in a preview of a create, which draws no number.
    pub number: Option<i64>,
    /// The `seq` of its last numbered transaction; the ETag.
    pub version: i64,
    /// One line.
    pub subject: String,
    /// Where it is.
    pub queue: QueueId,
    /// A status of its queue's lifecycle.
    pub status: String,
    /// The list of the lifecycle in which the status stands.
    pub status_class: StatusClass,
    /// Who works on it; `None` = Nobody.
    pub owner: Option<UserId>,
    /// Who made it.
    pub creator: UserId,
    /// Larger is more urgent.
    pub priority: i32,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its last numbered transaction was made.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When it first left an initial status.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it last became inactive.
    #[serde(with = "time::serde::rfc3339::option")]
    pub resolved_at: Option<OffsetDateTime>,
    /// When it should be done.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// When somebody other than a requestor last wrote to the requestor.
    #[serde(with = "time::serde::rfc3339::option")]
    pub told_at: Option<OffsetDateTime>,
    /// Who asked.
    pub requestors: Vec<Watcher>,
    /// Who is told what the requestor is told.
    pub cc: Vec<Watcher>,
    /// Who is told everything.
    pub admin_cc: Vec<Watcher>,
    /// Values by field, in the order in which they were added; also those of fields that this queue does not show.
    pub values: BTreeMap<CustomFieldId, Vec<String>>,
}

impl Ticket {
    /// The watchers of a role.
    pub fn watchers(&self, role: Role) -> &[Watcher] {
        match role {
            Role::Requestor => &self.requestors,
            Role::Cc => &self.cc,
            Role::AdminCc => &self.admin_cc,
        }
    }

    /// The watchers of a role, to change.
    pub fn watchers_mut(&mut self, role: Role) -> &mut Vec<Watcher> {
        match role {
            Role::Requestor => &mut self.requestors,
            Role::Cc => &mut self.cc,
            Role::AdminCc => &mut self.admin_cc,
        }
    }

    /// The users that it names, some of them more than once.
    pub fn people(&self) -> impl Iterator<Item = UserId> {
        let watchers = Role::ALL.into_iter().flat_map(|role| self.watchers(role));
        self.owner.into_iter().chain([self.creator]).chain(watchers.filter_map(|watcher| watcher.user))
    }

    /// The values of a field; empty where there are none.
    pub fn values_of(&self, field: CustomFieldId) -> &[String] {
        self.values.get(&field).map_or(&[], Vec::as_slice)
    }

    /// Makes one change. `prepare` changes a ticket only through this, and folding a history calls it again (I2).
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(whole) | Change::Import(whole) => *self = (**whole).clone(),
            Change::Status { new, class, .. } => {
                self.status.clone_from(new);
                self.status_class = *class;
            }
            Change::StatusClass { new, .. } => self.status_class = *new,
            Change::Subject { new, .. } => self.subject.clone_from(new),
            Change::Owner { new, .. } => self.owner = *new,
            Change::Queue { new, .. } => self.queue = *new,
            Change::Priority { new, .. } => self.priority = *new,
            Change::Due { new, .. } => self.due_at = *new,
            Change::Started { new, .. } => self.started_at = *new,
            Change::Resolved { new, .. } => self.resolved_at = *new,
            Change::Told { new, .. } => self.told_at = *new,
            Change::AddWatcher { role, watcher } => self.watchers_mut(*role).push(watcher.clone()),
            Change::DelWatcher { role, watcher } => self.watchers_mut(*role).retain(|w| w.id != watcher.id),
            Change::CustomField { field, removed, added } => {
                let values = self.values.entry(*field).or_default();
                if let Some(gone) = removed {
                    values.retain(|value| value != gone);
                }
                values.extend(added.iter().cloned());
                if values.is_empty() {
                    self.values.remove(field);
                }
            }
            Change::Correspond
            | Change::Comment
            | Change::SystemError { .. }
            | Change::Outcome(_)
            | Change::Imported => {}
        }
    }
}
