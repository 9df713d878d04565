//! Variables: the values that templates use, built from the ticket at the start of a pass.

use super::LIST_MAX;
use super::draft::{Draft, date};
use crate::models::text;
use crate::models::transaction::Content;
use crate::models::user::NOBODY;
use crate::models::{Change, Role, Transaction, TransactionType, User, UserId, Watcher};
use crate::scrip::Scrip;
use crate::scrip::template::{NEW_NUMBER, cut};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// The kind of values: real, or fixed for the hash.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tense<'f> {
    /// The actual values.
    Real,
    /// Fixed values that replace ids, the request's time, a new ticket's number, and texts rendered from these. The hash covers
    /// these values.
    Fixed(&'f HashMap<String, String>),
}

impl Tense<'_> {
    /// Whether these are fixed values.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Replaces rendered texts by fixed ones, at any depth of a value.
    pub fn fix(self, value: &mut Value) {
        let Self::Fixed(fixes) = self else { return };
        match value {
            Value::String(text) => {
                if let Some(fixed) = fixes.get(text) {
                    text.clone_from(fixed);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.fix(item)),
            Value::Object(entries) => entries.values_mut().for_each(|entry| self.fix(entry)),
            _ => {}
        }
    }

    fn fixed<'t>(&'t self, text: Option<&'t str>) -> Option<&'t str> {
        match self {
            Self::Real => text,
            Self::Fixed(fixes) => text.map(|text| fixes.get(text).map_or(text, String::as_str)),
        }
    }
}

/// The time that replaces the request's in [`Tense::Fixed`].
pub(super) const FIXED_TIME: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
/// The most of a message that a template gets, in bytes, except for the text of a mail, which has all of it.
pub(super) const MESSAGE_MAX: usize = 64 * 1024;
/// The newest messages in `messages`, besides the first.
const NEWEST_MAX: usize = 5;

/// Builds the values for one transaction.
pub(super) struct Variables<'d, 'a> {
    draft: &'d Draft<'a>,
    tense: Tense<'d>,
}

impl<'d, 'a> Variables<'d, 'a> {
    pub fn new(draft: &'d Draft<'a>, tense: Tense<'d>) -> Self {
        Self { draft, tense }
    }

    /// Returns all values except the scrip and the messages, which differ between scrips.
    pub fn of(&self, transaction: &Transaction) -> Map<String, Value> {
        let mut values = json!({
            "ticket": self.ticket(),
            "transaction": self.transaction(transaction),
            "batch": self.draft.transactions.iter().take(LIST_MAX).map(|one| self.transaction(one)).collect::<Vec<_>>(),
            "queue": self.queue(),
            "actor": person(&self.draft.context.actor),
            "tessera": {
                "name": self.draft.catalog.installation.name,
                "base_url": self.draft.catalog.installation.base_url,
            },
            "now": self.time(self.draft.context.now),
        });
        self.tense.fix(&mut values);
        match values {
            Value::Object(values) => values,
            _ => Map::new(),
        }
    }

    /// Returns the value of `scrip`.
    pub fn scrip(scrip: &Scrip) -> Value {
        json!({ "id": scrip.id, "name": scrip.name, "version": scrip.version, "description": scrip.description })
    }

    /// Returns the steps for cleaning the HTML that [`Self::of_html`] contains.
    pub fn cleaning(&self, transaction: &Transaction) -> u64 {
        let batch = self.draft.transactions.iter().take(LIST_MAX);
        let others = batch.filter(|one| one.id != transaction.id);
        let contents = others.chain([transaction]).filter_map(|one| one.content.as_ref());
        contents.map(Content::cleaning).sum()
    }

    /// Returns the values that a template of HTML gets instead: its messages also have their cleaned HTML.
    pub fn of_html(&self, transaction: &Transaction) -> [(&'static str, Value); 2] {
        let with_html = |one: &Transaction, mut value: Value| {
            if let Some(members) = value.as_object_mut() {
                let html = one.content.as_ref().and_then(|content| content.cleaned_html());
                members.insert("html".to_owned(), json!(html));
            }
            self.tense.fix(&mut value);
            value
        };
        let batch = self.draft.transactions.iter().take(LIST_MAX);
        let batch = batch.map(|one| with_html(one, self.transaction(one))).collect();
        [("transaction", with_html(transaction, self.whole(transaction))), ("batch", batch)]
    }

    /// Returns the first of the ticket's messages and the newest, with those that the request has added so far; comments only
    /// for mail that is sent as a comment.
    pub fn messages(&self, comments: bool) -> Value {
        let past = self.draft.situation.messages.iter().map(|message| {
            let shown = json!({
                "type": message.transaction_type.as_str(),
                "content": self.content(&message.content, message.is_cut),
                "creator": self.username(Some(message.creator)),
                "created_at": date(message.created_at),
            });
            (message.transaction_type, shown)
        });
        let added = self.draft.transactions.iter().filter_map(|transaction| {
            let content = transaction.content.as_ref()?;
            let shown = json!({
                "type": transaction.transaction_type.as_str(),
                "content": self.content(&content.body, false),
                "creator": self.username(Some(transaction.creator)),
                "created_at": self.time(transaction.created_at),
            });
            Some((transaction.transaction_type, shown))
        });
        let is_shown = |kind: TransactionType| comments || kind != TransactionType::Comment;
        let mut messages: Vec<Value> =
            past.chain(added).filter(|(kind, _)| is_shown(*kind)).map(|(_, shown)| shown).collect();
        let newest = messages.len().saturating_sub(NEWEST_MAX).max(1);
        messages.drain(1.min(messages.len())..newest.min(messages.len()));
        Value::Array(messages)
    }

    /// The text of a message, cut at [`MESSAGE_MAX`] with a mark that says where the rest is.
    fn content(&self, body: &str, is_cut: bool) -> Value {
        let body = self.tense.fixed(Some(body)).unwrap_or(body);
        if !is_cut && body.len() <= MESSAGE_MAX {
            return json!(body);
        }
        let mark = format!("\n[{}]", rest_at("This message", &self.url()));
        json!(cut(body, MESSAGE_MAX, &mark))
    }

    /// Returns `transaction` for a mail: with all of its text.
    pub fn whole(&self, transaction: &Transaction) -> Value {
        let mut value = self.transaction(transaction);
        let body = |content: &Content| json!(self.tense.fixed(Some(&content.body)));
        if let Some(members) = value.as_object_mut() {
            members.insert("content".to_owned(), json!(transaction.content.as_ref().map(body)));
        }
        self.tense.fix(&mut value);
        value
    }

    /// Returns the sentence at the end of a mail that is cut.
    pub fn mail_mark(&self) -> String {
        format!("[{}]", rest_at("This mail", &self.url()))
    }

    fn ticket(&self) -> Value {
        let ticket = &self.draft.ticket;
        let time = |time: Option<OffsetDateTime>| time.map(|time| self.time(time));
        json!({
            "id": self.id(ticket.id.0),
            "number": self.number(),
            "url": self.url(),
            "subject": ticket.subject,
            "status": ticket.status,
            "priority": ticket.priority,
            "queue": self.draft.queue_now().map(|queue| queue.name.clone()).unwrap_or_default(),
            "owner": self.person(ticket.owner),
            "creator": self.person(Some(ticket.creator)),
            "requestors": self.watchers(Role::Requestor),
            "cc": self.watchers(Role::Cc),
            "admin_cc": self.watchers(Role::AdminCc),
            "requestor_addresses": self.addresses(Role::Requestor),
            "cc_addresses": self.addresses(Role::Cc),
            "admin_cc_addresses": self.addresses(Role::AdminCc),
            "created_at": self.time(ticket.created_at),
            "updated_at": self.time(ticket.updated_at),
            "started_at": time(ticket.started_at),
            "resolved_at": time(ticket.resolved_at),
            "due_at": time(ticket.due_at),
            "told_at": time(ticket.told_at),
            "cf": self.fields(),
        })
    }

    /// The ticket's number, or its placeholder.
    fn number(&self) -> Value {
        let is_new = self.draft.situation.is_new();
        match self.draft.ticket.number {
            Some(number) if !(is_new && self.tense.is_fixed()) => json!(number),
            _ => json!(NEW_NUMBER),
        }
    }

    fn url(&self) -> String {
        let number = match self.number() {
            Value::Number(number) => number.to_string(),
            _ => "new".to_owned(),
        };
        self.draft.catalog.installation.ticket_url(number)
    }

    /// Returns the values of the fields of the ticket's queue. A field of another queue is undefined.
    fn fields(&self) -> Value {
        let Ok(queue) = self.draft.queue_now() else { return Value::Null };
        let fields = queue.custom_fields.iter().filter_map(|id| self.draft.catalog.fields.get(*id));
        let values = fields.map(|field| {
            let values = self.draft.ticket.values_of(field.id);
            let value = if !field.is_multiple() {
                json!(values.first())
            } else {
                json!(values.get(..LIST_MAX).unwrap_or(values))
            };
            (field.name.clone(), value)
        });
        Value::Object(values.collect())
    }

    fn transaction(&self, transaction: &Transaction) -> Value {
        json!({
            "id": self.id(transaction.id.0),
            "type": transaction.transaction_type.as_str(),
            "field": transaction.field,
            "old_value": transaction.old_value,
            "new_value": transaction.new_value,
            "content": transaction.content.as_ref().map(|content| self.content(&content.body, false)),
            "description": self.description(transaction),
            "created_at": self.time(transaction.created_at),
            "creator": self.person(Some(transaction.creator)),
            "derived": transaction.derived,
        })
    }

    fn description(&self, transaction: &Transaction) -> String {
        let (old, new) = (transaction.old_value.as_deref(), transaction.new_value.as_deref());
        describe(transaction, self.tense.fixed(old), self.tense.fixed(new))
    }

    fn queue(&self) -> Value {
        match self.draft.queue_now() {
            Ok(queue) => json!({
                "id": queue.id,
                "name": queue.name,
                "description": queue.description,
                "correspond_address": queue.correspond_address,
                "comment_address": queue.comment_address,
            }),
            Err(_) => Value::Null,
        }
    }

    fn person(&self, id: Option<UserId>) -> Value {
        match id.and_then(|id| self.draft.user(id)) {
            Some(user) => person(user),
            None => json!({ "username": NOBODY, "name": NOBODY, "email": null }),
        }
    }

    fn username(&self, id: Option<UserId>) -> String {
        id.and_then(|id| self.draft.user(id)).map_or_else(|| NOBODY.to_owned(), |user| user.username.clone())
    }

    fn watchers(&self, role: Role) -> Vec<Value> {
        let one = |watcher: &Watcher| {
            let user = watcher.user.and_then(|id| self.draft.user(id));
            json!({
                "address": self.draft.watcher_address(watcher),
                "username": user.map(|user| user.username.clone()),
                "name": user.map(|user| user.display_name().to_owned()),
            })
        };
        self.draft.ticket.watchers(role).iter().take(LIST_MAX).map(one).collect()
    }

    fn addresses(&self, role: Role) -> String {
        let watchers = self.draft.ticket.watchers(role).iter().take(LIST_MAX);
        watchers.filter_map(|watcher| self.draft.watcher_address(watcher)).collect::<Vec<_>>().join(", ")
    }

    fn id(&self, id: uuid::Uuid) -> Value {
        match self.tense {
            Tense::Real => json!(id),
            Tense::Fixed(_) => json!(uuid::Uuid::nil()),
        }
    }

    fn time(&self, time: OffsetDateTime) -> String {
        let is_request = time == self.draft.context.now;
        date(if is_request && self.tense.is_fixed() { FIXED_TIME } else { time })
    }
}

fn person(user: &User) -> Value {
    json!({ "username": user.username, "name": user.display_name(), "email": user.email })
}

fn rest_at(what: &str, url: &str) -> String {
    format!("{what} is longer; read all of it at {url}")
}

/// Describes a transaction in words. RT: `RT::Transaction::BriefDescription`.
fn describe(transaction: &Transaction, old: Option<&str>, new: Option<&str>) -> String {
    let field = transaction.field.as_deref().unwrap_or_default();
    match (&transaction.change, old, new) {
        (Change::Create(_), ..) => "Ticket created".to_owned(),
        (Change::Import(_), ..) => "Ticket imported".to_owned(),
        (Change::Correspond, ..) => "Correspondence added".to_owned(),
        (Change::Comment, ..) => "Comments added".to_owned(),
        (Change::Status { old, new, .. }, ..) => format!("Status changed from {old} to {new}"),
        (Change::AddWatcher { .. }, _, Some(who)) => format!("{field} {who} added"),
        (Change::DelWatcher { .. }, Some(who), _) => format!("{field} {who} deleted"),
        (Change::CustomField { .. }, None, Some(new)) => format!("{field} {new} added"),
        (Change::CustomField { .. }, Some(old), None) => format!("{field} {old} deleted"),
        (Change::SystemError { .. }, _, Some(what)) => format!("System error: {what}"),
        (
            Change::Due { .. } | Change::Started { .. } | Change::Resolved { .. } | Change::Told { .. },
            old,
            new,
        ) => match (old.map(readable), new.map(readable)) {
            (Some(old), Some(new)) => format!("{field} changed from {old} to {new}"),
            (None, Some(new)) => format!("{field} set to {new}"),
            (Some(old), None) => format!("{field} {old} deleted"),
            (None, None) => transaction.transaction_type.to_string(),
        },
        (Change::Outcome(outcome), ..) => {
            format!("{} {}", transaction.transaction_type, outcome.to.join(", "))
        }
        (_, Some(old), Some(new)) => format!("{field} changed from {} to {}", quoted(old), quoted(new)),
        (_, None, Some(new)) => format!("{field} set to {}", quoted(new)),
        (_, Some(old), None) => format!("{field} {} deleted", quoted(old)),
        _ => transaction.transaction_type.to_string(),
    }
}

/// Writes a time as people do; another text stays as it is.
fn readable(time: &str) -> String {
    let format = format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");
    let shown = OffsetDateTime::parse(time, &Rfc3339).ok().and_then(|time| time.format(&format).ok());
    shown.unwrap_or_else(|| quoted(time))
}

fn quoted(value: &str) -> String {
    format!("'{value}'")
}

/// Whether two addresses are the same for mail.
pub(super) fn same_address(one: &str, other: &str) -> bool {
    text::fold(one) == text::fold(other)
}
