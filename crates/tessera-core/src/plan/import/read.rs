//! Reads a line: parses the JSON, checks what needs no database, and computes the key that prevents a second import.

use super::who::{maker_fault, person_fault};
use super::{AHEAD_MAX, FIRST, Line, NUMBER_MAX, Past, TRANSACTIONS_MAX};
use crate::error::Fault;
use crate::models::TransactionType;
use crate::models::custom_field::COUNT_MAX;
use crate::models::json::{self, Unique};
use crate::models::text::{CONTENT_MAX, NAME_MAX, fault, fold, line_fault, list, quote};
use crate::plan::catalog::FIELDS_MAX;
use crate::plan::draft::{WATCHERS_MAX, check_subject};
use crate::query::words::vector;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use time::{Duration, OffsetDateTime};

/// The content types of messages.
const CONTENT_TYPES: [&str; 2] = ["text/plain", "text/html"];

/// A line that has been read, with what can be computed from it alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The ticket, with its transactions ordered by time.
    pub line: Line,
    /// The key that prevents a second import.
    pub key: Key,
    /// The words of the subject, for full-text search.
    pub subject_words: String,
    /// The words of each transaction's content, for full-text search.
    pub content_words: Vec<String>,
}

/// The identity of a line. A line whose `key` was imported before is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The given ticket number in 8 bytes, or the SHA-256 of the file name, the line number and the line.
    pub key: Vec<u8>,
    /// The first 16 bytes of the SHA-256 of the line.
    pub line: Vec<u8>,
}

impl Read {
    /// Reads line `number`, from 1, of a file of this name.
    ///
    /// # Errors
    /// All faults, with paths such as `transactions[3].type`; only the first fault of invalid JSON.
    pub fn of(file: &str, number: u64, bytes: &[u8], now: OffsetDateTime) -> Result<Self, Vec<Fault>> {
        let mut line = parse(bytes).map_err(|fault| vec![fault])?;
        let faults = look(&line, now);
        if !faults.is_empty() {
            return Err(faults);
        }
        // A history is in order of time; transactions of the same time keep the order of the line.
        line.transactions.sort_by_key(|past| past.created_at);
        let content = |past: &Past| past.message().map(|content| vector(&content.body)).unwrap_or_default();
        Ok(Self {
            key: Key::of(file, number, bytes, line.number),
            subject_words: vector(&line.subject),
            content_words: line.transactions.iter().map(content).collect(),
            line,
        })
    }
}

/// Returns the ticket number of a valid line, to find the highest number before the import starts.
pub fn number_of(bytes: &[u8], now: OffsetDateTime) -> Option<i64> {
    let line = parse(bytes).ok()?;
    line.number.filter(|_| look(&line, now).is_empty())
}

impl Key {
    fn of(file: &str, number: u64, bytes: &[u8], given: Option<i64>) -> Self {
        let line = Sha256::digest(bytes).iter().take(16).copied().collect();
        let key = match given {
            Some(given) => given.to_be_bytes().to_vec(),
            None => {
                let mut key = Sha256::new();
                key.update(file.as_bytes());
                key.update([0]);
                key.update(number.to_be_bytes());
                key.update(bytes);
                key.finalize().to_vec()
            }
        };
        Self { key, line }
    }
}

/// Parses the JSON of a line. Tracking the path of an error is slow, so only a line that fails is parsed with it.
fn parse(bytes: &[u8]) -> Result<Line, Fault> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let at = error.valid_up_to() + 1;
        let message = format!(
            "is not in UTF-8 from byte {at} on; convert the file, for example with `iconv -f WINDOWS-1252 -t UTF-8`"
        );
        return Err(Fault::new("line", message).at(1, at));
    }
    // serde would also accept a list of the members' values as an object.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Fault::new(
            "line",
            "is not a JSON object; every line must be one, such as {\"queue\": …, \"subject\": …}",
        ));
    }
    let fast: serde_json::Result<Line> = json::from_slice(bytes);
    fast.map_err(|first| {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let Err(error) = serde_path_to_error::deserialize::<_, Line>(Unique(&mut reader)) else {
            return syntax(&first);
        };
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_syntax() || inner.is_eof() {
            return syntax(&inner);
        }
        let message = inner.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        // The path of a missing or unknown member does not include the member.
        let named = message.split('`').nth(1).filter(|_| message.contains("field `"));
        let path = match (path.as_str(), named) {
            (".", Some(named)) => named.to_owned(),
            (path, Some(named)) if !path.ends_with(named) => format!("{path}.{named}"),
            (path, _) => path.to_owned(),
        };
        Fault::new(path, message).at(1, inner.column())
    })
}

fn syntax(error: &serde_json::Error) -> Fault {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Fault::new("line", format!("is not JSON: {message}, at byte {}", error.column())).at(1, error.column())
}

/// Checks everything that needs only the line and the current time. An import rejects a line with any of these faults.
pub fn look(line: &Line, now: OffsetDateTime) -> Vec<Fault> {
    let mut all = Vec::new();
    let faults = &mut all;
    if line.number.is_some_and(|number| !(1..=NUMBER_MAX).contains(&number)) {
        let message = format!("is not a valid ticket number; ticket numbers are 1 to {NUMBER_MAX}");
        faults.push(Fault::new("number", message));
    }
    let mut add =
        |field: &str, fault: Option<String>| faults.extend(fault.map(|words| Fault::new(field, words)));
    add("queue", line_fault(&line.queue, NAME_MAX).or_else(|| empty(&line.queue)));
    add("status", line_fault(&line.status, NAME_MAX).or_else(|| empty(&line.status)));
    add("creator", maker_fault(&line.creator));
    add("updated_by", line.updated_by.as_deref().and_then(maker_fault));
    add("created_at", past_fault(line.created_at, now));
    for (member, time) in [
        ("updated_at", line.updated_at),
        ("started_at", line.started_at),
        ("told_at", line.told_at),
        ("resolved_at", line.resolved_at),
    ] {
        add(
            member,
            time.and_then(|time| past_fault(time, now).or_else(|| order_fault(time, line.created_at))),
        );
    }
    add("due_at", line.due_at.and_then(first_fault));
    if let Err(error) = check_subject(&line.subject) {
        faults.extend_from_slice(error.faults());
    }
    look_at_people(line, faults);
    look_at_fields(line, faults);
    if line.transactions.len() > TRANSACTIONS_MAX {
        let message = format!("are {}; at most {TRANSACTIONS_MAX} are allowed", line.transactions.len());
        faults.push(Fault::new("transactions", message));
        return all;
    }
    for (at, past) in line.transactions.iter().enumerate() {
        look_at_past(past, &format!("transactions[{at}]"), now, faults);
    }
    all
}

fn look_at_people(line: &Line, faults: &mut Vec<Fault>) {
    for (role, people) in [("requestors", &line.requestors), ("cc", &line.cc), ("admin_cc", &line.admin_cc)] {
        if people.len() > WATCHERS_MAX {
            let message = format!("names {} people; at most {WATCHERS_MAX} are allowed", people.len());
            faults.push(Fault::new(role, message));
            continue;
        }
        for (at, word) in people.iter().enumerate() {
            faults.extend(person_fault(word).map(|message| Fault::new(format!("{role}[{at}]"), message)));
        }
    }
}

fn look_at_fields(line: &Line, faults: &mut Vec<Fault>) {
    if line.custom_fields.len() > FIELDS_MAX {
        let message = format!("names {} fields; at most {FIELDS_MAX} are allowed", line.custom_fields.len());
        faults.push(Fault::new("custom_fields", message));
        return;
    }
    let most = usize::try_from(COUNT_MAX).unwrap_or(usize::MAX);
    let mut names = HashSet::new();
    for (name, values) in &line.custom_fields {
        if let Some(fault) = line_fault(name, NAME_MAX) {
            faults.push(Fault::new("custom_fields", format!("{} {fault}", quote(name))));
            continue;
        }
        let place = || format!("custom_fields.{name}");
        if !names.insert(fold(name)) {
            faults.push(Fault::new(place(), "occurs twice (names ignore case); remove one"));
        }
        let count = values.as_slice().len();
        if count > most {
            faults.push(Fault::new(place(), format!("has {count} values; at most {most} are allowed")));
        }
    }
}

fn look_at_past(past: &Past, place: &str, now: OffsetDateTime, faults: &mut Vec<Fault>) {
    let Past { r#type, created_at, creator, field, old_value, new_value, content, content_type } = past;
    let mut add = |member: &str, fault: Option<String>| {
        faults.extend(fault.map(|message| Fault::new(format!("{place}.{member}"), message)));
    };
    add("type", type_fault(r#type));
    add("created_at", past_fault(*created_at, now));
    add("creator", maker_fault(creator));
    add("field", field.as_deref().and_then(|field| line_fault(field, NAME_MAX)));
    // Values and subjects from another system may be longer than Tessera's own.
    let value = |value: &Option<String>| value.as_deref().and_then(|value| fault(value, CONTENT_MAX));
    add("old_value", value(old_value));
    add("new_value", value(new_value));
    add("content", content.as_deref().and_then(|content| fault(content, CONTENT_MAX)));
    let known = |word: &&String| !CONTENT_TYPES.contains(&word.as_str());
    add(
        "content_type",
        content_type.as_ref().filter(known).map(|word| {
            format!("{} is not a supported content type; use {}", quote(word), CONTENT_TYPES.join(" or "))
        }),
    );
}

/// `Import` is the type of the transaction that the import itself adds, so a line cannot have it.
fn type_fault(word: &str) -> Option<String> {
    let known = TransactionType::parse(word).filter(|kind| *kind != TransactionType::Import);
    known.is_none().then(|| {
        let types = TransactionType::ALL.into_iter().filter(|kind| *kind != TransactionType::Import);
        format!(
            "{} is not a transaction type; the types are {}",
            quote(word),
            list(types.map(TransactionType::as_str))
        )
    })
}

/// Rejects times in the future: a ticket's history never goes back in time, so later changes would get that time too. Rejects
/// also what is no time, but another system's way to write an unset date.
fn past_fault(time: OffsetDateTime, now: OffsetDateTime) -> Option<String> {
    let is_ahead = time > now.saturating_add(AHEAD_MAX);
    first_fault(time).or_else(|| is_ahead.then(|| "is in the future; write a time in the past".to_owned()))
}

fn first_fault(time: OffsetDateTime) -> Option<String> {
    (time < FIRST).then(|| {
        "is before 1970-01-02, when no ticket was; leave a date out if it is not set (1970-01-01T00:00:00Z \
         also means that, except for created_at)"
            .to_owned()
    })
}

/// Rejects a time before the ticket was created. Systems that store seconds cut off what is below them.
fn order_fault(time: OffsetDateTime, created_at: OffsetDateTime) -> Option<String> {
    (time.saturating_add(Duration::SECOND) <= created_at)
        .then(|| "is before created_at; correct one of them, or leave this one out".to_owned())
}

fn empty(text: &str) -> Option<String> {
    text.trim().is_empty().then(|| "is empty".to_owned())
}
