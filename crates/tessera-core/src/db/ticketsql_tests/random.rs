//! Random queries over random tickets: SQL, memory and the judge find the same, and pages have each of them once, in order.

use super::NOW;
use super::desk::{Desk, Kind, id};
use super::dice::Dice;
use super::judge::Judge;
use crate::db::search::{self, Count, Search};
use crate::models::{User, UserId};
use crate::plan::Catalog;
use crate::query::sql::{self, Asker, Bind, Keys, Sorted};
use crate::query::{Dialect, Purpose, Zone, parse, resolve};
use crate::testing::TestDb;
use sqlx::{AssertSqlSafe, PgPool};
use std::collections::BTreeSet;

const SEED: u64 = 20_261_123;
const TICKETS: usize = 300;
/// Queries of a run; `PROPTEST_CASES` takes its place.
const QUERIES: usize = 2_000;
/// Walks over all pages of a query; a tenth of `PROPTEST_CASES` takes its place.
const WALKS: usize = 60;

fn cases() -> Option<usize> {
    std::env::var("PROPTEST_CASES").ok()?.parse().ok()
}

/// A random desk in a database.
struct Lab {
    db: TestDb,
    catalog: Catalog,
    judge: Judge,
    users: Vec<User>,
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
        Self { users: users(&desk), db, catalog, judge, asker }
    }

    /// The numbers that SQL finds, in order.
    async fn by_sql(&self, query: &str) -> Vec<i64> {
        let parsed = parse(query, Dialect::Tessera).unwrap_or_else(|error| panic!("{query}: {error}"));
        let fields = self.catalog.query_fields(Purpose::Search(&self.users));
        let query = resolve(&parsed.query, &fields).unwrap_or_else(|error| panic!("{query}: {error}"));
        let statement = sql::all(&query, &self.asker, &Keys::default()).unwrap();
        let ids =
            ids(&self.db.pools.read, &statement).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let numbers: BTreeSet<i64> =
            ids.iter().map(|id| i64::from_str_radix(&id[25..], 10).unwrap()).collect();
        assert_eq!(numbers.len(), ids.len(), "{query} finds a ticket twice");
        numbers.into_iter().collect()
    }
}

fn users(desk: &Desk) -> Vec<User> {
    let user = |row: &super::desk::UserRow| User {
        id: UserId(desk.user(&row.username).unwrap()),
        username: row.username.clone(),
        email: row.email.clone(),
        name: None,
        privileged: false,
        disabled: false,
    };
    desk.users.iter().map(user).collect()
}

async fn ids(pool: &PgPool, statement: &sql::Statement) -> sqlx::Result<Vec<String>> {
    let text = format!("SELECT id::text FROM ({}) one", statement.text);
    let mut query = sqlx::query_scalar(AssertSqlSafe(text)).persistent(false);
    for bind in &statement.binds {
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
    query.fetch_all(pool).await
}

#[tokio::test]
async fn sql_and_the_judge_find_the_same_tickets_by_any_query() {
    let mut dice = Dice(SEED);
    let lab = Lab::new(&mut dice).await;
    let mut different = Vec::new();
    let (mut found, queries) = (0, cases().unwrap_or(QUERIES));
    for _ in 0..queries {
        let query = dice.query(3, true);
        let (sql, judge) = (lab.by_sql(&query).await, lab.judge.find(&query));
        found += usize::from(!sql.is_empty() && sql.len() < TICKETS / 2);
        if sql != judge {
            let apart: Vec<i64> = sql
                .iter()
                .filter(|n| !judge.contains(n))
                .chain(judge.iter().filter(|n| !sql.contains(n)))
                .copied()
                .collect();
            different.push(format!("{query}\n  differs on {apart:?}"));
        }
    }
    different.sort_by_key(String::len);
    different.truncate(20);
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(found * 3 > queries, "only {found} of {queries} queries say something");
}
