//! Reads the history of a ticket, the causes of a transaction, and past states of a ticket.

use super::error;
use super::tickets::TicketRef;
use crate::error::{Code, Error, Result};
use crate::models::change::Fold;
use crate::models::page::{BYTES_MAX, ITEM_BYTES, Page};
use crate::models::transaction::Content;
use crate::models::{
    Change, RequestId, ScripId, ScripVersionId, Ticket, TicketId, Transaction, TransactionId,
    TransactionType, UserId,
};
use crate::plan::People;
use crate::scrip::evaluation::Evaluation;
use futures::TryStreamExt as _;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// The highest number of a transaction whose state can be computed.
pub const FOLDED_MAX: i64 = 20_000;

/// A recorded transaction, with the names of the objects that it refers to.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its id.
    pub id: TransactionId,
    /// The ticket.
    pub ticket: TicketId,
    /// Its number in the history; `None` for outcomes of deliveries.
    pub seq: Option<i64>,
    /// Its type, by RT's name.
    pub transaction_type: String,
    /// The column or field.
    pub field: Option<String>,
    /// The readable old value.
    pub old_value: Option<String>,
    /// The readable new value.
    pub new_value: Option<String>,
    /// The exact change.
    pub data: Value,
    /// The message.
    pub content: Option<Content>,
    /// The username of its creator.
    pub creator: String,
    /// The time of creation.
    pub created_at: OffsetDateTime,
    /// True if it was derived from another change of the request.
    pub derived: bool,
    /// The transaction that caused it.
    pub caused_by: Option<TransactionId>,
    /// The scrip that created it: id, and name and version at the time.
    pub scrip: Option<(ScripId, String, i32)>,
    /// The request.
    pub request: RequestId,
}

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// The id of the user who sent it.
    pub actor_id: UserId,
    /// The username of the user who sent it.
    pub actor: String,
    /// The channel: `api`, `grpc`, `import`, `configuration`.
    pub channel: String,
    /// The time of creation.
    pub created_at: OffsetDateTime,
    /// The hash of its plan; zeros if it had no plan.
    pub plan_hash: Vec<u8>,
    /// The version of the configuration that it was planned with.
    pub config_version: i64,
    /// The stored part of its evaluations; `None` if it has none or retention deleted them.
    pub evaluations: Option<Vec<Evaluation>>,
}

/// Reads a page of a ticket's history, oldest first; outcomes of deliveries are included by their time. The page ends at
/// `limit`, or earlier at [`BYTES_MAX`].
///
/// # Errors
/// `not_found`; `malformed_cursor`; those of the database.
pub async fn list(
    pool: &PgPool,
    ticket: TicketRef,
    limit: i64,
    cursor: Option<&str>,
) -> Result<Page<Recorded>> {
    let ticket = super::tickets::id_of(pool, ticket).await?;
    let after = cursor.map(Cursor::parse).transpose()?;
    let rows = sqlx::query_as!(
        HistoryRow,
        r#"
        SELECT h.id, h.ticket_id, h.seq, h.transaction_type, h.field, h.old_value, h.new_value, h.data, h.created_at, h.derived,
               h.caused_by, h.request_id, u.username AS "creator?", h.content_type AS "content_type?", h.body AS "body?",
               h.is_markup,
               v.scrip_id AS "scrip_id?", v.snapshot ->> 'name' AS "scrip_name?", v.version AS "scrip_version?",
               h.found AS "found!"
        FROM (
            -- The length of a text is known without reading it, so only the texts of the page are read.
            SELECT h.*, c.content_type, c.body, c.content_type = 'text/html' AND c.html IS NULL AS is_markup,
                   row_number() OVER w AS position, count(*) OVER () AS found,
                   (sum($5::bigint + octet_length(h.data::text) + coalesce(octet_length(h.old_value), 0)
                        + coalesce(octet_length(h.new_value), 0) + coalesce(octet_length(c.body), 0)) OVER w)::bigint AS bytes
            FROM (SELECT * FROM transactions h
                  WHERE h.ticket_id = $1 AND ($2::timestamptz IS NULL OR (h.created_at, h.id) > ($2, $3::uuid))
                  ORDER BY h.created_at, h.id
                  LIMIT $4) h
            LEFT JOIN transaction_contents c ON c.transaction_id = h.id
            WINDOW w AS (ORDER BY h.created_at, h.id)
        ) h
        LEFT JOIN users u ON u.id = h.creator_id
        LEFT JOIN scrip_versions v ON v.id = h.scrip_version_id
        WHERE h.position = 1 OR h.bytes <= $6
        ORDER BY h.position
        "#,
        ticket.0,
        after.as_ref().map(|after| after.at),
        after.as_ref().map(|after| after.id),
        limit + 1,
        ITEM_BYTES,
        BYTES_MAX,
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or_default());
    let rows = rows.into_iter().map(Recorded::from).collect();
    let key = |last: &Recorded| Cursor { at: last.created_at, id: last.id.0 }.to_string();
    Ok(Page::fit(rows, found, limit, key))
}

/// Reads a transaction and the chain of its causes, nearest first. The chain ends after 64 causes or at [`BYTES_MAX`]; the last
/// one then has a cause of its own.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn causes(pool: &PgPool, transaction: TransactionId) -> Result<Vec<Recorded>> {
    // A cause precedes its effect, so the chain ends; its length is limited all the same.
    let rows = sqlx::query_as!(
        HistoryRow,
        r#"
        WITH RECURSIVE chain AS (
          SELECT h.id, h.caused_by, 0 AS depth FROM transactions h WHERE h.id = $1
          UNION ALL
          SELECT h.id, h.caused_by, chain.depth + 1 FROM transactions h JOIN chain ON h.id = chain.caused_by WHERE chain.depth < 64
        )
        SELECT h.id, h.ticket_id, h.seq, h.transaction_type, h.field, h.old_value, h.new_value, h.data, h.created_at, h.derived,
               h.caused_by, h.request_id, u.username AS "creator?", h.content_type AS "content_type?", h.body AS "body?",
               h.is_markup,
               v.scrip_id AS "scrip_id?", v.snapshot ->> 'name' AS "scrip_name?", v.version AS "scrip_version?",
               0::bigint AS "found!"
        FROM (
            SELECT h.*, c.content_type, c.body, c.content_type = 'text/html' AND c.html IS NULL AS is_markup,
                   chain.depth,
                   (sum($2::bigint + octet_length(h.data::text) + coalesce(octet_length(h.old_value), 0)
                        + coalesce(octet_length(h.new_value), 0) + coalesce(octet_length(c.body), 0))
                        OVER (ORDER BY chain.depth))::bigint AS bytes
            FROM chain
            JOIN transactions h ON h.id = chain.id
            LEFT JOIN transaction_contents c ON c.transaction_id = h.id
        ) h
        LEFT JOIN users u ON u.id = h.creator_id
        LEFT JOIN scrip_versions v ON v.id = h.scrip_version_id
        WHERE h.depth = 0 OR h.bytes <= $3
        ORDER BY h.depth
        "#,
        transaction.0,
        ITEM_BYTES,
        BYTES_MAX,
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    if rows.is_empty() {
        return Err(Error::not_found("transaction", transaction));
    }
    Ok(rows.into_iter().map(Recorded::from).collect())
}

/// Reads a request with the stored part of its evaluations.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn request(pool: &PgPool, request: RequestId) -> Result<Request> {
    let row = sqlx::query!(
        r#"
        SELECT r.id, r.actor_id, u.username AS actor, r.channel, r.created_at, r.plan_hash, r.config_version,
               t.evaluations AS "evaluations?: Json<Vec<Evaluation>>"
        FROM requests r
        JOIN users u ON u.id = r.actor_id
        LEFT JOIN request_traces t ON t.request_id = r.id
        WHERE r.id = $1
        "#,
        request.0,
    )
    .fetch_optional(pool)
    .await
    .map_err(error)?
    .ok_or_else(|| Error::not_found("request", request))?;
    Ok(Request {
        id: RequestId(row.id),
        actor_id: UserId(row.actor_id),
        actor: row.actor,
        channel: row.channel,
        created_at: row.created_at,
        plan_hash: row.plan_hash,
        config_version: row.config_version,
        evaluations: row.evaluations.map(|Json(evaluations)| evaluations),
    })
}

/// Returns a ticket as it was after the transaction `seq`, with the users that it refers to as they are now.
///
/// The ticket is folded from its history up to that transaction, as `tessera check` does. The history is read as a stream, so
/// only one transaction is in memory.
///
/// # Errors
/// `not_found`, with the number of the last transaction, also for a state before an import; `limit_reached` if `seq` is above
/// [`FOLDED_MAX`]; those of the database.
pub async fn at(pool: &PgPool, ticket: TicketRef, seq: i64) -> Result<(Ticket, People)> {
    let id = super::tickets::id_of(pool, ticket).await?;
    let (mut fold, mut last) = (Fold::default(), 0);
    if seq > FOLDED_MAX {
        last = version(pool, id).await?;
        if last >= seq {
            let detail = format!(
                "The state after transaction {seq} cannot be computed: that is possible for the first {FOLDED_MAX} transactions of a ticket."
            );
            return Err(Error::new(Code::LimitReached, detail));
        }
    }
    let mut lines = sqlx::query!(
        r#"
        SELECT seq AS "seq!", created_at, data AS "change: Json<Change>"
        FROM transactions
        WHERE ticket_id = $1 AND seq <= $2
        ORDER BY seq
        "#,
        id.0,
        seq.min(FOLDED_MAX)
    )
    .fetch(pool);
    while let Some(line) = lines.try_next().await.map_err(error)? {
        fold.add(&line.change.0, line.seq, line.created_at);
        last = last.max(line.seq);
    }
    drop(lines);
    if seq < 1 || last != seq {
        let last = if seq < 1 { version(pool, id).await? } else { last };
        let detail =
            format!("Transaction {seq} of ticket {ticket} does not exist; its transactions are 1 to {last}.");
        return Err(Error::new(Code::NotFound, detail));
    }
    let Some(folded) = fold.ticket() else { return Err(unfoldable(pool, ticket, id, seq).await?) };
    let people: Vec<Uuid> = folded.people().map(|user| user.0).collect();
    let people = super::tickets::users(&mut *pool.acquire().await.map_err(error)?, &people).await?;
    Ok((folded, people))
}

/// Returns the error for a history that cannot be folded: an imported ticket has no state before its Import.
async fn unfoldable(pool: &PgPool, ticket: TicketRef, id: TicketId, seq: i64) -> Result<Error> {
    let import = TransactionType::Import.as_str();
    let begins = sqlx::query_scalar!(
        r#"SELECT seq AS "seq!" FROM transactions WHERE ticket_id = $1 AND transaction_type = $2 AND seq > $3 ORDER BY seq LIMIT 1"#,
        id.0,
        import,
        seq
    );
    Ok(match begins.fetch_optional(pool).await.map_err(error)? {
        Some(begins) => {
            let detail = format!(
                "Ticket {ticket} was imported, as transaction {begins}. Its earlier history was imported too, but not its \
                 earlier states; request {begins} or later."
            );
            Error::new(Code::NotFound, detail)
        }
        None => Error::internal("The history does not begin with a Create or an Import.", id.to_string()),
    })
}

async fn version(pool: &PgPool, ticket: TicketId) -> Result<i64> {
    sqlx::query_scalar!("SELECT version FROM tickets WHERE id = $1", ticket.0)
        .fetch_one(pool)
        .await
        .map_err(error)
}

/// The effect of a request on a ticket, with all users involved as they are now.
#[derive(Debug)]
pub struct Past {
    /// The ticket before the request; `None` for a create.
    pub before: Option<Ticket>,
    /// The numbered transactions of the request, in order.
    pub transactions: Vec<Transaction>,
    /// The user who sent it, and the ticket's people before and after.
    pub people: People,
}

/// Reads the effect of a request on a ticket.
///
/// # Errors
/// Those of the database.
pub async fn past(pool: &PgPool, ticket: TicketId, request: &Request) -> Result<Past> {
    let transactions = of_request(pool, ticket, request.id).await?;
    let before = match transactions.first().and_then(|first| first.seq) {
        Some(seq) if seq > 1 => Some(at(pool, TicketRef::Id(ticket), seq - 1).await?.0),
        _ => None,
    };
    let mut people: BTreeSet<UserId> = before.iter().flat_map(Ticket::people).collect();
    people.insert(request.actor_id);
    for transaction in &transactions {
        match &transaction.change {
            Change::Create(initial) => people.extend(initial.people()),
            Change::Owner { new, .. } => people.extend(*new),
            Change::AddWatcher { watcher, .. } => people.extend(watcher.user),
            _ => {}
        }
    }
    let people: Vec<Uuid> = people.into_iter().map(|user| user.0).collect();
    let people = super::tickets::users(&mut *pool.acquire().await.map_err(error)?, &people).await?;
    Ok(Past { before, transactions, people })
}

async fn of_request(pool: &PgPool, ticket: TicketId, request: RequestId) -> Result<Vec<Transaction>> {
    let rows = sqlx::query!(
        r#"
        SELECT t.id, t.seq, t.batch_seq, t.transaction_type, t.field, t.old_value, t.new_value, t.data AS "change: Json<Change>",
               t.creator_id, t.created_at, t.derived, t.caused_by, t.scrip_version_id,
               c.content_type AS "content_type?", c.body AS "body?",
               c.content_type = 'text/html' AND c.html IS NULL AS is_markup
        FROM transactions t
        LEFT JOIN transaction_contents c ON c.transaction_id = t.id
        WHERE t.ticket_id = $1 AND t.request_id = $2 AND t.seq IS NOT NULL
        ORDER BY t.seq
        "#,
        ticket.0,
        request.0
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let mut transactions = Vec::with_capacity(rows.len());
    for row in rows {
        let transaction_type = TransactionType::parse(&row.transaction_type).ok_or_else(|| {
            Error::internal("A stored transaction has an unknown type.", row.transaction_type)
        })?;
        transactions.push(Transaction {
            id: TransactionId(row.id),
            ticket,
            seq: row.seq,
            transaction_type,
            field: row.field,
            old_value: row.old_value,
            new_value: row.new_value,
            change: row.change.0,
            content: content(row.content_type, row.body, row.is_markup),
            creator: UserId(row.creator_id),
            created_at: row.created_at,
            derived: row.derived,
            caused_by: row.caused_by.map(TransactionId),
            scrip_version: row.scrip_version_id.map(ScripVersionId),
            request,
            batch_seq: row.batch_seq,
        });
    }
    Ok(transactions)
}

struct HistoryRow {
    id: Uuid,
    ticket_id: Uuid,
    seq: Option<i64>,
    transaction_type: String,
    field: Option<String>,
    old_value: Option<String>,
    new_value: Option<String>,
    data: Value,
    created_at: OffsetDateTime,
    derived: bool,
    caused_by: Option<Uuid>,
    request_id: Uuid,
    creator: Option<String>,
    content_type: Option<String>,
    body: Option<String>,
    is_markup: Option<bool>,
    scrip_id: Option<Uuid>,
    scrip_name: Option<String>,
    scrip_version: Option<i32>,
    /// The number of rows that the page could contain by its count; the rows that were read are those that fit into its bytes.
    found: i64,
}

impl From<HistoryRow> for Recorded {
    fn from(row: HistoryRow) -> Self {
        let scrip = row.scrip_id.zip(row.scrip_version);
        Self {
            id: TransactionId(row.id),
            ticket: TicketId(row.ticket_id),
            seq: row.seq,
            transaction_type: row.transaction_type,
            field: row.field,
            old_value: row.old_value,
            new_value: row.new_value,
            data: row.data,
            content: content(row.content_type, row.body, row.is_markup),
            creator: row.creator.unwrap_or_default(),
            created_at: row.created_at,
            derived: row.derived,
            caused_by: row.caused_by.map(TransactionId),
            scrip: scrip.map(|(id, version)| (ScripId(id), row.scrip_name.unwrap_or_default(), version)),
            request: RequestId(row.request_id),
        }
    }
}

fn content(content_type: Option<String>, body: Option<String>, is_markup: Option<bool>) -> Option<Content> {
    let (content_type, body) = content_type.zip(body)?;
    Some(Content::stored(content_type, body, is_markup == Some(true)))
}

/// A position in a history, as `microseconds.id`.
struct Cursor {
    at: OffsetDateTime,
    id: Uuid,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self> {
        let read = || {
            let (micros, id) = text.split_once('.')?;
            let at =
                OffsetDateTime::from_unix_timestamp_nanos(micros.parse::<i128>().ok()?.checked_mul(1_000)?)
                    .ok()?;
            Some(Self { at, id: Uuid::parse_str(id).ok()? })
        };
        read().ok_or_else(super::malformed_cursor)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.at.unix_timestamp_nanos() / 1_000, self.id)
    }
}
