//! Writes imports: rows by COPY, in the database transaction of the caller, with keys that prevent a second import of a line.

use super::{configuration, error};
use crate::error::Result;
use crate::models::text::caseless;
use crate::models::user::ADMIN_USER;
use crate::models::{Change, RequestId, Role, Ticket, Transaction, User, UserId};
use crate::plan::import::{Imported, Read};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write as _;
use time::OffsetDateTime;
use uuid::Uuid;

/// The key of the advisory lock that serializes the imports of a database.
const IMPORT_LOCK: i64 = 7_465_737_365_726_102;

/// Begins a batch: takes the lock of imports, and then that of the configuration, which every change of the configuration takes
/// first too. The time limits of requests do not apply to it, except for a limit of 30 s on waiting for locks.
///
/// # Errors
/// `locked` if another import or a change of the configuration holds its lock for longer than 30 s; those of the database.
pub async fn begin(db: &mut PgConnection) -> Result<()> {
    for limit in [
        sqlx::query!("SET LOCAL statement_timeout = 0"),
        sqlx::query!("SET LOCAL idle_in_transaction_session_timeout = 0"),
        sqlx::query!("SET LOCAL lock_timeout = '30s'"),
    ] {
        limit.execute(&mut *db).await.map_err(error)?;
    }
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", IMPORT_LOCK).execute(&mut *db).await.map_err(error)?;
    configuration::lock(db).await.map(drop)
}

/// Returns the keys that were already imported, each with the hash of its line.
///
/// # Errors
/// Those of the database.
pub async fn known(db: &mut PgConnection, keys: &[Vec<u8>]) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
    let rows = sqlx::query!("SELECT key, line FROM imports WHERE key = ANY ($1)", keys)
        .fetch_all(db)
        .await
        .map_err(error)?;
    Ok(rows.into_iter().map(|row| (row.key, row.line)).collect())
}

/// Returns the numbers that tickets already have.
///
/// # Errors
/// Those of the database.
pub async fn taken(db: &mut PgConnection, numbers: &[i64]) -> Result<HashSet<i64>> {
    let taken = sqlx::query_scalar!("SELECT number FROM tickets WHERE number = ANY ($1)", numbers);
    Ok(taken.fetch_all(db).await.map_err(error)?.into_iter().collect())
}

/// Returns the users with these usernames or addresses, as they are written: the database has its own rules for case.
///
/// # Errors
/// Those of the database.
pub async fn people(db: &mut PgConnection, words: &BTreeSet<Cow<'_, str>>) -> Result<Vec<User>> {
    let words: Vec<String> = words.iter().map(|word| word.clone().into_owned()).collect();
    sqlx::query_as!(
        User,
        r#"
        SELECT id AS "id: UserId", username, email, name, privileged, disabled
        FROM users
        WHERE lower(username) = ANY (ARRAY(SELECT lower(word) FROM unnest($1::text[]) AS word))
           OR lower(email) = ANY (ARRAY(SELECT lower(word) FROM unnest($1::text[]) AS word))
        "#,
        &words
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

/// A user to create.
#[derive(Debug)]
pub struct NewUser<'w> {
    /// Its id.
    pub id: UserId,
    /// The username.
    pub username: Cow<'w, str>,
    /// The address.
    pub email: Option<Cow<'w, str>>,
    /// The name for display, if it is not the username.
    pub name: Option<Cow<'w, str>>,
}

/// Creates unprivileged users, which does not change the configuration, and returns their number. Existing users with such a
/// name or address do not change.
///
/// # Errors
/// Those of the database.
pub async fn make_people(db: &mut PgConnection, people: &[NewUser<'_>]) -> Result<u64> {
    let owned = |text: &Option<Cow<'_, str>>| text.clone().map(Cow::into_owned);
    let ids: Vec<Uuid> = people.iter().map(|user| user.id.0).collect();
    let usernames: Vec<String> = people.iter().map(|user| user.username.clone().into_owned()).collect();
    let addresses: Vec<Option<String>> = people.iter().map(|user| owned(&user.email)).collect();
    let names: Vec<Option<String>> = people.iter().map(|user| owned(&user.name)).collect();
    let made = sqlx::query!(
        r#"
        INSERT INTO users (id, username, email, name)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        ON CONFLICT DO NOTHING
        "#,
        &ids,
        &usernames,
        &addresses as _,
        &names as _
    );
    Ok(made.execute(db).await.map_err(error)?.rows_affected())
}

/// Moves the sequence of ticket numbers forward to at least `number`. ALTER SEQUENCE blocks other draws until the database
/// transaction ends, so this uses a database transaction of its own, and the numbers stay reserved even if the batch fails.
///
/// # Errors
/// Those of the database.
pub async fn reserve(pool: &PgPool, number: i64) -> Result<()> {
    // Before the first draw, last_value is the first number.
    let is_below = sqlx::query_scalar!(
        r#"SELECT last_value < $1 OR (last_value = $1 AND NOT is_called) AS "is_below!" FROM ticket_number"#,
        number
    );
    if !is_below.fetch_one(pool).await.map_err(error)? {
        return Ok(());
    }
    let mut db = pool.begin().await.map_err(error)?;
    sqlx::query!("ALTER SEQUENCE ticket_number NO CYCLE").execute(&mut *db).await.map_err(error)?;
    sqlx::query!(
        "SELECT setval('ticket_number', $1) FROM ticket_number WHERE last_value < $1 OR (last_value = $1 AND NOT is_called)",
        number
    )
    .fetch_optional(&mut *db)
    .await
    .map_err(error)?;
    db.commit().await.map_err(error)
}

/// Draws `count` ticket numbers, outside the caller's database transaction, which would lock the sequence until it ends.
///
/// # Errors
/// Those of the database.
pub async fn draw(pool: &PgPool, count: usize) -> Result<Vec<i64>> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    sqlx::query_scalar!(
        r#"SELECT nextval('ticket_number') AS "number!" FROM generate_series(1, $1::int)"#,
        count
    )
    .fetch_all(pool)
    .await
    .map_err(error)
}

/// Updates PostgreSQL's statistics of the imported tables (ANALYZE), so that it plans for their new contents. Locked tables are
/// skipped.
///
/// # Errors
/// Those of the database.
pub async fn count_anew(pool: &PgPool) -> Result<()> {
    let mut db = pool.begin().await.map_err(error)?;
    for statement in [
        sqlx::query!("SET LOCAL statement_timeout = 0"),
        sqlx::query!(
            "ANALYZE (SKIP_LOCKED) users, tickets, ticket_watchers, custom_field_values, requests, transactions, transaction_contents, imports"
        ),
    ] {
        statement.execute(&mut *db).await.map_err(error)?;
    }
    db.commit().await.map_err(error)
}

/// The rows of a batch in the text format of COPY, with a buffer for each table.
#[derive(Debug)]
pub struct Batch {
    tickets: Rows,
    watchers: Rows,
    values: Rows,
    requests: Rows,
    transactions: Rows,
    contents: Rows,
    imports: Rows,
    config_version: i64,
    now: OffsetDateTime,
}

/// The result of copying a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The rows were written, and take effect when the database transaction is committed.
    Yes,
    /// A ticket with one of its numbers was created meanwhile. The database transaction has failed.
    NumberTaken,
}

impl Batch {
    /// Creates an empty batch, planned with this version of the configuration.
    pub fn new(config_version: i64, now: OffsetDateTime) -> Self {
        let [tickets, watchers, values, requests, transactions, contents, imports] =
            std::array::from_fn(|_| Rows::default());
        Self { tickets, watchers, values, requests, transactions, contents, imports, config_version, now }
    }

    /// Adds a ticket with all of its rows.
    pub fn push(&mut self, imported: &Imported, read: &Read, request: RequestId) {
        let ticket = &imported.ticket;
        self.ticket(ticket, &read.subject_words);
        for role in Role::ALL {
            for watcher in ticket.watchers(role) {
                let rows = &mut self.watchers;
                rows.uuid(watcher.id.0).uuid(ticket.id.0).text(role.as_str());
                rows.opt(watcher.user, |rows, user| rows.uuid(user.0));
                rows.opt(watcher.address.as_deref(), Rows::text).end();
            }
        }
        for (id, field, value) in &imported.values {
            self.values.uuid(*id).uuid(field.0).uuid(ticket.id.0).text(value).text(&caseless(value));
            self.values.time(ticket.updated_at).end();
        }
        let rows = &mut self.requests;
        rows.uuid(request.0).uuid(ticket.id.0).uuid(ADMIN_USER.0).text("import").bytes(&[0; 32]);
        rows.int(self.config_version).time(self.now).end();
        let mut words = read.content_words.iter().map(String::as_str);
        for transaction in &imported.transactions {
            self.transaction(transaction);
            let words = words.next().unwrap_or_default();
            if let Some(content) = &transaction.content {
                let rows = &mut self.contents;
                rows.uuid(transaction.id.0).uuid(ticket.id.0).text(&content.content_type);
                rows.text(&content.body).text(words).opt(content.html.as_deref(), Rows::text).end();
            }
        }
        let rows = &mut self.imports;
        rows.bytes(&read.key.key).bytes(&read.key.line).uuid(ticket.id.0).time(self.now).end();
    }

    fn ticket(&mut self, ticket: &Ticket, subject_words: &str) {
        let rows = &mut self.tickets;
        rows.uuid(ticket.id.0).int(ticket.number.unwrap_or_default()).int(ticket.version);
        rows.text(&ticket.subject).text(&caseless(&ticket.subject)).text(subject_words).uuid(ticket.queue.0);
        let class = ticket.status_class.as_char().cast_unsigned();
        rows.text(&ticket.status).text(char::from(class).encode_utf8(&mut [0; 4])).int(ticket.priority);
        rows.opt(ticket.owner, |rows, owner| rows.uuid(owner.0)).uuid(ticket.creator.0);
        rows.time(ticket.created_at).time(ticket.updated_at).opt(ticket.started_at, Rows::time);
        rows.opt(ticket.resolved_at, Rows::time).opt(ticket.due_at, Rows::time);
        rows.opt(ticket.told_at, Rows::time).end();
    }

    fn transaction(&mut self, transaction: &Transaction) {
        let rows = &mut self.transactions;
        rows.uuid(transaction.id.0).uuid(transaction.ticket.0).opt(transaction.seq, Rows::int);
        rows.uuid(transaction.request.0).int(transaction.batch_seq);
        rows.text(transaction.transaction_type.as_str()).opt(transaction.field.as_deref(), Rows::text);
        rows.opt(transaction.old_value.as_deref(), Rows::text)
            .opt(transaction.new_value.as_deref(), Rows::text);
        rows.json(&transaction.change).uuid(transaction.creator.0).time(transaction.created_at).end();
    }

    /// Writes the rows.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn copy(&self, db: &mut PgConnection) -> Result<Copied> {
        let tables = [
            (
                "COPY tickets (id, number, version, subject, subject_folded, subject_words, queue_id, status, status_class, \
                 priority, owner_id, creator_id, created_at, updated_at, started_at, resolved_at, due_at, told_at) FROM STDIN",
                &self.tickets,
            ),
            ("COPY ticket_watchers (id, ticket_id, role, user_id, address) FROM STDIN", &self.watchers),
            (
                "COPY custom_field_values (id, custom_field_id, ticket_id, value, value_folded, created_at) FROM STDIN",
                &self.values,
            ),
            (
                "COPY requests (id, ticket_id, actor_id, channel, plan_hash, config_version, created_at) FROM STDIN",
                &self.requests,
            ),
            (
                "COPY transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, field, old_value, new_value, \
                 data, creator_id, created_at) FROM STDIN",
                &self.transactions,
            ),
            (
                "COPY transaction_contents (transaction_id, ticket_id, content_type, body, words, html) FROM STDIN",
                &self.contents,
            ),
            ("COPY imports (key, line, ticket_id, created_at) FROM STDIN", &self.imports),
        ];
        for (statement, rows) in tables {
            match copy(db, statement, &rows.bytes).await {
                Ok(()) => {}
                Err(source) if is_number_taken(&source) => return Ok(Copied::NumberTaken),
                Err(source) => return Err(error(source)),
            }
        }
        Ok(Copied::Yes)
    }
}

async fn copy(db: &mut PgConnection, statement: &str, bytes: &[u8]) -> sqlx::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut copy = db.copy_in_raw(statement).await?;
    copy.send(bytes).await?;
    copy.finish().await.map(drop)
}

/// Returns true if a row was rejected because a ticket with its number exists.
pub(super) fn is_number_taken(source: &sqlx::Error) -> bool {
    source.as_database_error().and_then(|fault| fault.constraint()) == Some("tickets_number_key")
}

/// Rows of one table in the text format of COPY: fields separated by tabs, `\N` for NULL.
#[derive(Debug, Default)]
struct Rows {
    bytes: Vec<u8>,
    /// True after the first field of a row.
    is_within: bool,
}

impl Rows {
    fn field(&mut self) -> &mut Vec<u8> {
        if std::mem::replace(&mut self.is_within, true) {
            self.bytes.push(b'\t');
        }
        &mut self.bytes
    }

    fn end(&mut self) {
        self.bytes.push(b'\n');
        self.is_within = false;
    }

    fn text(&mut self, text: &str) -> &mut Self {
        let bytes = self.field();
        bytes.reserve(text.len());
        for byte in text.bytes() {
            match byte {
                b'\\' => bytes.extend_from_slice(b"\\\\"),
                b'\t' => bytes.extend_from_slice(b"\\t"),
                b'\n' => bytes.extend_from_slice(b"\\n"),
                b'\r' => bytes.extend_from_slice(b"\\r"),
                other => bytes.push(other),
            }
        }
        self
    }

    fn opt<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => {
                self.field().extend_from_slice(b"\\N");
                self
            }
        }
    }

    fn uuid(&mut self, id: Uuid) -> &mut Self {
        let mut text = Uuid::encode_buffer();
        let text = id.hyphenated().encode_lower(&mut text);
        self.field().extend_from_slice(text.as_bytes());
        self
    }

    fn int(&mut self, number: impl Into<i64>) -> &mut Self {
        // Writing into memory does not fail.
        let _ = write!(self.field(), "{}", number.into());
        self
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let hex = hex::encode(value);
        let field = self.field();
        field.extend_from_slice(b"\\\\x");
        field.extend_from_slice(hex.as_bytes());
        self
    }

    fn time(&mut self, time: OffsetDateTime) -> &mut Self {
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second, micros) = time.to_hms_micro();
        let _ = write!(
            self.field(),
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00"
        );
        self
    }

    fn json(&mut self, change: &Change) -> &mut Self {
        // A change always has a JSON form, as every transaction stores one in `data`.
        let json = serde_json::to_string(change).unwrap_or_else(|_| Value::Null.to_string());
        self.text(&json)
    }
}
