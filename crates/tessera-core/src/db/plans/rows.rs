//! The rows of plans as columns, for the statements that write them.

use crate::models::delivery::Payload;
use crate::models::text::caseless;
use crate::models::{Change, Delivery, RequestId, Ticket, Transaction, UserId, Why};
use crate::plan::Plan;
use crate::query::words::vector;
use crate::scrip::evaluation::{Evaluation, Verdict};
use serde_json::Value;
use sqlx::types::Json;
use std::borrow::Cow;
use time::OffsetDateTime;
use uuid::Uuid;

/// Returns the part of the evaluations that is stored: complete for scrips that did or would do something, only the verdict
/// for those that declined, and nothing for those that did not apply, which follows from the configuration's version.
pub(super) fn trace(plan: &Plan) -> Option<Json<Vec<Cow<'_, Evaluation>>>> {
    let kept: Vec<_> = plan
        .evaluations
        .iter()
        .filter(|evaluation| evaluation.verdict != Verdict::NotApplicable)
        .map(|evaluation| match evaluation.verdict {
            Verdict::Declined => Cow::Owned(Evaluation { why: not_kept(), ..evaluation.clone() }),
            _ => Cow::Borrowed(evaluation),
        })
        .collect();
    if kept.is_empty() { None } else { Some(Json(kept)) }
}

/// The explanation that replaces that of a scrip that declined.
fn not_kept() -> Why {
    Why::leaf("not kept", Value::Null, Value::Null, false)
        .because("Only the verdict was stored. A preview of the same change shows the explanation.")
}

/// The columns of the tickets and requests of plans.
#[derive(Default)]
pub(super) struct Heads<'p> {
    pub id: Vec<Uuid>,
    pub version: Vec<i64>,
    pub n: Vec<i64>,
    pub subject: Vec<&'p str>,
    pub subject_folded: Vec<String>,
    pub subject_words: Vec<String>,
    pub queue: Vec<Uuid>,
    pub status: Vec<&'p str>,
    pub class: Vec<i8>,
    pub priority: Vec<i32>,
    pub owner: Vec<Option<Uuid>>,
    pub updated: Vec<OffsetDateTime>,
    pub started: Vec<Option<OffsetDateTime>>,
    pub resolved: Vec<Option<OffsetDateTime>>,
    pub due: Vec<Option<OffsetDateTime>>,
    pub told: Vec<Option<OffsetDateTime>>,
    pub request: Vec<Uuid>,
    pub hash: Vec<&'p [u8]>,
    pub evaluations: Vec<Option<Json<Vec<Cow<'p, Evaluation>>>>>,
}

impl<'p> Heads<'p> {
    pub(super) fn of(plans: &'p [Plan]) -> Self {
        let mut heads = Self::default();
        for plan in plans {
            heads.push(plan, &plan.ticket);
        }
        heads
    }

    fn push(&mut self, plan: &'p Plan, ticket: &'p Ticket) {
        self.id.push(ticket.id.0);
        self.version.push(plan.before.as_ref().map_or(0, |before| before.version));
        self.n.push(i64::try_from(plan.transactions.len()).unwrap_or(i64::MAX));
        self.subject.push(&ticket.subject);
        self.subject_folded.push(caseless(&ticket.subject));
        self.subject_words.push(vector(&ticket.subject));
        self.queue.push(ticket.queue.0);
        self.status.push(&ticket.status);
        self.class.push(ticket.status_class.as_char());
        self.priority.push(ticket.priority);
        self.owner.push(ticket.owner.map(|UserId(owner)| owner));
        self.updated.push(ticket.updated_at);
        self.started.push(ticket.started_at);
        self.resolved.push(ticket.resolved_at);
        self.due.push(ticket.due_at);
        self.told.push(ticket.told_at);
        let RequestId(request) = plan.request;
        self.request.push(request);
        self.hash.push(&plan.hash.0);
        self.evaluations.push(trace(plan));
    }
}

/// The columns of all other rows of plans.
#[derive(Default)]
pub(super) struct Lines<'p> {
    pub content_ticket: Vec<Uuid>,
    pub content_tx: Vec<Uuid>,
    pub content_type: Vec<&'p str>,
    pub content_body: Vec<&'p str>,
    pub content_words: Vec<String>,
    pub content_html: Vec<Option<&'p str>>,
    pub tx_ticket: Vec<Uuid>,
    pub tx_ord: Vec<i32>,
    pub tx_id: Vec<Uuid>,
    pub tx_type: Vec<&'p str>,
    pub tx_field: Vec<Option<&'p str>>,
    pub tx_old: Vec<Option<&'p str>>,
    pub tx_new: Vec<Option<&'p str>>,
    pub tx_data: Vec<Json<&'p Change>>,
    pub tx_creator: Vec<Uuid>,
    pub tx_caused: Vec<Option<Uuid>>,
    pub tx_scrip: Vec<Option<Uuid>>,
    pub tx_derived: Vec<bool>,
    pub gone_ticket: Vec<Uuid>,
    pub gone_field: Vec<Uuid>,
    pub gone_value: Vec<&'p str>,
    pub value_ticket: Vec<Uuid>,
    pub value_id: Vec<Uuid>,
    pub value_field: Vec<Uuid>,
    pub value: Vec<&'p str>,
    pub value_folded: Vec<String>,
    pub watcher_out: Vec<Uuid>,
    pub watcher_ticket: Vec<Uuid>,
    pub watcher_id: Vec<Uuid>,
    pub watcher_role: Vec<&'p str>,
    pub watcher_user: Vec<Option<Uuid>>,
    pub watcher_address: Vec<Option<&'p str>>,
    pub delivery_ticket: Vec<Uuid>,
    pub delivery_id: Vec<Uuid>,
    pub delivery_tx: Vec<Uuid>,
    pub delivery_scrip: Vec<Uuid>,
    pub delivery_kind: Vec<String>,
    pub delivery_endpoint: Vec<String>,
    pub delivery_payload: Vec<Json<&'p Payload>>,
    pub delivery_body: Vec<Option<&'p [u8]>>,
}

impl<'p> Lines<'p> {
    pub(super) fn of(plans: &'p [Plan]) -> Self {
        let mut lines = Self::default();
        for plan in plans {
            for transaction in &plan.transactions {
                lines.transaction(transaction);
            }
            for delivery in &plan.deliveries {
                lines.delivery(delivery);
            }
            lines.rows(plan);
        }
        lines
    }

    fn transaction(&mut self, transaction: &'p Transaction) {
        if let Some(content) = &transaction.content {
            self.content_ticket.push(transaction.ticket.0);
            self.content_tx.push(transaction.id.0);
            self.content_type.push(&content.content_type);
            self.content_body.push(&content.body);
            self.content_words.push(vector(&content.body));
            self.content_html.push(content.html.as_deref());
        }
        self.tx_ticket.push(transaction.ticket.0);
        self.tx_ord.push(transaction.batch_seq);
        self.tx_id.push(transaction.id.0);
        self.tx_type.push(transaction.transaction_type.as_str());
        self.tx_field.push(transaction.field.as_deref());
        self.tx_old.push(transaction.old_value.as_deref());
        self.tx_new.push(transaction.new_value.as_deref());
        self.tx_data.push(Json(&transaction.change));
        self.tx_creator.push(transaction.creator.0);
        self.tx_caused.push(transaction.caused_by.map(|id| id.0));
        self.tx_scrip.push(transaction.scrip_version.map(|id| id.0));
        self.tx_derived.push(transaction.derived);
    }

    fn delivery(&mut self, delivery: &'p Delivery) {
        self.delivery_ticket.push(delivery.ticket.0);
        self.delivery_id.push(delivery.id.0);
        self.delivery_tx.push(delivery.transaction.0);
        self.delivery_scrip.push(delivery.scrip_version.0);
        self.delivery_kind.push(delivery.payload.kind().to_string());
        self.delivery_endpoint.push(delivery.payload.endpoint());
        self.delivery_payload.push(Json(&delivery.payload));
        self.delivery_body.push(match &delivery.payload {
            Payload::Webhook(webhook) => Some(webhook.body.as_bytes()),
            Payload::Email(_) | Payload::Connector(_) => None,
        });
    }

    fn rows(&mut self, plan: &'p Plan) {
        let ticket = plan.ticket.id.0;
        for (id, field, value) in &plan.rows.values_in {
            self.value_ticket.push(ticket);
            self.value_id.push(*id);
            self.value_field.push(field.0);
            self.value.push(value);
            self.value_folded.push(caseless(value));
        }
        for (field, value) in &plan.rows.values_out {
            self.gone_ticket.push(ticket);
            self.gone_field.push(field.0);
            self.gone_value.push(value);
        }
        for (role, watcher) in &plan.rows.watchers_in {
            self.watcher_ticket.push(ticket);
            self.watcher_id.push(watcher.id.0);
            self.watcher_role.push(role.as_str());
            self.watcher_user.push(watcher.user.map(|user| user.0));
            self.watcher_address.push(watcher.address.as_deref());
        }
        self.watcher_out.extend(plan.rows.watchers_out.iter().map(|id| id.0));
    }
}
