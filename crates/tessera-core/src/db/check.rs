//! Checks the invariants that the data alone can prove (docs/architecture.md, "Invariants").

use super::{error, tickets};
use crate::error::Result;
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::id::moment_of;
use crate::models::{Change, LifecycleId, LifecycleVersionId, QueueId, Role, StatusClass, Ticket, text};
use crate::query::sql::ID_SLACK;
use crate::query::words::vector;
use serde::Deserialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// The maximum number of violations reported of each invariant.
const SHOWN_MAX: i64 = 20;
/// The number of tickets read at a time.
const BATCH: i64 = 500;

/// The numbers of checked objects, and the violations found.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of tickets that were folded.
    pub tickets: u64,
    /// The number of transactions that were folded.
    pub transactions: u64,
    /// The number of deliveries that were checked.
    pub deliveries: i64,
    /// The violations: the invariant, and a sentence with ids; at most 20 of each invariant.
    pub violations: Vec<(&'static str, String)>,
}

/// Checks everything in one snapshot.
///
/// # Errors
/// Those of the database; violations are not errors but part of the report.
pub async fn check(pool: &PgPool) -> Result<Report> {
    let mut db = super::moment(pool).await?;
    sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *db).await.map_err(error)?;
    look(&mut db).await
}

/// As [`check`], in the database transaction of the caller.
pub(crate) async fn look(db: &mut PgConnection) -> Result<Report> {
    let mut report = Report::default();
    let lifecycles = Lifecycles::read(db).await?;
    fold_tickets(db, &lifecycles, &mut report).await?;
    rows(db, &mut report).await?;
    Ok(report)
}

/// Every version of every lifecycle, and the current version for each queue.
struct Lifecycles {
    versions: HashMap<LifecycleVersionId, Lifecycle>,
    of_queue: HashMap<QueueId, LifecycleVersionId>,
}

impl Lifecycles {
    async fn read(db: &mut PgConnection) -> Result<Self> {
        let rows = sqlx::query!(r#"SELECT id, lifecycle_id, name, definition AS "definition: Json<Definition>" FROM lifecycle_versions"#)
            .fetch_all(&mut *db)
            .await
            .map_err(error)?;
        let versions = rows
            .into_iter()
            .filter_map(|row| {
                let id = LifecycleVersionId(row.id);
                Lifecycle::compile(LifecycleId(row.lifecycle_id), id, row.name, row.definition.0)
                    .ok()
                    .map(|life| (id, life))
            })
            .collect();
        let rows = sqlx::query!(
            "SELECT q.id, l.version_id FROM queues q JOIN lifecycles l ON l.id = q.lifecycle_id"
        )
        .fetch_all(db)
        .await
        .map_err(error)?;
        let of_queue =
            rows.into_iter().map(|row| (QueueId(row.id), LifecycleVersionId(row.version_id))).collect();
        Ok(Self { versions, of_queue })
    }

    fn class_of(&self, queue: QueueId, status: &str) -> Option<StatusClass> {
        self.of_queue
            .get(&queue)
            .and_then(|version| self.versions.get(version))
            .and_then(|life| life.class_of(status))
    }

    /// Returns true if a change of status is a transition of the lifecycle version that it names, or follows a status map to it.
    fn allows(&self, change: &Change) -> bool {
        let Change::Status { old, new, mapped, lifecycle_version, .. } = change else { return true };
        let Some(target) = self.versions.get(lifecycle_version) else { return false };
        if !mapped {
            return target.transition(old, new).is_ok();
        }
        self.versions
            .values()
            .any(|from| matches!(from.map_to(target, old), Ok(Some(change)) if change.new_status() == new))
    }
}

#[derive(Debug, Deserialize)]
struct Line {
    id: Uuid,
    seq: i64,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    change: Change,
}

/// Why a form of a text that searches use can differ from the text.
const OLDER: &str = ", as older versions leave it; a server updates it in the background after its start";

/// Checks I2 and I4: a ticket equals the fold of its transactions, its status has the class of its lifecycle, and its changes
/// of status are transitions.
async fn fold_tickets(db: &mut PgConnection, lifecycles: &Lifecycles, report: &mut Report) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let rows = sqlx::query!(
            r#"
            SELECT t.id, t.subject_folded, t.subject_words::text AS subject_words,
                   (SELECT jsonb_agg(jsonb_build_object('id', h.id, 'seq', h.seq, 'at', h.created_at, 'change', h.data) ORDER BY h.seq)
                    FROM transactions h WHERE h.ticket_id = t.id AND h.seq IS NOT NULL) AS "history: Json<Vec<Line>>"
            FROM tickets t
            WHERE t.id > $1
            ORDER BY t.id
            LIMIT $2
            "#,
            after,
            BATCH
        )
        .fetch_all(&mut *db)
        .await
        .map_err(error)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let found = tickets::many(&mut *db, &ids).await?;
        let mut found: HashMap<Uuid, Ticket> =
            found.into_iter().map(|(ticket, _)| (ticket.id.0, ticket)).collect();
        for row in rows {
            let Some(ticket) = found.remove(&row.id) else { continue };
            let history = row.history.map(|Json(lines)| lines).unwrap_or_default();
            report.tickets += 1;
            report.transactions += u64::try_from(history.len()).unwrap_or_default();
            if row.subject_folded != text::caseless(&ticket.subject) {
                report.violation(
                    "I2",
                    format!("ticket {} has a folded subject that does not match its subject{OLDER}", row.id),
                );
            }
            if row.subject_words.is_some_and(|words| words != vector(&ticket.subject)) {
                let words = "has search words that do not match its subject";
                report.violation("I2", format!("ticket {} {words}{OLDER}", row.id));
            }
            judge(ticket, &history, lifecycles, report);
        }
    }
}

fn judge(ticket: Ticket, history: &[Line], lifecycles: &Lifecycles, report: &mut Report) {
    let number = ticket.number.unwrap_or_default();
    for line in history.iter().filter(|line| !lifecycles.allows(&line.change)) {
        report.violation(
            "I4",
            format!(
                "transaction {} of ticket #{number} is not a transition of the lifecycle that it names",
                line.id
            ),
        );
    }
    if lifecycles.class_of(ticket.queue, &ticket.status) != Some(ticket.status_class) {
        report.violation(
            "I2",
            format!(
                "ticket #{number} has the class {} with the status {}, which differs from its lifecycle",
                ticket.status_class, ticket.status
            ),
        );
    }
    // The id of a ticket from before 1970 contains 1970.
    let created = ticket.created_at.max(OffsetDateTime::UNIX_EPOCH);
    if moment_of(ticket.id.0).is_none_or(|carried| (carried - created).abs() > ID_SLACK) {
        let id = ticket.id;
        report.violation(
            "ids",
            format!("ticket #{number} was created at {created} but its id {id} contains another time, so searches by Created miss it"),
        );
    }
    let folded = Ticket::fold(history.iter().map(|line| (&line.change, line.seq, line.at)));
    let (folded, found) = (folded.map(normal), normal(ticket));
    if folded.as_ref() != Some(&found) {
        report.violation(
            "I2",
            format!(
                "ticket #{number} differs from the state that its transactions produce: expected {folded:?}, found {found:?}"
            ),
        );
    }
}

/// The ticket with its people and values sorted, because rows do not keep the order of a value that was removed and added at
/// once.
fn normal(mut ticket: Ticket) -> Ticket {
    for role in Role::ALL {
        ticket.watchers_mut(role).sort_by_key(|watcher| watcher.id);
    }
    for values in ticket.values.values_mut() {
        values.sort();
    }
    ticket
}

impl Report {
    fn violation(&mut self, invariant: &'static str, sentence: String) {
        let shown = usize::try_from(SHOWN_MAX).unwrap_or(usize::MAX);
        if self.violations.iter().filter(|(name, _)| *name == invariant).count() < shown {
            self.violations.push((invariant, sentence));
        }
    }
}

/// Checks in SQL: I3, I5, I6, the holds of I7, I8, and the references without a foreign key.
async fn rows(db: &mut PgConnection, report: &mut Report) -> Result<()> {
    report.deliveries = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM deliveries"#)
        .fetch_one(&mut *db)
        .await
        .map_err(error)?;
    let rows = sqlx::query!(
        r#"
        WITH outcomes AS (
          SELECT d.id, q.delivery_id IS NOT NULL AS queued, r.id IS NOT NULL AS resent,
                 count(h.id) FILTER (WHERE h.transaction_type = 'DeliveryFailed') AS failures,
                 count(h.id) FILTER (WHERE h.transaction_type <> 'DeliveryFailed') AS successes,
                 max(h.created_at) FILTER (WHERE h.transaction_type = 'DeliveryFailed') AS failed,
                 min(h.created_at) FILTER (WHERE h.transaction_type <> 'DeliveryFailed') AS succeeded
          FROM deliveries d
          LEFT JOIN delivery_queue q ON q.delivery_id = d.id
          LEFT JOIN delivery_actions r ON r.id = q.resend_id AND r.delivery_id = d.id AND r.action = 'resend'
          LEFT JOIN transactions h ON h.delivery_id = d.id
          GROUP BY d.id, q.delivery_id, r.id
        )
        SELECT v.invariant AS "invariant!", v.sentence AS "sentence!"
        FROM (
          (SELECT 'I3' AS invariant,
                  format('ticket #%s has version %s but %s numbered transactions, the last one %s',
                         t.number, t.version, count(h.seq), max(h.seq)) AS sentence
           FROM tickets t LEFT JOIN transactions h ON h.ticket_id = t.id AND h.seq IS NOT NULL
           GROUP BY t.id
           HAVING t.version <> count(h.seq) OR t.version <> max(h.seq) OR count(h.seq) = 0
           LIMIT $1)
          UNION ALL
          (SELECT 'I5', format('delivery %s has no transaction that caused it', d.id) FROM deliveries d
           WHERE NOT EXISTS (SELECT FROM transactions h WHERE h.id = d.transaction_id AND h.ticket_id = d.ticket_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'I5', format('delivery %s is in the queue but does not exist', q.delivery_id) FROM delivery_queue q
           WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = q.delivery_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'I5', format('request %s created delivery %s, which does not exist', r.request_id, m.id)
           FROM request_traces r
           CROSS JOIN LATERAL jsonb_array_elements(r.evaluations) AS e (evaluation)
           CROSS JOIN LATERAL (SELECT (jsonb_array_elements_text(coalesce(e.evaluation -> 'deliveries', '[]')))::uuid AS id) m
           WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = m.id)
           LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s has %s recorded successes and %s recorded failures', o.id, o.successes, o.failures)
           FROM outcomes o
           WHERE o.successes > 1 OR o.failures > 1 OR (NOT o.queued AND o.successes + o.failures = 0)
           LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s has a failure after its success', o.id) FROM outcomes o WHERE o.failed > o.succeeded LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s was given up but is in the queue without a resend', o.id) FROM outcomes o
           WHERE o.queued AND o.failures > 0 AND o.successes = 0 AND NOT o.resent
           LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s is recorded as cancelled without a cancel action', h.delivery_id) FROM transactions h
           WHERE h.transaction_type = 'DeliveryFailed' AND h.data ->> 'reason' = 'cancelled'
             AND NOT EXISTS (SELECT FROM delivery_actions a WHERE a.delivery_id = h.delivery_id AND a.action = 'cancel')
           LIMIT $1)
          UNION ALL
          (SELECT 'I7', format('delivery %s is held without a recorded hold', q.delivery_id) FROM delivery_queue q
           WHERE q.held IS NOT NULL
             AND 'hold' IS DISTINCT FROM (SELECT a.action FROM delivery_actions a
                                          WHERE a.delivery_id = q.delivery_id AND a.action IN ('hold', 'release')
                                          ORDER BY a.created_at DESC LIMIT 1)
           LIMIT $1)
          UNION ALL
          (SELECT 'I7', format('endpoint %s is held without a recorded hold', e.endpoint) FROM delivery_endpoints e
           WHERE e.held_at IS NOT NULL
             AND 'hold' IS DISTINCT FROM (SELECT a.action FROM delivery_actions a
                                          WHERE a.endpoint = e.endpoint AND a.action IN ('hold', 'release')
                                          ORDER BY a.created_at DESC LIMIT 1)
           LIMIT $1)
          UNION ALL
          (SELECT 'I8', format('delivery %s succeeded but is in the queue without a resend', o.id) FROM outcomes o
           WHERE o.queued AND o.successes > 0 AND NOT o.resent
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('transaction %s names a request that does not exist', h.id) FROM transactions h
           WHERE NOT EXISTS (SELECT FROM requests r WHERE r.id = h.request_id AND r.ticket_id = h.ticket_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('transaction %s names a cause that does not exist', h.id) FROM transactions h
           WHERE h.caused_by IS NOT NULL
             AND NOT EXISTS (SELECT FROM transactions c WHERE c.id = h.caused_by AND c.ticket_id = h.ticket_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('transaction %s names a scrip version that does not exist', h.id) FROM transactions h
           WHERE h.scrip_version_id IS NOT NULL AND NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = h.scrip_version_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('delivery %s names a scrip version that does not exist', d.id) FROM deliveries d
           WHERE NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = d.scrip_version_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('a content belongs to transaction %s, which does not exist', c.transaction_id)
           FROM transaction_contents c
           WHERE NOT EXISTS (SELECT FROM transactions h WHERE h.id = c.transaction_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('the content of transaction %s names another ticket', c.transaction_id)
           FROM transaction_contents c JOIN transactions h ON h.id = c.transaction_id
           WHERE c.ticket_id <> h.ticket_id
           LIMIT $1)
        ) v
        "#,
        SHOWN_MAX
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    for row in rows {
        report.violation(invariant(&row.invariant), row.sentence);
    }
    Ok(())
}

/// Returns the name of an invariant in the statement above as a static string.
fn invariant(name: &str) -> &'static str {
    ["I3", "I5", "I6", "I7", "I8"].into_iter().find(|known| *known == name).unwrap_or("references")
}
