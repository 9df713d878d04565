//! The JSON of responses: one view of each object, whether it was just planned or is read.

mod deliveries;

pub use deliveries::*;

use crate::extract::ExplainWhat;
use crate::schema::WhyTree;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tessera_core::desk::changes::{AddedTransaction, FiredScrip, QueuedDelivery, ScripAtVersion};
use tessera_core::desk::reads::Recorded;
use tessera_core::desk::{Committed, Prepared};
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
    /// The number that people use; null in the preview of a create.
    pub number: Option<i64>,
    /// One line.
    pub subject: String,
    /// The queue that the ticket is in.
    pub queue: QueueRef,
    /// A status of its queue's lifecycle.
    pub status: String,
    /// A username; null if nobody owns the ticket.
    pub owner: Option<String>,
    /// A username.
    pub creator: String,
    /// Larger is more urgent.
    pub priority: i32,
    /// The people who asked.
    pub requestors: Vec<Person>,
    /// The people who get the replies that the requestor gets.
    pub cc: Vec<Person>,
    /// The people who get everything, comments included.
    pub admin_cc: Vec<Person>,
    /// The fields of the queue by name, in the order of the queue: a string or null, or an array for fields with several values.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub custom_fields: FieldValues,
    /// When the ticket was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time of the last numbered transaction.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When the ticket first left an initial status.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When the ticket last became inactive.
    #[serde(with = "time::serde::rfc3339::option")]
    pub resolved_at: Option<OffsetDateTime>,
    /// When the ticket should be done.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// When a reply was last sent to the requestor.
    #[serde(with = "time::serde::rfc3339::option")]
    pub told_at: Option<OffsetDateTime>,
    /// The number of the last numbered transaction; also the ETag.
    pub version: i64,
}

/// The values of custom fields by name, in the order of their queue.
#[derive(Debug, Clone, Default)]
pub struct FieldValues(pub Vec<(String, Value)>);

impl Serialize for FieldValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The members of a ticket, in the order of the columns of an export.
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

/// A reference to a queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueRef {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: QueueId,
    /// Its name.
    pub name: String,
}

/// A person on a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Person {
    /// The email address, if there is one.
    pub address: Option<String>,
    /// The username, if the person is a user.
    pub username: Option<String>,
}

/// A reference to a version of a scrip.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ScripRef {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ScripId,
    /// The name at that version.
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
    /// The position in the history, from 1; null for the outcome of a delivery.
    pub seq: Option<i64>,
    /// `Create`, `Status`, `Set` and so on.
    pub transaction_type: String,
    /// The column or custom field that changed.
    pub field: Option<String>,
    /// The old value, for people.
    pub old_value: Option<String>,
    /// The new value, for people.
    pub new_value: Option<String>,
    /// The exact change, for programs.
    #[schema(value_type = Object)]
    pub data: Value,
    /// The message of a Create, Correspond or Comment: its text, also if it was sent as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The type that the message was sent as: `text/plain` or `text/html`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The username of the person who made the change; `tessera` for a scrip.
    pub creator: String,
    /// The time of the change.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Whether it follows from another change by a rule of tickets, such as Started.
    pub derived: bool,
    /// The transaction that caused it.
    #[schema(value_type = Option<Uuid>)]
    pub caused_by: Option<TransactionId>,
    /// The scrip that made it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrip: Option<ScripRef>,
    /// The request that it belongs to.
    #[schema(value_type = Uuid)]
    pub request: RequestId,
}

/// A scrip that had an effect, would have had one, or failed to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScripFired {
    /// The scrip.
    pub scrip: ScripRef,
    /// The version of the scrip.
    pub version: i32,
    /// `TransactionCreate` or `TransactionBatch`.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// The type of its action.
    pub action_type: String,
    /// `fired`, `refused`, `failed`, `stopped`, `shadow`.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// The deliveries that it queued.
    #[schema(value_type = Vec<Uuid>)]
    pub delivery_ids: Vec<DeliveryId>,
    /// The effects that a scrip in shadow would have had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would: Vec<Value>,
}

/// A scrip that was considered, with the reason for its verdict.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScripConsidered {
    /// The scrip.
    pub scrip: ScripRef,
    /// The version of the scrip.
    pub version: i32,
    /// `TransactionCreate` or `TransactionBatch`.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// The transaction that it was tried on; null if it was not a candidate for any.
    #[schema(value_type = Option<Uuid>)]
    pub transaction: Option<TransactionId>,
    /// `fired`, `not_applicable`, `declined`, `shadow`, `refused`, `failed` or `stopped`.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// Each predicate with the expected and the actual value.
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

/// A committed change.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changed {
    /// The ticket after the change.
    pub ticket: Ticket,
    /// The history that the change added.
    pub transactions: Vec<Transaction>,
    /// The scrips that fired, were refused, failed, were stopped, or are in shadow.
    pub scrips_fired: Vec<ScripFired>,
    /// The deliveries that the change queued.
    pub deliveries: Vec<DeliveryRef>,
    /// The hash of the plan: 64 hex digits.
    pub plan_hash: String,
}

/// The plan of a change that was not committed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Preview {
    /// The ticket after the change.
    pub ticket: Ticket,
    /// The history that the change would add.
    pub transactions: Vec<Transaction>,
    /// The scrips that would fire, be refused, fail or be stopped, or are in shadow.
    pub scrips_fired: Vec<ScripFired>,
    /// The deliveries that would be queued, with the messages exactly as they would be sent.
    pub deliveries: Vec<Delivery>,
    /// The hash of the plan: 64 hex digits. Send it as `If-Plan` to commit exactly this plan.
    pub plan_hash: String,
    /// Every scrip that was considered, in order; with `explain=all`, followed by all others.
    pub scrips_considered: Vec<ScripConsidered>,
}

impl Ticket {
    /// The view of a ticket.
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
            custom_fields: FieldValues(names.fields(ticket).map(value).collect()),
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

impl From<ScripAtVersion> for ScripRef {
    fn from((id, name, version): ScripAtVersion) -> Self {
        Self { id, name, version }
    }
}

impl Transaction {
    /// A transaction of a plan, whether it is committed or only previewed.
    fn planned(added: &AddedTransaction, names: Names<'_>) -> Self {
        let AddedTransaction { transaction, scrip } = added;
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
            scrip: scrip.clone().map(ScripRef::from),
            request: transaction.request,
        }
    }
}

impl From<FiredScrip> for ScripFired {
    fn from(fired: FiredScrip) -> Self {
        Self {
            version: fired.scrip.2,
            scrip: fired.scrip.into(),
            stage: fired.stage,
            action_type: fired.action_type,
            verdict: fired.verdict,
            delivery_ids: fired.deliveries,
            would: fired.would,
        }
    }
}

impl From<QueuedDelivery> for DeliveryRef {
    fn from(queued: QueuedDelivery) -> Self {
        let state = if queued.is_held { DeliveryState::Held } else { DeliveryState::Available };
        Self {
            id: queued.id,
            kind: queued.kind,
            scrip: queued.scrip.map(ScripRef::from),
            state: state.as_str().to_owned(),
        }
    }
}

impl Changed {
    /// The answer to a change, committed now or replayed.
    pub fn of(committed: &Committed) -> Self {
        let (summary, names) = (&committed.summary, committed.names());
        Self {
            ticket: Ticket::of(&summary.ticket, names),
            transactions: summary.transactions.iter().map(|one| Transaction::planned(one, names)).collect(),
            scrips_fired: summary.scrips.iter().cloned().map(ScripFired::from).collect(),
            deliveries: summary.deliveries.iter().cloned().map(DeliveryRef::from).collect(),
            plan_hash: summary.plan_hash.to_string(),
        }
    }
}

impl Preview {
    /// The response to a preview; with `explain`, it includes the scrips that were not candidates.
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
            passes: &plan.passes,
        };
        let others = explain.map(|ExplainWhat::All| bystanders(&prepared.catalog, done));
        let others = others.into_iter().flatten().map(ScripConsidered::from);
        let considered = plan.evaluations.iter().cloned().map(ScripConsidered::from);
        let names = prepared.names();
        let transactions = plan.transactions.iter().map(|one| AddedTransaction::of(one, &prepared.catalog));
        Self {
            ticket: Ticket::of(&plan.ticket, names),
            transactions: transactions.map(|one| Transaction::planned(&one, names)).collect(),
            scrips_fired: FiredScrip::all(&plan.evaluations).into_iter().map(ScripFired::from).collect(),
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
            scrip: row.scrip.map(ScripRef::from),
            request: row.request,
        }
    }
}
