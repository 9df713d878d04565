//! Conversions between the contract's messages and the core's types.

use crate::v1;
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use tessera_core::desk::Prepared;
use tessera_core::desk::reads::Recorded;
use tessera_core::error::{Error, Fault, Result};
use tessera_core::models::transaction::Content;
use tessera_core::models::{self, Role, Watcher, Why};
use tessera_core::plan::Names;
use tessera_core::plan::command::{CreateTicket, Difference, FieldChange, UpdateTicket};
use tessera_core::scrip::evaluation::{Evaluation, Verdict};
use time::OffsetDateTime;
use v1::field_change::Change;

/// Converts a ticket, with the names of the objects that it refers to.
pub fn ticket(ticket: &models::Ticket, names: Names<'_>) -> v1::Ticket {
    let people = |role| ticket.watchers(role).iter().map(|watcher| person(watcher, names)).collect();
    let fields = names.fields(ticket);
    v1::Ticket {
        id: ticket.id.to_string(),
        number: ticket.number.unwrap_or_default(),
        version: ticket.version,
        subject: ticket.subject.clone(),
        queue: names.queue(ticket.queue).to_owned(),
        status: ticket.status.clone(),
        priority: ticket.priority,
        owner: ticket.owner.map(|owner| names.username(owner)).unwrap_or_default(),
        creator: names.username(ticket.creator),
        requestors: people(Role::Requestor),
        cc: people(Role::Cc),
        admin_cc: people(Role::AdminCc),
        custom_fields: fields
            .map(|(field, values)| (field.name.clone(), v1::FieldValues { values: values.to_vec() }))
            .collect(),
        created_at: Some(timestamp(ticket.created_at)),
        updated_at: Some(timestamp(ticket.updated_at)),
        started_at: ticket.started_at.map(timestamp),
        resolved_at: ticket.resolved_at.map(timestamp),
        due_at: ticket.due_at.map(timestamp),
        told_at: ticket.told_at.map(timestamp),
        url: ticket.number.map(|number| names.catalog.installation.ticket_url(number)).unwrap_or_default(),
    }
}

/// Returns the username of a watcher, or the address if it is not a user.
fn person(watcher: &Watcher, names: Names<'_>) -> String {
    match watcher.user {
        Some(user) => names.username(user),
        None => watcher.address.clone().unwrap_or_default(),
    }
}

/// Converts a stored transaction.
pub fn recorded(row: Recorded) -> v1::Transaction {
    let (content, content_type) = row.content.map(|content| (content.body, content.content_type)).unzip();
    v1::Transaction {
        id: row.id.to_string(),
        seq: row.seq.unwrap_or_default(),
        r#type: row.transaction_type,
        field: row.field.unwrap_or_default(),
        old_value: row.old_value.unwrap_or_default(),
        new_value: row.new_value.unwrap_or_default(),
        content: content.unwrap_or_default(),
        content_type: content_type.unwrap_or_default(),
        creator: row.creator,
        created_at: Some(timestamp(row.created_at)),
    }
}

/// Converts a transaction that was just planned.
fn planned(transaction: &models::Transaction, names: Names<'_>) -> v1::Transaction {
    let content = transaction.content.clone();
    let (content, content_type) = content.map(|content| (content.body, content.content_type)).unzip();
    v1::Transaction {
        id: transaction.id.to_string(),
        seq: transaction.seq.unwrap_or_default(),
        r#type: transaction.transaction_type.to_string(),
        field: transaction.field.clone().unwrap_or_default(),
        old_value: transaction.old_value.clone().unwrap_or_default(),
        new_value: transaction.new_value.clone().unwrap_or_default(),
        content: content.unwrap_or_default(),
        content_type: content_type.unwrap_or_default(),
        creator: names.username(transaction.creator),
        created_at: Some(timestamp(transaction.created_at)),
    }
}

/// Converts a plan to the response of a preview.
pub fn preview(prepared: &Prepared) -> v1::PreviewTicketResponse {
    let (plan, names) = (&prepared.plan, prepared.names());
    let deliveries = plan.deliveries.iter().map(|delivery| v1::PlannedDelivery {
        kind: delivery.payload.kind().to_string(),
        endpoint: delivery.payload.endpoint(),
        scrip: plan.maker(delivery.id).map(|scrip| scrip.name.clone()).unwrap_or_default(),
    });
    v1::PreviewTicketResponse {
        ticket: Some(ticket(&plan.ticket, names)),
        plan_hash: plan.hash.to_string(),
        transactions: plan.transactions.iter().map(|one| planned(one, names)).collect(),
        scrips: plan.evaluations.iter().map(verdict).collect(),
        deliveries: deliveries.collect(),
    }
}

fn verdict(evaluation: &Evaluation) -> v1::ScripVerdict {
    let needs_no_reason = matches!(evaluation.verdict, Verdict::Fired | Verdict::Shadow);
    let reason = if needs_no_reason { None } else { reason(&evaluation.why) };
    v1::ScripVerdict {
        scrip: evaluation.name.clone(),
        verdict: evaluation.verdict.to_string(),
        reason: reason.unwrap_or_default(),
    }
}

/// Returns why a condition does not hold, in one sentence about the last part of it that does not.
fn reason(why: &Why) -> Option<String> {
    if why.result {
        return None;
    }
    let below = || why.children.iter().rev().find_map(reason);
    let own = || {
        let is_test = why.children.is_empty() && !why.expected.is_null();
        is_test.then(|| format!("{} is {}; {} is required.", why.predicate, why.actual, why.expected))
    };
    why.reason.clone().or_else(below).or_else(own)
}

/// Converts a new ticket to a command, which is not validated yet.
pub fn create(new: v1::NewTicket) -> Result<CreateTicket> {
    let mut faults = Vec::new();
    let content = taken(message(new.content, "content"), &mut faults).flatten();
    let due_at = taken(new.due_at.map(|at| moment(at, "due_at")).transpose(), &mut faults).flatten();
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    Ok(CreateTicket {
        queue: new.queue,
        subject: new.subject,
        status: given(new.status),
        owner: given(new.owner),
        priority: (new.priority != 0).then_some(new.priority),
        due_at,
        requestors: new.requestors,
        cc: new.cc,
        admin_cc: new.admin_cc,
        custom_fields: new.custom_fields.into_iter().map(|(name, values)| (name, values.values)).collect(),
        content,
    })
}

/// Converts a change of a ticket to a command, which is not validated yet.
pub fn update(change: v1::TicketChange) -> Result<UpdateTicket> {
    let mut faults = Vec::new();
    let comment = taken(message(change.comment, "comment"), &mut faults).flatten();
    let reply = taken(message(change.reply, "reply"), &mut faults).flatten();
    let due = change.due.map(|due| due.at.map(|at| moment(at, "due.at")).transpose());
    let due_at = taken(due.transpose(), &mut faults).flatten();
    let mut custom_fields = BTreeMap::new();
    for (name, change) in change.custom_fields {
        match change.change {
            Some(Change::Replace(values)) => {
                custom_fields.insert(name, FieldChange::Replace(values.values));
            }
            Some(Change::Difference(change)) => {
                custom_fields.insert(name, FieldChange::Difference(difference(change)));
            }
            None => {
                let message = "contains no change; set replace or difference";
                faults.push(Fault::new(format!("custom_fields.{name}"), message));
            }
        }
    }
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    let roles =
        [(Role::Requestor, change.requestors), (Role::Cc, change.cc), (Role::AdminCc, change.admin_cc)];
    let watchers = roles.into_iter().filter_map(|(role, change)| Some((role, difference(change?))));
    Ok(UpdateTicket {
        subject: change.subject,
        status: change.status,
        owner: change.owner.map(given),
        queue: change.queue,
        priority: change.priority,
        due_at,
        watchers: watchers.collect(),
        custom_fields,
        comment,
        reply,
    })
}

/// Converts a message, if there is one.
pub fn message(message: Option<v1::Message>, field: &str) -> Result<Option<Content>, Fault> {
    let content = message.map(|message| Content::of_type(given(message.content_type), message.content));
    content.transpose().map_err(|message| Fault::new(format!("{field}.content_type"), message))
}

fn difference(change: v1::Difference) -> Difference {
    Difference { add: change.add, remove: change.remove }
}

/// Returns `None` for an empty text.
pub fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Converts a time.
pub fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp { seconds: at.unix_timestamp(), nanos: at.nanosecond().cast_signed() }
}

fn moment(at: Timestamp, field: &str) -> Result<OffsetDateTime, Fault> {
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|_| Fault::new(field, "is not a time between the years -9999 and 9999"))
}

/// Converts a duration, which must not be negative.
pub fn span(span: prost_types::Duration, field: &str) -> Result<Duration, Fault> {
    Duration::try_from(span).map_err(|_| Fault::new(field, "is negative or too long"))
}

fn taken<T>(read: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    read.map_err(|fault| faults.push(fault)).ok()
}
