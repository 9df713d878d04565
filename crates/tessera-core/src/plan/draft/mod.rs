//! The draft: the ticket while a plan is being prepared. Requests and scrips change it through the same checked operations.
//!
//! An operation adds its transactions and returns `true`. If the value is already set it returns `false` and adds none; if it
//! is not allowed it returns an error and changes nothing.

mod columns;
mod fields;
mod lifecycle;
mod people;

pub(super) use columns::{check_subject, checked_due};
pub(super) use fields::wanted_values;
pub(super) use people::{WATCHERS_MAX, role_field};

use super::{Catalog, Context, Situation};
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::models::text;
use crate::models::transaction::Content;
use crate::models::user::{NOBODY, SYSTEM_USER};
use crate::models::{
    Change, Ids, Queue, QueueId, ScripVersionId, Ticket, Transaction, TransactionId, TransactionType, User,
    UserId, Watcher,
};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The cause of a change: the request itself, or a scrip that ran on a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cause {
    pub transaction: Option<TransactionId>,
    pub scrip: Option<ScripVersionId>,
    pub depth: u32,
}

impl Cause {
    pub const REQUEST: Self = Self { transaction: None, scrip: None, depth: 0 };

    fn is_request(self) -> bool {
        self.scrip.is_none()
    }
}

/// The ticket while a plan is being prepared.
#[derive(Debug, Clone)]
pub(super) struct Draft<'a> {
    pub catalog: &'a Catalog,
    pub situation: &'a Situation,
    pub context: &'a Context,
    pub ids: Ids,
    pub ticket: Ticket,
    pub transactions: Vec<Transaction>,
    /// The depth of each transaction in the cascade.
    pub depths: Vec<u32>,
}

/// The members of a transaction that are read by people.
#[derive(Default)]
struct Line {
    field: Option<String>,
    old: Option<String>,
    new: Option<String>,
    content: Option<Content>,
    derived: bool,
}

impl<'a> Draft<'a> {
    pub fn new(
        catalog: &'a Catalog,
        situation: &'a Situation,
        context: &'a Context,
        ids: Ids,
        ticket: Ticket,
    ) -> Self {
        Self { catalog, situation, context, ids, ticket, transactions: Vec::new(), depths: Vec::new() }
    }

    pub fn queue_now(&self) -> Result<&'a Arc<Queue>> {
        self.queue_of(self.ticket.queue)
    }

    fn queue_of(&self, id: QueueId) -> Result<&'a Arc<Queue>> {
        self.catalog.queues.get(id).ok_or_else(|| broken(format!("queue {id} of the ticket")))
    }

    fn lifecycle_of(&self, queue: &Queue) -> Result<&'a Arc<Lifecycle>> {
        self.catalog
            .lifecycles
            .get(queue.lifecycle)
            .ok_or_else(|| broken(format!("lifecycle of queue {}", queue.name)))
    }

    pub fn user(&self, id: UserId) -> Option<&'a User> {
        let agent = || self.catalog.agents.get(id).map(AsRef::as_ref);
        let actor = || Some(&self.context.actor).filter(|actor| actor.id == id);
        self.situation.people.get(id).or_else(agent).or_else(actor)
    }

    fn username(&self, id: Option<UserId>) -> String {
        id.map_or_else(
            || NOBODY.to_owned(),
            |id| self.user(id).map_or_else(|| id.to_string(), |user| user.username.clone()),
        )
    }

    /// The name of a watcher in the history: the username, else the address.
    fn watcher_name(&self, watcher: &Watcher) -> String {
        match (&watcher.user, &watcher.address) {
            (Some(id), _) => self.username(Some(*id)),
            (None, address) => address.clone().unwrap_or_default(),
        }
    }

    /// The address of a watcher; `None` for a user without one, or a disabled user.
    pub fn watcher_address(&self, watcher: &Watcher) -> Option<String> {
        match watcher.user {
            Some(id) => self.user(id).filter(|user| !user.disabled).and_then(|user| user.email.clone()),
            None => watcher.address.clone(),
        }
    }

    fn demand(&self, right: &str, queue: QueueId, cause: Cause) -> Result<()> {
        // Scrips act for the configuration, not for the person, so their effects need no rights.
        if !cause.is_request() || self.context.access.has(right, queue) {
            return Ok(());
        }
        let queue = self.queue_of(queue)?;
        let detail = format!("You need {right} in {} to do this. Ask an administrator.", queue.name);
        Err(Error::new(Code::PermissionDenied, detail).with_allowed(Vec::new()))
    }

    pub fn message(&mut self, kind: TransactionType, content: Content, cause: Cause) -> Result<bool> {
        let (right, place, change) = match kind {
            TransactionType::Comment => ("CommentOnTicket", "comment", Change::Comment),
            _ => ("ReplyToTicket", "reply", Change::Correspond),
        };
        self.demand(right, self.ticket.queue, cause)?;
        if let Some(fault) = content.fault() {
            return Err(Error::invalid_field(place, fault));
        }
        if text::is_empty(&content.body) {
            return Err(Error::invalid_field(place, "is empty; write a text or omit it"));
        }
        let line = Line { content: Some(content), ..Line::default() };
        let id = self.push(kind, change, line, cause);
        let author = if cause.is_request() { self.context.actor.id } else { SYSTEM_USER };
        let is_requestor = self.ticket.requestors.iter().any(|watcher| watcher.user == Some(author));
        if kind == TransactionType::Correspond && !is_requestor {
            let (old, new) = (self.ticket.told_at, Some(self.context.now));
            self.derive("Told", old, new, Change::Told { old, new }, id, cause);
        }
        Ok(true)
    }

    /// Records in the ticket's history that automation failed or was stopped.
    pub fn system_error(&mut self, reason: &'static str, sentence: String, cause: Cause) -> TransactionId {
        let change = Change::SystemError { reason: reason.to_owned() };
        self.push(
            TransactionType::SystemError,
            change,
            Line { new: Some(sentence), ..Line::default() },
            cause,
        )
    }

    /// Adds the first transaction of a ticket.
    pub fn push_create(&mut self, content: Option<Content>) {
        let change = Change::Create(Box::new(self.ticket.clone()));
        self.push(TransactionType::Create, change, Line { content, ..Line::default() }, Cause::REQUEST);
    }

    fn derive(
        &mut self,
        field: &str,
        old: Option<OffsetDateTime>,
        new: Option<OffsetDateTime>,
        change: Change,
        by: TransactionId,
        cause: Cause,
    ) {
        let line = Line {
            field: Some(field.to_owned()),
            old: old.map(date),
            new: new.map(date),
            derived: true,
            content: None,
        };
        self.push(TransactionType::Set, change, line, Cause { transaction: Some(by), ..cause });
    }

    fn push(&mut self, kind: TransactionType, change: Change, line: Line, cause: Cause) -> TransactionId {
        let id = self.ids.draw();
        self.ticket.apply(&change);
        self.transactions.push(Transaction {
            id,
            ticket: self.ticket.id,
            seq: None,
            transaction_type: kind,
            field: line.field,
            old_value: line.old,
            new_value: line.new,
            change,
            content: line.content,
            creator: if cause.is_request() { self.context.actor.id } else { SYSTEM_USER },
            created_at: self.context.now,
            derived: line.derived,
            caused_by: cause.transaction,
            scrip_version: cause.scrip,
            request: self.context.request,
            batch_seq: 0,
        });
        self.depths.push(cause.depth);
        id
    }
}

impl Line {
    fn set(field: &str, old: &str, new: &str) -> Self {
        Self {
            field: Some(field.to_owned()),
            old: Some(old.to_owned()),
            new: Some(new.to_owned()),
            ..Self::default()
        }
    }
}

/// Formats a date as in history, templates and responses.
pub(super) fn date(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn broken(what: String) -> Error {
    Error::new(Code::Internal, format!("The configuration has no {what}."))
}
