//! The draft: the ticket under work. Requests and scrips change it through the same operations, each checked.

use super::catalog::Catalog;
use super::command::FieldChange;
use super::context::Context;
use super::situation::Situation;
use crate::error::{Code, Error, Fault, Result};
use crate::lifecycle::{Lifecycle, StatusChange};
use crate::models::custom_field::COUNT_MAX;
use crate::models::text::{self, CONTENT_MAX, SUBJECT_MAX};
use crate::models::transaction::Content;
use crate::models::user::{NOBODY, SYSTEM_USER};
use crate::models::{
    Change, CustomField, Ids, Queue, QueueId, Role, ScripVersionId, StatusClass, Ticket, Transaction,
    TransactionId, TransactionType, User, UserId, Watcher,
};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// People per role of a ticket.
pub(super) const WATCHERS_MAX: usize = 200;
/// Bytes of a date that a template renders to.
const DATE_MAX: usize = 64;

/// Why a change is made: by the request itself, or by a scrip on a transaction.
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

/// The ticket under work.
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

/// What a transaction says besides its change.
#[derive(Default)]
struct Line {
    field: Option<String>,
    old: Option<String>,
    new: Option<String>,
    content: Option<Content>,
    derived: bool,
}

impl<'a> Draft<'a> {
    // What there is -------------------------------------------------------------------------------------------------

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

    /// What to call a watcher in history: the username, else the address.
    fn watcher_name(&self, watcher: &Watcher) -> String {
        match (&watcher.user, &watcher.address) {
            (Some(id), _) => self.username(Some(*id)),
            (None, address) => address.clone().unwrap_or_default(),
        }
    }

    /// The address of a watcher, if they have one and are not disabled.
    pub fn watcher_address(&self, watcher: &Watcher) -> Option<String> {
        match watcher.user {
            Some(id) => self.user(id).filter(|user| !user.disabled).and_then(|user| user.email.clone()),
            None => watcher.address.clone(),
        }
    }

    /// The field of a name, if it is attached to the ticket's queue.
    pub fn field(&self, name: &str) -> Result<&'a Arc<CustomField>> {
        let queue = self.queue_now()?;
        let attached = || queue.custom_fields.iter().filter_map(|id| self.catalog.fields.get(*id));
        let place = format!("custom_fields.{name}");
        let field = self.catalog.fields.find(name).ok_or_else(|| {
            let known = text::list(attached().map(|field| field.name.as_str()));
            Error::invalid_field(&place, format!("there is no such field; queue {} has {known}", queue.name))
        })?;
        if !queue.custom_fields.contains(&field.id) {
            let known = text::list(attached().map(|field| field.name.as_str()));
            let message = format!("the field is not attached to queue {}, which has {known}", queue.name);
            return Err(Error::invalid_field(place, message));
        }
        Ok(field)
    }

    fn demand(&self, right: &str, queue: QueueId, cause: Cause) -> Result<()> {
        // Scrips act for the configuration, not for the person: their effects are not asked for rights.
        if !cause.is_request() || self.context.access.has(right, queue) {
            return Ok(());
        }
        let queue = self.queue_of(queue)?;
        let detail = format!("You need {right} in {} to do this. Ask an administrator.", queue.name);
        Err(Error::new(Code::PermissionDenied, detail).with_allowed(Vec::new()))
    }

    // Operations ----------------------------------------------------------------------------------------------------
    // Each makes its transactions, or none when the value is there already (`false`), or refuses and changes nothing.

    pub fn message(&mut self, kind: TransactionType, content: Content, cause: Cause) -> Result<bool> {
        let (right, place, change) = match kind {
            TransactionType::Comment => ("CommentOnTicket", "comment", Change::Comment),
            _ => ("ReplyToTicket", "reply", Change::Correspond),
        };
        self.demand(right, self.ticket.queue, cause)?;
        if let Some(fault) = text::fault(&content.body, CONTENT_MAX) {
            return Err(Error::invalid_field(place, fault));
        }
        if content.body.trim().is_empty() {
            return Err(Error::invalid_field(place, "is empty; write something or leave it out"));
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

    pub fn move_to_queue(&mut self, name: &str, cause: Cause) -> Result<bool> {
        let target = self.catalog.open_queue(name)?;
        if target.id == self.ticket.queue {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        self.demand("CreateTicket", target.id, cause)?;
        let here = self.queue_now()?;
        let mapped =
            self.lifecycle_of(here)?.map_to(self.lifecycle_of(target)?.as_ref(), &self.ticket.status)?;
        let change = Change::Queue { old: here.id, new: target.id };
        self.push(TransactionType::Set, change, Line::set("Queue", &here.name, &target.name), cause);
        if let Some(change) = mapped {
            self.push_status(change, cause);
        }
        Ok(true)
    }

    pub fn set_status(&mut self, wanted: &str, cause: Cause) -> Result<bool> {
        let queue = self.queue_now()?;
        let lifecycle = self.lifecycle_of(queue)?;
        if lifecycle.canonical(wanted) == Some(self.ticket.status.as_str()) {
            return Ok(false);
        }
        let change = lifecycle.transition(&self.ticket.status, wanted)?;
        self.demand(change.right().unwrap_or("ModifyTicket"), queue.id, cause)?;
        self.push_status(change, cause);
        Ok(true)
    }

    /// The first status of the class that the lifecycle allows from here.
    pub fn first_allowed(&self, class: StatusClass) -> Result<Option<&'a str>> {
        Ok(self.lifecycle_of(self.queue_now()?)?.first_allowed(&self.ticket.status, class))
    }

    fn push_status(&mut self, change: StatusChange, cause: Cause) {
        let (leaves_initial, enters_inactive) = (change.leaves_initial(), change.enters_inactive());
        let line = Line {
            old: Some(change.old_status().to_owned()),
            new: Some(change.new_status().to_owned()),
            ..Line::default()
        };
        let id = self.push(TransactionType::Status, change.into_change(), line, cause);
        let now = Some(self.context.now);
        if leaves_initial && self.ticket.started_at.is_none() {
            let old = self.ticket.started_at;
            self.derive("Started", old, now, Change::Started { old, new: now }, id, cause);
        }
        if enters_inactive {
            let old = self.ticket.resolved_at;
            self.derive("Resolved", old, now, Change::Resolved { old, new: now }, id, cause);
        }
    }

    pub fn set_owner(&mut self, wanted: Option<&str>, cause: Cause) -> Result<bool> {
        let new = wanted.map(|word| self.owner_of(word)).transpose()?.flatten();
        let old = self.ticket.owner;
        if new == old {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line::set("Owner", &self.username(old), &self.username(new));
        self.push(TransactionType::Set, Change::Owner { old, new }, line, cause);
        Ok(true)
    }

    /// The agent of a word; `Nobody` is none.
    pub fn owner_of(&self, word: &str) -> Result<Option<UserId>> {
        if word.eq_ignore_ascii_case(NOBODY) {
            return Ok(None);
        }
        let agent = self.catalog.agent(word).filter(|agent| agent.privileged && !agent.disabled);
        agent.map(|agent| Some(agent.id)).ok_or_else(|| {
            let message = if self.situation.people.find(word).is_some() || self.catalog.agent(word).is_some()
            {
                format!("{word} may not own tickets: only privileged users that are not disabled may")
            } else {
                let agents = self.catalog.agents.iter().filter(|agent| agent.privileged && !agent.disabled);
                format!(
                    "there is no user \"{word}\"; these may own tickets: {}",
                    text::list(agents.map(|a| a.username.as_str()))
                )
            };
            Error::invalid_field("owner", message)
        })
    }

    pub fn set_subject(&mut self, new: &str, cause: Cause) -> Result<bool> {
        check_subject(new)?;
        if new == self.ticket.subject {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let change = Change::Subject { old: self.ticket.subject.clone(), new: new.to_owned() };
        let line = Line::set("Subject", &self.ticket.subject, new);
        self.push(TransactionType::Set, change, line, cause);
        Ok(true)
    }

    pub fn set_priority(&mut self, new: i32, cause: Cause) -> Result<bool> {
        let old = self.ticket.priority;
        if new == old {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line::set("Priority", &old.to_string(), &new.to_string());
        self.push(TransactionType::Set, Change::Priority { old, new }, line, cause);
        Ok(true)
    }

    pub fn set_due(&mut self, new: Option<OffsetDateTime>, cause: Cause) -> Result<bool> {
        let new = new.map(checked_due).transpose()?;
        let old = self.ticket.due_at;
        if new == old {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line =
            Line { field: Some("Due".to_owned()), old: old.map(date), new: new.map(date), ..Line::default() };
        self.push(TransactionType::Set, Change::Due { old, new }, line, cause);
        Ok(true)
    }

    pub fn add_watcher(&mut self, role: Role, word: &str, cause: Cause) -> Result<bool> {
        let watcher = self.watcher(role, word, cause)?;
        let watchers = self.ticket.watchers(role);
        if watchers.iter().any(|there| there.is_same_person(&watcher)) {
            return Ok(false);
        }
        if watchers.len() >= WATCHERS_MAX {
            let message = format!("has {WATCHERS_MAX} people already, which is the most");
            return Err(Error::invalid_field(role_field(role), message));
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line {
            field: Some(role.rt_name().to_owned()),
            new: Some(self.watcher_name(&watcher)),
            ..Line::default()
        };
        self.push(TransactionType::AddWatcher, Change::AddWatcher { role, watcher }, line, cause);
        Ok(true)
    }

    pub fn remove_watcher(&mut self, role: Role, word: &str, cause: Cause) -> Result<bool> {
        let wanted = self.watcher(role, word, cause)?;
        let Some(watcher) =
            self.ticket.watchers(role).iter().find(|there| there.is_same_person(&wanted)).cloned()
        else {
            return Ok(false);
        };
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line {
            field: Some(role.rt_name().to_owned()),
            old: Some(self.watcher_name(&watcher)),
            ..Line::default()
        };
        self.push(TransactionType::DelWatcher, Change::DelWatcher { role, watcher }, line, cause);
        Ok(true)
    }

    /// A watcher of a username or an address. An address of a user is the user.
    pub fn watcher(&mut self, role: Role, word: &str, cause: Cause) -> Result<Watcher> {
        let word = word.trim();
        // A scrip's words were not looked up by the load: it may name agents, the ticket's people, and bare addresses.
        let user = self
            .situation
            .people
            .find(word)
            .map(|user| user.id)
            .or_else(|| self.catalog.agent(word).map(|agent| agent.id));
        if user == Some(SYSTEM_USER) {
            return Err(Error::invalid_field(
                role_field(role),
                format!("{word} is the system and cannot watch a ticket"),
            ));
        }
        if user.is_none() && !text::is_address(word) {
            let message = if cause.is_request() {
                format!("\"{word}\" is neither a user nor a mail address (name@example.org)")
            } else {
                format!("unknown user \"{word}\": a scrip may name an agent or a mail address")
            };
            return Err(Error::invalid_field(role_field(role), message));
        }
        let address = if user.is_none() { Some(word.to_owned()) } else { None };
        Ok(Watcher { id: self.ids.draw(), user, address })
    }

    pub fn change_field(&mut self, name: &str, change: &FieldChange, cause: Cause) -> Result<bool> {
        let field = self.field(name)?;
        let before = self.ticket.values_of(field.id).to_vec();
        let after = wanted_values(field, &before, change)?;
        let mut removed: Vec<_> = before.iter().filter(|value| !after.contains(value)).cloned().collect();
        let mut added: Vec<_> = after.iter().filter(|value| !before.contains(value)).cloned().collect();
        if removed.is_empty() && added.is_empty() {
            return Ok(false);
        }
        self.demand("ModifyCustomField", self.ticket.queue, cause)?;
        // One value that gives way to another is one line of history, so that a condition sees from and to.
        if !field.is_multiple() && removed.len() == 1 && added.len() == 1 {
            self.push_value(field, removed.pop(), added.pop(), cause);
        }
        for value in removed {
            self.push_value(field, Some(value), None, cause);
        }
        for value in added {
            self.push_value(field, None, Some(value), cause);
        }
        Ok(true)
    }

    fn push_value(
        &mut self,
        field: &CustomField,
        removed: Option<String>,
        added: Option<String>,
        cause: Cause,
    ) {
        let line = Line {
            field: Some(field.name.clone()),
            old: removed.clone(),
            new: added.clone(),
            ..Line::default()
        };
        let change = Change::CustomField { field: field.id, removed, added };
        self.push(TransactionType::CustomField, change, line, cause);
    }

    /// Says in the ticket's history that automation could not do something.
    pub fn system_error(&mut self, reason: &'static str, sentence: String, cause: Cause) -> TransactionId {
        let change = Change::SystemError { reason: reason.to_owned() };
        self.push(
            TransactionType::SystemError,
            change,
            Line { new: Some(sentence), ..Line::default() },
            cause,
        )
    }

    /// The first line of a ticket's history.
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

/// Refuses a subject that cannot be one.
pub(super) fn check_subject(subject: &str) -> Result<()> {
    let fault = text::line_fault(subject, SUBJECT_MAX).or_else(|| {
        subject.trim().is_empty().then(|| "is empty; it is what people see in the list".to_owned())
    });
    fault.map_or(Ok(()), |fault| Err(Error::invalid_field("subject", fault)))
}

/// The values of a field after a change, each in the spelling of the field, checked.
pub(super) fn wanted_values(
    field: &CustomField,
    before: &[String],
    change: &FieldChange,
) -> Result<Vec<String>> {
    let place = format!("custom_fields.{}", field.name);
    let mut faults = Vec::new();
    let most = usize::try_from(COUNT_MAX).unwrap_or(usize::MAX);
    let given = match change {
        FieldChange::Replace(values) => values.len(),
        FieldChange::Difference(difference) => difference.add.len() + difference.remove.len(),
    };
    if given > most {
        return Err(Error::invalid_field(place, format!("names {given} values; at most {most} are allowed")));
    }
    let mut checked = |values: &[String]| -> Vec<String> {
        let mut good = Vec::with_capacity(values.len());
        for value in values {
            match field.check_value(value) {
                Ok(value) if good.contains(&value) => {}
                Ok(value) => good.push(value),
                Err(message) => faults.push(Fault::new(&place, message)),
            }
        }
        good
    };
    let after = match change {
        FieldChange::Replace(values) => checked(values),
        FieldChange::Difference(difference) => {
            let (add, remove) = (checked(&difference.add), &difference.remove);
            let gone = |value: &String| remove.iter().any(|word| text::fold(word) == text::fold(value));
            let mut after: Vec<String> = before.iter().filter(|value| !gone(value)).cloned().collect();
            let new: Vec<String> = add.into_iter().filter(|value| !after.contains(value)).collect();
            after.extend(new);
            after
        }
    };
    if let Err(message) = field.check_count(after.len()) {
        faults.push(Fault::new(&place, message));
    }
    if faults.is_empty() { Ok(after) } else { Err(Error::invalid(faults)) }
}

/// A date as history, templates and answers show it.
pub(super) fn date(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// A due time as it is kept: in UTC, in microseconds, in a year that every part of the way can write.
pub(super) fn checked_due(time: OffsetDateTime) -> Result<OffsetDateTime> {
    let time = time.checked_to_offset(time::UtcOffset::UTC).filter(|time| (1..=9_999).contains(&time.year()));
    let message = "is not within the years 1 to 9999 of UTC";
    time.map(super::context::to_micros).ok_or_else(|| Error::invalid_field("due_at", message))
}

/// Reads a date that a template rendered; nothing clears.
pub(super) fn parse_date(word: &str) -> Result<Option<OffsetDateTime>> {
    let word = word.trim();
    if word.is_empty() {
        return Ok(None);
    }
    let parsed = if word.len() <= DATE_MAX { OffsetDateTime::parse(word, &Rfc3339).ok() } else { None };
    parsed.map(Some).ok_or_else(|| {
        Error::invalid_field("due_at", format!("\"{word}\" is not a time; write 2026-11-23T10:00:00Z"))
    })
}

/// The field of a role in a request's body.
pub(super) fn role_field(role: Role) -> &'static str {
    match role {
        Role::Requestor => "requestors",
        Role::Cc => "cc",
        Role::AdminCc => "admin_cc",
    }
}

fn broken(what: String) -> Error {
    Error::new(Code::Internal, format!("The configuration has no {what}."))
}
