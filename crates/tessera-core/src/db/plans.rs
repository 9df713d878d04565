//! Writes plans: one data-modifying statement for a create and one for updates, which write everything or nothing.

mod rows;

use super::error;
use super::import::is_number_taken;
use crate::error::{Error, Result};
use crate::models::text::caseless;
use crate::plan::Plan;
use crate::query::words::vector;
use rows::{Heads, Lines, trace};
use sqlx::PgConnection;
use uuid::Uuid;

/// The value of `idempotency_keys.status`. Responses are built at the edges, and only requests that succeeded keep a key.
const KEPT_STATUS: i32 = 200;
/// The maximum number of plans in one statement.
pub const PLANS_MAX: usize = 100;

/// An idempotency key with the data to store under it.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The key.
    pub key: &'a str,
    /// The SHA-256 of method, path and body.
    pub body_hash: &'a [u8],
    /// The summary of the change, from which the response to a replay is built.
    pub response: &'a [u8],
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The plan was written.
    Yes,
    /// The configuration has changed since the plan was prepared; nothing was written.
    ConfigurationMoved,
    /// The ticket has changed or does not exist; nothing was written.
    TicketMoved,
    /// The key is already used; nothing was written.
    KeyUsed,
    /// An import has given the number to another ticket; nothing was written.
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
          INSERT INTO transaction_contents (transaction_id, ticket_id, content_type, body, words, html)
          SELECT c.tx, head.id, c.type, c.body, c.words::tsvector, c.html
          FROM head CROSS JOIN unnest($27::uuid[], $28::text[], $29::text[], $30::text[], $56::text[]) AS c (tx, type, body, words, html)
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
        key.map(|_| KEPT_STATUS),
        key.map(|key| key.response),
        plan.now,
        ticket.id.0,
        ticket.number,
        ticket.version,
        ticket.subject,
        caseless(&ticket.subject),
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
        &lines.content_html as _,
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

/// Writes the plans of 1 to [`PLANS_MAX`] updates of different tickets, prepared for one actor with one version of the
/// configuration. A key is only valid with a single plan.
///
/// Returns the result of each plan, in their order.
///
/// # Errors
/// `internal` for more plans, or for a key with several plans; those of the database.
pub async fn update(db: &mut PgConnection, plans: &[Plan], key: Option<Key<'_>>) -> Result<Vec<Written>> {
    let Some(first) = plans.first() else { return Ok(Vec::new()) };
    if plans.len() > PLANS_MAX || (key.is_some() && plans.len() > 1) {
        return Err(Error::internal(
            "A write of several plans is invalid.",
            "too many plans in one statement, or a key with several plans",
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
          INSERT INTO transaction_contents (transaction_id, ticket_id, content_type, body, words, html)
          SELECT c.tx, head.id, c.type, c.body, c.words::tsvector, c.html
          FROM head JOIN unnest($29::uuid[], $30::uuid[], $31::text[], $32::text[], $33::text[], $68::text[]) AS c (ticket, tx, type, body, words, html)
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
        key.map(|_| KEPT_STATUS),
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
        &lines.content_html as _,
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
