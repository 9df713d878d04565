//! Proves the invariants that a database with no server running can show (docs/architecture.md, "What holds").

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

/// Violations told of each invariant.
const SHOWN_MAX: i64 = 20;
/// Tickets folded at a time.
const BATCH: i64 = 500;

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Tickets folded.
    pub tickets: u64,
    /// Transactions folded.
    pub transactions: u64,
    /// Deliveries looked at.
    pub deliveries: i64,
    /// What is wrong: the invariant, and a sentence with ids.
    pub violations: Vec<(&'static str, String)>,
}

/// Looks at everything, in one snapshot.
///
/// # Errors
/// Those of the database; what is wrong with the data is in the report.
pub async fn check(pool: &PgPool) -> Result<Report> {
    let mut db = super::moment(pool).await?;
    sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *db).await.map_err(error)?;
    look(&mut db).await
}

/// The same, in the database transaction of the caller.
pub(crate) async fn look(db: &mut PgConnection) -> Result<Report> {
    let mut report = Report::default();
    let lifecycles = Lifecycles::read(db).await?;
    fold_tickets(db, &lifecycles, &mut report).await?;
    rows(db, &mut report).await?;
    Ok(report)
}

/// Every version of every lifecycle, and the current one of each queue.
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

    /// Whether a change of status is an edge of the version it names, or the map of a queue move to it.
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

/// I2 and I4: a ticket equals the fold of its transactions; its class is its lifecycle's; its changes of status are edges.
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
            if row.subject_folded != text::fold(&ticket.subject) {
                report
                    .tell("I2", format!("ticket {} has a folded subject that is not its subject's", row.id));
            }
            if row.subject_words.is_some_and(|words| words != vector(&ticket.subject)) {
                let words = "words that are not its subject's, as an older program leaves them; its next change sets them";
                report.tell("I2", format!("ticket {} has {words}", row.id));
            }
            judge(ticket, &history, lifecycles, report);
        }
    }
}

fn judge(ticket: Ticket, history: &[Line], lifecycles: &Lifecycles, report: &mut Report) {
    let number = ticket.number.unwrap_or_default();
    for line in history.iter().filter(|line| !lifecycles.allows(&line.change)) {
        report.tell(
            "I4",
            format!("transaction {} of ticket #{number} is no edge of the lifecycle it names", line.id),
        );
    }
    if lifecycles.class_of(ticket.queue, &ticket.status) != Some(ticket.status_class) {
        report.tell(
            "I2",
            format!(
                "ticket #{number} is {} as {}, which its lifecycle does not say",
                ticket.status_class, ticket.status
            ),
        );
    }
    // Ids from before 1970 carry 1970.
    let made = ticket.created_at.max(OffsetDateTime::UNIX_EPOCH);
    if moment_of(ticket.id.0).is_none_or(|carried| (carried - made).abs() > ID_SLACK) {
        let id = ticket.id;
        report.tell(
            "ids",
            format!("ticket #{number} was made at {made} and has the id {id}, which carries another time: searches by Created miss it"),
        );
    }
    let folded = Ticket::fold(history.iter().map(|line| (&line.change, line.seq, line.at)));
    let (folded, found) = (folded.map(normal), normal(ticket));
    if folded.as_ref() != Some(&found) {
        report.tell(
            "I2",
            format!(
                "ticket #{number} is not the fold of its transactions: folded {folded:?}, found {found:?}"
            ),
        );
    }
}

/// The ticket with people and values in one order, which no row keeps for a value that left and came back at once.
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
    fn tell(&mut self, invariant: &'static str, sentence: String) {
        let shown = usize::try_from(SHOWN_MAX).unwrap_or(usize::MAX);
        if self.violations.iter().filter(|(name, _)| *name == invariant).count() < shown {
            self.violations.push((invariant, sentence));
        }
    }
}

/// What SQL alone can see: I3, I5, I6, the holds of I7, I8 and the references that have no foreign key.
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
                  format('ticket #%s is at version %s with %s numbered transactions, the last %s',
                         t.number, t.version, count(h.seq), max(h.seq)) AS sentence
           FROM tickets t LEFT JOIN transactions h ON h.ticket_id = t.id AND h.seq IS NOT NULL
           GROUP BY t.id
           HAVING t.version <> count(h.seq) OR t.version <> max(h.seq) OR count(h.seq) = 0
           LIMIT $1)
          UNION ALL
          (SELECT 'I5', format('delivery %s has no cause', d.id) FROM deliveries d
           WHERE NOT EXISTS (SELECT FROM transactions h WHERE h.id = d.transaction_id AND h.ticket_id = d.ticket_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'I5', format('delivery %s is in the queue and is not there', q.delivery_id) FROM delivery_queue q
           WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = q.delivery_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'I5', format('request %s fired delivery %s, which there is not', r.request_id, m.id)
           FROM request_traces r
           CROSS JOIN LATERAL jsonb_array_elements(r.evaluations) AS e (evaluation)
           CROSS JOIN LATERAL (SELECT (jsonb_array_elements_text(coalesce(e.evaluation -> 'deliveries', '[]')))::uuid AS id) m
           WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = m.id)
           LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s is finished with %s successes and %s failures recorded', o.id, o.successes, o.failures)
           FROM outcomes o
           WHERE o.successes > 1 OR o.failures > 1 OR (NOT o.queued AND o.successes + o.failures = 0)
           LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s failed after it had succeeded', o.id) FROM outcomes o WHERE o.failed > o.succeeded LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s was given up and is in the queue, and nobody sent it again', o.id) FROM outcomes o
           WHERE o.queued AND o.failures > 0 AND o.successes = 0 AND NOT o.resent
           LIMIT $1)
          UNION ALL
          (SELECT 'I6', format('delivery %s is recorded as cancelled and nobody cancelled it', h.delivery_id) FROM transactions h
           WHERE h.transaction_type = 'DeliveryFailed' AND h.data ->> 'reason' = 'cancelled'
             AND NOT EXISTS (SELECT FROM delivery_actions a WHERE a.delivery_id = h.delivery_id AND a.action = 'cancel')
           LIMIT $1)
          UNION ALL
          (SELECT 'I7', format('delivery %s is held and nobody held it', q.delivery_id) FROM delivery_queue q
           WHERE q.held IS NOT NULL
             AND 'hold' IS DISTINCT FROM (SELECT a.action FROM delivery_actions a
                                          WHERE a.delivery_id = q.delivery_id AND a.action IN ('hold', 'release')
                                          ORDER BY a.created_at DESC LIMIT 1)
           LIMIT $1)
          UNION ALL
          (SELECT 'I7', format('endpoint %s is held and nobody held it', e.endpoint) FROM delivery_endpoints e
           WHERE e.held_at IS NOT NULL
             AND 'hold' IS DISTINCT FROM (SELECT a.action FROM delivery_actions a
                                          WHERE a.endpoint = e.endpoint AND a.action IN ('hold', 'release')
                                          ORDER BY a.created_at DESC LIMIT 1)
           LIMIT $1)
          UNION ALL
          (SELECT 'I8', format('delivery %s has succeeded and is in the queue, and nobody sent it again', o.id) FROM outcomes o
           WHERE o.queued AND o.successes > 0 AND NOT o.resent
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('transaction %s names a request that there is not', h.id) FROM transactions h
           WHERE NOT EXISTS (SELECT FROM requests r WHERE r.id = h.request_id AND r.ticket_id = h.ticket_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('transaction %s names a cause that there is not', h.id) FROM transactions h
           WHERE h.caused_by IS NOT NULL
             AND NOT EXISTS (SELECT FROM transactions c WHERE c.id = h.caused_by AND c.ticket_id = h.ticket_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('transaction %s names a scrip version that there is not', h.id) FROM transactions h
           WHERE h.scrip_version_id IS NOT NULL AND NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = h.scrip_version_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('delivery %s names a scrip version that there is not', d.id) FROM deliveries d
           WHERE NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = d.scrip_version_id)
           LIMIT $1)
          UNION ALL
          (SELECT 'references', format('a content belongs to transaction %s, which there is not', c.transaction_id)
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
        report.tell(invariant(&row.invariant), row.sentence);
    }
    Ok(())
}

/// The name of an invariant, from the statement's own words.
fn invariant(name: &str) -> &'static str {
    ["I3", "I5", "I6", "I7", "I8"].into_iter().find(|known| *known == name).unwrap_or("references")
}
