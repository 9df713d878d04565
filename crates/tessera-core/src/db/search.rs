//! Search: a query compiled and run on the read pool, page by page or from end to end.

use super::tickets::{self, Load, TicketRef};
use super::{error, malformed_cursor};
use crate::error::{Code, Error, Place, Result};
use crate::models::page::Page;
use crate::models::text::fold;
use crate::models::{Ticket, User, UserId};
use crate::plan::{Catalog, People, Target};
use crate::query::resolve::people_named;
use crate::query::sql::{
    Asker, Bind, Frequencies, KeyKind, KeyValue, Keys, Plan, Sorted, Statement, words_of,
};
use crate::query::{Dialect, Parsed, Purpose, Query, QueryError, Test, parse, resolve};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row, Transaction};
use std::collections::HashMap;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// What is searched for, and which part of what is found is wanted.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// TicketSQL.
    pub query: &'a str,
    /// How it is read.
    pub dialect: Dialect,
    /// Empty = the newest first.
    pub order: &'a [Sorted],
    /// Tickets on a page.
    pub limit: i64,
    /// `next_cursor` of the page before.
    pub cursor: Option<&'a str>,
    /// Whether to count all that is found.
    pub count: Count,
    /// Who asks, when and where.
    pub asker: Asker,
}

/// How exactly what is found is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// Not at all.
    #[default]
    None,
    /// Exactly up to [`COUNT_EXACT_MAX`], and by PostgreSQL's estimate above it.
    Estimate,
    /// Exactly.
    Exact,
}

/// Up to here an estimate is exact.
pub const COUNT_EXACT_MAX: i64 = 1_000;

/// How many tickets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// So many.
    pub tickets: i64,
    /// Whether they were counted.
    pub is_exact: bool,
}

/// A page of what was found.
#[derive(Debug)]
pub struct Found {
    /// The tickets, in their order.
    pub page: Page<Ticket>,
    /// The people that they name.
    pub people: People,
    /// How many there are on all pages.
    pub count: Option<Counted>,
    /// The query as it was understood, in one spelling.
    pub query: String,
    /// What a person should know of how it was read.
    pub warnings: Vec<Warning>,
}

/// What a person should know of how a query was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The part of the query.
    pub place: Place,
}

/// A search taken apart.
#[derive(Debug)]
pub struct Explained {
    /// The tree.
    pub tree: Query<Test>,
    /// The statement and the values of its parameters.
    pub statement: Statement,
    /// How PostgreSQL would run it: `EXPLAIN (FORMAT JSON)`.
    pub plan: Value,
    /// What a person should know of how it was read.
    pub warnings: Vec<Warning>,
}

/// A search understood.
struct Compiled {
    query: Query<Test>,
    keys: Keys,
    frequencies: Frequencies,
    warnings: Vec<Warning>,
}

/// One ticket with its people.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn get(pool: &PgPool, ticket: TicketRef, actor: UserId) -> Result<(Ticket, People)> {
    let mut db = pool.acquire().await.map_err(error)?;
    let loaded =
        tickets::load(&mut db, ticket, Load { actor, key: None, people: &[], messages: false }).await?;
    match loaded.situation.ticket {
        Target::Existing(ticket) => Ok((*ticket, loaded.situation.people)),
        Target::New { .. } => Err(Error::not_found("ticket", ticket)),
    }
}

/// How long a search may take, with all of its statements: less than the request that asks for it.
pub const SEARCH_MAX: Duration = Duration::from_secs(10);

/// A page of the tickets that a query finds.
///
/// # Errors
/// `invalid_query` with the place; `invalid` for the order; `malformed_cursor`; `query_timeout`; those of the database.
pub async fn tickets(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Found> {
    in_time(SEARCH_MAX, find(pool, catalog, search)).await
}

async fn find(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Found> {
    let mut db = pool.acquire().await.map_err(error)?;
    let compiled = compile(&mut db, catalog, search).await?;
    let statement = compiled.page(search)?;
    let rows = fetch(&mut db, &statement).await?;
    let signature = compiled.signature(search);
    let page = Page::cut(rows, search.limit, |last| cursor_of(last, &signature, &compiled.keys));
    let (items, people) = in_order(&mut db, &ids_of(&page.items)?).await?;
    let count = count(&mut db, &compiled, search).await?;
    let page = Page { items, next_cursor: page.next_cursor };
    Ok(Found { page, people, count, query: compiled.query.to_string(), warnings: compiled.warnings })
}

/// How a search is read and run; nothing is searched for.
///
/// # Errors
/// As [`tickets()`].
pub async fn explain(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Explained> {
    in_time(SEARCH_MAX, async {
        let mut db = pool.acquire().await.map_err(error)?;
        let compiled = compile(&mut db, catalog, search).await?;
        let statement = compiled.page(search)?;
        let plan = plan_of(&mut db, &statement).await?;
        Ok(Explained { tree: compiled.query, statement, plan, warnings: compiled.warnings })
    })
    .await
}

/// Ends what takes longer than `limit` in all, whichever of its statements that is.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(too_slow()))
}

/// Tickets fetched at a time for an export.
const EXPORT_BATCH: i64 = 200;

/// Everything that a query finds, as it was at one moment, a batch at a time. It holds a connection until it is dropped.
#[derive(Debug)]
pub struct Export(Transaction<'static, Postgres>);

impl Export {
    /// Begins to read. The limit, the cursor and the count of the search mean nothing here.
    ///
    /// # Errors
    /// As [`tickets()`].
    pub async fn open(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Self> {
        Self::within(super::moment(pool).await?, catalog, search).await
    }

    /// The same, within the moment of a database transaction.
    pub(super) async fn within(
        mut tx: Transaction<'static, Postgres>,
        catalog: &Catalog,
        search: &Search<'_>,
    ) -> Result<Self> {
        let compiled = compile(&mut tx, catalog, search).await?;
        let statement = compiled.plan(search).all();
        // All of it will be read, so the whole is to be fast and not only its beginning.
        sqlx::query("SET LOCAL cursor_tuple_fraction = 1").execute(&mut *tx).await.map_err(error)?;
        let declare = format!("DECLARE export NO SCROLL CURSOR FOR {}", statement.text);
        run(&declare, &statement.binds).execute(&mut *tx).await.map_err(timeout)?;
        Ok(Self(tx))
    }

    /// Lets each statement from here on take so long: the first tickets may have to wait until all are sorted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn allow(&mut self, time: Duration) -> Result<()> {
        let set = "SELECT set_config('statement_timeout', $1, true)";
        let set = sqlx::query(set).bind(format!("{}ms", time.as_millis()));
        set.execute(&mut *self.0).await.map(drop).map_err(error)
    }

    /// The database transaction, for what else is read of the same moment.
    pub(super) fn db(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    /// The next tickets with their people; none after the last.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next(&mut self) -> Result<Option<(Vec<Ticket>, People)>> {
        let fetch = format!("FETCH {EXPORT_BATCH} FROM export");
        let rows = run(&fetch, &[]).fetch_all(&mut *self.0).await.map_err(timeout)?;
        if rows.is_empty() {
            return Ok(None);
        }
        in_order(&mut self.0, &ids_of(&rows)?).await.map(Some)
    }
}

impl Compiled {
    fn plan<'a>(&'a self, search: &'a Search<'_>) -> Plan<'a> {
        let Self { query, keys, frequencies, .. } = self;
        Plan { query, asker: &search.asker, frequencies, keys }
    }

    fn page(&self, search: &Search<'_>) -> Result<Statement> {
        let place = search.cursor.map(|cursor| read_cursor(cursor, &self.signature(search))).transpose()?;
        let after = place.as_ref().map(|(id, values)| (values.as_slice(), *id));
        self.plan(search).page(after, search.limit + 1).ok_or_else(malformed_cursor)
    }

    /// What a cursor belongs to: a query, an order, and who asks where.
    fn signature(&self, search: &Search<'_>) -> String {
        let Asker { user, zone, .. } = &search.asker;
        let order: Vec<String> = search
            .order
            .iter()
            .map(|term| format!("{}{}", term.field.to_lowercase(), term.is_descending))
            .collect();
        let digest = Sha256::digest(format!("{user}\n{}\n{}\n{}", zone.name(), self.query, order.join("\n")));
        hex::encode(digest.get(..8).unwrap_or_default())
    }
}

async fn compile(db: &mut PgConnection, catalog: &Catalog, search: &Search<'_>) -> Result<Compiled> {
    let text = search.query;
    let refused = |error: QueryError| error.into_error(text);
    let Parsed { query, warnings } = parse(text, search.dialect).map_err(refused)?;
    let words = people_named(&query, &catalog.query_fields(Purpose::Search(&[])));
    let people = users_named(db, &words).await?;
    let fields = catalog.query_fields(Purpose::Search(&people));
    let query = resolve(&query, &fields).map_err(refused)?;
    let keys = Keys::resolve(search.order, &fields).map_err(Error::invalid)?;
    let warnings = warnings
        .into_iter()
        .map(|QueryError { span, message, hint }| Warning { message, hint, place: span.place(text) })
        .collect();
    let frequencies = frequencies(db, &words_of(&query)).await?;
    Ok(Compiled { query, keys, frequencies, warnings })
}

async fn count(db: &mut PgConnection, compiled: &Compiled, search: &Search<'_>) -> Result<Option<Counted>> {
    let most = match search.count {
        Count::None => return Ok(None),
        Count::Estimate => Some(COUNT_EXACT_MAX + 1),
        Count::Exact => None,
    };
    let statement = compiled.plan(search).count(most);
    let rows = fetch(db, &statement).await?;
    let tickets: i64 = rows.first().map(|row| row.try_get(0)).transpose().map_err(error)?.unwrap_or(0);
    if most.is_none_or(|most| tickets < most) {
        return Ok(Some(Counted { tickets, is_exact: true }));
    }
    let newest_first = Keys::default();
    let plan = Plan { keys: &newest_first, ..compiled.plan(search) };
    let plan = plan_of(db, &plan.all()).await?;
    let guess = plan.pointer("/0/Plan/Plan Rows").and_then(Value::as_i64).unwrap_or(0);
    Ok(Some(Counted { tickets: guess.max(tickets), is_exact: false }))
}

async fn plan_of(db: &mut PgConnection, statement: &Statement) -> Result<Value> {
    let explain = format!("EXPLAIN (FORMAT JSON) {}", statement.text);
    let row = run(&explain, &statement.binds).fetch_one(db).await.map_err(timeout)?;
    row.try_get(0).map_err(error)
}

async fn fetch(db: &mut PgConnection, statement: &Statement) -> Result<Vec<PgRow>> {
    run(&statement.text, &statement.binds).fetch_all(db).await.map_err(timeout)
}

/// A statement of the compiler, planned for its values and then forgotten: queries are many and seldom the same.
pub(crate) fn run<'q>(text: &str, binds: &'q [Bind]) -> sqlx::query::Query<'q, Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(text.to_owned())).persistent(false);
    for bind in binds {
        query = match bind {
            Bind::Text(text) => query.bind(text),
            Bind::Texts(texts) => query.bind(texts),
            Bind::Number(number) => query.bind(number),
            Bind::Numbers(numbers) => query.bind(numbers),
            Bind::Id(id) => query.bind(id),
            Bind::Ids(ids) => query.bind(ids),
            Bind::Time(at) => query.bind(at),
        };
    }
    query
}

fn timeout(source: sqlx::Error) -> Error {
    let is_timeout = source.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref()
        == Some(super::QUERY_CANCELED);
    if !is_timeout {
        return error(source);
    }
    too_slow().with_source(source)
}

fn too_slow() -> Error {
    let detail = "The search took longer than it may. Narrow it: add a queue, a status or a date, look for words with MATCHES rather than LIKE, count none.";
    Error::new(Code::QueryTimeout, detail)
}

/// The tickets of these ids in their order, and the people that they name.
pub(super) async fn in_order(db: &mut PgConnection, ids: &[Uuid]) -> Result<(Vec<Ticket>, People)> {
    let mut people = Vec::new();
    let mut found: HashMap<Uuid, Ticket> = HashMap::new();
    for (ticket, of_it) in tickets::many(db, ids).await? {
        people.extend(of_it.iter().cloned());
        found.insert(ticket.id.0, ticket);
    }
    Ok((ids.iter().filter_map(|id| found.remove(id)).collect(), people.into_iter().collect()))
}

/// The tickets of rows of the compiler's statements.
fn ids_of(rows: &[PgRow]) -> Result<Vec<Uuid>> {
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(error)
}

fn cursor_of(row: &PgRow, signature: &str, keys: &Keys) -> String {
    let id: Uuid = row.try_get(0).unwrap_or_default();
    let value = |(at, kind): (usize, KeyKind)| -> Option<String> {
        match kind {
            KeyKind::Text => row.try_get(at + 1).ok()?,
            KeyKind::Number => row.try_get::<Option<i64>, _>(at + 1).ok()?.map(|number| number.to_string()),
            KeyKind::Time => {
                let at: Option<OffsetDateTime> = row.try_get(at + 1).ok()?;
                at.map(|at| (at.unix_timestamp_nanos() / 1_000).to_string())
            }
        }
    };
    let values: Vec<KeyValue> = keys.kinds().enumerate().map(value).collect();
    URL_SAFE_NO_PAD.encode(serde_json::json!([signature, id, values]).to_string())
}

fn read_cursor(cursor: &str, signature: &str) -> Result<(Uuid, Vec<KeyValue>)> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| malformed_cursor())?;
    let (of, id, values): (String, Uuid, Vec<KeyValue>) =
        serde_json::from_slice(&bytes).map_err(|_| malformed_cursor())?;
    let is_storable = values.iter().flatten().all(|value| !value.contains('\0'));
    if of == signature && is_storable { Ok((id, values)) } else { Err(malformed_cursor()) }
}

/// How frequent words are in messages, of those that PostgreSQL keeps count of: its statistics have the most frequent.
async fn frequencies(db: &mut PgConnection, words: &[String]) -> Result<Frequencies> {
    if words.is_empty() {
        return Ok(Frequencies::default());
    }
    let rows = sqlx::query!(
        r#"
        SELECT e.word AS "word!", e.frequency AS "frequency!", c.reltuples AS "messages!"
        FROM pg_class c, pg_stats s, unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) AS e (word, frequency)
        WHERE c.oid = 'transaction_contents'::regclass
          AND s.schemaname = current_schema() AND s.tablename = 'transaction_contents' AND s.attname = 'words'
          AND e.word = ANY ($1)
        "#,
        words,
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(Frequencies {
        messages: rows.first().map_or(0.0, |row| row.messages),
        words: rows.into_iter().map(|row| (row.word, row.frequency)).collect(),
    })
}

/// The users of these usernames, addresses and ids, in no order.
async fn users_named(db: &mut PgConnection, words: &[String]) -> Result<Vec<User>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = words.iter().filter_map(|word| Uuid::parse_str(word).ok()).collect();
    let words: Vec<String> = words.iter().map(|word| fold(word)).collect();
    sqlx::query_as!(
        User,
        r#"
        SELECT id AS "id: UserId", username, email, name, privileged, disabled
        FROM users
        WHERE lower(username) = ANY ($1) OR lower(email) = ANY ($1) OR id = ANY ($2)
        "#,
        &words,
        &ids,
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    #[tokio::test]
    async fn statements_that_are_each_in_time_and_together_are_not_end_as_a_search_that_took_too_long() {
        let db = TestDb::new().await;
        let quick = || sqlx::query("SELECT 1").execute(&db.pools.read);
        let ever_more = async {
            loop {
                quick().await.map_err(error)?;
            }
        };
        let refused = in_time::<()>(Duration::from_millis(200), ever_more).await.unwrap_err();
        assert_eq!(refused.code(), Code::QueryTimeout);
        in_time(SEARCH_MAX, async { quick().await.map_err(error) }).await.unwrap();
    }
}
