//! Proves the invariants that a database with no server running can show (docs/architecture.md, "What holds").

use super::error;
use crate::error::Result;
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::{
    Change, CustomFieldId, LifecycleId, LifecycleVersionId, QueueId, Role, StatusClass, Ticket, TicketId,
    UserId, Watcher,
};
use crate::plan::fold;
use serde::Deserialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use std::collections::{BTreeMap, HashMap};
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
    let mut db = pool.begin().await.map_err(error)?;
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *db)
        .await
        .map_err(error)?;
    sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *db).await.map_err(error)?;
    let mut report = Report::default();
    let lifecycles = Lifecycles::read(&mut db).await?;
    fold_tickets(&mut db, &lifecycles, &mut report).await?;
    sequences(&mut db, &mut report).await?;
    deliveries(&mut db, &mut report).await?;
    references(&mut db, &mut report).await?;
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

#[derive(Debug, Deserialize)]
struct WatcherLine {
    role: Role,
    #[serde(flatten)]
    watcher: Watcher,
}

#[derive(Debug, Deserialize)]
struct ValueLine {
    field: CustomFieldId,
    value: String,
}

/// I2 and I4: a ticket equals the fold of its transactions; its class is its lifecycle's; its changes of status are edges.
async fn fold_tickets(db: &mut PgConnection, lifecycles: &Lifecycles, report: &mut Report) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let rows = sqlx::query!(
            r#"
            SELECT t.id, t.number, t.version, t.subject, t.subject_folded, t.queue_id, t.status, t.status_class AS "class!: i8",
                   t.priority, t.owner_id, t.creator_id, t.created_at, t.updated_at, t.started_at, t.resolved_at, t.due_at, t.told_at,
                   (SELECT jsonb_agg(jsonb_build_object('field', v.custom_field_id, 'value', v.value))
                    FROM custom_field_values v WHERE v.ticket_id = t.id) AS "field_values: Json<Vec<ValueLine>>",
                   (SELECT jsonb_agg(jsonb_build_object('id', w.id, 'role', w.role, 'user', w.user_id, 'address', w.address))
                    FROM ticket_watchers w WHERE w.ticket_id = t.id) AS "watchers: Json<Vec<WatcherLine>>",
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
        for row in rows {
            let mut ticket = Ticket {
                id: TicketId(row.id),
                number: Some(row.number),
                version: row.version,
                subject: row.subject,
                queue: QueueId(row.queue_id),
                status: row.status,
                status_class: StatusClass::from_char(row.class).unwrap_or(StatusClass::Initial),
                owner: row.owner_id.map(UserId),
                creator: UserId(row.creator_id),
                priority: row.priority,
                created_at: row.created_at,
                updated_at: row.updated_at,
                started_at: row.started_at,
                resolved_at: row.resolved_at,
                due_at: row.due_at,
                told_at: row.told_at,
                requestors: Vec::new(),
                cc: Vec::new(),
                admin_cc: Vec::new(),
                values: BTreeMap::new(),
            };
            for line in row.watchers.into_iter().flat_map(|Json(lines)| lines) {
                ticket.watchers_mut(line.role).push(line.watcher);
            }
            for line in row.field_values.into_iter().flat_map(|Json(lines)| lines) {
                ticket.values.entry(line.field).or_default().push(line.value);
            }
            let history = row.history.map(|Json(lines)| lines).unwrap_or_default();
            report.tickets += 1;
            report.transactions += u64::try_from(history.len()).unwrap_or_default();
            if row.subject_folded != crate::models::text::fold(&ticket.subject) {
                report.tell(
                    "I2",
                    format!("ticket #{} has a folded subject that is not its subject's", row.number),
                );
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
    let folded = fold(history.iter().map(|line| (&line.change, line.seq, line.at)));
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

    fn tell_each<T>(&mut self, invariant: &'static str, things: Vec<T>, sentence: impl Fn(T) -> String) {
        for thing in things {
            self.tell(invariant, sentence(thing));
        }
    }
}

/// I3: numbered transactions of a ticket have `seq` 1 to n, and its version is n.
async fn sequences(db: &mut PgConnection, report: &mut Report) -> Result<()> {
    let rows = sqlx::query!(
        r#"
        SELECT t.number, t.version, count(h.seq) AS "n!", coalesce(max(h.seq), 0) AS "last!"
        FROM tickets t LEFT JOIN transactions h ON h.ticket_id = t.id AND h.seq IS NOT NULL
        GROUP BY t.id
        HAVING t.version <> count(h.seq) OR t.version <> max(h.seq) OR count(h.seq) = 0
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    report.tell_each("I3", rows, |row| {
        format!(
            "ticket #{} is at version {} with {} numbered transactions, the last {}",
            row.number, row.version, row.n, row.last
        )
    });
    Ok(())
}

/// I5, I6, I8.
async fn deliveries(db: &mut PgConnection, report: &mut Report) -> Result<()> {
    report.deliveries = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM deliveries"#)
        .fetch_one(&mut *db)
        .await
        .map_err(error)?;
    let rows = sqlx::query_scalar!(
        r#"
        SELECT d.id FROM deliveries d
        WHERE NOT EXISTS (SELECT FROM transactions h WHERE h.id = d.transaction_id AND h.ticket_id = d.ticket_id)
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    report.tell_each("I5", rows, |id| format!("delivery {id} has no cause"));
    let rows = sqlx::query!(
        r#"
        SELECT r.request_id, m.id AS "delivery!"
        FROM request_traces r
        CROSS JOIN LATERAL jsonb_array_elements(r.evaluations) AS e (evaluation)
        CROSS JOIN LATERAL (SELECT (jsonb_array_elements_text(coalesce(e.evaluation -> 'deliveries', '[]')))::uuid AS id) m
        WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = m.id)
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    report.tell_each("I5", rows, |row| {
        format!("request {} fired delivery {}, which there is not", row.request_id, row.delivery)
    });
    let rows = sqlx::query!(
        r#"
        SELECT d.id, q.delivery_id IS NOT NULL AS "queued!", o.failures AS "failures!", o.successes AS "successes!"
        FROM deliveries d
        LEFT JOIN delivery_queue q ON q.delivery_id = d.id
        CROSS JOIN LATERAL (
          SELECT count(*) FILTER (WHERE h.transaction_type = 'DeliveryFailed') AS failures,
                 count(*) FILTER (WHERE h.transaction_type <> 'DeliveryFailed') AS successes
          FROM transactions h WHERE h.delivery_id = d.id) o
        WHERE (q.delivery_id IS NULL AND o.failures + o.successes = 0)
           OR (q.delivery_id IS NOT NULL AND o.successes > 0)
           OR o.failures > 1 OR o.successes > 1
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    for row in rows {
        let invariant = if row.queued { "I8" } else { "I6" };
        let place = if row.queued { "still in the queue" } else { "finished" };
        let sentence = format!(
            "delivery {} is {place} with {} successes and {} failures recorded",
            row.id, row.successes, row.failures
        );
        report.tell(invariant, sentence);
    }
    let rows = sqlx::query_scalar!(
        r#"
        SELECT f.delivery_id AS "id!"
        FROM transactions f
        JOIN transactions s ON s.delivery_id = f.delivery_id AND s.transaction_type <> 'DeliveryFailed' AND s.created_at < f.created_at
        WHERE f.transaction_type = 'DeliveryFailed'
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    report.tell_each("I6", rows, |id| format!("delivery {id} failed after it had succeeded"));
    let rows = sqlx::query_scalar!(
        r#"SELECT q.delivery_id FROM delivery_queue q WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = q.delivery_id) LIMIT $1"#,
        SHOWN_MAX
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    report.tell_each("I5", rows, |id| format!("delivery {id} is in the queue and is not there"));
    Ok(())
}

/// The references that have no foreign key.
async fn references(db: &mut PgConnection, report: &mut Report) -> Result<()> {
    let rows = sqlx::query!(
        r#"
        SELECT h.id,
               NOT EXISTS (SELECT FROM requests r WHERE r.id = h.request_id AND r.ticket_id = h.ticket_id) AS "request!",
               h.caused_by IS NOT NULL
                 AND NOT EXISTS (SELECT FROM transactions c WHERE c.id = h.caused_by AND c.ticket_id = h.ticket_id) AS "cause!",
               h.scrip_version_id IS NOT NULL AND NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = h.scrip_version_id) AS "scrip!"
        FROM transactions h
        WHERE NOT EXISTS (SELECT FROM requests r WHERE r.id = h.request_id AND r.ticket_id = h.ticket_id)
           OR (h.caused_by IS NOT NULL AND NOT EXISTS (SELECT FROM transactions c WHERE c.id = h.caused_by AND c.ticket_id = h.ticket_id))
           OR (h.scrip_version_id IS NOT NULL AND NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = h.scrip_version_id))
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    for row in rows {
        let broken = [(row.request, "request"), (row.cause, "cause"), (row.scrip, "scrip version")];
        for (_, what) in broken.into_iter().filter(|(is_broken, _)| *is_broken) {
            report.tell("references", format!("transaction {} names a {what} that there is not", row.id));
        }
    }
    let rows = sqlx::query_scalar!(
        r#"
        SELECT d.id FROM deliveries d
        WHERE NOT EXISTS (SELECT FROM scrip_versions v WHERE v.id = d.scrip_version_id)
        LIMIT $1
        "#,
        SHOWN_MAX
    )
    .fetch_all(&mut *db)
    .await
    .map_err(error)?;
    report
        .tell_each("references", rows, |id| format!("delivery {id} names a scrip version that there is not"));
    let rows = sqlx::query_scalar!(
        r#"SELECT c.transaction_id FROM transaction_contents c WHERE NOT EXISTS (SELECT FROM transactions h WHERE h.id = c.transaction_id) LIMIT $1"#,
        SHOWN_MAX
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    report.tell_each("references", rows, |id| {
        format!("a content belongs to transaction {id}, which there is not")
    });
    Ok(())
}
