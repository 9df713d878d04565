//! Checks lines against the configuration, and creates what they lack of it.

use super::report::Report;
use super::{Import, Ready};
use crate::db::configuration;
use crate::db::import as db_import;
use crate::desk::configure::missing::{self, Created};
use crate::error::Result;
use crate::plan::People;
use crate::plan::import::{Missing, Read, Refused, Thing, check};
use sqlx::{Postgres, Transaction};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

impl Import<'_> {
    /// Returns the valid lines. What they lack of the configuration is created first, if the import has that option.
    ///
    /// Whether a line is valid is known only after that. So if lines that lack something turn out to be invalid, everything
    /// is undone, and created again for the valid lines alone.
    pub(super) async fn check_lines<'l>(
        &mut self,
        mut db: Transaction<'static, Postgres>,
        lines: Vec<(u64, &'l Read)>,
        report: &mut Report,
    ) -> Result<(Transaction<'static, Postgres>, Vec<Ready<'l>>)> {
        let lacking: Vec<u64> = self.lacking(&lines);
        if lacking.is_empty() {
            return Ok((db, self.valid(&lines, &Refused::new(), report)));
        }
        let before = Arc::clone(&self.catalog);
        configuration::mark(&mut db).await?;
        let (mut db, refused, count) = self.create_missing(db, &lines).await?;
        let ready = self.valid(&lines, &refused, report);
        let valid: Vec<(u64, &Read)> = ready.iter().map(|line| (line.number, line.read)).collect();
        let numbers: HashSet<u64> = valid.iter().map(|(number, _)| *number).collect();
        if lacking.iter().all(|number| numbers.contains(number)) {
            configuration::keep(&mut db).await?;
            report.tally.configured += count;
            return Ok((db, ready));
        }
        configuration::undo(&mut db).await?;
        (self.catalog, self.people) = (before, People::default());
        self.look_up_people(&mut db, &valid).await?;
        let (db, refused, count) = self.create_missing(db, &valid).await?;
        report.tally.configured += count;
        Ok((db, self.valid(&valid, &refused, report)))
    }

    /// The numbers of the lines that lack something.
    fn lacking(&self, lines: &[(u64, &Read)]) -> Vec<u64> {
        let lacks = |line: &&(u64, &Read)| !self.missing(std::slice::from_ref(*line)).is_empty();
        lines.iter().filter(lacks).map(|(number, _)| *number).collect()
    }

    /// The objects that the lines lack; none if the import does not create them.
    fn missing(&self, lines: &[(u64, &Read)]) -> Missing {
        let mut missing = Missing::default();
        if self.options.create_missing {
            for (_, read) in lines {
                missing.add(&read.line, &self.catalog, &self.people, &self.fields);
            }
        }
        missing
    }

    fn valid<'l>(&self, lines: &[(u64, &'l Read)], refused: &Refused, report: &mut Report) -> Vec<Ready<'l>> {
        let mut ready = Vec::with_capacity(lines.len());
        for (number, read) in lines.iter().copied() {
            match check(&read.line, &self.catalog, &self.people, refused) {
                Ok(checked) => ready.push(Ready { number, read, checked }),
                Err(faults) => report.bad(number, faults),
            }
        }
        ready
    }

    /// Creates what the lines lack. Returns what could not be created, and the number of objects that were.
    async fn create_missing(
        &mut self,
        db: Transaction<'static, Postgres>,
        lines: &[(u64, &Read)],
    ) -> Result<(Transaction<'static, Postgres>, Refused, u64)> {
        let missing = self.missing(lines);
        if missing.is_empty() {
            return Ok((db, Refused::new(), 0));
        }
        let Created { mut db, catalog, refused, count } =
            missing::create(db, &self.catalog, &self.tessera.guard, &missing).await?;
        let created =
            missing.fields.keys().filter(|name| !refused.contains_key(&Thing::Field((*name).clone())));
        self.fields.extend(created.filter_map(|name| catalog.fields.find(name)).map(|field| field.id));
        self.catalog = Arc::new(catalog);
        let agents = missing.agents.values();
        let words = agents.flat_map(|(name, address)| [Some(name.as_str()), address.as_deref()]);
        let words: BTreeSet<Cow<'_, str>> = words.flatten().map(Cow::Borrowed).collect();
        if !words.is_empty() {
            self.people.extend(db_import::people(&mut db, &words).await?);
        }
        Ok((db, refused, count))
    }
}
