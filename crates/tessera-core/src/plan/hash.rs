//! The plan's hash: SHA-256 over a canonical form of its effects, without ids, times and the number of a new ticket.

use super::Plan;
use super::words::Canonical;
use crate::models::{Change, Ticket, Transaction};
use crate::scrip::evaluation::{Evaluation, Verdict};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use time::OffsetDateTime;

/// A hash of a plan: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanHash(pub [u8; 32]);

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanHash({self})")
    }
}

impl FromStr for PlanHash {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text.trim().trim_matches('"'), &mut hash)?;
        Ok(Self(hash))
    }
}

impl Serialize for PlanHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PlanHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the hash of a plan's effects.
pub(super) fn hash(plan: &Plan, canonical: &Canonical) -> PlanHash {
    let form = Form { now: plan.now, fixed: &canonical.fixed, is_create: plan.before.is_none() };
    let notable = |evaluation: &&Evaluation| {
        matches!(evaluation.verdict, Verdict::Fired | Verdict::Refused | Verdict::Failed | Verdict::Stopped)
    };
    let document = json!({
        "ticket": form.ticket(&plan.ticket),
        "transactions": plan.transactions.iter().map(|one| form.transaction(one)).collect::<Vec<_>>(),
        "deliveries": canonical.deliveries,
        "verdicts": plan.evaluations.iter().filter(notable)
            .map(|one| json!([one.version_id, one.stage, one.verdict])).collect::<Vec<_>>(),
    });
    let mut hasher = Hasher(Sha256::new());
    hasher.value(&document);
    PlanHash(hasher.0.finalize().into())
}

/// Builds the canonical form: values that differ between two plans for the same request are left out or replaced.
struct Form<'p> {
    now: OffsetDateTime,
    /// Replacements for rendered texts that contain an id, a time or a new number.
    fixed: &'p HashMap<String, String>,
    is_create: bool,
}

impl Form<'_> {
    fn ticket(&self, ticket: &Ticket) -> Value {
        let people = |watchers: &[crate::models::Watcher]| -> Value {
            watchers.iter().map(|watcher| json!([watcher.user, watcher.address])).collect()
        };
        json!({
            "number": ticket.number.filter(|_| !self.is_create),
            "subject": self.text(&ticket.subject),
            "queue": ticket.queue,
            "status": ticket.status,
            "class": ticket.status_class,
            "owner": ticket.owner,
            "creator": ticket.creator,
            "priority": ticket.priority,
            "started_at": self.time(ticket.started_at),
            "resolved_at": self.time(ticket.resolved_at),
            "due_at": self.time(ticket.due_at),
            "told_at": self.time(ticket.told_at),
            "requestors": people(&ticket.requestors),
            "cc": people(&ticket.cc),
            "admin_cc": people(&ticket.admin_cc),
            "values": ticket.values.iter()
                .map(|(field, values)| (field.to_string(), values.iter().map(|value| self.text(value)).collect::<Value>()))
                .collect::<Map<_, _>>(),
        })
    }

    fn transaction(&self, transaction: &Transaction) -> Value {
        let content = transaction.content.as_ref().map(|content| match &content.html {
            None => json!([content.content_type, self.text(&content.body)]),
            Some(html) => json!([content.content_type, self.text(&content.body), html]),
        });
        json!([
            transaction.transaction_type,
            transaction.field,
            transaction.old_value.as_deref().map(|value| self.timeless(self.text(value))),
            transaction.new_value.as_deref().map(|value| self.timeless(self.text(value))),
            self.change(&transaction.change),
            content,
            transaction.derived,
            transaction.creator,
            transaction.scrip_version,
        ])
    }

    fn change(&self, change: &Change) -> Value {
        match change {
            // The initial ticket, in the same form as the ticket after: without ids and times.
            Change::Create(initial) => self.ticket(initial),
            Change::AddWatcher { role, watcher } | Change::DelWatcher { role, watcher } => {
                json!([role, watcher.user, watcher.address])
            }
            other => self.normal(serde_json::to_value(other).unwrap_or_default()),
        }
    }

    /// Replaces texts and times, at any depth of a value.
    fn normal(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.timeless(self.text(&text).to_owned())),
            Value::Array(items) => items.into_iter().map(|item| self.normal(item)).collect(),
            Value::Object(entries) => {
                entries.into_iter().map(|(key, value)| (key, self.normal(value))).collect()
            }
            other => other,
        }
    }

    fn text<'t>(&'t self, text: &'t str) -> &'t str {
        self.fixed.get(text).map_or(text, String::as_str)
    }

    fn timeless(&self, text: impl Into<String>) -> String {
        let text = text.into();
        if text == super::draft::date(self.now) { "now".to_owned() } else { text }
    }

    fn time(&self, time: Option<OffsetDateTime>) -> Option<String> {
        time.map(|time| {
            let text = super::draft::date(time);
            self.timeless(self.text(&text))
        })
    }
}

/// Adds a value to the hash, with keys sorted, so that the order of maps does not matter.
struct Hasher(Sha256);

impl Hasher {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.0.update(b"[");
                for item in items {
                    self.value(item);
                    self.0.update(b",");
                }
                self.0.update(b"]");
            }
            Value::Object(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                self.0.update(b"{");
                for (key, value) in entries {
                    self.value(&Value::String(key.clone()));
                    self.0.update(b":");
                    self.value(value);
                    self.0.update(b",");
                }
                self.0.update(b"}");
            }
            scalar => self.0.update(scalar.to_string().as_bytes()),
        }
    }
}
