//! Random queries on random tickets: SQL, memory and the judge find the same tickets, and pages contain each once, in order.

use crate::NOW;
use crate::desk::{Desk, UserRow};
use crate::dice::Dice;
use crate::judge::{Judge, decimal};
use futures::{StreamExt, stream};
use serde_json::Value;
use sqlx::{PgPool, Row};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use tessera_core::db::search::{self, Count, Search};
use tessera_core::db::tickets;
use tessera_core::models::{Steps, Ticket, User, UserId};
use tessera_core::plan::Catalog;
use tessera_core::query::eval::{self, Scene};
use tessera_core::query::resolve::{DELETED, hides_deleted};
use tessera_core::query::sql::{Asker, Compiler, Frequencies, Keys, Sorted, Statement, words_of};
use tessera_core::query::{Dialect, Purpose, Query, Test, Zone, parse, resolve};
use tessera_core::testing::{self, TestDb};
use uuid::Uuid;

const SEED: u64 = 20_261_123;
const TICKETS: usize = 120;
/// Queries of a run; `PROPTEST_CASES` overrides it.
const QUERIES: usize = 1_000;
/// Queries whose pages are walked; a tenth of `PROPTEST_CASES` overrides it.
const WALKS: usize = 100;

/// Queries that PostgreSQL runs at a time.
const AT_ONCE: usize = 4;

fn cases() -> Option<usize> {
    std::env::var("PROPTEST_CASES").ok()?.parse().ok()
}

/// A random desk in a database.
struct Lab {
    db: TestDb,
    catalog: Catalog,
    judge: Judge,
    users: Vec<User>,
    people: HashMap<UserId, User>,
    asker: Asker,
}

impl Lab {
    async fn new(dice: &mut Dice) -> Self {
        let db = TestDb::new().await;
        let desk = dice.desk(TICKETS);
        let catalog = desk.write(&db.pools.write).await;
        sqlx::query("ANALYZE").execute(&db.pools.write).await.unwrap();
        let mut judge = Judge::of(&db.pools.read, "ann", NOW).await;
        judge.zone = "Europe/Berlin".to_owned();
        let zone = Zone::parse(&judge.zone).unwrap();
        let asker = Asker { user: UserId(desk.user("ann").unwrap()), now: NOW, zone };
        let users = users(&desk);
        let people = users.iter().map(|user| (user.id, user.clone())).collect();
        Self { users, people, db, catalog, judge, asker }
    }

    fn resolved(&self, text: &str, dialect: Dialect) -> Query<Test> {
        let parsed = parse(text, dialect).unwrap_or_else(|error| panic!("{text}: {error}"));
        let fields = self.catalog.query_fields(Purpose::Search(&self.users));
        resolve(&parsed.query, &fields).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn keys(&self, order: &[Sorted], dialect: Dialect) -> Keys {
        Keys::resolve(order, &self.catalog.query_fields(Purpose::Search(&self.users)), dialect).unwrap()
    }

    /// The numbers that the judge finds.
    fn judged(&self, text: &str, dialect: Dialect) -> Vec<i64> {
        match dialect {
            Dialect::Tessera => self.judge.find(text),
            Dialect::Rt => Judge { is_rt: true, ..self.judge.clone() }.find(text),
        }
    }

    /// The numbers that SQL finds, in its order; `are_frequent` marks all words of the query as frequent.
    async fn by_sql(&self, text: &str, order: &[Sorted], dialect: Dialect, are_frequent: bool) -> Vec<i64> {
        let query = self.resolved(text, dialect);
        let words = words_of(&query).into_iter().filter(|_| are_frequent).map(|word| (word, 1.0));
        let frequencies = Frequencies { messages: f32::MAX, words: words.collect() };
        let keys = self.keys(order, dialect);
        let compiler = Compiler { query: &query, asker: &self.asker, frequencies: &frequencies, keys: &keys };
        let statement = compiler.all();
        let ids =
            ids(&self.db.pools.read, &statement).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        ids.iter().map(|id| id[25..].parse().unwrap()).collect()
    }

    /// The numbers sorted by an order.
    fn in_order(&self, mut numbers: Vec<i64>, order: &[Sorted], dialect: Dialect) -> Vec<i64> {
        let row = |number: &i64| &self.judge.rows[usize::try_from(*number).unwrap() - 1];
        let ends_descending = order.last().is_none_or(|term| term.is_descending);
        numbers.sort_by(|one, other| {
            let (one, other) = (row(one), row(other));
            let by_id = directed(one["id"].as_str().cmp(&other["id"].as_str()), ends_descending);
            order
                .iter()
                .map(|term| by_term(term, dialect, one, other))
                .fold(Ordering::Equal, Ordering::then)
                .then(by_id)
        });
        numbers
    }
}

fn directed(ordering: Ordering, is_descending: bool) -> Ordering {
    if is_descending { ordering.reverse() } else { ordering }
}

/// Unset values come last in both directions; in RT, they are less than all others.
fn by_term(term: &Sorted, dialect: Dialect, one: &Value, other: &Value) -> Ordering {
    match (key(&term.field, one), key(&term.field, other)) {
        (Some(one), Some(other)) => directed(one.cmp(&other), term.is_descending),
        (one, other) if dialect == Dialect::Rt => {
            directed(one.is_some().cmp(&other.is_some()), term.is_descending)
        }
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

/// A key is a number or a text.
fn key(field: &str, row: &Value) -> Option<(i128, String)> {
    let text = |value: &Value| value.as_str().map(|text| (0, text.to_lowercase()));
    let caseless_text = |value: &Value| value.as_str().map(|text| (0, crate::judge::caseless(text)));
    // Numbers come first, by their size.
    let value = |value: &Value| {
        let text = crate::judge::caseless(value.as_str()?);
        Some((decimal(&text).unwrap_or(i128::MAX), text))
    };
    match field.to_lowercase().as_str() {
        "id" => row["number"].as_i64().map(|number| (number.into(), String::new())),
        "priority" => row["priority"].as_i64().map(|number| (number.into(), String::new())),
        "owner" | "owner.name" => text(&row["owner"]["username"]),
        "creator" => text(&row["creator"]["username"]),
        "lastupdatedby" => text(&row["last"]["username"]),
        "subject" => caseless_text(&row["subject"]),
        field @ ("status" | "queue" | "lifecycle") => text(&row[field]),
        field => match field.strip_prefix("cf.") {
            Some(name) => {
                let name = name.rsplit('{').next().unwrap().trim_matches('}');
                let of_field = |value: &&Value| value["field"].as_str().unwrap().to_lowercase() == name;
                let values = row["values"].as_array().into_iter().flatten().filter(of_field);
                values.filter_map(|one| value(&one["value"])).min()
            }
            None => {
                crate::judge::date(field, row).unwrap().map(|at| (at.unix_timestamp_nanos(), String::new()))
            }
        },
    }
}

fn users(desk: &Desk) -> Vec<User> {
    let user = |row: &UserRow| User {
        id: UserId(desk.user(&row.username).unwrap()),
        username: row.username.clone(),
        email: row.email.clone(),
        name: None,
        privileged: false,
        disabled: false,
    };
    desk.users.iter().map(user).collect()
}

async fn ids(pool: &PgPool, statement: &Statement) -> sqlx::Result<Vec<String>> {
    let rows = testing::fetch(pool, statement).await?;
    rows.iter().map(|row| row.try_get(0).map(|id: Uuid| id.to_string())).collect()
}

fn order(dice: &mut Dice) -> Vec<Sorted> {
    let order = dice.order().into_iter();
    order.map(|(field, is_descending)| Sorted { field, is_descending }).collect()
}

#[tokio::test]
async fn sql_and_the_judge_find_the_same_tickets_in_the_same_order_by_any_query() {
    let mut dice = Dice::new(SEED);
    let lab = Lab::new(&mut dice).await;
    let mut different = Vec::new();
    let (mut telling, queries) = (0, cases().unwrap_or(QUERIES));
    let dialect = |at: usize| if at.is_multiple_of(3) { Dialect::Rt } else { Dialect::Tessera };
    let asked: Vec<(String, Vec<Sorted>, Dialect, bool)> = (0..queries)
        .map(|at| (dice.query(3, true), order(&mut dice), dialect(at), at.is_multiple_of(2)))
        .collect();
    let answers = stream::iter(&asked)
        .map(|(query, order, dialect, are_frequent)| lab.by_sql(query, order, *dialect, *are_frequent));
    let mut answers = answers.buffered(AT_ONCE);
    for (query, order, dialect, _) in &asked {
        let sql = answers.next().await.unwrap();
        let judged = lab.in_order(lab.judged(query, *dialect), order, *dialect);
        telling += usize::from(!judged.is_empty() && judged.len() < TICKETS / 2);
        if sql != judged {
            let (these, those): (BTreeSet<_>, BTreeSet<_>) = (sql.iter().collect(), judged.iter().collect());
            let apart: Vec<_> = these.symmetric_difference(&those).collect();
            different.push(format!(
                "{query}\n  as {dialect:?} by {order:?} differs on {apart:?}, {} and {}",
                sql.len(),
                judged.len()
            ));
        }
    }
    different.sort_by_key(String::len);
    different.truncate(20);
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(telling * 3 > queries, "only {telling} of {queries} queries tell anything");
}

#[tokio::test]
async fn pages_of_any_size_have_each_ticket_once_in_order() {
    let mut dice = Dice::new(SEED + 1);
    let lab = Lab::new(&mut dice).await;
    for _ in 0..cases().map_or(WALKS, |cases| cases / 10) {
        let (query, order) = (dice.query(2, true), order(&mut dice));
        let dialect = dice.one(&[Dialect::Tessera, Dialect::Rt]);
        let expected = lab.in_order(lab.judged(&query, dialect), &order, dialect);
        let limit = i64::try_from(expected.len() / (1 + dice.below(6)) + 1 - dice.below(2)).unwrap().max(1);
        let (mut walked, mut cursor): (Vec<i64>, Option<String>) = (Vec::new(), None);
        loop {
            let asker = lab.asker.clone();
            let search = Search {
                query: &query,
                dialect,
                order: &order,
                limit,
                cursor: cursor.as_deref(),
                count: Count::None,
                asker,
            };
            let found = search::tickets(&lab.db.pools.searches, &lab.catalog, &search).await.unwrap();
            walked.extend(found.page.items.iter().map(|ticket| ticket.number.unwrap()));
            cursor = found.page.next_cursor;
            if cursor.is_none() || walked.len() > expected.len() {
                break;
            }
        }
        assert_eq!(walked, expected, "{query} by {order:?}, {limit} at a time");
    }
}

impl Lab {
    /// The numbers that memory finds; `None` if the query is invalid for that purpose. Traces are slow, so only some are built.
    fn by_memory(
        &self,
        text: &str,
        tickets: &[Ticket],
        purpose: Purpose<'_>,
        is_traced: bool,
    ) -> Option<Vec<i64>> {
        let fields = self.catalog.query_fields(purpose);
        let parsed = parse(text, Dialect::Tessera).unwrap();
        let query = resolve(&parsed.query, &fields).ok()?;
        let hides_deleted = hides_deleted(&query);
        let is_found = |(ticket, row): &(&Ticket, &Value)| {
            let scene = Scene {
                ticket,
                number: ticket.number,
                people: &self.people,
                fields,
                current_user: self.people.get(&self.asker.user),
                last_updated_by: serde_json::from_value(row["last"]["id"].clone()).unwrap(),
                now: self.asker.now,
                zone: &self.asker.zone,
                occasion: None,
            };
            let holds = eval::holds(&query, &scene);
            assert!(
                !is_traced || eval::why(&query, &scene, &Steps::new(u64::MAX)).result == holds,
                "{text} has another result in its trace"
            );
            holds && !(hides_deleted && ticket.status == DELETED)
        };
        let found = tickets.iter().zip(&self.judge.rows).filter(is_found);
        Some(found.map(|(ticket, _)| ticket.number.unwrap()).collect())
    }
}

#[tokio::test]
async fn sql_and_memory_find_the_same_tickets_by_any_query_of_what_both_know() {
    let mut dice = Dice::new(SEED + 2);
    let lab = Lab::new(&mut dice).await;
    let mut db = lab.db.pools.read.acquire().await.unwrap();
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM tickets").fetch_all(&mut *db).await.unwrap();
    let mut tickets: Vec<Ticket> =
        tickets::many(&mut db, &ids).await.unwrap().into_iter().map(|(ticket, _)| ticket).collect();
    tickets.sort_by_key(|ticket| ticket.number);
    let of_deleted = tickets.iter().filter(|ticket| ticket.status == DELETED);
    let deleted: BTreeSet<i64> = of_deleted.filter_map(|ticket| ticket.number).collect();
    let queries = cases().unwrap_or(QUERIES);
    let asked: Vec<String> = (0..queries).map(|_| dice.query(3, false)).collect();
    let mut answers =
        stream::iter(&asked).map(|query| lab.by_sql(query, &[], Dialect::Tessera, false)).buffered(AT_ONCE);
    let (mut different, mut conditions) = (Vec::new(), 0);
    for (at, query) in asked.iter().enumerate() {
        let is_traced = at % 10 == 0;
        let mut sql = answers.next().await.unwrap();
        sql.sort_unstable();
        let search = lab.by_memory(query, &tickets, Purpose::Search(&lab.users), is_traced).unwrap();
        let condition = lab.by_memory(query, &tickets, Purpose::Condition, is_traced);
        conditions += usize::from(condition.is_some());
        // A pattern of statuses matches deleted tickets in a condition but not in a search, so they are excluded here.
        let there = |numbers: &[i64]| -> Vec<i64> {
            numbers.iter().copied().filter(|number| !deleted.contains(number)).collect()
        };
        let (of_sql, of_condition) = (there(&sql), condition.as_deref().map(there));
        let of_condition = of_condition.as_ref().unwrap_or(&of_sql);
        for (purpose, sql, memory) in [("search", &sql, &search), ("condition", &of_sql, of_condition)] {
            if memory != sql {
                let (these, those): (BTreeSet<_>, BTreeSet<_>) =
                    (sql.iter().collect(), memory.iter().collect());
                let apart: Vec<_> = these.symmetric_difference(&those).collect();
                different.push(format!("{query}\n  as a {purpose} differs on {apart:?}"));
            }
        }
    }
    different.sort_by_key(String::len);
    different.truncate(20);
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(conditions * 2 > queries, "only {conditions} of {queries} could be conditions");
}
