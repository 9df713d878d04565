//! Queues: where tickets live, with a lifecycle, addresses and people of their own.

use super::id::{CustomFieldId, LifecycleId, QueueId};
use super::ticket::Watcher;

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// Unique, compared without case.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The lifecycle of its tickets.
    pub lifecycle: LifecycleId,
    /// `From` of replies; mail never goes to it.
    pub correspond_address: Option<String>,
    /// `From` of comments; mail never goes to it.
    pub comment_address: Option<String>,
    /// Copied on what the requestor gets.
    pub cc: Vec<Watcher>,
    /// Copied on everything, comments too.
    pub admin_cc: Vec<Watcher>,
    /// The custom fields of its tickets, in order (global ones included).
    pub custom_fields: Vec<CustomFieldId>,
    /// A disabled queue takes no new tickets.
    pub disabled: bool,
}
