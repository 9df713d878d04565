//! Effects: turns the action of a scrip into an intent, against the snapshot of a pass. Nothing is applied here.

use super::command::{Difference, FieldChange};
use super::draft::Draft;
use super::intent::Intent;
use super::situation::Target;
use super::words::{Bench, Snapshot, Unready};
use super::{connector, mail, webhook};
use crate::error::Error;
use crate::models::transaction::Content;
use crate::models::{Transaction, TransactionType};
use crate::scrip::action::Effect;
use crate::scrip::action::ticket::{
    Column, Message, Mode, SetCustomField, SetStatusConfig, parse_due, parse_priority,
};
use crate::scrip::template::Compiled;
use serde_json::json;

/// Prepares the action of a scrip: renders its words, and returns what it will do.
pub(super) fn intend<'a>(mut bench: Bench<'_, '_, 'a>) -> Result<Intent<'a>, Unready> {
    match &bench.scrip.action.effect {
        Effect::SendEmail(send) => mail::intend(&mut bench, send),
        Effect::Webhook(action) => webhook::intend(&mut bench, action),
        Effect::Connector(action) => connector::intend(&mut bench, action),
        Effect::SetCustomField(set) => set_custom_field(&mut bench, set),
        Effect::SetStatus(config) => set_status(bench.snapshot, config),
        Effect::Set(column, text) => set_column(&mut bench, *column, text),
        Effect::AddMessage(message, content) => add_message(&mut bench, *message, content.as_ref()),
        Effect::AddWatcher(role, who) => {
            let (role, who) = (*role, bench.value(who)?);
            let would = json!({ "role": role, "add": who });
            Ok(Intent::change(would, move |draft, cause| draft.add_watcher(role, &who, cause)))
        }
        Effect::RemoveWatcher(role, who) => {
            let (role, who) = (*role, bench.value(who)?);
            let would = json!({ "role": role, "remove": who });
            Ok(Intent::change(would, move |draft, cause| draft.remove_watcher(role, &who, cause)))
        }
    }
}

/// `from` means the status before the request: "reply and resolve" must not reopen the ticket that it just resolved.
fn set_status<'a>(snapshot: &Snapshot<'_, 'a>, config: &'a SetStatusConfig) -> Result<Intent<'a>, Unready> {
    check_from(snapshot, config)?;
    let would = json!({ "status": config.status });
    Ok(Intent::change(would, |draft, cause| match draft.list_of(&config.status)? {
        Some(class) if class == draft.ticket.status_class => Ok(false),
        Some(class) => match draft.first_allowed(class)? {
            Some(status) => draft.set_status(status, cause),
            None => {
                let reason =
                    format!("no transition from {} to a status that is {class}", draft.ticket.status);
                Err(Error::invalid_field("status", reason))
            }
        },
        None => draft.set_status(&config.status, cause),
    }))
}

fn check_from(snapshot: &Snapshot<'_, '_>, config: &SetStatusConfig) -> Result<(), Unready> {
    if config.from.is_empty() {
        return Ok(());
    }
    let draft = snapshot.draft;
    let is_status = |one: &Transaction| one.transaction_type == TransactionType::Status;
    let by_request = |one: &Transaction| is_status(one) && one.scrip_version.is_none();
    if !is_status(snapshot.transaction) && draft.transactions.iter().any(by_request) {
        return Err(Unready::Declined("from", "the request itself sets the status".to_owned()));
    }
    let before = match &draft.situation.ticket {
        Target::Existing(ticket) => ticket,
        Target::New { .. } => &draft.ticket,
    };
    let (status, class) = (&before.status, before.status_class);
    let lifecycle = draft.catalog.lifecycle_of(before.queue);
    let is_named = |word: &String| {
        lifecycle
            .map_or_else(|| word.eq_ignore_ascii_case(status), |lifecycle| lifecycle.matches(word, status))
    };
    if config.from.iter().any(is_named) {
        return Ok(());
    }
    let reason = format!("status was {status} ({class}), not {}", config.from.join(" or "));
    Err(Unready::Declined("from", reason))
}

fn set_custom_field<'a>(
    bench: &mut Bench<'_, '_, 'a>,
    set: &'a SetCustomField,
) -> Result<Intent<'a>, Unready> {
    let values = set.values.iter().map(|text| bench.value(text)).collect::<Result<Vec<_>, _>>()?;
    let values = values.into_iter().filter(|value| !value.is_empty()).collect();
    let change = match set.mode {
        Mode::Set => FieldChange::Replace(values),
        Mode::Clear => FieldChange::Replace(Vec::new()),
        Mode::Add => FieldChange::Difference(Difference { add: values, remove: Vec::new() }),
        Mode::Remove => FieldChange::Difference(Difference { add: Vec::new(), remove: values }),
    };
    let would = match &change {
        FieldChange::Replace(values) => json!({ "field": set.field, "values": values }),
        FieldChange::Difference(difference) => {
            json!({ "field": set.field, "add": difference.add, "remove": difference.remove })
        }
    };
    Ok(Intent::change(would, move |draft, cause| draft.change_field(&set.field, &change, cause)))
}

fn set_column<'a>(
    bench: &mut Bench<'_, '_, 'a>,
    column: Column,
    text: &Compiled,
) -> Result<Intent<'a>, Unready> {
    let value = bench.line(text)?;
    let would = json!({ "column": format!("{column:?}").to_lowercase(), "value": value });
    Ok(Intent::change(would, move |draft, cause| match column {
        Column::Owner => draft.set_owner(Some(value.as_str()).filter(|value| !value.is_empty()), cause),
        Column::Subject => draft.set_subject(&value, cause),
        Column::Queue => draft.move_to_queue(&value, cause),
        Column::Due => {
            let due = parse_due(&value).map_err(|reason| Error::invalid_field("due_at", reason))?;
            draft.set_due(due, cause)
        }
        Column::Priority => {
            let priority =
                parse_priority(&value).map_err(|reason| Error::invalid_field("priority", reason))?;
            draft.set_priority(priority, cause)
        }
    }))
}

fn add_message<'a>(
    bench: &mut Bench<'_, '_, 'a>,
    message: Message,
    content: Option<&Compiled>,
) -> Result<Intent<'a>, Unready> {
    if bench.snapshot.transaction.scrip_version.is_some() {
        let reason = "a change by a scrip adds no messages, so that scrips do not reply to each other";
        return Err(Unready::Refused("trigger", reason.to_owned()));
    }
    let body = match (content, bench.template()?) {
        (Some(text), _) => bench.value(text)?,
        (None, Some(template)) => bench.value(template.body())?,
        (None, None) => {
            return Err(Unready::Failed("the scrip has neither content nor template".to_owned()));
        }
    };
    if body.is_empty() {
        return Err(Unready::Declined("content", "template rendered nothing".to_owned()));
    }
    let kind = match message {
        Message::Comment => TransactionType::Comment,
        Message::Correspondence => TransactionType::Correspond,
    };
    let content = Content::plain(body);
    let would = json!({ "message": kind, "content": content.body });
    Ok(Intent::change(would, move |draft: &mut Draft<'_>, cause| draft.message(kind, content, cause)))
}
