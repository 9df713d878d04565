//! Turns a line into rows: the ticket, its people and values, and a history that ends with an `Import` transaction.

use super::{Checked, Past, Read, Who};
use crate::error::Fault;
use crate::models::text::quote;
use crate::models::user::SYSTEM_USER;
use crate::models::{
    Change, CustomFieldId, Ids, RequestId, Role, Ticket, Transaction, TransactionId, TransactionType, UserId,
    Watcher,
};
use crate::plan::People;
use crate::plan::draft::role_field;
use std::borrow::Cow;
use time::OffsetDateTime;
use uuid::Uuid;

/// An imported ticket with all of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The ticket.
    pub ticket: Ticket,
    /// The values of its fields, with the ids of their rows.
    pub values: Vec<(Uuid, CustomFieldId, String)>,
    /// Its history, which ends with the `Import` transaction.
    pub transactions: Vec<Transaction>,
}

impl Checked {
    /// Returns the rows of a line. The ticket gets this number. All ids carry the times of the line, so that they sort by time.
    ///
    /// # Errors
    /// A person who is not a user and must be one.
    pub fn rows(
        self,
        read: &Read,
        number: i64,
        people: &People,
        request: RequestId,
        seed: u64,
    ) -> Result<Imported, Vec<Fault>> {
        let line = &read.line;
        let mut trail = Trail::new(line.created_at, seed);
        let mut faults = Vec::new();
        let past = &line.transactions;
        let last = past.last().map_or(line.created_at, |past| past.created_at.max(line.created_at));
        let mut ticket = Ticket {
            id: trail.draw(line.created_at),
            number: Some(number),
            version: i64::try_from(past.len()).unwrap_or(i64::MAX).saturating_add(1),
            subject: line.subject.clone(),
            queue: self.queue,
            status: self.status,
            status_class: self.status_class,
            owner: self.owner,
            creator: user(&line.creator, "creator", people, &mut faults),
            priority: line.priority,
            created_at: line.created_at,
            updated_at: line.updated_at.unwrap_or(last),
            started_at: line.started_at,
            resolved_at: line.resolved_at,
            due_at: line.due_at,
            told_at: line.told_at,
            requestors: Vec::new(),
            cc: Vec::new(),
            admin_cc: Vec::new(),
            values: self.values,
        };
        for (role, words) in
            [(Role::Requestor, &line.requestors), (Role::Cc, &line.cc), (Role::AdminCc, &line.admin_cc)]
        {
            *ticket.watchers_mut(role) = watchers(role, words, people, &mut trail, &mut faults);
        }
        let values = ticket.values.iter().flat_map(|(field, values)| {
            values.iter().map(|value| (*field, value.clone())).collect::<Vec<_>>()
        });
        let values = values.map(|(field, value)| (trail.draw(line.created_at), field, value)).collect();
        let mut history =
            History { ticket: &ticket, request, transactions: Vec::with_capacity(past.len() + 1) };
        for past in past {
            let creator = user(&past.creator, "transactions", people, &mut faults);
            history.push_past(past, creator, trail.draw(past.created_at));
        }
        let at = ticket.updated_at.max(last);
        // One of the other people is reported above.
        let mut reported = Vec::new();
        let of_line = if line.updated_by.is_some() { &mut faults } else { &mut reported };
        let updated_by = user(line.updated_by(), "updated_by", people, of_line);
        history.push_import(at, updated_by, trail.draw(at));
        let transactions = history.transactions;
        if faults.is_empty() { Ok(Imported { ticket, values, transactions }) } else { Err(faults) }
    }
}

/// The history being built.
struct History<'t> {
    ticket: &'t Ticket,
    request: RequestId,
    transactions: Vec<Transaction>,
}

impl History<'_> {
    fn push_past(&mut self, past: &Past, creator: UserId, id: TransactionId) {
        // The type was checked when the line was read.
        let kind = TransactionType::parse(&past.r#type).unwrap_or(TransactionType::Comment);
        let transaction = Transaction {
            field: past.field.clone(),
            old_value: past.old_value.clone(),
            new_value: past.new_value.clone(),
            content: past.message(),
            creator,
            ..self.line(id, kind, Change::Imported, past.created_at)
        };
        self.transactions.push(transaction);
    }

    /// Adds the last transaction. Its creator is the user who changed the ticket last, as for every other ticket.
    fn push_import(&mut self, at: OffsetDateTime, creator: UserId, id: TransactionId) {
        let change = Change::Import(Box::new(self.ticket.clone()));
        let transaction = Transaction { creator, ..self.line(id, TransactionType::Import, change, at) };
        self.transactions.push(transaction);
    }

    fn line(
        &self,
        id: TransactionId,
        kind: TransactionType,
        change: Change,
        at: OffsetDateTime,
    ) -> Transaction {
        let place = self.transactions.len() + 1;
        Transaction {
            id,
            ticket: self.ticket.id,
            seq: i64::try_from(place).ok(),
            transaction_type: kind,
            field: None,
            old_value: None,
            new_value: None,
            change,
            content: None,
            creator: SYSTEM_USER,
            created_at: at,
            derived: false,
            caused_by: None,
            scrip_version: None,
            request: self.request,
            batch_seq: i32::try_from(place).unwrap_or(i32::MAX),
        }
    }
}

fn user(word: &str, place: &str, people: &People, faults: &mut Vec<Fault>) -> UserId {
    let found = Who::parse(word).ok().and_then(|who| who.find(people)).map(|user| user.id);
    found.unwrap_or_else(|| {
        faults.push(Fault::new(place, not_created(word)));
        SYSTEM_USER
    })
}

fn not_created(word: &str) -> String {
    format!("{} is not a user, and creating one failed; create the user manually", quote(word))
}

/// The watchers of a role, each once. The address of a user stands for that user.
fn watchers(
    role: Role,
    words: &[String],
    people: &People,
    trail: &mut Trail,
    faults: &mut Vec<Fault>,
) -> Vec<Watcher> {
    let mut watchers: Vec<Watcher> = Vec::with_capacity(words.len());
    for word in words {
        let Ok(who) = Who::parse(word) else { continue };
        let found = who.find(people);
        // A user without an address gets no mail, so an address that a line gives stays.
        let user = found.filter(|user| user.email.is_some() || who.address.is_none()).map(|user| user.id);
        let wrong = match user {
            Some(SYSTEM_USER) => Some(format!("{word} is the system user and cannot watch a ticket")),
            None if found.is_none() && !who.is_bare => Some(not_created(word)),
            _ => None,
        };
        faults.extend(wrong.map(|message| Fault::new(role_field(role), message)));
        let address = who.address.filter(|_| user.is_none()).map(Cow::into_owned);
        let watcher = Watcher { id: trail.draw(trail.at), user, address };
        if !watchers.iter().any(|there| there.is_same_person(&watcher)) {
            watchers.push(watcher);
        }
    }
    watchers
}

/// Draws ids that carry increasing times. Ids of the same millisecond come from one source and so keep their order.
struct Trail {
    at: OffsetDateTime,
    ids: Ids,
    seed: u64,
}

impl Trail {
    fn new(at: OffsetDateTime, seed: u64) -> Self {
        Self { at, ids: Ids::new(at, seed), seed }
    }

    fn draw<I: From<Uuid>>(&mut self, at: OffsetDateTime) -> I {
        let millis = |time: OffsetDateTime| time.unix_timestamp_nanos().div_euclid(1_000_000);
        if millis(at) != millis(self.at) {
            // A different part of the same random sequence, so that no two sources of a ticket draw the same id.
            self.seed = self.seed.wrapping_add(0x5851_f42d_4c95_7f2d);
            self.ids = Ids::new(at, self.seed);
        }
        self.at = at;
        self.ids.draw()
    }
}
