//! Tickets in the database: the single load before planning, and reads for responses and lists.

use super::error;
use crate::error::{Code, Error, Result};
use crate::models::html;
use crate::models::page::{BYTES_MAX, ITEM_BYTES};
use crate::models::text::{fold, typed};
use crate::models::user::User;
use crate::models::{
    CustomFieldId, QueueId, Role, StatusClass, Ticket, TicketId, TransactionType, UserId, Watcher,
};
use crate::plan::situation::PastMessage;
use crate::plan::{People, Situation, Target};
use serde::Deserialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeMap;
use std::fmt;
use time::OffsetDateTime;
use uuid::Uuid;

/// A reference to a ticket, by its number or its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TicketRef {
    /// The number that people use.
    Number(i64),
    /// Its id.
    Id(TicketId),
}

impl TicketRef {
    pub(super) fn split(self) -> (Option<i64>, Option<Uuid>) {
        match self {
            Self::Number(number) => (Some(number), None),
            Self::Id(id) => (None, Some(id.0)),
        }
    }
}

impl std::str::FromStr for TicketRef {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let number = || {
            let digits = word.strip_prefix('#').unwrap_or(word);
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|number| is_plain && *number > 0).map(Self::Number)
        };
        let id = || Uuid::parse_str(word).ok().map(|id| Self::Id(TicketId(id)));
        number().or_else(id).ok_or_else(|| Error::not_found("ticket", word))
    }
}

impl fmt::Display for TicketRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "#{number}"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// The result of a load.
#[derive(Debug)]
pub struct Loaded {
    /// The input of the plan.
    pub situation: Situation,
    /// The earlier request with the same idempotency key, if there was one.
    pub replay: Option<Replay>,
    /// The version of the configuration.
    pub config_version: i64,
    /// True if past messages were loaded.
    pub with_messages: bool,
}

/// An earlier request with the same idempotency key, and the summary of its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The SHA-256 of its method, path and body.
    pub body_hash: Vec<u8>,
    /// The summary of the change.
    pub response: Vec<u8>,
}

/// The parameters of a load.
///
/// The statements read the configuration's version with a scalar subquery, never with a join: PostgreSQL assumes that a table
/// without statistics has many rows, and plans for them.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// The user who sends the request; idempotency keys are per user.
    pub actor: UserId,
    /// The idempotency key, if one was sent.
    pub key: Option<&'a str>,
    /// The usernames and addresses in the command.
    pub people: &'a [String],
    /// The queues whose tickets are loaded with their past messages, because a scrip may use them.
    pub messages: &'a [Uuid],
}

/// The maximum number of characters of one past message that templates get.
const MESSAGE_MAX: i32 = 64 * 1024;

#[derive(Debug, Deserialize)]
struct Person {
    id: UserId,
    username: String,
    email: Option<String>,
    name: Option<String>,
    privileged: bool,
    disabled: bool,
}

impl From<Person> for User {
    fn from(row: Person) -> Self {
        let Person { id, username, email, name, privileged, disabled } = row;
        Self { id, username, email, name, privileged, disabled }
    }
}

#[derive(Debug, Deserialize)]
struct WatcherRow {
    id: crate::models::WatcherId,
    role: Role,
    user: Option<UserId>,
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ValueRow {
    field: CustomFieldId,
    value: String,
}

#[derive(Debug, Deserialize)]
struct MessageRow {
    kind: TransactionType,
    creator: UserId,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    body: String,
    cut: bool,
    /// True if a version before the column `html` stored the HTML as the text.
    markup: bool,
}

#[derive(Debug, Deserialize)]
struct ReplayRow {
    body_hash: String,
    response: String,
}

impl TryFrom<ReplayRow> for Replay {
    type Error = hex::FromHexError;

    fn try_from(row: ReplayRow) -> Result<Self, hex::FromHexError> {
        let body_hash = hex::decode(row.body_hash)?;
        Ok(Self { body_hash, response: hex::decode(row.response)? })
    }
}

fn replay(row: Option<Json<ReplayRow>>) -> Result<Option<Replay>> {
    row.map(|Json(row)| Replay::try_from(row))
        .transpose()
        .map_err(|source| Error::internal("A stored response cannot be read.", source))
}

fn people(rows: Option<Json<Vec<Person>>>) -> People {
    rows.map(|Json(rows)| rows.into_iter().map(User::from).collect()).unwrap_or_default()
}

/// Returns the words in the form that the lookup of people compares, without words with U+0000, which match nobody.
fn folded(people: &[String]) -> Vec<String> {
    people.iter().filter(|word| !word.contains('\0')).map(|word| fold(&typed(word))).collect()
}

/// Returns the number of the ticket with this id.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn number_of(db: &mut PgConnection, id: TicketId) -> Result<i64> {
    let number = sqlx::query_scalar!("SELECT number FROM tickets WHERE id = $1", id.0);
    let number = number.fetch_optional(db).await.map_err(error)?;
    number.ok_or_else(|| Error::not_found("ticket", TicketRef::Id(id)))
}

/// Loads the input for a create, and draws the ticket's number. One statement.
///
/// # Errors
/// Those of the database.
pub async fn load_new(db: &mut PgConnection, load: Load<'_>) -> Result<Loaded> {
    let row = sqlx::query!(
        r#"
        SELECT (SELECT version FROM config_version) AS "config!", nextval('ticket_number') AS "number!",
               (SELECT jsonb_build_object('body_hash', encode(k.body_hash, 'hex'), 'request', k.request_id,
                                          'status', k.status, 'response', encode(k.response, 'hex'))
                FROM idempotency_keys k WHERE k.actor_id = $1 AND k.key = $2::text) AS "replay: Json<ReplayRow>",
               (SELECT jsonb_agg(jsonb_build_object('id', u.id, 'username', u.username, 'email', u.email, 'name', u.name,
                                                    'privileged', u.privileged, 'disabled', u.disabled))
                FROM unnest($3::text[]) AS x (word),
                     LATERAL (SELECT * FROM users u WHERE lower(u.username) = x.word OR lower(u.email) = x.word OFFSET 0) u)
               AS "people: Json<Vec<Person>>"
        "#,
        load.actor.0,
        load.key,
        &folded(load.people),
    )
    .fetch_one(db)
    .await
    .map_err(error)?;
    Ok(Loaded {
        situation: Situation {
            ticket: Target::New { number: Some(row.number) },
            people: people(row.people),
            messages: Vec::new(),
        },
        replay: replay(row.replay)?,
        config_version: row.config,
        with_messages: true,
    })
}

/// Loads the input for the preview of a create: draws no number and writes nothing. One statement.
///
/// # Errors
/// Those of the database.
pub async fn load_blank(db: &mut PgConnection, load: Load<'_>) -> Result<Loaded> {
    let row = sqlx::query!(
        r#"
        SELECT (SELECT version FROM config_version) AS "config!",
               (SELECT jsonb_agg(jsonb_build_object('id', u.id, 'username', u.username, 'email', u.email, 'name', u.name,
                                                    'privileged', u.privileged, 'disabled', u.disabled))
                FROM unnest($1::text[]) AS x (word),
                     LATERAL (SELECT * FROM users u WHERE lower(u.username) = x.word OR lower(u.email) = x.word OFFSET 0) u)
               AS "people: Json<Vec<Person>>"
        "#,
        &folded(load.people),
    )
    .fetch_one(db)
    .await
    .map_err(error)?;
    let situation =
        Situation { ticket: Target::New { number: None }, people: people(row.people), messages: Vec::new() };
    // A new ticket has no past messages.
    Ok(Loaded { situation, replay: None, config_version: row.config, with_messages: true })
}

/// Loads the input for an update: ticket, values, people, key and configuration version. One statement, no lock.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn load(db: &mut PgConnection, ticket: TicketRef, load: Load<'_>) -> Result<Loaded> {
    let (number, id) = ticket.split();
    let row = sqlx::query_as!(
        TicketRow,
        r#"
        SELECT (SELECT version FROM config_version) AS "config!",
               t.id, t.number, t.version, t.subject, t.queue_id, t.status, t.status_class AS "class!: i8", t.priority,
               t.owner_id, t.creator_id, t.created_at, t.updated_at, t.started_at, t.resolved_at, t.due_at, t.told_at,
               (SELECT jsonb_build_object('body_hash', encode(k.body_hash, 'hex'), 'request', k.request_id,
                                          'status', k.status, 'response', encode(k.response, 'hex'))
                FROM idempotency_keys k WHERE k.actor_id = $3 AND k.key = $4::text) AS "replay: Json<ReplayRow>",
               (SELECT jsonb_agg(jsonb_build_object('field', v.custom_field_id, 'value', v.value) ORDER BY v.id)
                FROM custom_field_values v WHERE v.ticket_id = t.id) AS "field_values: Json<Vec<ValueRow>>",
               (SELECT jsonb_agg(jsonb_build_object('id', w.id, 'role', w.role, 'user', w.user_id, 'address', w.address) ORDER BY w.id)
                FROM ticket_watchers w WHERE w.ticket_id = t.id) AS "watchers: Json<Vec<WatcherRow>>",
               (SELECT jsonb_agg(jsonb_build_object('id', u.id, 'username', u.username, 'email', u.email, 'name', u.name,
                                                    'privileged', u.privileged, 'disabled', u.disabled))
                FROM (SELECT u.*
                      FROM unnest(ARRAY(SELECT w.user_id FROM ticket_watchers w WHERE w.ticket_id = t.id)
                                  || t.owner_id || t.creator_id) AS x (id),
                           LATERAL (SELECT * FROM users u WHERE u.id = x.id OFFSET 0) u
                      UNION ALL
                      SELECT u.*
                      FROM unnest($5::text[]) AS x (word),
                           LATERAL (SELECT * FROM users u WHERE lower(u.username) = x.word OR lower(u.email) = x.word OFFSET 0) u) u)
               AS "people: Json<Vec<Person>>",
               (SELECT jsonb_agg(jsonb_build_object('kind', m.transaction_type, 'creator', m.creator_id, 'at', m.created_at,
                                                    'body', left(m.body, $7), 'cut', length(m.body) > $7, 'markup', m.markup) ORDER BY m.seq)
                FROM (SELECT h.seq, h.transaction_type, h.creator_id, h.created_at, b.body,
                             b.content_type = 'text/html' AND b.html IS NULL AS markup,
                             row_number() OVER (ORDER BY h.seq) AS first, row_number() OVER (ORDER BY h.seq DESC) AS newest
                      FROM transactions h JOIN transaction_contents b ON b.transaction_id = h.id
                      WHERE t.queue_id = ANY ($6::uuid[]) AND h.ticket_id = t.id AND h.seq IS NOT NULL) m
                WHERE m.first = 1 OR m.newest <= 5) AS "messages: Json<Vec<MessageRow>>"
        FROM tickets t
        WHERE t.number = $1::bigint OR t.id = $2::uuid
        "#,
        number,
        id,
        load.actor.0,
        load.key,
        &folded(load.people),
        load.messages,
        MESSAGE_MAX,
    )
    .fetch_optional(db)
    .await
    .map_err(error)?;
    row.ok_or_else(|| Error::not_found("ticket", ticket))?.into_loaded(load.messages)
}

/// Locks a ticket, for updates that failed without a lock because the ticket kept changing. Waits at most `lock_timeout`.
///
/// # Errors
/// `locked` if the lock is not available within `lock_timeout`; those of the database.
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

/// The size of a value or a watcher without its text, in bytes.
const PART_BYTES: i64 = 256;

/// Reads the first of the tickets with these ids, as many as fit into [`BYTES_MAX`] and at least one, in this order, and their
/// people, without the data that only a plan needs.
///
/// # Errors
/// Those of the database.
pub async fn many(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Ticket, People)>> {
    let rows = sqlx::query_as!(
        TicketRow,
        r#"
        SELECT 0::bigint AS "config!",
               t.id, t.number, t.version, t.subject, t.queue_id, t.status, t.status_class AS "class!: i8", t.priority,
               t.owner_id, t.creator_id, t.created_at, t.updated_at, t.started_at, t.resolved_at, t.due_at, t.told_at,
               NULL::jsonb AS "replay: Json<ReplayRow>",
               (SELECT jsonb_agg(jsonb_build_object('field', v.custom_field_id, 'value', v.value) ORDER BY v.id)
                FROM custom_field_values v WHERE v.ticket_id = t.id) AS "field_values: Json<Vec<ValueRow>>",
               (SELECT jsonb_agg(jsonb_build_object('id', w.id, 'role', w.role, 'user', w.user_id, 'address', w.address) ORDER BY w.id)
                FROM ticket_watchers w WHERE w.ticket_id = t.id) AS "watchers: Json<Vec<WatcherRow>>",
               (SELECT jsonb_agg(jsonb_build_object('id', u.id, 'username', u.username, 'email', u.email, 'name', u.name,
                                                    'privileged', u.privileged, 'disabled', u.disabled))
                FROM unnest(ARRAY(SELECT w.user_id FROM ticket_watchers w WHERE w.ticket_id = t.id)
                            || t.owner_id || t.creator_id) AS x (id),
                     LATERAL (SELECT * FROM users u WHERE u.id = x.id OFFSET 0) u)
               AS "people: Json<Vec<Person>>",
               NULL::jsonb AS "messages: Json<Vec<MessageRow>>"
        FROM (
            -- The length of a text is known without reading it.
            SELECT x.id, x.position,
                   (sum($2::bigint + octet_length(t.subject)
                        + coalesce((SELECT sum($4::bigint + octet_length(v.value)) FROM custom_field_values v
                                    WHERE v.ticket_id = x.id), 0)
                        + coalesce((SELECT sum($4::bigint + coalesce(octet_length(w.address), 0)) FROM ticket_watchers w
                                    WHERE w.ticket_id = x.id), 0)) OVER (ORDER BY x.position))::bigint AS bytes
            FROM unnest($1::uuid[]) WITH ORDINALITY AS x (id, position) JOIN tickets t ON t.id = x.id
        ) p
        JOIN tickets t ON t.id = p.id
        WHERE p.position = 1 OR p.bytes <= $3
        ORDER BY p.position
        "#,
        ids,
        ITEM_BYTES,
        BYTES_MAX,
        PART_BYTES,
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    rows.into_iter()
        .map(|mut row| {
            let people = people(row.people.take());
            Ok((Ticket::try_from(&mut row)?, people))
        })
        .collect()
}

/// Reads the users with these ids.
///
/// # Errors
/// Those of the database.
pub async fn users(db: &mut PgConnection, ids: &[Uuid]) -> Result<People> {
    let users = sqlx::query_as!(
        User,
        r#"SELECT id AS "id: UserId", username, email, name, privileged, disabled FROM users WHERE id = ANY ($1)"#,
        ids
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(users.into_iter().collect())
}

struct TicketRow {
    config: i64,
    id: Uuid,
    number: i64,
    version: i64,
    subject: String,
    queue_id: Uuid,
    status: String,
    class: i8,
    priority: i32,
    owner_id: Option<Uuid>,
    creator_id: Uuid,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    started_at: Option<OffsetDateTime>,
    resolved_at: Option<OffsetDateTime>,
    due_at: Option<OffsetDateTime>,
    told_at: Option<OffsetDateTime>,
    replay: Option<Json<ReplayRow>>,
    field_values: Option<Json<Vec<ValueRow>>>,
    watchers: Option<Json<Vec<WatcherRow>>>,
    people: Option<Json<Vec<Person>>>,
    messages: Option<Json<Vec<MessageRow>>>,
}

impl TryFrom<&mut TicketRow> for Ticket {
    type Error = Error;

    fn try_from(row: &mut TicketRow) -> Result<Self> {
        let mut ticket = Self {
            id: TicketId(row.id),
            number: Some(row.number),
            version: row.version,
            subject: std::mem::take(&mut row.subject),
            queue: QueueId(row.queue_id),
            status: std::mem::take(&mut row.status),
            status_class: class(row.class)?,
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
        for one in row.watchers.take().into_iter().flat_map(|Json(rows)| rows) {
            ticket.watchers_mut(one.role).push(Watcher { id: one.id, user: one.user, address: one.address });
        }
        for one in row.field_values.take().into_iter().flat_map(|Json(rows)| rows) {
            ticket.values.entry(one.field).or_default().push(one.value);
        }
        Ok(ticket)
    }
}

impl TicketRow {
    fn into_loaded(mut self, queues: &[Uuid]) -> Result<Loaded> {
        let with_messages = queues.contains(&self.queue_id);
        let ticket = Target::Existing(Box::new(Ticket::try_from(&mut self)?));
        let messages =
            self.messages.map(|Json(rows)| rows.into_iter().map(past).collect()).unwrap_or_default();
        let situation = Situation { ticket, people: people(self.people), messages };
        Ok(Loaded { situation, replay: replay(self.replay)?, config_version: self.config, with_messages })
    }
}

/// Returns the id of a ticket.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn id_of(pool: &sqlx::PgPool, ticket: TicketRef) -> Result<TicketId> {
    let (number, id) = ticket.split();
    let found =
        sqlx::query_scalar!("SELECT id FROM tickets WHERE number = $1::bigint OR id = $2::uuid", number, id)
            .fetch_optional(pool)
            .await
            .map_err(error)?;
    found.map(TicketId).ok_or_else(|| Error::not_found("ticket", ticket))
}

fn past(row: MessageRow) -> PastMessage {
    let MessageRow { kind, creator, at, body, cut, markup } = row;
    let content = if markup { html::to_text(&body) } else { body };
    PastMessage { transaction_type: kind, creator, created_at: at, content, is_cut: cut }
}

fn class(letter: i8) -> Result<StatusClass> {
    StatusClass::from_char(letter)
        .ok_or_else(|| Error::new(Code::Internal, "A stored ticket has an unknown status class."))
}
