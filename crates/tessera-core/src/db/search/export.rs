//! Reads all results of a search, as of one moment.

use super::compile::{Search, compile};
use super::run::{ids_of, in_order, run, timeout};
use crate::db::connections::{Connections, Taken};
use crate::db::error;
use crate::error::Result;
use crate::models::Ticket;
use crate::plan::{Catalog, People};
use sqlx::PgConnection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The number of tickets that are found at a time; fewer may be in memory.
const FOUND_MAX: i64 = 200;

/// The results of a search as of one moment, read in batches. Holds a database connection until it ends or is dropped.
#[derive(Debug)]
pub struct Export {
    /// `None` after the last batch.
    db: Option<Taken>,
    batches: Batches,
}

impl Export {
    /// Starts the export. The limit, the cursor and the count of the search are ignored.
    ///
    /// # Errors
    /// As [`tickets()`](super::tickets()).
    pub async fn open(
        connections: &Arc<Connections>,
        catalog: &Catalog,
        search: &Search<'_>,
    ) -> Result<Self> {
        let mut db = connections.take().await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        sqlx::query(begin).execute(&mut *db).await.map_err(error)?;
        match Batches::of(&mut db, catalog, search).await {
            Ok(batches) => Ok(Self { db: Some(db), batches }),
            Err(refused) => {
                sqlx::query("ROLLBACK").execute(&mut *db).await.map_err(error)?;
                db.done(Err(refused))
            }
        }
    }

    /// Sets the time limit of each further statement. The first batch may have to wait until all tickets are sorted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn allow(&mut self, time: Duration) -> Result<()> {
        let Some(db) = &mut self.db else { return Ok(()) };
        let set = "SELECT set_config('statement_timeout', $1, true)";
        let set = sqlx::query(set).bind(format!("{}ms", time.as_millis()));
        set.execute(&mut **db).await.map(drop).map_err(error)
    }

    /// Returns the next batch of tickets and the people they name, or `None` after the last batch.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next(&mut self) -> Result<Option<(Vec<Ticket>, People)>> {
        let Some(db) = &mut self.db else { return Ok(None) };
        if let Some(batch) = self.batches.next(db).await? {
            return Ok(Some(batch));
        }
        let Some(mut db) = self.db.take() else { return Ok(None) };
        let ended = sqlx::query("COMMIT").execute(&mut *db).await.map_err(error);
        db.done(ended).map(|_| None)
    }
}

/// The tickets of an export, in batches, read within one database transaction.
#[derive(Debug)]
pub(in crate::db) struct Batches {
    from: Source,
    /// The tickets that were found and not read yet.
    found: VecDeque<Uuid>,
}

#[derive(Debug)]
enum Source {
    /// All tickets after this number.
    All { after: i64 },
    /// The cursor `export`.
    Cursor,
}

impl Batches {
    /// All tickets in order of number, including deleted ones.
    pub(in crate::db) fn all() -> Self {
        Self { from: Source::All { after: 0 }, found: VecDeque::new() }
    }

    /// The results of a search.
    pub(in crate::db) async fn of(
        db: &mut PgConnection,
        catalog: &Catalog,
        search: &Search<'_>,
    ) -> Result<Self> {
        let compiled = compile(db, catalog, search).await?;
        let statement = compiled.compiler(search).all();
        // PostgreSQL plans a cursor to return its first rows quickly; here all of them are read.
        sqlx::query("SET LOCAL cursor_tuple_fraction = 1").execute(&mut *db).await.map_err(error)?;
        let declare = format!("DECLARE export NO SCROLL CURSOR FOR {}", statement.text);
        run(&declare, &statement.binds).execute(db).await.map_err(timeout)?;
        Ok(Self { from: Source::Cursor, found: VecDeque::new() })
    }

    /// Returns the next batch of tickets and the people they name, or `None` after the last batch. A batch ends at
    /// [`BYTES_MAX`](crate::models::page::BYTES_MAX).
    pub(in crate::db) async fn next(
        &mut self,
        db: &mut PgConnection,
    ) -> Result<Option<(Vec<Ticket>, People)>> {
        if self.found.is_empty() {
            self.found = self.from.find(db).await?.into();
        }
        if self.found.is_empty() {
            return Ok(None);
        }
        let (tickets, people) = in_order(db, self.found.make_contiguous()).await?;
        // Never empty, as the tickets are those of one moment.
        self.found.drain(..tickets.len().max(1));
        Ok(Some((tickets, people)))
    }
}

impl Source {
    async fn find(&mut self, db: &mut PgConnection) -> Result<Vec<Uuid>> {
        match self {
            Self::Cursor => {
                let fetch = format!("FETCH {FOUND_MAX} FROM export");
                ids_of(&run(&fetch, &[]).fetch_all(db).await.map_err(timeout)?)
            }
            Self::All { after } => {
                let rows = sqlx::query!(
                    "SELECT id, number FROM tickets WHERE number > $1 ORDER BY number LIMIT $2",
                    *after,
                    FOUND_MAX
                );
                let rows = rows.fetch_all(db).await.map_err(error)?;
                *after = rows.last().map_or(*after, |last| last.number);
                Ok(rows.into_iter().map(|row| row.id).collect())
            }
        }
    }
}
