//! Imports tickets from another system, a batch of lines at a time. A batch is imported as a whole or not at all.
//!
//! No scrip fires and nothing is delivered. An import adds tickets and never changes an existing one.
//!
//! [`Import::take`] is the whole story; its steps are in the files of this directory.

mod lines;
mod missing;
mod people;
mod report;
mod rows;

use super::{Caller, Tessera};
use crate::db::import::{self as db_import, Copied};
use crate::db::{catalog, error};
use crate::error::{Code, Error, Fault, Kind, Result};
use crate::models::CustomFieldId;
use crate::plan::import::{Checked, Read};
use crate::plan::{Catalog, People};
use report::Report;
pub use report::{Tally, Told};
use sqlx::{Postgres, Transaction};
use std::collections::HashSet;
use std::sync::Arc;

/// Lines of a batch, which is one database transaction.
pub const BATCH_LINES_MAX: usize = 1_000;
/// Bytes of the lines of a batch. A single longer line is a batch of its own.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines of an atomic import, which is one database transaction.
pub const ATOMIC_LINES_MAX: u64 = 1_000_000;
/// An import of at least this many tickets updates PostgreSQL's statistics.
const ANALYZED_FROM: u64 = 1_000;
/// How often a batch is tried if another process takes one of its numbers or holds a lock.
const TRIES: usize = 3;

/// The options of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Creates missing queues, fields and owners.
    pub create_missing: bool,
    /// Writes nothing if any line is invalid.
    pub atomic: bool,
}

/// A line that has been read, and its number in the file, from 1.
#[derive(Debug)]
pub struct Numbered {
    /// The line number.
    pub number: u64,
    /// The ticket on the line, or its faults.
    pub read: Result<Box<Read>, Vec<Fault>>,
}

/// A running import.
#[derive(Debug)]
pub struct Import<'t> {
    tessera: &'t Tessera,
    options: Options,
    people: People,
    catalog: Arc<Catalog>,
    /// The fields that this import created. Only these may be changed to take several values.
    fields: HashSet<CustomFieldId>,
    /// The database transaction of an atomic import.
    open: Option<Transaction<'static, Postgres>>,
    tally: Tally,
}

/// A line that is to be written.
struct Ready<'l> {
    number: u64,
    read: &'l Read,
    checked: Checked,
}

impl<'t> Import<'t> {
    /// Starts an import. Nothing is written yet.
    pub fn begin(tessera: &'t Tessera, _caller: &Caller, options: Options) -> Self {
        let (catalog, people) = (tessera.catalog(), People::default());
        let (fields, tally) = (HashSet::new(), Tally::default());
        Self { tessera, options, people, catalog, fields, open: None, tally }
    }

    /// Returns the progress so far. Of an atomic import, this is what will have been imported.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Reserves all ticket numbers up to this one for the lines to come. Tickets that are created meanwhile get higher numbers.
    ///
    /// # Errors
    /// `locked` if other processes hold the sequence; those of the database.
    pub async fn reserve(&self, highest: i64) -> Result<()> {
        for _ in 1..TRIES {
            match db_import::reserve(&self.tessera.pools.write, highest).await {
                Err(error) if error.kind() == Kind::Busy => {}
                reserved => return reserved,
            }
        }
        db_import::reserve(&self.tessera.pools.write, highest).await
    }

    /// Imports a batch of at most [`BATCH_LINES_MAX`] lines, and returns the lines that it skipped or found invalid.
    ///
    /// # Errors
    /// `limit_reached` for an atomic import; `locked`; those of the database. Earlier batches remain imported, and are
    /// skipped when the file is imported again.
    pub async fn take(&mut self, lines: &[Numbered]) -> Result<Vec<Told>> {
        self.check_limit(lines)?;
        let mut busy = None;
        for _ in 0..TRIES {
            let db = match self.open.take() {
                Some(db) => db,
                None => self.open().await?,
            };
            match self.write_batch(db, lines).await {
                Ok(Some(report)) => {
                    self.tally.add(&report.tally);
                    return Ok(report.told);
                }
                // Another process took a number, or this batch and another process waited for each other's locks.
                Ok(None) => busy = None,
                Err(error) if error.kind() == Kind::Busy && !self.options.atomic => busy = Some(error),
                Err(error) => return Err(error),
            }
            // Users and configuration that the lost database transaction created do not exist.
            (self.people, self.catalog) = (People::default(), self.tessera.catalog());
            if self.options.atomic {
                break;
            }
        }
        let detail = "Other processes keep taking the ticket numbers of these lines. Import the file again.";
        Err(busy.unwrap_or_else(|| Error::new(Code::Busy, detail)))
    }

    /// Writes a batch. Returns `None` if another process took one of its numbers.
    async fn write_batch(
        &mut self,
        mut db: Transaction<'static, Postgres>,
        lines: &[Numbered],
    ) -> Result<Option<Report>> {
        self.refresh_catalog(&mut db).await?;
        let mut report = Report::default();
        let read = report.read(lines);
        let wanted = lines::not_imported(&mut db, read, &mut report).await?;
        self.look_up_people(&mut db, &wanted).await?;
        let (mut db, ready) = self.check_lines(db, wanted, &mut report).await?;
        self.create_users(&mut db, &ready, &mut report).await?;
        let numbers = self.draw_numbers(&ready, &report).await?;
        let batch = self.rows(ready, numbers, &mut report)?;
        // The lines after an invalid one of an atomic import are checked, but not written.
        if !self.is_lost(&report) && batch.copy(&mut db).await? == Copied::NumberTaken {
            return Ok(None);
        }
        if self.options.atomic {
            self.open = Some(db);
        } else {
            db.commit().await.map_err(error)?;
        }
        Ok(Some(report.in_order()))
    }

    /// Ends the import and returns what it did.
    ///
    /// # Errors
    /// Those of the database. After an error, nothing of an atomic import is written.
    pub async fn finish(mut self) -> Result<Tally> {
        if let Some(db) = self.open.take() {
            if self.tally.bad > 0 {
                db.rollback().await.map_err(error)?;
                self.tally = Tally { imported: 0, users: 0, configured: 0, ..self.tally };
            } else {
                db.commit().await.map_err(error)?;
            }
        }
        self.analyze().await;
        Ok(self.tally)
    }

    /// Ends an import that cannot continue. Batches that were written remain, except those of an atomic import.
    pub async fn leave(self) {
        if !self.options.atomic {
            self.analyze().await;
        }
    }

    fn check_limit(&self, lines: &[Numbered]) -> Result<()> {
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if !self.options.atomic || self.tally.lines.saturating_add(count) <= ATOMIC_LINES_MAX {
            return Ok(());
        }
        let detail = format!(
            "An atomic import is limited to {ATOMIC_LINES_MAX} lines. Split the file, or leave out --atomic."
        );
        Err(Error::new(Code::LimitReached, detail))
    }

    async fn open(&self) -> Result<Transaction<'static, Postgres>> {
        let mut db = self.tessera.pools.write.begin().await.map_err(error)?;
        db_import::begin(&mut db).await?;
        Ok(db)
    }

    /// Reads the configuration if it has changed. From here on, changes of the configuration that look at tickets wait.
    async fn refresh_catalog(&mut self, db: &mut Transaction<'static, Postgres>) -> Result<()> {
        let version = catalog::version(db).await?;
        if self.catalog.version != version {
            self.catalog = self.tessera.catalog_cache.at_least(&self.tessera.pools.reserved, version).await?;
        }
        Ok(())
    }

    /// Returns true if an invalid line keeps an atomic import from being written.
    fn is_lost(&self, report: &Report) -> bool {
        self.options.atomic && self.tally.bad + report.tally.bad > 0
    }

    /// Updates PostgreSQL's statistics. PostgreSQL does so automatically, but later.
    async fn analyze(&self) {
        if self.tally.imported < ANALYZED_FROM {
            return;
        }
        if let Err(error) = db_import::count_anew(&self.tessera.pools.write).await {
            tracing::warn!(%error, "the statistics of the tables could not be updated; searches may be slow until PostgreSQL updates them");
        }
    }
}

#[cfg(test)]
mod tests;
