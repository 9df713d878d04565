//! The situation: the ticket and its people, as loaded for a plan in one query.

use crate::models::text::fold;
use crate::models::{Ticket, TransactionType, User, UserId};
use std::collections::HashMap;
use time::OffsetDateTime;

/// The current ticket or a new one, with the people concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// The ticket.
    pub ticket: Target,
    /// The users among the ticket's people, and those that the command names.
    pub people: People,
    /// The first message and the newest ones, oldest first; loaded only when a template uses them.
    pub messages: Vec<PastMessage>,
}

/// The ticket that a plan changes or creates.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A new ticket.
    New {
        /// Its number; `None` in a preview, which draws none.
        number: Option<i64>,
    },
    /// An existing ticket.
    Existing(Box<Ticket>),
}

/// A past message of the ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastMessage {
    /// Create, Correspond or Comment.
    pub transaction_type: TransactionType,
    /// The author.
    pub creator: UserId,
    /// The time at which it was written.
    pub created_at: OffsetDateTime,
    /// The text, or its beginning.
    pub content: String,
    /// Whether the text goes on.
    pub is_cut: bool,
}

/// Users by id, username and address.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct People {
    by_id: HashMap<UserId, User>,
    by_name: HashMap<String, UserId>,
    by_address: HashMap<String, UserId>,
}

impl People {
    /// Returns the user with an id.
    pub fn get(&self, id: UserId) -> Option<&User> {
        self.by_id.get(&id)
    }

    /// Returns the user with a username or else an address, ignoring case.
    pub fn find(&self, word: &str) -> Option<&User> {
        let word = fold(word);
        let id = self.by_name.get(&word).or_else(|| self.by_address.get(&word));
        id.and_then(|id| self.by_id.get(id))
    }

    /// Returns the user with a username, ignoring case.
    pub fn called(&self, username: &str) -> Option<&User> {
        self.by_name.get(&fold(username)).and_then(|id| self.by_id.get(id))
    }

    /// Returns the user with an address, ignoring case.
    pub fn at(&self, address: &str) -> Option<&User> {
        self.by_address.get(&fold(address)).and_then(|id| self.by_id.get(id))
    }

    /// Returns every user by id.
    pub fn by_id(&self) -> &HashMap<UserId, User> {
        &self.by_id
    }

    /// Returns every user, in no particular order.
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
            if let Some(email) = &user.email {
                self.by_address.entry(fold(email)).or_insert(user.id);
            }
            self.by_name.insert(fold(&user.username), user.id);
            self.by_id.insert(user.id, user);
        }
    }
}

impl Situation {
    /// Whether the ticket is being created.
    pub fn is_new(&self) -> bool {
        matches!(self.ticket, Target::New { .. })
    }
}
