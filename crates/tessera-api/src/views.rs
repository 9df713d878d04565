//! The JSON of answers: one view of each thing, whether it was just planned or is read.

mod deliveries;

pub use deliveries::*;

use crate::extract::ExplainWhat;
use crate::schema::WhyTree;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tessera_core::db::history::Recorded;
use tessera_core::desk::Prepared;
use tessera_core::models::delivery::DeliveryState;
use tessera_core::models::{
    self, DeliveryId, QueueId, RequestId, Role, ScripId, TicketId, TransactionId, Why,
};
use tessera_core::plan::Names;
use tessera_core::plan::explain::{Bystander, Done, bystanders};
use tessera_core::scrip::evaluation::{Evaluation, Stage, Verdict};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ticket {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: TicketId,
    /// What people say; null in the preview of a create.
    pub number: Option<i64>,
    /// One line.
    pub subject: String,
    /// Where it is.
    pub queue: QueueRef,
    /// A status of its queue's lifecycle.
    pub status: String,
    /// A username; null = nobody.
    pub owner: Option<String>,
    /// A username.
    pub creator: String,
    /// Larger is more urgent.
    pub priority: i32,
    /// Who asked.
    pub requestors: Vec<Person>,
    /// Who is told what the requestor is told.
    pub cc: Vec<Person>,
    /// Who is told everything.
    pub admin_cc: Vec<Person>,
    /// By name, the fields of its queue: a text or null, for several values a list.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub custom_fields: BTreeMap<String, Value>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its last numbered transaction was made.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When it first left an initial status.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it last became inactive.
    #[serde(with = "time::serde::rfc3339::option")]
    pub resolved_at: Option<OffsetDateTime>,
    /// When it should be done.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// When the requestor was last written to.
    #[serde(with = "time::serde::rfc3339::option")]
    pub told_at: Option<OffsetDateTime>,
    /// The ETag: the number of its last numbered transaction.
    pub version: i64,
}

/// The members of a ticket, in the order of a table's columns.
pub const TICKET_MEMBERS: [&str; 19] = [
    "number",
    "id",
    "subject",
    "queue",
    "status",
    "owner",
    "creator",
    "priority",
    "requestors",
    "cc",
    "admin_cc",
    "custom_fields",
    "created_at",
    "updated_at",
    "started_at",
    "resolved_at",
    "due_at",
    "told_at",
    "version",
];

/// A queue, named.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueRef {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: QueueId,
    /// Its name.
    pub name: String,
}

/// A person of a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Person {
    /// Their mail address, if they have one.
    pub address: Option<String>,
    /// Their username, if they are a user.
    pub username: Option<String>,
}

/// A scrip, named.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ScripRef {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ScripId,
    /// Its name at that version.
    pub name: String,
    /// The version.
    pub version: i32,
}

/// A line of a ticket's history.
#[derive(Debug, Serialize, ToSchema)]
pub struct Transaction {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: TransactionId,
    /// The ticket.
    #[schema(value_type = Uuid)]
    pub ticket: TicketId,
    /// Its place in the history, from 1; null for what became of a delivery.
    pub seq: Option<i64>,
    /// `Create`, `Status`, `Set` and so on.
    pub transaction_type: String,
    /// The column or field that changed.
    pub field: Option<String>,
    /// The readable old value.
    pub old_value: Option<String>,
    /// The readable new value.
    pub new_value: Option<String>,
    /// The exact change.
    #[schema(value_type = Object)]
    pub data: Value,
    /// The message, of Create, Correspond and Comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// `text/plain` or `text/html`, where there is a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// A username.
    pub creator: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Followed from another change by a rule of tickets.
    pub derived: bool,
    /// The transaction that caused it.
    #[schema(value_type = Option<Uuid>)]
    pub caused_by: Option<TransactionId>,
    /// The scrip that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrip: Option<ScripRef>,
    /// The request it belongs to.
    #[schema(value_type = Uuid)]
    pub request: RequestId,
}

/// A scrip that did something, would have, or could not.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScripFired {
    /// The scrip.
    pub scrip: ScripRef,
    /// Its version.
    pub version: i32,
    /// `TransactionCreate` or `TransactionBatch`.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// The type of its action.
    pub action_type: String,
    /// `fired`, `refused`, `failed`, `stopped`, `shadow`.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// The deliveries that it made.
    #[schema(value_type = Vec<Uuid>)]
    pub delivery_ids: Vec<DeliveryId>,
    /// What it would have done, for a scrip on trial.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would: Vec<Value>,
}

/// A scrip that was considered, and why it did what it did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScripConsidered {
    /// The scrip.
    pub scrip: ScripRef,
    /// Its version.
    pub version: i32,
    /// `TransactionCreate` or `TransactionBatch`.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// The transaction it was tried on; null where it was no candidate for any.
    #[schema(value_type = Option<Uuid>)]
    pub transaction: Option<TransactionId>,
    /// What became of it.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// Each predicate with what was expected and found.
    #[schema(value_type = WhyTree)]
    pub why: Why,
}

impl From<Evaluation> for ScripConsidered {
    fn from(evaluation: Evaluation) -> Self {
        Self {
            scrip: ScripRef { id: evaluation.scrip, name: evaluation.name, version: evaluation.version },
            version: evaluation.version,
            stage: evaluation.stage,
            transaction: Some(evaluation.transaction),
            verdict: evaluation.verdict,
            why: evaluation.why,
        }
    }
}

impl From<Bystander<'_>> for ScripConsidered {
    fn from(bystander: Bystander<'_>) -> Self {
        let scrip = bystander.scrip;
        Self {
            scrip: ScripRef { id: scrip.id, name: scrip.name.clone(), version: scrip.version },
            version: scrip.version,
            stage: bystander.stage,
            transaction: bystander.transaction,
            verdict: Verdict::NotApplicable,
            why: bystander.why,
        }
    }
}

/// What a change did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changed {
    /// The ticket after.
    pub ticket: Ticket,
    /// What was added to its history.
    pub transactions: Vec<Transaction>,
    /// Scrips that fired, were refused, failed, were stopped, or are on trial.
    pub scrips_fired: Vec<ScripFired>,
    /// What leaves.
    pub deliveries: Vec<DeliveryRef>,
    /// Over all of this; 64 hex digits.
    pub plan_hash: String,
}

/// What a change would do. Nothing else happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Preview {
    /// The ticket after.
    pub ticket: Ticket,
    /// What would be added to its history.
    pub transactions: Vec<Transaction>,
    /// Scrips that would fire, be refused, fail, be stopped, or are on trial.
    pub scrips_fired: Vec<ScripFired>,
    /// What would leave, as it would leave.
    pub deliveries: Vec<Delivery>,
    /// Send it as `If-Plan` to commit exactly this; 64 hex digits.
    pub plan_hash: String,
    /// Every scrip considered, in order; with `explain=all` then every other one.
    pub scrips_considered: Vec<ScripConsidered>,
}

impl Ticket {
    /// A ticket, with its names.
    pub fn of(ticket: &models::Ticket, names: Names<'_>) -> Self {
        let value = |(field, values): (&models::CustomField, &[String])| {
            let value = if field.is_multiple() {
                Value::from(values.to_vec())
            } else {
                Value::from(values.first().cloned())
            };
            (field.name.clone(), value)
        };
        let people = |role| ticket.watchers(role).iter().map(|watcher| Person::of(watcher, names)).collect();
        Self {
            id: ticket.id,
            number: ticket.number,
            subject: ticket.subject.clone(),
            queue: QueueRef { id: ticket.queue, name: names.queue(ticket.queue).to_owned() },
            status: ticket.status.clone(),
            owner: ticket.owner.map(|owner| names.username(owner)),
            creator: names.username(ticket.creator),
            priority: ticket.priority,
            requestors: people(Role::Requestor),
            cc: people(Role::Cc),
            admin_cc: people(Role::AdminCc),
            custom_fields: names.fields(ticket).map(value).collect(),
            created_at: ticket.created_at,
            updated_at: ticket.updated_at,
            started_at: ticket.started_at,
            resolved_at: ticket.resolved_at,
            due_at: ticket.due_at,
            told_at: ticket.told_at,
            version: ticket.version,
        }
    }
}

impl Person {
    fn of(watcher: &models::Watcher, names: Names<'_>) -> Self {
        let user = watcher.user.and_then(|id| names.user(id));
        Self {
            address: user.map_or_else(|| watcher.address.clone(), |user| user.email.clone()),
            username: user.map(|user| user.username.clone()),
        }
    }
}

impl From<&Evaluation> for ScripRef {
    fn from(evaluation: &Evaluation) -> Self {
        Self { id: evaluation.scrip, name: evaluation.name.clone(), version: evaluation.version }
    }
}

impl Transaction {
    /// A transaction that was just planned.
    fn planned(transaction: &models::Transaction, names: Names<'_>) -> Self {
        let scrip = transaction.scrip_version.and_then(|version| names.catalog.scrip_of_version(version));
        Self {
            id: transaction.id,
            ticket: transaction.ticket,
            seq: transaction.seq,
            transaction_type: transaction.transaction_type.to_string(),
            field: transaction.field.clone(),
            old_value: transaction.old_value.clone(),
            new_value: transaction.new_value.clone(),
            data: serde_json::to_value(&transaction.change).unwrap_or_default(),
            content: transaction.content.as_ref().map(|content| content.body.clone()),
            content_type: transaction.content.as_ref().map(|content| content.content_type.clone()),
            creator: names.username(transaction.creator),
            created_at: transaction.created_at,
            derived: transaction.derived,
            caused_by: transaction.caused_by,
            scrip: scrip.map(|scrip| ScripRef {
                id: scrip.id,
                name: scrip.name.clone(),
                version: scrip.version,
            }),
            request: transaction.request,
        }
    }
}

fn planned(prepared: &Prepared) -> Vec<Transaction> {
    let names = prepared.names();
    prepared.plan.transactions.iter().map(|one| Transaction::planned(one, names)).collect()
}

fn fired(evaluations: &[Evaluation]) -> Vec<ScripFired> {
    let notable = evaluations.iter().filter(|evaluation| evaluation.verdict.is_notable());
    notable
        .map(|evaluation| ScripFired {
            scrip: evaluation.into(),
            version: evaluation.version,
            stage: evaluation.stage,
            action_type: evaluation.action_type.clone(),
            verdict: evaluation.verdict,
            delivery_ids: evaluation.deliveries.clone(),
            would: evaluation.would.clone(),
        })
        .collect()
}

impl Changed {
    /// The answer to a change.
    pub fn of(prepared: &Prepared) -> Self {
        let plan = &prepared.plan;
        Self {
            ticket: Ticket::of(&plan.ticket, prepared.names()),
            transactions: planned(prepared),
            scrips_fired: fired(&plan.evaluations),
            deliveries: plan
                .deliveries
                .iter()
                .map(|delivery| {
                    let kind = delivery.payload.kind();
                    let is_held = prepared.catalog.lacks_connector(&kind);
                    DeliveryRef {
                        id: delivery.id,
                        kind: kind.to_string(),
                        scrip: plan.maker(delivery.id).map(ScripRef::from),
                        state: if is_held { DeliveryState::Held } else { DeliveryState::Available }
                            .as_str()
                            .to_owned(),
                    }
                })
                .collect(),
            plan_hash: plan.hash.to_string(),
        }
    }
}

impl Preview {
    /// The answer to a preview, with the scrips that were no candidates when all is to be explained.
    pub fn of(prepared: &Prepared, explain: Option<ExplainWhat>) -> Self {
        let plan = &prepared.plan;
        let done = Done {
            actor: &prepared.context.actor,
            channel: plan.channel,
            now: plan.now,
            people: &prepared.situation.people,
            before: plan.before.as_ref(),
            transactions: &plan.transactions,
            evaluations: &plan.evaluations,
        };
        let others = explain.map(|ExplainWhat::All| bystanders(&prepared.catalog, done));
        let others = others.into_iter().flatten().map(ScripConsidered::from);
        let considered = plan.evaluations.iter().cloned().map(ScripConsidered::from);
        Self {
            ticket: Ticket::of(&plan.ticket, prepared.names()),
            transactions: planned(prepared),
            scrips_fired: fired(&plan.evaluations),
            deliveries: plan
                .deliveries
                .iter()
                .map(|one| Delivery {
                    id: one.id,
                    scrip: plan.maker(one.id).map(ScripRef::from),
                    message: message(&one.payload),
                    hold: prepared
                        .catalog
                        .lacks_connector(&one.payload.kind())
                        .then(|| HoldView::without_connector(&one.payload.endpoint())),
                })
                .collect(),
            plan_hash: plan.hash.to_string(),
            scrips_considered: considered.chain(others).collect(),
        }
    }
}

impl From<Recorded> for Transaction {
    fn from(row: Recorded) -> Self {
        let (content, content_type) = row.content.map(|content| (content.body, content.content_type)).unzip();
        Self {
            id: row.id,
            ticket: row.ticket,
            seq: row.seq,
            transaction_type: row.transaction_type,
            field: row.field,
            old_value: row.old_value,
            new_value: row.new_value,
            data: row.data,
            content,
            content_type,
            creator: row.creator,
            created_at: row.created_at,
            derived: row.derived,
            caused_by: row.caused_by,
            scrip: row.scrip.map(|(id, name, version)| ScripRef { id, name, version }),
            request: row.request,
        }
    }
}
