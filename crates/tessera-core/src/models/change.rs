//! Changes: the `data` of transactions. A ticket is the fold of its changes, and only applying one alters a ticket (I2).

use super::id::{CustomFieldId, DeliveryId, LifecycleVersionId, QueueId, UserId};
use super::ticket::{Role, StatusClass, Ticket, Watcher};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// An exact and complete change, stored as the `data` of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The whole initial state.
    Create(Box<Ticket>),
    /// The status, by a transition of the lifecycle or by the status map of a queue move.
    Status {
        /// The old value.
        old: String,
        /// The new value.
        new: String,
        /// The class of the old status.
        old_class: StatusClass,
        /// The class of the new status.
        class: StatusClass,
        /// The lifecycle version that allowed it.
        lifecycle_version: LifecycleVersionId,
        /// True if the status map of a queue move changed it, not a transition.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mapped: bool,
    },
    /// An edit of the lifecycle moved the status to another list.
    StatusClass {
        /// The old value.
        old: StatusClass,
        /// The new value.
        new: StatusClass,
    },
    /// The subject.
    Subject {
        /// The old value.
        old: String,
        /// The new value.
        new: String,
    },
    /// The owner; `null` is Nobody.
    Owner {
        /// The old value.
        old: Option<UserId>,
        /// The new value.
        new: Option<UserId>,
    },
    /// The queue.
    Queue {
        /// The old value.
        old: QueueId,
        /// The new value.
        new: QueueId,
    },
    /// The priority.
    Priority {
        /// The old value.
        old: i32,
        /// The new value.
        new: i32,
    },
    /// The due date.
    Due {
        /// The old value.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// The new value.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// The time when it first left an initial status.
    Started {
        /// The old value.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// The new value.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// The time when it last became inactive.
    Resolved {
        /// The old value.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// The new value.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// The time of the last message to the requestor.
    Told {
        /// The old value.
        #[serde(with = "time::serde::rfc3339::option")]
        old: Option<OffsetDateTime>,
        /// The new value.
        #[serde(with = "time::serde::rfc3339::option")]
        new: Option<OffsetDateTime>,
    },
    /// A person was added to a role.
    AddWatcher {
        /// The role.
        role: Role,
        /// The person.
        watcher: Watcher,
    },
    /// A person was removed from a role.
    DelWatcher {
        /// The role.
        role: Role,
        /// The person.
        watcher: Watcher,
    },
    /// One value of a custom field was removed, added or replaced.
    CustomField {
        /// The field.
        field: CustomFieldId,
        /// The old value, if one was removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed: Option<String>,
        /// The new value, if one was added.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        added: Option<String>,
    },
    /// A message to the requestor; its text is the transaction's content.
    Correspond,
    /// A message to the team; its text is the transaction's content.
    Comment,
    /// Automation failed to do something; the transaction's `new_value` describes it in a sentence.
    SystemError {
        /// The verdict or budget that caused it: `failed`, `refused` or `stopped`.
        reason: String,
    },
    /// A delivery ended: `EmailRecord`, `CommentEmailRecord`, `WebhookDelivery`, `ConnectorDelivery` or `DeliveryFailed`.
    Outcome(Outcome),
    /// An imported line of history: its type, field, values and content are as given, and it changes nothing.
    Imported,
    /// The whole state of an imported ticket; the history is folded from here on.
    Import(Box<Ticket>),
}

/// The end of a delivery, as its ticket's history records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its kind: `email`, `webhook`, or a connector's.
    pub kind: String,
    /// The receiver's response, or the reason for giving up; contains no secrets and at most 500 characters.
    pub answer: String,
    /// The number of attempts.
    pub attempts: i32,
    /// Mail addresses, or the URL without its query. For a mail that was delivered, only the recipients that accepted it.
    pub to: Vec<String>,
    /// Recipients that a delivered mail did not reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<String>,
    /// The reason for a `DeliveryFailed`: `permanent`, `exhausted` or `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Ticket {
    /// Applies one change. Planning changes a ticket only through this function, and [`Ticket::fold`] calls it again (I2).
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

    /// Folds a history into the ticket that it describes (I2). Returns `None` unless the history begins with a Create, or with
    /// an Import that only imported lines precede.
    ///
    /// `history` holds the change, `seq` and time of each numbered transaction, in order of `seq`.
    pub fn fold<'a>(history: impl IntoIterator<Item = (&'a Change, i64, OffsetDateTime)>) -> Option<Self> {
        let mut fold = Fold::default();
        history.into_iter().for_each(|(change, seq, at)| fold.add(change, seq, at));
        fold.ticket()
    }
}

/// A fold in progress, for a history that is read as a stream: [`Ticket::fold`].
#[derive(Debug, Default)]
pub struct Fold {
    ticket: Option<Ticket>,
    is_broken: bool,
}

impl Fold {
    /// Adds the next numbered transaction.
    pub fn add(&mut self, change: &Change, seq: i64, at: OffsetDateTime) {
        match (change, &mut self.ticket) {
            (Change::Create(whole) | Change::Import(whole), None) => {
                self.ticket = Some(Ticket { version: seq, ..(**whole).clone() });
            }
            (Change::Imported, None) => {}
            (_, None) => self.is_broken = true,
            (change, Some(ticket)) => {
                ticket.apply(change);
                ticket.version = seq;
                ticket.updated_at = at;
            }
        }
    }

    /// Returns the ticket that the history describes; `None` as for [`Ticket::fold`].
    pub fn ticket(self) -> Option<Ticket> {
        self.ticket.filter(|_| !self.is_broken)
    }
}
