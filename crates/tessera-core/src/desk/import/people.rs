//! The people that lines name: looks them up, and creates users for those who have none.

use super::report::Report;
use super::{Import, Ready};
use crate::db::import::{self as db_import, NewUser};
use crate::desk::clock;
use crate::error::Result;
use crate::models::text::fold;
use crate::plan::People;
use crate::plan::import::{Read, Who};
use sqlx::{Postgres, Transaction};
use std::collections::{BTreeSet, HashSet};

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
            if self.people.find(&word).is_none() {
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
        let mut unknown: Vec<Who<'_>> = Vec::new();
        let mut seen = HashSet::new();
        for who in lines.iter().flat_map(|line| line.read.line.users()) {
            if who.find(&self.people).is_none() && seen.insert(who.identity()) {
                unknown.push(who);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        // Whoever has an address comes first: who is named without one may be one of them.
        unknown.sort_by_key(|who| who.address.is_none());
        let mut taken = HashSet::new();
        let mut users = Vec::with_capacity(unknown.len());
        let mut ids = clock::ids();
        for Who { username, address, .. } in unknown {
            let is_free = self.people.called(&username).is_none() && taken.insert(fold(&username));
            let id = ids.draw();
            match (is_free, address) {
                (true, address) => users.push(NewUser { id, username, email: address, name: None }),
                // Another person has that username, so it is only the name that is displayed.
                (false, Some(address)) => {
                    taken.insert(fold(&address));
                    users.push(NewUser {
                        id,
                        username: address.clone(),
                        email: Some(address),
                        name: Some(username),
                    });
                }
                (false, None) => {}
            }
        }
        report.tally.users += db_import::make_people(db, &users).await?;
        let words = users.into_iter().flat_map(|user| [Some(user.username), user.email]);
        self.people.extend(db_import::people(db, &words.flatten().collect()).await?);
        Ok(())
    }
}
