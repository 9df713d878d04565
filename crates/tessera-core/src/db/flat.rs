//! Lists tickets by a flat filter. TicketSQL will keep the form as short for AND.

use super::error;
use super::tickets;
use crate::error::Result;
use crate::models::page::Page;
use crate::models::text::fold;
use crate::models::{CustomFieldId, QueueId, Role, Ticket, UserId};
use crate::plan::People;
use sqlx::PgPool;
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
        SELECT t.id, t.number
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
    let page = Page::cut(rows, limit, |last| last.number.to_string());
    let ids: Vec<Uuid> = page.items.iter().map(|row| row.id).collect();
    let mut db = pool.acquire().await.map_err(error)?;
    let (mut items, people): (Vec<_>, Vec<_>) = tickets::many(&mut db, &ids).await?.into_iter().unzip();
    items.sort_by_key(|ticket| std::cmp::Reverse(ticket.number));
    let people = people.iter().flat_map(People::iter).cloned().collect();
    Ok((Page { items, next_cursor: page.next_cursor }, people))
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
