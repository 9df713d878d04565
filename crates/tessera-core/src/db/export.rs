//! Reads tickets for an export: one after another, from one snapshot, in constant memory.

use super::search::{Batches, Count, Search};
use super::{catalog, error};
use crate::error::{Error, Result};
use crate::models::{Ticket, TransactionType, UserId};
use crate::plan::import::{Line, Past, Values, Who};
use crate::plan::{Catalog, Installation, People};
use crate::query::Dialect;
use crate::query::sql::{Asker, Sorted};
use futures::TryStreamExt as _;
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// The tickets to export: all, or those that match a query.
#[derive(Debug, Clone)]
pub struct Wanted<'q> {
    /// A TicketSQL query; `None` selects every ticket, including those with the status `deleted`.
    pub query: Option<&'q str>,
    /// The user who exports, with the time and time zone for the query.
    pub asker: Asker,
}

/// Passes every selected ticket to `write` in order of number, from one snapshot, and returns their number.
///
/// # Errors
/// `invalid_query`; those of the database; those of `write`, which end the export.
pub async fn export<E: From<Error>>(
    pool: &PgPool,
    installation: Installation,
    wanted: Wanted<'_>,
    mut write: impl FnMut(&Line) -> Result<(), E>,
) -> Result<u64, E> {
    let mut db = super::moment(pool).await?;
    for limit in [
        sqlx::query!("SET LOCAL statement_timeout = 0"),
        sqlx::query!("SET LOCAL idle_in_transaction_session_timeout = 0"),
    ] {
        limit.execute(&mut *db).await.map_err(error)?;
    }
    let catalog = catalog::read_within(&mut db, None, installation).await?;
    let mut batches = batches(&mut db, &catalog, wanted).await?;
    let mut count = 0;
    while let Some((tickets, people)) = batches.next(&mut db).await? {
        count += u64::try_from(tickets.len()).unwrap_or_default();
        write_batch(&mut db, &tickets, &people, &catalog, &mut write).await?;
    }
    Ok(count)
}

/// Returns the batches of the tickets to export.
async fn batches(db: &mut PgConnection, catalog: &Catalog, wanted: Wanted<'_>) -> Result<Batches> {
    let Some(query) = wanted.query else { return Ok(Batches::all()) };
    let by_number = [Sorted { field: "id".to_owned(), is_descending: false }];
    let search = Search {
        query,
        dialect: Dialect::Tessera,
        order: &by_number,
        limit: 0,
        cursor: None,
        count: Count::None,
        asker: wanted.asker,
    };
    Batches::of(db, catalog, &search).await
}

/// Writes each ticket of a batch with its history, which is read as a stream.
async fn write_batch<E: From<Error>>(
    db: &mut PgConnection,
    tickets: &[Ticket],
    people: &People,
    catalog: &Catalog,
    write: &mut impl FnMut(&Line) -> Result<(), E>,
) -> Result<(), E> {
    let ids: Vec<Uuid> = tickets.iter().map(|ticket| ticket.id.0).collect();
    let mut updaters = updaters(db, &ids).await?;
    // Outcomes of deliveries have no seq and are not exported. An Import is created again when the ticket is imported.
    let mut history = sqlx::query_as!(
        HistoryRow,
        r#"
        SELECT p.ord AS "ord!", h.transaction_type AS kind, h.created_at, h.field, h.old_value, h.new_value,
               u.username AS "username?", u.email, c.content_type AS "content_type?", coalesce(c.html, c.body) AS "body?"
        FROM unnest($1::uuid[]) WITH ORDINALITY AS p (id, ord)
        JOIN transactions h ON h.ticket_id = p.id AND h.seq IS NOT NULL AND h.transaction_type <> $2
        LEFT JOIN users u ON u.id = h.creator_id
        LEFT JOIN transaction_contents c ON c.transaction_id = h.id
        ORDER BY p.ord, h.seq
        "#,
        &ids,
        TransactionType::Import.as_str()
    )
    .fetch(db);
    let mut next = history.try_next().await.map_err(error)?;
    for (ord, ticket) in (1..).zip(tickets) {
        let mut line = line(ticket, people, catalog);
        line.updated_by = updaters.remove(&ticket.id.0);
        while let Some(row) = next.take_if(|row| row.ord == ord) {
            line.transactions.push(row.into());
            next = history.try_next().await.map_err(error)?;
        }
        write(&line)?;
    }
    Ok(())
}

/// The users who changed these tickets last.
async fn updaters(db: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, String>> {
    let rows = sqlx::query!(
        r#"
        SELECT t.id, u.username, u.email
        FROM tickets t
        JOIN transactions h ON h.ticket_id = t.id AND h.seq = t.version
        JOIN users u ON u.id = h.creator_id
        WHERE t.id = ANY ($1)
        "#,
        ids
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(rows.into_iter().map(|row| (row.id, written(row.username, row.email.as_deref()))).collect())
}

struct HistoryRow {
    ord: i64,
    kind: String,
    created_at: OffsetDateTime,
    field: Option<String>,
    old_value: Option<String>,
    new_value: Option<String>,
    username: Option<String>,
    email: Option<String>,
    content_type: Option<String>,
    body: Option<String>,
}

impl From<HistoryRow> for Past {
    fn from(row: HistoryRow) -> Self {
        Self {
            r#type: row.kind,
            created_at: row.created_at,
            creator: written(row.username.unwrap_or_default(), row.email.as_deref()),
            field: row.field,
            old_value: row.old_value,
            new_value: row.new_value,
            content: row.body,
            content_type: row.content_type.filter(|content_type| content_type != "text/plain"),
        }
    }
}

/// Converts a ticket to a line without its history. The line contains all fields that its queue shows, and other fields that
/// have values.
fn line(ticket: &Ticket, people: &People, catalog: &Catalog) -> Line {
    let queue = catalog.queues.get(ticket.queue);
    let person = |id: UserId| {
        let user = people.get(id);
        user.map(|user| written(user.username.clone(), user.email.as_deref())).unwrap_or_default()
    };
    let watchers = |watchers: &[crate::models::Watcher]| {
        let word = |watcher: &crate::models::Watcher| {
            watcher.user.map_or_else(|| watcher.address.clone().unwrap_or_default(), person)
        };
        watchers.iter().map(word).collect()
    };
    let shown = queue.map(|queue| queue.custom_fields.clone()).unwrap_or_default();
    let hidden = ticket.values.keys().filter(|field| !shown.contains(field));
    let fields = shown.iter().chain(hidden).filter_map(|id| catalog.fields.get(*id));
    let custom_fields = fields.map(|field| {
        let values = ticket.values_of(field.id).to_vec();
        // A field that now allows one value may have allowed several before.
        let values = match field.is_multiple() || values.len() > 1 {
            true => Values::Many(values),
            false => values.into_iter().next().map_or(Values::None, Values::One),
        };
        (field.name.clone(), values)
    });
    Line {
        number: ticket.number,
        queue: queue.map(|queue| queue.name.clone()).unwrap_or_default(),
        subject: ticket.subject.clone(),
        status: ticket.status.clone(),
        owner: ticket.owner.map(person),
        creator: person(ticket.creator),
        requestors: watchers(&ticket.requestors),
        cc: watchers(&ticket.cc),
        admin_cc: watchers(&ticket.admin_cc),
        priority: ticket.priority,
        created_at: ticket.created_at,
        updated_at: Some(ticket.updated_at),
        updated_by: None,
        started_at: ticket.started_at,
        due_at: ticket.due_at,
        told_at: ticket.told_at,
        resolved_at: ticket.resolved_at,
        custom_fields: custom_fields.collect(),
        transactions: Vec::new(),
    }
}

/// Returns the form of a user from which an import creates the same user.
fn written(username: String, email: Option<&str>) -> String {
    email.map(|email| Who::named(&username, email)).unwrap_or(username)
}
