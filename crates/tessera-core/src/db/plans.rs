//! Writes plans: one data-modifying statement each for a create and for updates, all of it or nothing (write-path.md).

use super::error;
use super::import::is_number_taken;
use super::tickets::TicketRef;
use crate::error::{Error, Result};
use crate::models::delivery::Payload;
use crate::models::text::fold;
use crate::models::{Change, Delivery, RequestId, Ticket, Transaction, UserId, Why};
use crate::plan::Plan;
use crate::query::words::vector;
use crate::scrip::evaluation::{Evaluation, Verdict};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::borrow::Cow;
use time::OffsetDateTime;
use uuid::Uuid;

/// The most plans in one statement.
pub const PLANS_MAX: usize = 100;

/// An idempotency key and the answer to keep under it.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The key.
    pub key: &'a str,
    /// SHA-256 over method, path and body.
    pub body_hash: &'a [u8],
    /// The HTTP status of the answer.
    pub status: u16,
    /// The answer.
    pub response: &'a [u8],
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It stands.
    Yes,
    /// The configuration moved since the plan was prepared; nothing was written.
    ConfigurationMoved,
    /// The ticket moved or is gone; nothing was written.
    TicketMoved,
    /// The key was used before; nothing was written.
    KeyUsed,
    /// An import gave the number to another ticket; nothing was written.
    NumberTaken,
}

/// Writes the plan of a create.
///
/// # Errors
/// Those of the database.
pub async fn create(db: &mut PgConnection, plan: &Plan, key: Option<Key<'_>>) -> Result<Written> {
    let ticket = &plan.ticket;
    let lines = Lines::of(std::slice::from_ref(plan));
    let row = sqlx::query!(
        r#"
        WITH
        -- The gate: a plain snapshot read, so writers never queue on the one-row table.
        guard AS MATERIALIZED (
          SELECT version FROM config_version WHERE version = $1::bigint
        ),
        -- Waits for a concurrent holder of the same key.
        idem AS (
          INSERT INTO idempotency_keys (actor_id, key, body_hash, request_id, status, response, created_at)
          SELECT $2::uuid, $3::text, $4::bytea, $5::uuid, $6::int, $7::bytea, $8::timestamptz
          FROM guard WHERE $3::text IS NOT NULL
          ON CONFLICT ON CONSTRAINT idempotency_keys_pk DO NOTHING
          RETURNING request_id
        ),
        -- The only CTE that reads the gates; everything after it reads "head", so no head means no row anywhere.
        head AS (
          INSERT INTO tickets (id, number, version, subject, subject_folded, subject_words, queue_id, status, status_class, priority,
                               owner_id, creator_id, created_at, updated_at, started_at, resolved_at, due_at, told_at)
          SELECT $9::uuid, $10::bigint, $11::bigint, $12::text, $13::text, $14::text::tsvector, $15::uuid, $16::text, $17::"char", $18::int, $19::uuid,
                 $2, $8, $8, $20::timestamptz, $21::timestamptz, $22::timestamptz, $23::timestamptz
          FROM guard
          WHERE $3 IS NULL OR EXISTS (SELECT FROM idem)
          RETURNING id
        ),
        request AS (
          INSERT INTO requests (id, ticket_id, actor_id, channel, plan_hash, config_version, created_at)
          SELECT $5, head.id, $2, $24::text, $25::bytea, $1, $8 FROM head
        ),
        trace AS (
          INSERT INTO request_traces (request_id, evaluations)
          SELECT $5, $26::jsonb FROM head WHERE $26 IS NOT NULL
        ),
        content AS (
          INSERT INTO transaction_contents (transaction_id, ticket_id, content_type, body, words)
          SELECT c.tx, head.id, c.type, c.body, c.words::tsvector
          FROM head CROSS JOIN unnest($27::uuid[], $28::text[], $29::text[], $30::text[]) AS c (tx, type, body, words)
        ),
        history AS (
          INSERT INTO transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, field, old_value, new_value,
                                    data, creator_id, created_at, caused_by, scrip_version_id, derived)
          SELECT t.id, head.id, t.ord, $5, t.ord, t.type, t.field, t.old, t.new, t.data, t.creator, $8, t.caused, t.scrip, t.derived
          FROM head CROSS JOIN
               unnest($31::uuid[], $32::text[], $33::text[], $34::text[], $35::text[], $36::jsonb[], $37::uuid[], $38::uuid[], $39::uuid[], $40::bool[])
               WITH ORDINALITY AS t (id, type, field, old, new, data, creator, caused, scrip, derived, ord)
        ),
        value_in AS (
          INSERT INTO custom_field_values (id, custom_field_id, ticket_id, value, value_folded, created_at)
          SELECT v.id, v.field, head.id, v.value, v.folded, $8
          FROM head CROSS JOIN unnest($41::uuid[], $42::uuid[], $43::text[], $44::text[]) AS v (id, field, value, folded)
        ),
        watcher_in AS (
          INSERT INTO ticket_watchers (id, ticket_id, role, user_id, address)
          SELECT w.id, head.id, w.role, w.usr, w.addr
          FROM head CROSS JOIN unnest($45::uuid[], $46::text[], $47::uuid[], $48::text[]) AS w (id, role, usr, addr)
        ),
        delivery AS (
          INSERT INTO deliveries (id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, body, created_at)
          SELECT d.id, d.tx, head.id, d.scrip, d.kind, d.endpoint, d.payload, d.body, $8
          FROM head CROSS JOIN
               unnest($49::uuid[], $50::uuid[], $51::uuid[], $52::text[], $53::text[], $54::jsonb[], $55::bytea[])
               AS d (id, tx, scrip, kind, endpoint, payload, body)
        ),
        queued AS (
          INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at)
          SELECT d.id, d.kind, d.endpoint, now()
          FROM head CROSS JOIN unnest($49, $52, $53) AS d (id, kind, endpoint)
        )
        SELECT EXISTS (SELECT FROM guard) AS "config_current!", EXISTS (SELECT FROM idem) AS "key_new!",
               EXISTS (SELECT FROM head) AS "written!"
        "#,
        plan.config_version,
        plan.actor.0,
        key.map(|key| key.key),
        key.map(|key| key.body_hash),
        plan.request.0,
        key.map(|key| i32::from(key.status)),
        key.map(|key| key.response),
        plan.now,
        ticket.id.0,
        ticket.number,
        ticket.version,
        ticket.subject,
        fold(&ticket.subject),
        vector(&ticket.subject),
        ticket.queue.0,
        ticket.status,
        ticket.status_class.as_char() as _,
        ticket.priority,
        ticket.owner.map(|owner| owner.0),
        ticket.started_at,
        ticket.resolved_at,
        ticket.due_at,
        ticket.told_at,
        plan.channel,
        &plan.hash.0[..],
        trace(plan) as _,
        &lines.content_tx,
        &lines.content_type as _,
        &lines.content_body as _,
        &lines.content_words,
        &lines.tx_id,
        &lines.tx_type as _,
        &lines.tx_field as _,
        &lines.tx_old as _,
        &lines.tx_new as _,
        &lines.tx_data as _,
        &lines.tx_creator,
        &lines.tx_caused as _,
        &lines.tx_scrip as _,
        &lines.tx_derived,
        &lines.value_id,
        &lines.value_field,
        &lines.value as _,
        &lines.value_folded,
        &lines.watcher_id,
        &lines.watcher_role as _,
        &lines.watcher_user as _,
        &lines.watcher_address as _,
        &lines.delivery_id,
        &lines.delivery_tx,
        &lines.delivery_scrip,
        &lines.delivery_kind as _,
        &lines.delivery_endpoint,
        &lines.delivery_payload as _,
        &lines.delivery_body as _,
    )
    .fetch_one(db)
    .await;
    let row = match row {
        Ok(row) => row,
        Err(source) if is_number_taken(&source) => return Ok(Written::NumberTaken),
        Err(source) => return Err(error(source)),
    };
    Ok(match (row.config_current, row.written, key.is_some() && !row.key_new) {
        (false, ..) => Written::ConfigurationMoved,
        (true, true, _) => Written::Yes,
        (true, false, true) => Written::KeyUsed,
        (true, false, false) => Written::TicketMoved,
    })
}

/// Writes the plans of 1 to [`PLANS_MAX`] updates, of different tickets, prepared by one actor against one
/// configuration. A key goes with one plan only.
///
/// Answers for each plan, in their order.
///
/// # Errors
/// `internal` when more plans are handed in, or a key with several; those of the database.
pub async fn update(db: &mut PgConnection, plans: &[Plan], key: Option<Key<'_>>) -> Result<Vec<Written>> {
    let Some(first) = plans.first() else { return Ok(Vec::new()) };
    if plans.len() > PLANS_MAX || (key.is_some() && plans.len() > 1) {
        return Err(Error::internal(
            "A write was asked for that there is not.",
            "too many plans in one statement",
        ));
    }
    let (lines, heads) = (Lines::of(plans), Heads::of(plans));
    let row = sqlx::query!(
        r#"
        WITH
        guard AS MATERIALIZED (
          SELECT version FROM config_version WHERE version = $1::bigint
        ),
        plan AS MATERIALIZED (
          SELECT * FROM unnest($9::uuid[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::uuid[], $16::text[], $17::"char"[],
                               $18::int[], $19::uuid[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[], $23::timestamptz[],
                               $24::timestamptz[], $25::uuid[], $26::bytea[], $27::jsonb[])
            AS p (id, version, n, subject, subject_folded, subject_words, queue, status, class, priority, owner, updated, started, resolved, due,
                  told, request, hash, evaluations)
        ),
        -- The lock. If another writer holds the row this waits, and PostgreSQL then checks the WHERE again on the newest
        -- row version: a moved version gives no row. The order is what prevents deadlocks.
        held AS MATERIALIZED (
          SELECT t.id FROM tickets t JOIN plan p ON p.id = t.id AND p.version = t.version
          WHERE EXISTS (SELECT FROM guard)
          ORDER BY t.id FOR NO KEY UPDATE OF t
        ),
        -- Asked for only after the lock, so a lost race leaves no key.
        idem AS (
          INSERT INTO idempotency_keys (actor_id, key, body_hash, request_id, status, response, created_at)
          SELECT $2::uuid, $3::text, $4::bytea, $5::uuid, $6::int, $7::bytea, $8::timestamptz
          FROM held WHERE $3::text IS NOT NULL
          ON CONFLICT ON CONSTRAINT idempotency_keys_pk DO NOTHING
          RETURNING request_id
        ),
        head AS (
          UPDATE tickets t
          SET version = t.version + p.n, subject = p.subject, subject_folded = p.subject_folded, subject_words = p.subject_words::tsvector,
              queue_id = p.queue, status = p.status, status_class = p.class, priority = p.priority, owner_id = p.owner, updated_at = p.updated,
              started_at = p.started, resolved_at = p.resolved, due_at = p.due, told_at = p.told
          FROM held JOIN plan p ON p.id = held.id
          WHERE t.id = held.id AND t.version = p.version
            AND ($3 IS NULL OR EXISTS (SELECT FROM idem))
          RETURNING t.id, p.version AS base, p.request, p.hash, p.evaluations
        ),
        request AS (
          INSERT INTO requests (id, ticket_id, actor_id, channel, plan_hash, config_version, created_at)
          SELECT head.request, head.id, $2, $28::text, head.hash, $1, $8 FROM head
        ),
        trace AS (
          INSERT INTO request_traces (request_id, evaluations)
          SELECT head.request, head.evaluations FROM head WHERE head.evaluations IS NOT NULL
        ),
        content AS (
          INSERT INTO transaction_contents (transaction_id, ticket_id, content_type, body, words)
          SELECT c.tx, head.id, c.type, c.body, c.words::tsvector
          FROM head JOIN unnest($29::uuid[], $30::uuid[], $31::text[], $32::text[], $33::text[]) AS c (ticket, tx, type, body, words)
               ON c.ticket = head.id
        ),
        history AS (
          INSERT INTO transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, field, old_value, new_value,
                                    data, creator_id, created_at, caused_by, scrip_version_id, derived)
          SELECT t.id, head.id, head.base + t.ord, head.request, t.ord, t.type, t.field, t.old, t.new, t.data, t.creator, $8,
                 t.caused, t.scrip, t.derived
          FROM head JOIN
               unnest($34::uuid[], $35::int[], $36::uuid[], $37::text[], $38::text[], $39::text[], $40::text[], $41::jsonb[],
                      $42::uuid[], $43::uuid[], $44::uuid[], $45::bool[])
               AS t (ticket, ord, id, type, field, old, new, data, creator, caused, scrip, derived) ON t.ticket = head.id
        ),
        value_out AS (
          DELETE FROM custom_field_values v
          USING head JOIN unnest($46::uuid[], $47::uuid[], $48::text[]) AS gone (ticket, field, value) ON gone.ticket = head.id
          WHERE v.ticket_id = head.id AND v.custom_field_id = gone.field AND v.value = gone.value
        ),
        watcher_out AS (
          DELETE FROM ticket_watchers w USING head WHERE w.ticket_id = head.id AND w.id = ANY ($49::uuid[])
        ),
        value_in AS (
          INSERT INTO custom_field_values (id, custom_field_id, ticket_id, value, value_folded, created_at)
          SELECT v.id, v.field, head.id, v.value, v.folded, $8
          FROM head JOIN unnest($50::uuid[], $51::uuid[], $52::uuid[], $53::text[], $54::text[])
               AS v (ticket, id, field, value, folded) ON v.ticket = head.id
        ),
        watcher_in AS (
          INSERT INTO ticket_watchers (id, ticket_id, role, user_id, address)
          SELECT w.id, head.id, w.role, w.usr, w.addr
          FROM head JOIN unnest($55::uuid[], $56::uuid[], $57::text[], $58::uuid[], $59::text[])
               AS w (ticket, id, role, usr, addr) ON w.ticket = head.id
        ),
        delivery AS (
          INSERT INTO deliveries (id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, body, created_at)
          SELECT d.id, d.tx, head.id, d.scrip, d.kind, d.endpoint, d.payload, d.body, $8
          FROM head JOIN
               unnest($60::uuid[], $61::uuid[], $62::uuid[], $63::uuid[], $64::text[], $65::text[], $66::jsonb[], $67::bytea[])
               AS d (ticket, id, tx, scrip, kind, endpoint, payload, body) ON d.ticket = head.id
        ),
        queued AS (
          INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at)
          SELECT d.id, d.kind, d.endpoint, now()
          FROM head JOIN unnest($60, $61, $64, $65) AS d (ticket, id, kind, endpoint) ON d.ticket = head.id
        )
        SELECT EXISTS (SELECT FROM guard) AS "config_current!", ARRAY(SELECT id FROM held) AS "held!: Vec<Uuid>",
               EXISTS (SELECT FROM idem) AS "key_new!", ARRAY(SELECT id FROM head) AS "written!: Vec<Uuid>"
        "#,
        first.config_version,
        first.actor.0,
        key.map(|key| key.key),
        key.map(|key| key.body_hash),
        first.request.0,
        key.map(|key| i32::from(key.status)),
        key.map(|key| key.response),
        first.now,
        &heads.id,
        &heads.version,
        &heads.n,
        &heads.subject as _,
        &heads.subject_folded,
        &heads.subject_words,
        &heads.queue,
        &heads.status as _,
        &heads.class as _,
        &heads.priority,
        &heads.owner as _,
        &heads.updated,
        &heads.started as _,
        &heads.resolved as _,
        &heads.due as _,
        &heads.told as _,
        &heads.request,
        &heads.hash as _,
        &heads.evaluations as _,
        first.channel,
        &lines.content_ticket,
        &lines.content_tx,
        &lines.content_type as _,
        &lines.content_body as _,
        &lines.content_words,
        &lines.tx_ticket,
        &lines.tx_ord,
        &lines.tx_id,
        &lines.tx_type as _,
        &lines.tx_field as _,
        &lines.tx_old as _,
        &lines.tx_new as _,
        &lines.tx_data as _,
        &lines.tx_creator,
        &lines.tx_caused as _,
        &lines.tx_scrip as _,
        &lines.tx_derived,
        &lines.gone_ticket,
        &lines.gone_field,
        &lines.gone_value as _,
        &lines.watcher_out,
        &lines.value_ticket,
        &lines.value_id,
        &lines.value_field,
        &lines.value as _,
        &lines.value_folded,
        &lines.watcher_ticket,
        &lines.watcher_id,
        &lines.watcher_role as _,
        &lines.watcher_user as _,
        &lines.watcher_address as _,
        &lines.delivery_ticket,
        &lines.delivery_id,
        &lines.delivery_tx,
        &lines.delivery_scrip,
        &lines.delivery_kind as _,
        &lines.delivery_endpoint,
        &lines.delivery_payload as _,
        &lines.delivery_body as _,
    )
    .fetch_one(db)
    .await
    .map_err(error)?;
    let outcome = |plan: &Plan| match plan.ticket.id.0 {
        _ if !row.config_current => Written::ConfigurationMoved,
        id if row.written.contains(&id) => Written::Yes,
        id if row.held.contains(&id) && key.is_some() && !row.key_new => Written::KeyUsed,
        _ => Written::TicketMoved,
    };
    Ok(plans.iter().map(outcome).collect())
}

/// Locks a ticket in a statement of its own, for the path that gave up on being lucky. Waits at most `lock_timeout`.
///
/// # Errors
/// `busy` when the lock is not to be had; those of the database.
pub async fn lock(db: &mut PgConnection, ticket: TicketRef) -> Result<()> {
    let (number, id) = ticket.split();
    sqlx::query!(
        "SELECT id FROM tickets WHERE number = $1::bigint OR id = $2::uuid FOR NO KEY UPDATE",
        number,
        id
    )
    .fetch_optional(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// What is kept of the evaluations: whole for those that did or would do something, the bare verdict of those that
/// declined, nothing of those that did not apply (it follows from the configuration's version).
fn trace(plan: &Plan) -> Option<Json<Vec<Cow<'_, Evaluation>>>> {
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

/// What stands for the why of a scrip that declined.
fn not_kept() -> Why {
    Why::leaf("not kept", Value::Null, Value::Null, false)
        .because("Only that it declined is kept; a preview of the same change says why.")
}

/// The heads of plans, a column each.
#[derive(Default)]
struct Heads<'p> {
    id: Vec<Uuid>,
    version: Vec<i64>,
    n: Vec<i64>,
    subject: Vec<&'p str>,
    subject_folded: Vec<String>,
    subject_words: Vec<String>,
    queue: Vec<Uuid>,
    status: Vec<&'p str>,
    class: Vec<i8>,
    priority: Vec<i32>,
    owner: Vec<Option<Uuid>>,
    updated: Vec<OffsetDateTime>,
    started: Vec<Option<OffsetDateTime>>,
    resolved: Vec<Option<OffsetDateTime>>,
    due: Vec<Option<OffsetDateTime>>,
    told: Vec<Option<OffsetDateTime>>,
    request: Vec<Uuid>,
    hash: Vec<&'p [u8]>,
    evaluations: Vec<Option<Json<Vec<Cow<'p, Evaluation>>>>>,
}

impl<'p> Heads<'p> {
    fn of(plans: &'p [Plan]) -> Self {
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
        self.subject_folded.push(fold(&ticket.subject));
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

/// The rows below the heads, a column each.
#[derive(Default)]
struct Lines<'p> {
    content_ticket: Vec<Uuid>,
    content_tx: Vec<Uuid>,
    content_type: Vec<&'p str>,
    content_body: Vec<&'p str>,
    content_words: Vec<String>,
    tx_ticket: Vec<Uuid>,
    tx_ord: Vec<i32>,
    tx_id: Vec<Uuid>,
    tx_type: Vec<&'p str>,
    tx_field: Vec<Option<&'p str>>,
    tx_old: Vec<Option<&'p str>>,
    tx_new: Vec<Option<&'p str>>,
    tx_data: Vec<Json<&'p Change>>,
    tx_creator: Vec<Uuid>,
    tx_caused: Vec<Option<Uuid>>,
    tx_scrip: Vec<Option<Uuid>>,
    tx_derived: Vec<bool>,
    gone_ticket: Vec<Uuid>,
    gone_field: Vec<Uuid>,
    gone_value: Vec<&'p str>,
    value_ticket: Vec<Uuid>,
    value_id: Vec<Uuid>,
    value_field: Vec<Uuid>,
    value: Vec<&'p str>,
    value_folded: Vec<String>,
    watcher_out: Vec<Uuid>,
    watcher_ticket: Vec<Uuid>,
    watcher_id: Vec<Uuid>,
    watcher_role: Vec<&'p str>,
    watcher_user: Vec<Option<Uuid>>,
    watcher_address: Vec<Option<&'p str>>,
    delivery_ticket: Vec<Uuid>,
    delivery_id: Vec<Uuid>,
    delivery_tx: Vec<Uuid>,
    delivery_scrip: Vec<Uuid>,
    delivery_kind: Vec<&'p str>,
    delivery_endpoint: Vec<String>,
    delivery_payload: Vec<Json<&'p Payload>>,
    delivery_body: Vec<Option<&'p [u8]>>,
}

impl<'p> Lines<'p> {
    fn of(plans: &'p [Plan]) -> Self {
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
        self.delivery_kind.push(delivery.payload.kind().as_str());
        self.delivery_endpoint.push(delivery.payload.endpoint());
        self.delivery_payload.push(Json(&delivery.payload));
        self.delivery_body.push(match &delivery.payload {
            Payload::Webhook(webhook) => Some(webhook.body.as_bytes()),
            Payload::Email(_) => None,
        });
    }

    fn rows(&mut self, plan: &'p Plan) {
        let ticket = plan.ticket.id.0;
        for (id, field, value) in &plan.rows.values_in {
            self.value_ticket.push(ticket);
            self.value_id.push(*id);
            self.value_field.push(field.0);
            self.value.push(value);
            self.value_folded.push(fold(value));
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
