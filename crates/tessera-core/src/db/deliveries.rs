//! Deliveries: leasing what is due, settling what came of it, and what people ask about them. `tickets` is never touched.
//!
//! A lease has a number that only grows. Success is a fact, so every holder of a lease that was ever issued may report it;
//! failure is believed from the holder of the newest only. All times are the database's clock's.

use super::error;
use crate::error::Result;
use crate::models::delivery::{
    Attempt, AttemptOutcome, Delivery, DeliveryKind, DeliveryState, Leased, Payload, RecipientAnswer,
};
use crate::models::page::Page;
use crate::models::transaction::{Change, Outcome};
use crate::models::user::SYSTEM_USER;
use crate::models::{DeliveryId, ScripId, TicketId, TransactionId, TransactionType};
use sqlx::PgPool;
use sqlx::types::Json;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// How far down the queue a lease looks for endpoints that have room.
const WINDOW: i64 = 200;

/// What a worker has room for.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Free places, by kind.
    pub kinds: Vec<(DeliveryKind, i64)>,
    /// How many deliveries one endpoint may have running, by kind.
    pub per_endpoint: Vec<(DeliveryKind, i64)>,
    /// How many it has, for those that have any.
    pub running: Vec<(String, i64)>,
}

/// Leases what is due, oldest first, as far as there is room, and notes the attempt that begins. Rows that another worker is
/// leasing at this moment are passed over.
///
/// # Errors
/// Those of the database.
pub async fn lease(pool: &PgPool, room: &Room, lease: Duration) -> Result<Vec<Leased>> {
    let (kinds, places): (Vec<_>, Vec<_>) = room.kinds.iter().map(|(kind, n)| (kind.to_string(), *n)).unzip();
    let (limited, limits): (Vec<_>, Vec<_>) =
        room.per_endpoint.iter().map(|(kind, n)| (kind.to_string(), *n)).unzip();
    let (endpoints, counts): (Vec<_>, Vec<_>) = room.running.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"
        WITH room AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS r (kind, places)),
        share AS (SELECT * FROM unnest($3::text[], $4::bigint[]) AS s (kind, places)),
        busy AS (SELECT * FROM unnest($5::text[], $6::bigint[]) AS b (endpoint, running)),
        -- The front of the queue, without endpoints that have all they may have.
        front AS (
            SELECT q.delivery_id, q.kind, q.endpoint, q.due_at, s.places - coalesce(b.running, 0) AS share
            FROM delivery_queue q JOIN share s ON s.kind = q.kind LEFT JOIN busy b ON b.endpoint = q.endpoint
            WHERE q.due_at <= now() AND coalesce(b.running, 0) < s.places AND q.kind = ANY ($1)
            ORDER BY q.due_at
            LIMIT $7
        ),
        -- Each endpoint its share, then each kind its places.
        fair AS (
            SELECT *, row_number() OVER (PARTITION BY kind ORDER BY due_at) AS place
            FROM (SELECT *, row_number() OVER (PARTITION BY endpoint ORDER BY due_at) AS nth FROM front) AS f
            WHERE nth <= share
        ),
        due AS MATERIALIZED (
            SELECT q.delivery_id
            FROM fair f JOIN room r ON r.kind = f.kind JOIN delivery_queue q ON q.delivery_id = f.delivery_id
            WHERE f.place <= r.places AND q.due_at <= now()
            ORDER BY q.due_at
            FOR UPDATE OF q SKIP LOCKED
        ),
        leased AS (
            UPDATE delivery_queue q
            SET due_at = now() + make_interval(secs => $8), lease_token = nextval('delivery_lease'), attempts = q.attempts + 1
            FROM due
            WHERE q.delivery_id = due.delivery_id
            RETURNING q.delivery_id, q.attempts, q.lease_token
        ),
        noted AS (
            INSERT INTO delivery_attempts (delivery_id, lease_token, attempt, started_at)
            SELECT delivery_id, lease_token, attempts, now() FROM leased
        )
        SELECT d.id, d.ticket_id, d.transaction_id, d.scrip_version_id, d.payload, d.body,
               d.created_at, l.attempts, l.lease_token AS "lease_token!",
               (SELECT a.recipients FROM delivery_attempts a
                WHERE a.delivery_id = d.id AND a.recipients IS NOT NULL
                ORDER BY a.lease_token DESC LIMIT 1) AS "recipients: Json<Vec<RecipientAnswer>>"
        FROM leased l JOIN deliveries d ON d.id = l.delivery_id
        ORDER BY l.lease_token
        "#,
        &kinds,
        &places,
        &limited,
        &limits,
        &endpoints,
        &counts,
        WINDOW,
        lease.as_secs_f64()
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let (mut leased, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        // One row that cannot be read, of a newer version perhaps, must not hold up the others.
        match serde_json::from_value(row.payload) {
            Ok(payload) => leased.push(Leased {
                delivery: Delivery {
                    id: row.id.into(),
                    ticket: row.ticket_id.into(),
                    transaction: row.transaction_id.into(),
                    scrip_version: row.scrip_version_id.into(),
                    payload: with_body(payload, row.body),
                    created_at: row.created_at,
                },
                attempt: row.attempts,
                token: row.lease_token,
                answered: row.recipients.map(|answers| answers.0).unwrap_or_default(),
            }),
            Err(error) => {
                tracing::error!(%error, delivery = %row.id, "a delivery cannot be read; it is put off for a day");
                unreadable.push(row.id);
            }
        }
    }
    if !unreadable.is_empty() {
        put_off(pool, &unreadable).await?;
    }
    Ok(leased)
}

/// Puts off what this version cannot read: a newer one may.
async fn put_off(pool: &PgPool, deliveries: &[Uuid]) -> Result<()> {
    sqlx::query!(
        "UPDATE delivery_queue SET due_at = now() + interval '1 day' WHERE delivery_id = ANY ($1)",
        deliveries
    )
    .execute(pool)
    .await
    .map_err(error)?;
    Ok(())
}

/// Puts off the end of leases that are still at work.
///
/// # Errors
/// Those of the database.
pub async fn extend(pool: &PgPool, held: &[(DeliveryId, i64)], lease: Duration) -> Result<()> {
    let (ids, tokens) = columns(held);
    sqlx::query!(
        r#"
        UPDATE delivery_queue q
        SET due_at = now() + make_interval(secs => $3)
        FROM unnest($1::uuid[], $2::bigint[]) AS h (id, token)
        WHERE q.delivery_id = h.id AND q.lease_token = h.token
        "#,
        &ids,
        &tokens,
        lease.as_secs_f64()
    )
    .execute(pool)
    .await
    .map_err(error)?;
    Ok(())
}

/// Gives back leases whose attempt did not come to an end: they are due at once, and the attempt does not count.
///
/// # Errors
/// Those of the database.
pub async fn release(pool: &PgPool, held: &[(DeliveryId, i64)]) -> Result<()> {
    let (ids, tokens) = columns(held);
    sqlx::query!(
        r#"
        UPDATE delivery_queue q
        SET due_at = now(), lease_token = NULL, attempts = q.attempts - 1
        FROM unnest($1::uuid[], $2::bigint[]) AS h (id, token)
        WHERE q.delivery_id = h.id AND q.lease_token = h.token
        "#,
        &ids,
        &tokens
    )
    .execute(pool)
    .await
    .map_err(error)?;
    Ok(())
}

fn columns(held: &[(DeliveryId, i64)]) -> (Vec<Uuid>, Vec<i64>) {
    held.iter().map(|(id, token)| (id.0, *token)).unzip()
}

/// What is to happen after an attempt.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// What was attempted.
    pub leased: Arc<Leased>,
    /// What came of it.
    pub attempt: Attempt,
    /// How long to wait for the next attempt when this one is to be tried again; `None` gives up.
    pub again: Option<Duration>,
    /// The id of the outcome's transaction, should there be one.
    pub transaction: TransactionId,
}

/// How a settlement ends, as the statement reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    PutOff,
    Failure,
}

impl Settlement {
    /// A mail that is given up after some of its recipients took it has arrived, as far as it ever will.
    fn end(&self) -> End {
        let reached = || self.attempt.recipients.iter().any(|one| one.outcome == AttemptOutcome::Delivered);
        match (self.attempt.outcome, self.again) {
            (AttemptOutcome::Delivered, _) => End::Success,
            (AttemptOutcome::Retry, Some(_)) => End::PutOff,
            _ if reached() => End::Success,
            _ => End::Failure,
        }
    }

    fn transaction_type(&self) -> TransactionType {
        match (self.end(), &self.leased.delivery.payload) {
            (End::Success, Payload::Email(mail)) if mail.as_comment => TransactionType::CommentEmailRecord,
            (End::Success, Payload::Email(_)) => TransactionType::EmailRecord,
            (End::Success, Payload::Webhook(_)) => TransactionType::WebhookDelivery,
            (End::PutOff | End::Failure, _) => TransactionType::DeliveryFailed,
        }
    }

    fn change(&self) -> Change {
        let reason = match self.attempt.outcome {
            _ if self.end() == End::Success => None,
            AttemptOutcome::Permanent => Some("permanent".to_owned()),
            _ => Some("exhausted".to_owned()),
        };
        Change::Outcome(Outcome {
            delivery: self.leased.delivery.id,
            kind: self.leased.delivery.payload.kind().to_string(),
            answer: self.attempt.detail.clone(),
            attempts: self.leased.attempt,
            to: reached(&self.leased.delivery.payload),
            reason,
        })
    }
}

/// Mail addresses, or the URL without its query, which may hold what not everybody should read.
fn reached(payload: &Payload) -> Vec<String> {
    match payload {
        Payload::Email(mail) => [&mail.to, &mail.cc, &mail.bcc].into_iter().flatten().cloned().collect(),
        Payload::Webhook(webhook) => webhook.url.split(['?', '#']).take(1).map(str::to_owned).collect(),
    }
}

/// Settles attempts, in one statement, and records each delivery's outcome in its ticket's history, once.
///
/// No two settlements of one call may be of the same delivery. The same call may be made again when its answer was lost:
/// an attempt is settled once. `now` is the time of the outcomes' transactions.
///
/// # Errors
/// Those of the database; then nothing was settled.
pub async fn settle(pool: &PgPool, batch: &[Settlement], now: OffsetDateTime) -> Result<()> {
    let each = batch.iter();
    let ids: Vec<Uuid> = each.clone().map(|one| one.leased.delivery.id.0).collect();
    let tokens: Vec<i64> = each.clone().map(|one| one.leased.token).collect();
    let outcomes: Vec<String> = each.clone().map(|one| one.attempt.outcome.as_str().to_owned()).collect();
    let codes: Vec<Option<i32>> = each.clone().map(|one| one.attempt.status_code).collect();
    let details: Vec<String> = each.clone().map(|one| one.attempt.detail.clone()).collect();
    let responses: Vec<Option<Vec<u8>>> =
        each.clone().map(|one| one.attempt.response.as_ref().map(|text| text.as_bytes().to_vec())).collect();
    let recipients: Vec<Option<Json<&[RecipientAnswer]>>> = each
        .clone()
        .map(|one| Some(one.attempt.recipients.as_slice()).filter(|answers| !answers.is_empty()).map(Json))
        .collect();
    let won: Vec<bool> = each.clone().map(|one| one.end() == End::Success).collect();
    let again: Vec<Option<f64>> = each
        .clone()
        .map(|one| one.again.filter(|_| one.end() == End::PutOff).map(|delay| delay.as_secs_f64()))
        .collect();
    let transactions: Vec<Uuid> = each.clone().map(|one| one.transaction.0).collect();
    let types: Vec<String> = each.clone().map(|one| one.transaction_type().to_string()).collect();
    let changes: Vec<Json<Change>> = each.map(|one| Json(one.change())).collect();
    sqlx::query!(
        r#"
        WITH told AS (
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::bytea[], $7::jsonb[],
                                 $8::bool[], $9::float8[], $10::uuid[], $11::text[], $12::jsonb[])
            AS t (id, token, outcome, code, detail, response, recipients, won, again, transaction, type, data)
        ),
        -- Only a lease that was issued and not settled yet has a say. Everything below reads this.
        noted AS (
            UPDATE delivery_attempts a
            SET finished_at = now(), outcome = told.outcome, status_code = told.code, detail = told.detail,
                response = told.response, recipients = told.recipients
            FROM told
            WHERE a.delivery_id = told.id AND a.lease_token = told.token AND a.finished_at IS NULL
            RETURNING told.*
        ),
        -- In one order, so that two settlings never wait for each other; with the newest token, also after a wait.
        held AS MATERIALIZED (
            SELECT q.delivery_id, q.lease_token IS NOT DISTINCT FROM n.token AS current, n.won, n.again
            FROM delivery_queue q JOIN noted n ON n.id = q.delivery_id
            ORDER BY q.delivery_id
            FOR UPDATE OF q
        ),
        finished AS (
            DELETE FROM delivery_queue q
            USING held h
            WHERE q.delivery_id = h.delivery_id AND (h.won OR (h.current AND h.again IS NULL))
            RETURNING q.delivery_id
        ),
        put_off AS (
            UPDATE delivery_queue q
            SET due_at = now() + make_interval(secs => h.again), lease_token = NULL
            FROM held h
            WHERE q.delivery_id = h.delivery_id AND NOT h.won AND h.current AND h.again IS NOT NULL
        )
        -- A success may follow a DeliveryFailed (a late report); a failure is recorded by whoever ended the delivery.
        INSERT INTO transactions (id, ticket_id, request_id, batch_seq, transaction_type, new_value, data, creator_id,
                                  created_at, caused_by, scrip_version_id, delivery_id)
        SELECT n.transaction, d.ticket_id, c.request_id, 0, n.type, n.detail, n.data, $13, $14, c.id, d.scrip_version_id, d.id
        FROM noted n JOIN deliveries d ON d.id = n.id JOIN transactions c ON c.id = d.transaction_id
        WHERE n.won OR n.id IN (SELECT delivery_id FROM finished)
        ON CONFLICT (delivery_id, transaction_type) WHERE delivery_id IS NOT NULL DO NOTHING
        "#,
        &ids,
        &tokens,
        &outcomes,
        &codes as _,
        &details,
        &responses as _,
        &recipients as _,
        &won,
        &again as _,
        &transactions,
        &types,
        &changes as _,
        SYSTEM_USER.0,
        now
    )
    .execute(pool)
    .await
    .map_err(error)?;
    Ok(())
}

/// Which deliveries a list shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Those of one ticket.
    pub ticket: Option<TicketId>,
    /// Those in one state.
    pub state: Option<DeliveryState>,
    /// Those of one kind.
    pub kind: Option<DeliveryKind>,
}

/// A delivery as people see it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What is or was to be sent.
    pub delivery: Delivery,
    /// The ticket's number.
    pub number: i64,
    /// The scrip that made it, its name at the time, and its version.
    pub scrip: Option<(ScripId, String, i32)>,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempts: i32,
    /// When it is tried next; while it is running, when its lease ends; `None` when it is finished.
    pub due_at: Option<OffsetDateTime>,
    /// The last attempt that came to an end.
    pub last: Option<LastAttempt>,
}

/// An attempt that came to an end.
#[derive(Debug, Clone, PartialEq)]
pub struct LastAttempt {
    /// `delivered`, `retry` or `permanent`.
    pub outcome: String,
    /// Of HTTP or SMTP.
    pub status_code: Option<i32>,
    /// One sentence.
    pub detail: String,
    /// The beginning of the answer.
    pub response: Option<String>,
    /// When it ended.
    pub finished_at: OffsetDateTime,
}

/// One page of deliveries, newest first. `cursor` is the `next_cursor` of the page before.
///
/// # Errors
/// `malformed_cursor`; those of the database.
pub async fn list(pool: &PgPool, filter: Filter, limit: i64, cursor: Option<&str>) -> Result<Page<Listed>> {
    let before = cursor.map(Uuid::parse_str).transpose().map_err(|_| super::malformed_cursor())?;
    let rows = sqlx::query!(
        r#"
        SELECT d.id, d.ticket_id, d.transaction_id, d.scrip_version_id, d.payload AS "payload: Json<Payload>", d.body,
               d.created_at, t.number, q.due_at AS "due_at?", state.word AS "state!",
               v.scrip_id AS "scrip_id?", v.snapshot ->> 'name' AS scrip_name, v.version AS "scrip_version?",
               (SELECT count(*) FROM delivery_attempts a WHERE a.delivery_id = d.id) AS "attempts!",
               a.outcome AS "outcome?", a.status_code AS "status_code?", a.detail AS "detail?", a.response AS "response?",
               a.finished_at AS "finished_at?"
        FROM deliveries d
        JOIN tickets t ON t.id = d.ticket_id
        LEFT JOIN delivery_queue q ON q.delivery_id = d.id
        LEFT JOIN scrip_versions v ON v.id = d.scrip_version_id
        LEFT JOIN LATERAL (
            SELECT * FROM delivery_attempts a
            WHERE a.delivery_id = d.id AND a.finished_at IS NOT NULL
            ORDER BY a.lease_token DESC LIMIT 1
        ) a ON TRUE
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN q.lease_token IS NOT NULL AND q.due_at > now() THEN 'running'
                WHEN q.delivery_id IS NOT NULL THEN 'available'
                WHEN EXISTS (SELECT FROM transactions o
                             WHERE o.delivery_id = d.id AND o.transaction_type <> 'DeliveryFailed') THEN 'completed'
                ELSE 'discarded'
            END AS word
        ) state
        WHERE ($1::uuid IS NULL OR d.ticket_id = $1)
          AND ($2::text IS NULL OR d.kind = $2)
          AND ($3::text IS NULL OR state.word = $3)
          AND ($4::uuid IS NULL OR d.id < $4)
        ORDER BY d.id DESC
        LIMIT $5
        "#,
        filter.ticket.map(|ticket| ticket.0),
        filter.kind.map(DeliveryKind::as_str),
        filter.state.map(DeliveryState::as_str),
        before,
        limit.saturating_add(1)
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let items = rows.into_iter().map(|row| Listed {
        delivery: Delivery {
            id: row.id.into(),
            ticket: row.ticket_id.into(),
            transaction: row.transaction_id.into(),
            scrip_version: row.scrip_version_id.into(),
            payload: with_body(row.payload.0, row.body),
            created_at: row.created_at,
        },
        number: row.number,
        scrip: row
            .scrip_id
            .zip(row.scrip_version)
            .map(|(id, version)| (id.into(), row.scrip_name.unwrap_or_default(), version)),
        state: DeliveryState::ALL
            .into_iter()
            .find(|state| state.as_str() == row.state)
            .unwrap_or(DeliveryState::Discarded),
        attempts: i32::try_from(row.attempts).unwrap_or(i32::MAX),
        due_at: row.due_at,
        last: row.outcome.zip(row.finished_at).map(|(outcome, finished_at)| LastAttempt {
            outcome,
            status_code: row.status_code,
            detail: row.detail.unwrap_or_default(),
            response: row.response.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            finished_at,
        }),
    });
    Ok(Page::cut(items.collect(), limit, |listed| listed.delivery.id.to_string()))
}

/// The body of a webhook stands in a column of its own, as the bytes that are signed.
pub(super) fn with_body(mut payload: Payload, body: Option<Vec<u8>>) -> Payload {
    if let Payload::Webhook(webhook) = &mut payload {
        webhook.body = String::from_utf8(body.unwrap_or_default())
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    }
    payload
}

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod tests;
