//! The situation: everything that a plan must know of a ticket and its people, as one load brings it.

use crate::models::text::fold;
use crate::models::{Ticket, TransactionType, User, UserId};
use std::collections::HashMap;
use time::OffsetDateTime;

/// The ticket as it is, or a new one, with the people concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// What there is.
    pub ticket: Target,
    /// The users among the ticket's people and those that the command names.
    pub people: People,
    /// The first message and the newest ones, oldest first; loaded only when a template uses them.
    pub messages: Vec<PastMessage>,
}

/// What a plan is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A ticket to be. A preview draws no number.
    New {
        /// Its number.
        number: Option<i64>,
    },
    /// A ticket that is.
    Existing(Box<Ticket>),
}

/// A message of the ticket's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastMessage {
    /// Create, Correspond or Comment.
    pub transaction_type: TransactionType,
    /// Who wrote it.
    pub creator: UserId,
    /// When.
    pub created_at: OffsetDateTime,
    /// Its text, at most 64 KiB, cut with a mark.
    pub content: String,
}

/// Users by id, name and address.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct People {
    by_id: HashMap<UserId, User>,
    by_word: HashMap<String, UserId>,
}

impl People {
    /// The user of an id.
    pub fn get(&self, id: UserId) -> Option<&User> {
        self.by_id.get(&id)
    }

    /// The user of a username or an address, compared without case.
    pub fn find(&self, word: &str) -> Option<&User> {
        self.by_word.get(&fold(word)).and_then(|id| self.by_id.get(id))
    }

    /// Every user by id.
    pub fn by_id(&self) -> &HashMap<UserId, User> {
        &self.by_id
    }

    /// Every user, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.by_id.values()
    }
}

impl FromIterator<User> for People {
    fn from_iter<T: IntoIterator<Item = User>>(users: T) -> Self {
        let mut people = Self::default();
        people.extend(users);
        people
    }
}

impl Extend<User> for People {
    fn extend<T: IntoIterator<Item = User>>(&mut self, users: T) {
        for user in users {
            // A username wins over an address of the same letters, whatever the order.
            if let Some(email) = &user.email {
                self.by_word.entry(fold(email)).or_insert(user.id);
            }
            self.by_word.insert(fold(&user.username), user.id);
            self.by_id.insert(user.id, user);
        }
    }
}

impl Situation {
    /// Whether the ticket is yet to be.
    pub fn is_new(&self) -> bool {
        matches!(self.ticket, Target::New { .. })
    }
}
