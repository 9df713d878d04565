//! Tickets in memory: the complete row with its people and values, and all that their JSON contains.

use super::id::{CustomFieldId, QueueId, TicketId, UserId, WatcherId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use time::OffsetDateTime;

/// The list of its lifecycle in which a status appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusClass {
    /// Work has not started.
    Initial,
    /// Work is in progress.
    Active,
    /// Work has ended.
    Inactive,
}

impl StatusClass {
    /// The letter in the database (`"char"`): i, a or x.
    pub fn as_char(self) -> i8 {
        match self {
            Self::Initial => b'i'.cast_signed(),
            Self::Active => b'a'.cast_signed(),
            Self::Inactive => b'x'.cast_signed(),
        }
    }

    /// The class with this letter in the database.
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

    /// The class with this word, compared without case.
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

/// The role of a person on a ticket; `Cc` and `AdminCc` also on a queue.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person who asked.
    #[serde(alias = "Requestor")]
    Requestor,
    /// Gets what the requestor gets.
    #[serde(alias = "Cc")]
    Cc,
    /// Gets everything, comments included.
    #[serde(alias = "AdminCc")]
    AdminCc,
}

impl Role {
    /// Every role, in the order in which requests change them.
    pub const ALL: [Self; 3] = [Self::Requestor, Self::Cc, Self::AdminCc];

    /// The word in JSON and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requestor => "requestor",
            Self::Cc => "cc",
            Self::AdminCc => "admin_cc",
        }
    }

    /// The role with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// RT's name, which the history shows: `Requestor`, `Cc`, `AdminCc`.
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
    /// The id of the row.
    pub id: WatcherId,
    /// The user, if the person is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The mail address of a person who is not a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Watcher {
    /// Returns true if both refer to the same person.
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
    /// The number that people and mail subjects use. `None` only in the preview of a create, which draws no number.
    pub number: Option<i64>,
    /// The `seq` of its last numbered transaction; the ETag.
    pub version: i64,
    /// A single line.
    pub subject: String,
    /// The queue.
    pub queue: QueueId,
    /// A status of its queue's lifecycle.
    pub status: String,
    /// The class of the status.
    pub status_class: StatusClass,
    /// The user who works on it; `None` for Nobody.
    pub owner: Option<UserId>,
    /// The user who created it.
    pub creator: UserId,
    /// A higher number is more urgent.
    pub priority: i32,
    /// The time of its creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time of its last numbered transaction.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// The time when it first left an initial status.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// The time when it last became inactive.
    #[serde(with = "time::serde::rfc3339::option")]
    pub resolved_at: Option<OffsetDateTime>,
    /// The due date.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// The time of the last message to the requestor from somebody other than a requestor.
    #[serde(with = "time::serde::rfc3339::option")]
    pub told_at: Option<OffsetDateTime>,
    /// The people who asked.
    pub requestors: Vec<Watcher>,
    /// People who get what the requestors get.
    pub cc: Vec<Watcher>,
    /// People who get everything, comments included.
    pub admin_cc: Vec<Watcher>,
    /// The values of each field in the order in which they were added, also of fields that its queue does not show.
    pub values: BTreeMap<CustomFieldId, Vec<String>>,
}

impl Ticket {
    /// The watchers in a role.
    pub fn watchers(&self, role: Role) -> &[Watcher] {
        match role {
            Role::Requestor => &self.requestors,
            Role::Cc => &self.cc,
            Role::AdminCc => &self.admin_cc,
        }
    }

    /// The watchers in a role, mutable.
    pub fn watchers_mut(&mut self, role: Role) -> &mut Vec<Watcher> {
        match role {
            Role::Requestor => &mut self.requestors,
            Role::Cc => &mut self.cc,
            Role::AdminCc => &mut self.admin_cc,
        }
    }

    /// The users that it refers to, possibly more than once.
    pub fn people(&self) -> impl Iterator<Item = UserId> {
        let watchers = Role::ALL.into_iter().flat_map(|role| self.watchers(role));
        self.owner.into_iter().chain([self.creator]).chain(watchers.filter_map(|watcher| watcher.user))
    }

    /// The values of a field; empty if it has none.
    pub fn values_of(&self, field: CustomFieldId) -> &[String] {
        self.values.get(&field).map_or(&[], Vec::as_slice)
    }
}
