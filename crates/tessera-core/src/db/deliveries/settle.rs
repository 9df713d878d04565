//! Settlements: record the results of attempts, and decide what happens next.
//!
//! A success is accepted from the holder of any lease that was ever granted, a failure only from the holder of the newest.
//!
//! Each endpoint has a breaker. It opens after [`OPENS_AFTER`] failures in a row; then only one delivery at a time is tried, as a
//! probe, over all processes, until one succeeds or is rejected. Deliveries that wait meanwhile use up no attempts.

use crate::db::error;
use crate::error::Result;
use crate::models::change::{Change, Outcome};
use crate::models::delivery::{
    Attempt, AttemptOutcome, DeliveryEvent, DeliveryState, Leased, Payload, RecipientAnswer,
};
use crate::models::user::SYSTEM_USER;
use crate::models::{TransactionId, TransactionType};
use sqlx::PgPool;
use sqlx::types::Json;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The number of failures in a row that open an endpoint's breaker.
pub const OPENS_AFTER: i32 = 10;
/// The delay before the first probe of an open breaker; it doubles after each probe that fails.
pub const PROBE_FIRST: Duration = Duration::from_secs(30);
/// The maximum delay before a probe.
pub const PROBE_MAX: Duration = Duration::from_secs(300);

/// The settlement of an attempt: its result and what follows.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The delivery and lease of the attempt.
    pub leased: Arc<Leased>,
    /// The result.
    pub attempt: Attempt,
    /// The delay before the next attempt after a temporary failure; `None` to give up.
    pub again: Option<Duration>,
    /// The id for the transaction that records the outcome, if the delivery ends.
    pub transaction: TransactionId,
}

impl Settlement {
    /// The state of the delivery after its attempt. An email that is given up after some of its recipients accepted it is
    /// completed: no more of them will get it.
    fn state(&self) -> DeliveryState {
        let reached = || self.attempt.recipients.iter().any(|one| one.outcome == AttemptOutcome::Delivered);
        DeliveryState::Running.after(match (self.attempt.outcome, self.again) {
            (AttemptOutcome::Delivered, _) => DeliveryEvent::Deliver,
            (AttemptOutcome::Retry, Some(_)) => DeliveryEvent::Retry,
            _ if reached() => DeliveryEvent::Deliver,
            _ => DeliveryEvent::GiveUp,
        })
    }

    fn transaction_type(&self) -> TransactionType {
        match &self.leased.delivery.payload {
            _ if self.state() != DeliveryState::Completed => TransactionType::DeliveryFailed,
            Payload::Email(mail) if mail.as_comment => TransactionType::CommentEmailRecord,
            Payload::Email(_) => TransactionType::EmailRecord,
            Payload::Webhook(_) => TransactionType::WebhookDelivery,
            Payload::Connector(_) => TransactionType::ConnectorDelivery,
        }
    }

    fn change(&self) -> Change {
        let (payload, is_success) = (&self.leased.delivery.payload, self.state() == DeliveryState::Completed);
        let reason = match self.attempt.outcome {
            _ if is_success => None,
            AttemptOutcome::Permanent => Some("permanent".to_owned()),
            _ => Some("exhausted".to_owned()),
        };
        let (to, missed) = match self.attempt.recipients.as_slice() {
            answers @ [_, ..] if is_success => {
                let (to, missed): (Vec<_>, Vec<_>) =
                    answers.iter().partition(|answer| answer.outcome == AttemptOutcome::Delivered);
                (addresses(to), addresses(missed))
            }
            _ => (reached(payload), Vec::new()),
        };
        Change::Outcome(Outcome {
            delivery: self.leased.delivery.id,
            kind: payload.kind().to_string(),
            answer: self.attempt.detail.clone(),
            attempts: self.leased.attempt,
            to,
            missed,
            reason,
        })
    }
}

fn addresses(answers: Vec<&RecipientAnswer>) -> Vec<String> {
    answers.into_iter().map(|answer| answer.address.clone()).collect()
}

/// Returns the mail addresses, or the URL without its query, which may contain secrets; nothing for a connector, which alone
/// knows its receivers.
pub(super) fn reached(payload: &Payload) -> Vec<String> {
    match payload {
        Payload::Email(mail) => [&mail.to, &mail.cc, &mail.bcc].into_iter().flatten().cloned().collect(),
        Payload::Webhook(webhook) => webhook.url.split(['?', '#']).take(1).map(str::to_owned).collect(),
        Payload::Connector(_) => Vec::new(),
    }
}

/// A change of an endpoint's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerChange {
    /// The endpoint.
    pub endpoint: String,
    /// True if it opened, false if it closed.
    pub is_open: bool,
}

/// Settles attempts in one statement, and records the outcome of each finished delivery in its ticket's history, once. Returns
/// the breakers that opened or closed.
///
/// A call must not contain two settlements of the same delivery. It is safe to repeat a call whose response was lost, because
/// an attempt is settled only once. Nothing is written about endpoints that worked and keep working.
///
/// # Errors
/// Those of the database; then nothing was settled.
pub async fn settle(pool: &PgPool, batch: &[Settlement]) -> Result<Vec<BreakerChange>> {
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
    let won: Vec<bool> = each.clone().map(|one| one.state() == DeliveryState::Completed).collect();
    let again: Vec<Option<f64>> = each
        .clone()
        .map(|one| {
            one.again.filter(|_| one.state() == DeliveryState::Available).map(|delay| delay.as_secs_f64())
        })
        .collect();
    let transactions: Vec<Uuid> = each.clone().map(|one| one.transaction.0).collect();
    let types: Vec<String> = each.clone().map(|one| one.transaction_type().to_string()).collect();
    let endpoints: Vec<String> = each.clone().map(|one| one.leased.endpoint.clone()).collect();
    let health: Vec<String> = each.clone().map(|one| one.attempt.health.as_str().to_owned()).collect();
    let durations: Vec<i32> =
        each.clone().map(|one| i32::try_from(one.attempt.duration.as_millis()).unwrap_or(i32::MAX)).collect();
    let changes: Vec<Json<Change>> = each.map(|one| Json(one.change())).collect();
    let turned = sqlx::query!(
        r#"
        WITH told AS (
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::bytea[], $7::jsonb[],
                                 $8::bool[], $9::float8[], $10::uuid[], $11::text[], $12::jsonb[], $14::text[], $15::text[],
                                 $16::int[])
            AS t (id, token, outcome, code, detail, response, recipients, won, again, transaction, type, data, endpoint, health,
                  duration)
        ),
        -- The rows are locked in a fixed order, first of the queue and then of the attempts, as in every statement that gives
        -- back, extends or holds leases, so that they never deadlock. The token is the newest one, also after a wait.
        queued AS MATERIALIZED (
            SELECT q.delivery_id, q.lease_token
            FROM delivery_queue q
            WHERE q.delivery_id = ANY ($1)
            ORDER BY q.delivery_id
            FOR UPDATE OF q
        ),
        -- Only leases that were granted and not settled yet count. A lease that was given back can only succeed.
        counted AS MATERIALIZED (
            SELECT told.*
            FROM told
            -- Read first, so that its locks are taken first.
            LEFT JOIN queued q ON q.delivery_id = told.id
            JOIN delivery_attempts a ON a.delivery_id = told.id AND a.lease_token = told.token
            WHERE a.finished_at IS NULL AND (a.given_back_at IS NULL OR told.won)
            ORDER BY told.id, told.token
            FOR UPDATE OF a
        ),
        -- Everything below reads this.
        noted AS (
            UPDATE delivery_attempts a
            SET finished_at = now(), outcome = n.outcome, status_code = n.code, detail = n.detail, response = n.response,
                recipients = n.recipients, duration_ms = n.duration, given_back_at = NULL
            FROM counted n
            WHERE a.delivery_id = n.id AND a.lease_token = n.token
            RETURNING n.*
        ),
        held AS MATERIALIZED (
            SELECT q.delivery_id, q.lease_token IS NOT DISTINCT FROM n.token AS current, n.won, n.again
            FROM queued q JOIN noted n ON n.id = q.delivery_id
        ),
        finished AS (
            DELETE FROM delivery_queue q
            USING held h
            WHERE q.delivery_id = h.delivery_id AND (h.won OR (h.current AND h.again IS NULL))
            RETURNING q.delivery_id
        ),
        put_off AS (
            UPDATE delivery_queue q
            SET due_at = now() + make_interval(secs => h.again), lease_token = NULL, let_go = FALSE, returns = 0
            FROM held h
            WHERE q.delivery_id = h.delivery_id AND NOT h.won AND h.current AND h.again IS NOT NULL
        ),
        -- A success may follow a DeliveryFailed (a late report, a resend), never the reverse; a failure is recorded by the
        -- settlement that ended the delivery. The time is taken while the queue's row is locked, so that times have the order
        -- of the ends; and an outcome is never earlier than its cause, which a process with another clock may have written.
        recorded AS (
            INSERT INTO transactions (id, ticket_id, request_id, batch_seq, transaction_type, new_value, data, creator_id,
                                      created_at, caused_by, scrip_version_id, delivery_id)
            SELECT n.transaction, d.ticket_id, c.request_id, 0, n.type, n.detail, n.data, $13,
                   greatest(clock_timestamp(), c.created_at), c.id, d.scrip_version_id, d.id
            FROM noted n
            LEFT JOIN held h ON h.delivery_id = n.id
            JOIN deliveries d ON d.id = n.id
            JOIN transactions c ON c.id = d.transaction_id
            WHERE coalesce(h.won, n.won)
               OR (n.id IN (SELECT delivery_id FROM finished)
                   AND NOT EXISTS (SELECT FROM transactions o
                                   WHERE o.delivery_id = n.id AND o.transaction_type <> 'DeliveryFailed'))
            ORDER BY n.id
            ON CONFLICT (delivery_id, transaction_type) WHERE delivery_id IS NOT NULL DO NOTHING
        ),
        said AS (
            SELECT n.endpoint, bool_or(n.health = 'works') AS works,
                   (count(*) FILTER (WHERE n.health = 'fails'))::int AS failures,
                   max(n.detail) FILTER (WHERE n.health = 'fails') AS failure
            FROM noted n
            GROUP BY n.endpoint
        ),
        -- Every row that is written below, in a fixed order; a healthy endpoint has no row.
        touched AS MATERIALIZED (
            SELECT e.endpoint, s.works, e.probe_at IS NOT NULL AS was_open
            FROM delivery_endpoints e JOIN said s ON s.endpoint = e.endpoint
            WHERE CASE WHEN s.works THEN e.failures > 0 ELSE s.failures > 0 END
            ORDER BY e.endpoint
            FOR UPDATE OF e
        ),
        -- A success resets the count of failures and closes the breaker.
        closed AS (
            UPDATE delivery_endpoints e
            SET failures = 0, failing_since = NULL, pause = '0', probe_at = NULL, probe = NULL
            FROM touched t
            WHERE e.endpoint = t.endpoint AND t.works
            RETURNING e.endpoint, t.was_open
        ),
        -- Enough failures in a row open it; a failed probe doubles the pause before the next one.
        failed AS (
            INSERT INTO delivery_endpoints AS e (endpoint, failures, failing_since, last_failure, pause, probe_at)
            SELECT s.endpoint, s.failures, now(), s.failure,
                   CASE WHEN s.failures >= $17 THEN make_interval(secs => $18) ELSE '0' END,
                   CASE WHEN s.failures >= $17 THEN now() + make_interval(secs => $18) END
            FROM said s
            LEFT JOIN touched t ON t.endpoint = s.endpoint
            WHERE s.failures > 0 AND NOT s.works
            ORDER BY s.endpoint, t.endpoint
            ON CONFLICT ON CONSTRAINT delivery_endpoints_pk DO UPDATE
            SET failures = e.failures + excluded.failures,
                failing_since = coalesce(e.failing_since, excluded.failing_since),
                last_failure = excluded.last_failure,
                (pause, probe_at, probe) = (
                    SELECT p.pause, CASE WHEN p.pause = e.pause AND NOT p.probed THEN e.probe_at ELSE now() + p.pause END,
                           CASE WHEN p.probed THEN NULL ELSE e.probe END
                    FROM (SELECT b.probed,
                                 CASE WHEN e.probe_at IS NULL AND e.failures + excluded.failures >= $17
                                      THEN make_interval(secs => $18)
                                      WHEN b.probed THEN least(e.pause * 2, make_interval(secs => $19))
                                      ELSE e.pause END AS pause
                          FROM (SELECT e.probe_at IS NOT NULL
                                       AND EXISTS (SELECT FROM noted n WHERE n.id = e.probe AND n.health = 'fails') AS probed) b
                         ) p)
            RETURNING e.endpoint, e.probe_at = now() + make_interval(secs => $18) AS opened
        )
        SELECT endpoint AS "endpoint!", FALSE AS "is_open!" FROM closed WHERE was_open
        UNION ALL
        SELECT endpoint, TRUE FROM failed WHERE opened
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
        &endpoints,
        &health,
        &durations,
        OPENS_AFTER,
        PROBE_FIRST.as_secs_f64(),
        PROBE_MAX.as_secs_f64()
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    Ok(turned.into_iter().map(|row| BreakerChange { endpoint: row.endpoint, is_open: row.is_open }).collect())
}
