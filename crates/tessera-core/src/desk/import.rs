//! Imports: tickets that were kept elsewhere come in, a batch of lines at a time, each batch whole or not at all.
//!
//! No scrip fires and nothing is delivered. An import adds tickets and never changes one.

use super::configure::missing::{self, Made};
use super::{Tessera, clock};
use crate::db::import::{self as rows, Batch, Copied};
use crate::db::{catalog, configuration, error};
use crate::error::{Code, Error, Fault, Kind, Result};
use crate::models::text::fold;
use crate::models::{CustomFieldId, Ids, RequestId, UserId};
use crate::plan::import::{Checked, Missing, Read, Refused, Thing, check};
use crate::plan::{Catalog, People};
use sqlx::{Postgres, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Lines of a batch, which is a database transaction.
pub const BATCH_LINES_MAX: usize = 1_000;
/// Bytes of the lines of a batch, but for one line alone that is longer.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most lines of an import that is one database transaction.
pub const ATOMIC_LINES_MAX: u64 = 1_000_000;
/// From how many tickets on an import changes what PostgreSQL should plan for.
const ANALYZED_FROM: u64 = 1_000;
/// Users kept in mind from one batch to the next.
const PEOPLE_MAX: usize = 100_000;
/// How often a batch is tried when somebody takes one of its numbers, or has a lock, meanwhile.
const TRIES: usize = 3;

/// What an import is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Makes queues, fields and owners that there are not.
    pub create_missing: bool,
    /// Writes nothing if any line is bad.
    pub atomic: bool,
}

/// A line as it was read, and its number in its file, from 1.
#[derive(Debug)]
pub struct Numbered {
    /// Its number.
    pub number: u64,
    /// What it says, or what is wrong with it.
    pub read: Result<Box<Read>, Vec<Fault>>,
}

/// Something to say of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is not imported.
    Bad(u64, Vec<Fault>),
    /// Its number was imported before, and from another line: that ticket stays as it is.
    Differs(u64, i64),
}

impl Told {
    fn line(&self) -> u64 {
        match self {
            Self::Bad(line, _) | Self::Differs(line, _) => *line,
        }
    }
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines looked at.
    pub lines: u64,
    /// Tickets that were made.
    pub imported: u64,
    /// Lines that had been imported before.
    pub skipped: u64,
    /// Of these, such as have other words now.
    pub differing: u64,
    /// Lines that could not be imported.
    pub bad: u64,
    /// Users who were made and may own nothing.
    pub users: u64,
    /// Changes of the configuration: queues, fields, attachments and owners.
    pub configured: u64,
}

/// An import under way.
#[derive(Debug)]
pub struct Import<'t> {
    tessera: &'t Tessera,
    options: Options,
    people: People,
    catalog: Arc<Catalog>,
    /// The fields that it made, which it may change.
    fields: HashSet<CustomFieldId>,
    /// The one database transaction of an import that is all or nothing.
    open: Option<Transaction<'static, Postgres>>,
    tally: Tally,
}

/// What a batch came to: what is to be said of its lines, and what it adds to the tally.
struct Done {
    told: Vec<Told>,
    tally: Tally,
}

/// A line of a batch that is to be written.
struct Ready<'l> {
    number: u64,
    read: &'l Read,
    checked: Checked,
}

impl<'t> Import<'t> {
    /// Begins one; nothing is written yet.
    pub fn begin(tessera: &'t Tessera, options: Options) -> Self {
        let (catalog, people) = (tessera.catalog(), People::default());
        Self {
            tessera,
            options,
            people,
            catalog,
            fields: HashSet::new(),
            open: None,
            tally: Tally::default(),
        }
    }

    /// What was done so far; of an import that is all or nothing, what will have been done.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Keeps all numbers up to this one for the lines to come: others are given higher ones from now on.
    ///
    /// # Errors
    /// `locked` when others keep the sequence; those of the database.
    pub async fn reserve(&self, highest: i64) -> Result<()> {
        for _ in 1..TRIES {
            match rows::reserve(&self.tessera.pools.write, highest).await {
                Err(error) if error.kind() == Kind::Busy => {}
                reserved => return reserved,
            }
        }
        rows::reserve(&self.tessera.pools.write, highest).await
    }

    /// Imports a batch of at most [`BATCH_LINES_MAX`] lines, and says what is wrong with which.
    ///
    /// # Errors
    /// `limit_reached` of an import that is all or nothing; `locked`; those of the database. What earlier batches wrote
    /// stays, and is skipped when the file is imported again.
    pub async fn take(&mut self, lines: &[Numbered]) -> Result<Vec<Told>> {
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.options.atomic && self.tally.lines.saturating_add(count) > ATOMIC_LINES_MAX {
            let detail = format!(
                "An import that is all or nothing has at most {ATOMIC_LINES_MAX} lines. Divide the file, or leave out --atomic."
            );
            return Err(Error::new(Code::LimitReached, detail));
        }
        let mut busy = None;
        for _ in 0..TRIES {
            let db = match self.open.take() {
                Some(db) => db,
                None => self.open().await?,
            };
            match self.attempt(db, lines).await {
                Ok(Some(done)) => {
                    self.tally.add(&done.tally);
                    return Ok(done.told);
                }
                // Somebody took a number, or a lock that this batch waited for and that waited for this batch.
                Ok(None) => busy = None,
                Err(error) if error.kind() == Kind::Busy && !self.options.atomic => busy = Some(error),
                Err(error) => return Err(error),
            }
            // Users and configuration that the lost database transaction made are not there.
            (self.people, self.catalog) = (People::default(), self.tessera.catalog());
            if self.options.atomic {
                break;
            }
        }
        let detail = "Others keep taking the numbers of these lines. Import the file again.";
        Err(busy.unwrap_or_else(|| Error::new(Code::Busy, detail)))
    }

    /// Ends the import, and says what it did.
    ///
    /// # Errors
    /// Those of the database; of an import that is all or nothing, nothing is written then.
    pub async fn finish(mut self) -> Result<Tally> {
        if let Some(db) = self.open.take() {
            if self.tally.bad > 0 {
                db.rollback().await.map_err(error)?;
                self.tally = Tally { imported: 0, users: 0, configured: 0, ..self.tally };
            } else {
                db.commit().await.map_err(error)?;
            }
        }
        self.count_anew().await;
        Ok(self.tally)
    }

    /// Ends an import that cannot go on. What was written stays, but of one that is all or nothing.
    pub async fn leave(self) {
        if !self.options.atomic {
            self.count_anew().await;
        }
    }

    /// Has PostgreSQL plan for what is there now. It would come to that by itself, later.
    async fn count_anew(&self) {
        if self.tally.imported < ANALYZED_FROM {
            return;
        }
        if let Err(error) = rows::count_anew(&self.tessera.pools.write).await {
            tracing::warn!(%error, "the tables could not be counted anew; searches may be slow until PostgreSQL does");
        }
    }

    async fn open(&self) -> Result<Transaction<'static, Postgres>> {
        let mut db = self.tessera.pools.write.begin().await.map_err(error)?;
        rows::begin(&mut db).await?;
        Ok(db)
    }

    /// Writes a batch; `None` when somebody took one of its numbers.
    async fn attempt(
        &mut self,
        mut db: Transaction<'static, Postgres>,
        lines: &[Numbered],
    ) -> Result<Option<Done>> {
        // Changes of the configuration that look at tickets wait from here on.
        let version = catalog::version(&mut db).await?;
        if self.catalog.version != version {
            self.catalog = self.tessera.catalog_cache.at_least(&self.tessera.pools.read, version).await?;
        }
        let mut done = Done { told: Vec::new(), tally: Tally::default() };
        let wanted = self.sift(&mut db, lines, &mut done).await?;
        self.look_up(&mut db, wanted.iter().map(|(_, read)| *read)).await?;
        let (mut db, ready) = self.judge(db, wanted, &mut done).await?;
        self.make_people(&mut db, &ready, &mut done).await?;
        let batch = self.prepare(ready, &mut done).await?;
        done.told.sort_by_key(Told::line);
        // Nothing of it will stand; the lines that come are looked at all the same.
        if !self.is_lost(&done) && batch.copy(&mut db).await? == Copied::NumberTaken {
            return Ok(None);
        }
        if self.options.atomic {
            self.open = Some(db);
        } else {
            db.commit().await.map_err(error)?;
        }
        Ok(Some(done))
    }

    /// Whether nothing will stand, for a line that is bad.
    fn is_lost(&self, done: &Done) -> bool {
        self.options.atomic && self.tally.bad + done.tally.bad > 0
    }

    /// The lines that are to be imported: those that can be read, and were not imported, and whose number is free.
    async fn sift<'l>(
        &self,
        db: &mut Transaction<'static, Postgres>,
        lines: &'l [Numbered],
        done: &mut Done,
    ) -> Result<Vec<(u64, &'l Read)>> {
        let mut read = Vec::with_capacity(lines.len());
        for line in lines {
            done.tally.lines += 1;
            match &line.read {
                Ok(one) => read.push((line.number, one.as_ref())),
                Err(faults) => done.bad(line.number, faults.clone()),
            }
        }
        let keys: Vec<Vec<u8>> = read.iter().map(|(_, read)| read.key.key.clone()).collect();
        let numbers: Vec<i64> = read.iter().filter_map(|(_, read)| read.line.number).collect();
        let known = rows::known(db, &keys).await?;
        let taken = rows::taken(db, &numbers).await?;
        let mut wanted = Vec::with_capacity(read.len());
        for (number, read) in read {
            if let Some(imported) = known.get(&read.key.key) {
                done.skip(number, read, imported);
            } else if let Some(given) = read.line.number.filter(|given| taken.contains(given)) {
                let message =
                    format!("{given} is the number of another ticket; leave it out, and another is drawn");
                done.bad(number, vec![Fault::new("number", message)]);
            } else {
                wanted.push((number, read));
            }
        }
        Ok(wanted)
    }

    /// Looks up the people whom lines name and who are not known yet.
    async fn look_up<'l>(
        &mut self,
        db: &mut Transaction<'static, Postgres>,
        lines: impl Iterator<Item = &'l Read>,
    ) -> Result<()> {
        if self.people.by_id().len() > PEOPLE_MAX {
            self.people = People::default();
        }
        let mut unknown = BTreeSet::new();
        for word in lines.flat_map(|read| read.line.people()) {
            if self.people.find(word).is_none() {
                unknown.insert(word);
            }
        }
        if !unknown.is_empty() {
            self.people.extend(rows::people(db, &unknown).await?);
        }
        Ok(())
    }

    /// Holds the lines against the configuration. What good ones lack of it is made before, if that was asked for; which are
    /// good shows when everything is there, so what only bad ones lack is made and undone.
    async fn judge<'l>(
        &mut self,
        mut db: Transaction<'static, Postgres>,
        lines: Vec<(u64, &'l Read)>,
        done: &mut Done,
    ) -> Result<(Transaction<'static, Postgres>, Vec<Ready<'l>>)> {
        let lacking: Vec<u64> = self.lacking(&lines);
        if lacking.is_empty() {
            return Ok((db, self.check(&lines, &Refused::new(), done)));
        }
        let before = Arc::clone(&self.catalog);
        configuration::mark(&mut db).await?;
        let (mut db, refused, count) = self.make_missing(db, &lines).await?;
        let ready = self.check(&lines, &refused, done);
        let good: Vec<(u64, &Read)> = ready.iter().map(|line| (line.number, line.read)).collect();
        let numbers: HashSet<u64> = good.iter().map(|(number, _)| *number).collect();
        if lacking.iter().all(|number| numbers.contains(number)) {
            configuration::keep(&mut db).await?;
            done.tally.configured += count;
            return Ok((db, ready));
        }
        configuration::undo(&mut db).await?;
        (self.catalog, self.people) = (before, People::default());
        self.look_up(&mut db, good.iter().map(|(_, read)| *read)).await?;
        let (db, refused, count) = self.make_missing(db, &good).await?;
        done.tally.configured += count;
        Ok((db, self.check(&good, &refused, done)))
    }

    /// The numbers of the lines that lack something that is to be made.
    fn lacking(&self, lines: &[(u64, &Read)]) -> Vec<u64> {
        let lacks = |line: &&(u64, &Read)| !self.missing(std::slice::from_ref(*line)).is_empty();
        lines.iter().filter(lacks).map(|(number, _)| *number).collect()
    }

    /// What lines lack of the configuration, if it is to be made.
    fn missing(&self, lines: &[(u64, &Read)]) -> Missing {
        let mut missing = Missing::default();
        if self.options.create_missing {
            for (_, read) in lines {
                missing.add(&read.line, &self.catalog, &self.people, &self.fields);
            }
        }
        missing
    }

    /// The good ones of the lines.
    fn check<'l>(&self, lines: &[(u64, &'l Read)], refused: &Refused, done: &mut Done) -> Vec<Ready<'l>> {
        let mut ready = Vec::with_capacity(lines.len());
        for (number, read) in lines.iter().copied() {
            match check(&read.line, &self.catalog, &self.people, refused) {
                Ok(checked) => ready.push(Ready { number, read, checked }),
                Err(faults) => done.bad(number, faults),
            }
        }
        ready
    }

    /// Makes what the lines lack of the configuration; what could not be made, and how many things were.
    async fn make_missing(
        &mut self,
        db: Transaction<'static, Postgres>,
        lines: &[(u64, &Read)],
    ) -> Result<(Transaction<'static, Postgres>, Refused, u64)> {
        let missing = self.missing(lines);
        if missing.is_empty() {
            return Ok((db, Refused::new(), 0));
        }
        let Made { mut db, catalog, refused, count } =
            missing::make(db, &self.catalog, &self.tessera.guard, &missing).await?;
        let made = missing.fields.keys().filter(|name| !refused.contains_key(&Thing::Field((*name).clone())));
        self.fields.extend(made.filter_map(|name| catalog.fields.find(name)).map(|field| field.id));
        self.catalog = Arc::new(catalog);
        let agents = missing.agents.values();
        let words: BTreeSet<&str> =
            agents.flat_map(|(name, address)| [Some(name.as_str()), address.as_deref()]).flatten().collect();
        if !words.is_empty() {
            self.people.extend(rows::people(&mut db, &words).await?);
        }
        Ok((db, refused, count))
    }

    /// Makes users of the people who are to be some.
    async fn make_people(
        &mut self,
        db: &mut Transaction<'static, Postgres>,
        lines: &[Ready<'_>],
        done: &mut Done,
    ) -> Result<()> {
        // Of one name the first with an address counts, and of one address the first name.
        let mut wanted: BTreeMap<String, (&str, Option<&str>)> = BTreeMap::new();
        for (name, address) in lines.iter().flat_map(|line| line.read.line.users()) {
            let is_known = self.people.find(name).is_some()
                || address.is_some_and(|address| self.people.find(address).is_some());
            if !is_known {
                let one = wanted.entry(fold(name)).or_insert((name, address));
                one.1 = one.1.or(address);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut ids = clock::ids();
        let people: Vec<(UserId, &str, Option<&str>)> =
            wanted.values().map(|(name, address)| (ids.draw(), *name, *address)).collect();
        done.tally.users += rows::make_people(db, &people).await?;
        let words = wanted.into_values().flat_map(|(name, address)| [Some(name), address]);
        self.people.extend(rows::people(db, &words.flatten().collect()).await?);
        Ok(())
    }

    /// Gives every line its number, and makes its rows. Of the lines of one number the first that can be written is.
    async fn prepare(&self, lines: Vec<Ready<'_>>, done: &mut Done) -> Result<Batch> {
        let is_lost = self.is_lost(done);
        let mut drawn = if is_lost { Vec::new() } else { self.draw(&lines).await? }.into_iter();
        let now = clock::now();
        let mut batch = Batch::new(self.catalog.version, now);
        let mut requests = Ids::new(now, clock::seed());
        let mut written: HashMap<i64, &[u8]> = HashMap::new();
        for Ready { number, read, checked } in lines {
            if let Some(imported) = read.line.number.and_then(|given| written.get(&given)) {
                done.skip(number, read, imported);
                continue;
            }
            // What is not written needs no number.
            let ticket = read.line.number.or_else(|| drawn.next()).or(is_lost.then_some(0));
            let Some(ticket) = ticket else {
                return Err(Error::internal("There are fewer numbers than were drawn.", "nextval"));
            };
            let request: RequestId = requests.draw();
            match checked.rows(read, ticket, &self.people, request, clock::seed()) {
                Ok(imported) => {
                    batch.push(&imported, read, request);
                    done.tally.imported += 1;
                    written.extend(read.line.number.map(|given| (given, read.key.line.as_slice())));
                }
                Err(faults) => done.bad(number, faults),
            }
        }
        Ok(batch)
    }

    /// Keeps the numbers that lines give, and draws as many as there are lines without one.
    async fn draw(&self, lines: &[Ready<'_>]) -> Result<Vec<i64>> {
        let pool = &self.tessera.pools.write;
        let given = lines.iter().filter_map(|line| line.read.line.number);
        if let Some(highest) = given.clone().max() {
            rows::reserve(pool, highest).await?;
        }
        match lines.len() - given.count() {
            0 => Ok(Vec::new()),
            count => rows::draw(pool, count).await,
        }
    }
}

impl Done {
    fn bad(&mut self, number: u64, faults: Vec<Fault>) {
        self.tally.bad += 1;
        self.told.push(Told::Bad(number, faults));
    }

    /// Passes over a line whose key was imported, from the same line or from another one.
    fn skip(&mut self, number: u64, read: &Read, imported: &[u8]) {
        self.tally.skipped += 1;
        if let Some(given) = read.line.number.filter(|_| imported != read.key.line) {
            self.tally.differing += 1;
            self.told.push(Told::Differs(number, given));
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        let Self { lines, imported, skipped, differing, bad, users, configured } = other;
        self.lines += lines;
        self.imported += imported;
        self.skipped += skipped;
        self.differing += differing;
        self.bad += bad;
        self.users += users;
        self.configured += configured;
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
