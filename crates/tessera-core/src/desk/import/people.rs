//! The people that lines name: looks them up, and creates users for those who have none.

use super::report::Report;
use super::{Import, Ready};
use crate::db::import as db_import;
use crate::desk::clock;
use crate::error::Result;
use crate::models::UserId;
use crate::models::text::fold;
use crate::plan::People;
use crate::plan::import::Read;
use sqlx::{Postgres, Transaction};
use std::collections::{BTreeMap, BTreeSet};

/// Users kept in memory from one batch to the next.
const PEOPLE_MAX: usize = 100_000;

impl Import<'_> {
    /// Looks up the people that the lines name and that are not known yet.
    pub(super) async fn look_up_people(
        &mut self,
        db: &mut Transaction<'static, Postgres>,
        lines: &[(u64, &Read)],
    ) -> Result<()> {
        if self.people.by_id().len() > PEOPLE_MAX {
            self.people = People::default();
        }
        let mut unknown = BTreeSet::new();
        for word in lines.iter().flat_map(|(_, read)| read.line.people()) {
            if self.people.find(word).is_none() {
                unknown.insert(word);
            }
        }
        if !unknown.is_empty() {
            self.people.extend(db_import::people(db, &unknown).await?);
        }
        Ok(())
    }

    /// Creates unprivileged users for the people of the lines who have none.
    pub(super) async fn create_users(
        &mut self,
        db: &mut Transaction<'static, Postgres>,
        lines: &[Ready<'_>],
        report: &mut Report,
    ) -> Result<()> {
        // A name gets its first address, and an address belongs to its first name.
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
        report.tally.users += db_import::make_people(db, &people).await?;
        let words = wanted.into_values().flat_map(|(name, address)| [Some(name), address]);
        self.people.extend(db_import::people(db, &words.flatten().collect()).await?);
        Ok(())
    }
}
