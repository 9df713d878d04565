//! Queues: groups of tickets with their own lifecycle, addresses, people and custom fields.

use super::id::{CustomFieldId, LifecycleId, QueueId};
use super::ticket::Watcher;

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// Unique, compared without case.
    pub name: String,
    /// A description for people.
    pub description: Option<String>,
    /// The lifecycle of its tickets.
    pub lifecycle: LifecycleId,
    /// The `From` address of replies; no mail is sent to it.
    pub correspond_address: Option<String>,
    /// The `From` address of comments; no mail is sent to it.
    pub comment_address: Option<String>,
    /// People who get a copy of the mail to the requestor.
    pub cc: Vec<Watcher>,
    /// People who get a copy of everything, comments included.
    pub admin_cc: Vec<Watcher>,
    /// The custom fields of its tickets in order, global ones included.
    pub custom_fields: Vec<CustomFieldId>,
    /// True if it accepts no new tickets.
    pub disabled: bool,
}
