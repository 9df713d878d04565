//! The request's own changes: all of them, in a fixed order that does not depend on its JSON, or none.

use super::command::{CreateTicket, FieldChange, UpdateTicket};
use super::draft::{Cause, Draft, WATCHERS_MAX, check_subject, checked_due, role_field, wanted_values};
use crate::error::{Code, Error, Fault, Kind, Result};
use crate::lifecycle::Lifecycle;
use crate::models::text;
use crate::models::{Queue, Role, StatusClass, Ticket, TransactionType, Watcher};
use std::collections::HashMap;

/// Collects the errors in a request, so that it is refused once with all of them.
#[derive(Default)]
struct Refusals {
    faults: Vec<Fault>,
    other: Option<Error>,
}

impl Refusals {
    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(error) if error.kind() == Kind::Invalid => self.faults.extend_from_slice(error.faults()),
            Err(error) => {
                self.other.get_or_insert(error);
            }
        }
        None
    }

    /// Invalid members take precedence over changes that the ticket's state does not allow.
    fn finish(self) -> Result<()> {
        match (self.faults.is_empty(), self.other) {
            (false, _) => Err(Error::invalid(self.faults)),
            (true, Some(error)) => Err(error),
            (true, None) => Ok(()),
        }
    }
}

/// Applies an update: messages; queue; status; owner; subject; priority; due; people; fields in the queue's order.
pub(super) fn update(draft: &mut Draft<'_>, command: &UpdateTicket) -> Result<()> {
    let cause = Cause::REQUEST;
    let mut refusals = Refusals::default();
    let messages =
        [(TransactionType::Correspond, &command.reply), (TransactionType::Comment, &command.comment)];
    for (kind, content) in messages {
        if let Some(content) = content {
            refusals.take(draft.message(kind, content.clone(), cause));
        }
    }
    // The status and the fields of a move are those of the new queue: without the move, nothing can be said about them.
    let moved =
        command.queue.as_ref().is_none_or(|queue| refusals.take(draft.move_to_queue(queue, cause)).is_some());
    if let Some(status) = command.status.as_ref().filter(|_| moved) {
        refusals.take(draft.set_status(status, cause));
    }
    if let Some(owner) = &command.owner {
        refusals.take(draft.set_owner(owner.as_deref(), cause));
    }
    if let Some(subject) = &command.subject {
        refusals.take(draft.set_subject(subject, cause));
    }
    if let Some(priority) = command.priority {
        refusals.take(draft.set_priority(priority, cause));
    }
    if let Some(due) = command.due_at {
        refusals.take(draft.set_due(due, cause));
    }
    for (role, difference) in &command.watchers {
        let people = difference.add.len() + difference.remove.len();
        if people > WATCHERS_MAX {
            refusals.take::<()>(Err(too_many(*role, people)));
            continue;
        }
        if let Some(both) = draft.contradiction(*role, difference) {
            let message = format!("{} is both added and removed; name each person once", text::quote(both));
            refusals.take::<()>(Err(Error::invalid_field(role_field(*role), message)));
            continue;
        }
        for word in &difference.remove {
            refusals.take(draft.remove_watcher(*role, word, cause));
        }
        for word in &difference.add {
            refusals.take(draft.add_watcher(*role, word, cause));
        }
    }
    refusals.take(named_once(draft, command.custom_fields.keys()));
    if moved {
        for (name, change) in in_queue_order(draft, &command.custom_fields)? {
            refusals.take(draft.change_field(name, change, cause));
        }
    }
    refusals.finish()
}

/// Rejects a field that the request names twice: in two spellings, or by its name and its id.
fn named_once<'c>(draft: &Draft<'_>, names: impl Iterator<Item = &'c String>) -> Result<()> {
    let mut seen = HashMap::new();
    let twice = names.filter_map(|name| {
        let first = seen.insert(draft.catalog.fields.find(name)?.id, name)?;
        let message = format!("is the same field as {}; name it once", text::quote(first));
        Some(Fault::new(format!("custom_fields.{name}"), message))
    });
    let faults: Vec<Fault> = twice.collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults)) }
}

/// Returns the changes of fields in the queue's order. Unknown fields come last; they are refused.
fn in_queue_order<'c>(
    draft: &Draft<'_>,
    changes: &'c std::collections::BTreeMap<String, FieldChange>,
) -> Result<Vec<(&'c String, &'c FieldChange)>> {
    let order = &draft.queue_now()?.custom_fields;
    let place = |name: &str| {
        let field = draft.catalog.fields.find(name)?;
        order.iter().position(|id| *id == field.id)
    };
    let mut changes: Vec<_> = changes.iter().collect();
    changes.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
    Ok(changes)
}

/// Applies a create. `draft.ticket` is a blank ticket in the right queue.
pub(super) fn create(
    draft: &mut Draft<'_>,
    queue: &Queue,
    lifecycle: &Lifecycle,
    command: &CreateTicket,
) -> Result<()> {
    let mut refusals = Refusals::default();
    draft.ticket.subject = text::typed(&command.subject).into_owned();
    refusals.take(check_subject(&draft.ticket.subject));
    if let Some(status) = refusals.take(lifecycle.create_status(command.status.as_deref())) {
        let now = Some(draft.context.now);
        draft.ticket.status = status.status().to_owned();
        draft.ticket.status_class = status.class();
        draft.ticket.started_at = now.filter(|_| status.class() != StatusClass::Initial);
        draft.ticket.resolved_at = now.filter(|_| status.class() == StatusClass::Inactive);
        refusals.take(permit(draft, status.right(), queue));
    }
    if let Some(owner) = &command.owner {
        draft.ticket.owner = refusals.take(draft.owner_of(owner)).flatten();
    }
    draft.ticket.priority = command.priority.unwrap_or(0);
    if let Some(due) = command.due_at {
        draft.ticket.due_at = refusals.take(checked_due(due));
    }
    for role in Role::ALL {
        let people = refusals.take(watchers(draft, role, command.people(role))).unwrap_or_default();
        *draft.ticket.watchers_mut(role) = people;
    }
    refusals.take(named_once(draft, command.custom_fields.keys()));
    for (name, values) in &command.custom_fields {
        let field = draft.field(name);
        let wanted = field.and_then(|field| {
            Ok((field.id, wanted_values(field, &[], &FieldChange::Replace(values.clone()))?))
        });
        if let Some((field, values)) = refusals.take(wanted).filter(|(_, values)| !values.is_empty()) {
            draft.ticket.values.insert(field, values);
        }
    }
    if let Some(fault) = command.content.as_ref().and_then(|content| content.fault()) {
        refusals.take::<()>(Err(Error::invalid_field("content", fault)));
    }
    refusals.finish()?;
    draft.push_create(command.content.clone().filter(|content| !text::is_empty(&content.body)));
    Ok(())
}

fn permit(draft: &Draft<'_>, right: &str, queue: &Queue) -> Result<()> {
    if draft.context.access.has(right, queue.id) {
        return Ok(());
    }
    let detail =
        format!("You need {right} in {} to create a ticket there. Ask an administrator.", queue.name);
    Err(Error::new(Code::PermissionDenied, detail))
}

fn watchers(draft: &mut Draft<'_>, role: Role, words: &[String]) -> Result<Vec<Watcher>> {
    if words.len() > WATCHERS_MAX {
        return Err(too_many(role, words.len()));
    }
    let mut people: Vec<Watcher> = Vec::with_capacity(words.len());
    let mut refusals = Refusals::default();
    for word in words {
        if let Some(watcher) = refusals.take(draft.watcher(role, word, Cause::REQUEST))
            && !people.iter().any(|there| there.is_same_person(&watcher))
        {
            people.push(watcher);
        }
    }
    refusals.finish()?;
    Ok(people)
}

fn too_many(role: Role, people: usize) -> Error {
    let message = format!("names {people} people; at most {WATCHERS_MAX} are allowed");
    Error::invalid_field(role_field(role), message)
}

/// Returns a ticket without any values.
pub(super) fn blank(
    draft_queue: &Queue,
    number: Option<i64>,
    context: &super::Context,
    ids: &mut crate::models::Ids,
) -> Ticket {
    Ticket {
        id: ids.draw(),
        number,
        version: 0,
        subject: String::new(),
        queue: draft_queue.id,
        status: String::new(),
        status_class: StatusClass::Initial,
        owner: None,
        creator: context.actor.id,
        priority: 0,
        created_at: context.now,
        updated_at: context.now,
        started_at: None,
        resolved_at: None,
        due_at: None,
        told_at: None,
        requestors: Vec::new(),
        cc: Vec::new(),
        admin_cc: Vec::new(),
        values: std::collections::BTreeMap::new(),
    }
}
