//! Reads all results of a search, as of one moment.

use super::compile::{Search, compile};
use super::run::{ids_of, in_order, run, timeout};
use crate::db::{error, moment};
use crate::error::Result;
use crate::models::Ticket;
use crate::plan::{Catalog, People};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use std::time::Duration;

/// Tickets in a batch.
const EXPORT_BATCH: i64 = 200;

/// The results of a search as of one moment, read in batches. Holds a database connection until it is dropped.
#[derive(Debug)]
pub struct Export(Transaction<'static, Postgres>);

impl Export {
    /// Starts the export. The limit, the cursor and the count of the search are ignored.
    ///
    /// # Errors
    /// As [`tickets()`](super::tickets()).
    pub async fn open(pool: &PgPool, catalog: &Catalog, search: &Search<'_>) -> Result<Self> {
        Self::within(moment(pool).await?, catalog, search).await
    }

    /// Starts the export in a database transaction, and reads what that transaction sees.
    pub(in crate::db) async fn within(
        mut tx: Transaction<'static, Postgres>,
        catalog: &Catalog,
        search: &Search<'_>,
    ) -> Result<Self> {
        let compiled = compile(&mut tx, catalog, search).await?;
        let statement = compiled.compiler(search).all();
        // PostgreSQL plans a cursor to return its first rows quickly; here all of them are read.
        sqlx::query("SET LOCAL cursor_tuple_fraction = 1").execute(&mut *tx).await.map_err(error)?;
        let declare = format!("DECLARE export NO SCROLL CURSOR FOR {}", statement.text);
        run(&declare, &statement.binds).execute(&mut *tx).await.map_err(timeout)?;
        Ok(Self(tx))
    }

    /// Sets the time limit of each further statement. The first batch may have to wait until all tickets are sorted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn allow(&mut self, time: Duration) -> Result<()> {
        let set = "SELECT set_config('statement_timeout', $1, true)";
        let set = sqlx::query(set).bind(format!("{}ms", time.as_millis()));
        set.execute(&mut *self.0).await.map(drop).map_err(error)
    }

    /// The database transaction, to read other things as of the same moment.
    pub(in crate::db) fn db(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    /// Returns the next batch of tickets and the people they name, or `None` after the last batch.
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
