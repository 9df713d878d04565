//! Lists tickets by a flat filter. TicketSQL will keep the form as short for AND.

use super::error;
use super::tickets::{self, Load, TicketRef};
use crate::error::Result;
use crate::models::page::Page;
use crate::models::text::fold;
use crate::models::{
    CustomFieldId, QueueId, Role, StatusClass, Ticket, TicketId, User, UserId, Watcher, WatcherId,
};
use crate::plan::{People, Subject};
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What tickets must be; all of it must hold, and of each list any. Empty lists ask for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Numbers.
    pub numbers: Vec<i64>,
    /// Parts of the subject, without case.
    pub subjects: Vec<String>,
    /// Statuses. Deleted tickets are left out unless it is named.
    pub statuses: Vec<String>,
    /// Queues.
    pub queues: Vec<QueueId>,
    /// Owners; the nil id is nobody.
    pub owners: Vec<UserId>,
    /// Who made them.
    pub creators: Vec<UserId>,
    /// Priorities.
    pub priorities: Vec<i32>,
    /// Usernames and addresses, by role.
    pub watchers: BTreeMap<Role, Vec<String>>,
    /// Values, by field; `None` among them = has no value.
    pub fields: Vec<(CustomFieldId, Vec<Option<String>>)>,
}

/// Stands for nobody among owners.
pub const NOBODY: UserId = UserId(Uuid::nil());

/// Tickets with the people they name.
pub type Found = (Page<Ticket>, People);

/// One ticket with its people.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn get(pool: &PgPool, ticket: TicketRef, actor: UserId) -> Result<(Ticket, People)> {
    let mut db = pool.acquire().await.map_err(error)?;
    let loaded =
        tickets::load(&mut db, ticket, Load { actor, key: None, people: &[], messages: false }).await?;
    match loaded.situation.ticket {
        Subject::Existing(ticket) => Ok((*ticket, loaded.situation.people)),
        Subject::New { .. } => Err(crate::Error::not_found("ticket", ticket)),
    }
}

#[derive(Debug, Deserialize)]
struct WatcherRow {
    id: WatcherId,
    role: Role,
    user: Option<UserId>,
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ValueRow {
    field: CustomFieldId,
    value: String,
}

/// A page of tickets, newest first.
///
/// # Errors
/// `malformed_cursor`; those of the database.
pub async fn tickets(pool: &PgPool, filter: &Filter, limit: i64, cursor: Option<&str>) -> Result<Found> {
    let before: Option<i64> =
        cursor.map(|cursor| cursor.parse().map_err(|_| super::malformed_cursor())).transpose()?;
    let statuses: Vec<String> = filter.statuses.iter().map(|status| fold(status)).collect();
    let subjects: Vec<String> = filter.subjects.iter().map(|part| fold(part)).collect();
    let (roles, words): (Vec<String>, Vec<String>) = filter
        .watchers
        .iter()
        .flat_map(|(role, words)| words.iter().map(|word| (role.as_str().to_owned(), fold(word))))
        .unzip();
    let (fields, values): (Vec<Uuid>, Vec<Option<String>>) = filter
        .fields
        .iter()
        .flat_map(|(field, values)| values.iter().map(|value| (field.0, value.as_deref().map(fold))))
        .unzip();
    let ids = |ids: &[UserId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let rows = sqlx::query!(
        r#"
        SELECT t.id, t.number, t.version, t.subject, t.queue_id, t.status, t.status_class AS "class!: i8", t.priority,
               t.owner_id, t.creator_id, t.created_at, t.updated_at, t.started_at, t.resolved_at, t.due_at, t.told_at,
               (SELECT jsonb_agg(jsonb_build_object('field', v.custom_field_id, 'value', v.value) ORDER BY v.id)
                FROM custom_field_values v WHERE v.ticket_id = t.id) AS "field_values: Json<Vec<ValueRow>>",
               (SELECT jsonb_agg(jsonb_build_object('id', w.id, 'role', w.role, 'user', w.user_id, 'address', w.address) ORDER BY w.id)
                FROM ticket_watchers w WHERE w.ticket_id = t.id) AS "watchers: Json<Vec<WatcherRow>>"
        FROM tickets t
        WHERE ($1::bigint IS NULL OR t.number < $1)
          AND (cardinality($2::bigint[]) = 0 OR t.number = ANY ($2))
          AND (cardinality($3::text[]) = 0 OR EXISTS (SELECT FROM unnest($3) AS part WHERE position(part IN t.subject_folded) > 0))
          AND CASE WHEN cardinality($4::text[]) = 0 THEN t.status <> 'deleted' ELSE t.status = ANY ($4) END
          AND (cardinality($5::uuid[]) = 0 OR t.queue_id = ANY ($5))
          AND (cardinality($6::uuid[]) = 0 OR coalesce(t.owner_id, '00000000-0000-0000-0000-000000000000') = ANY ($6))
          AND (cardinality($7::uuid[]) = 0 OR t.creator_id = ANY ($7))
          AND (cardinality($8::int[]) = 0 OR t.priority = ANY ($8))
          AND NOT EXISTS (
            SELECT FROM (SELECT DISTINCT role FROM unnest($9::text[]) AS role) wanted
            WHERE NOT EXISTS (
              SELECT FROM ticket_watchers w
              LEFT JOIN users u ON u.id = w.user_id
              JOIN unnest($9, $10::text[]) AS word (role, text) ON word.role = w.role
              WHERE w.ticket_id = t.id AND w.role = wanted.role
                AND word.text IN (lower(w.address), lower(u.username), lower(u.email))))
          AND NOT EXISTS (
            SELECT FROM (SELECT DISTINCT field FROM unnest($11::uuid[]) AS field) wanted
            WHERE NOT EXISTS (
              SELECT FROM unnest($11, $12::text[]) AS one (field, value)
              WHERE one.field = wanted.field
                AND CASE WHEN one.value IS NULL
                    THEN NOT EXISTS (SELECT FROM custom_field_values v WHERE v.ticket_id = t.id AND v.custom_field_id = one.field)
                    ELSE EXISTS (SELECT FROM custom_field_values v
                                 WHERE v.ticket_id = t.id AND v.custom_field_id = one.field AND v.value_folded = one.value) END))
        ORDER BY t.number DESC
        LIMIT $13
        "#,
        before,
        &filter.numbers,
        &subjects,
        &statuses,
        &filter.queues.iter().map(|id| id.0).collect::<Vec<_>>(),
        &ids(&filter.owners),
        &ids(&filter.creators),
        &filter.priorities,
        &roles,
        &words,
        &fields,
        &values as _,
        limit + 1,
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let mut found = Vec::with_capacity(rows.len());
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
        for one in row.watchers.into_iter().flat_map(|Json(rows)| rows) {
            ticket.watchers_mut(one.role).push(Watcher { id: one.id, user: one.user, address: one.address });
        }
        for one in row.field_values.into_iter().flat_map(|Json(rows)| rows) {
            ticket.values.entry(one.field).or_default().push(one.value);
        }
        found.push(ticket);
    }
    let page = Page::cut(found, limit, |last| last.number.unwrap_or_default().to_string());
    let people = people(pool, &page.items).await?;
    Ok((page, people))
}

/// The users that these tickets name.
async fn people(pool: &PgPool, tickets: &[Ticket]) -> Result<People> {
    let watchers =
        tickets.iter().flat_map(|ticket| Role::ALL.into_iter().flat_map(|role| ticket.watchers(role)));
    let mut ids: Vec<Uuid> = watchers.filter_map(|watcher| watcher.user.map(|user| user.0)).collect();
    ids.extend(
        tickets.iter().flat_map(|ticket| ticket.owner.into_iter().chain([ticket.creator])).map(|user| user.0),
    );
    let users = sqlx::query_as!(
        User,
        r#"SELECT id AS "id: UserId", username, email, name, privileged, disabled FROM users WHERE id = ANY ($1)"#,
        &ids
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    Ok(users.into_iter().collect())
}

/// The ids of the users of these usernames and addresses, in no order.
///
/// # Errors
/// Those of the database.
pub async fn users_named(pool: &PgPool, words: &[String]) -> Result<Vec<UserId>> {
    let words: Vec<String> = words.iter().map(|word| fold(word)).collect();
    let ids = sqlx::query_scalar!(
        "SELECT id FROM users WHERE lower(username) = ANY ($1) OR lower(email) = ANY ($1)",
        &words
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    Ok(ids.into_iter().map(UserId).collect())
}
