//! Users: people who can own tickets, and other people with a username.

use super::mentions::Thing;
use super::{Document, Edit, limit};
use crate::db::configuration::{Which, users};
use crate::error::Result;
use crate::models::UserId;
use crate::models::text::{NAME_MAX, fold, is_address, line_fault, name_fault, quote, unseen_fault};
use crate::models::user::{ADMIN_USER, NOBODY, SYSTEM_USER};
use crate::plan::catalog::AGENTS_MAX;
use crate::plan::documents::{Stored, UserDocument};
use sqlx::PgConnection;
use uuid::Uuid;

impl Document for UserDocument {
    const WHAT: &'static str = "user";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        users::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<Self>>> {
        users::read(db, which).await
    }

    async fn write(&self, change: &mut Edit<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        change.fault_if("username", name_fault(&self.username));
        if fold(&self.username) == fold(NOBODY) {
            change.fault(
                "username",
                format!("{NOBODY} is reserved for tickets without an owner; choose another name"),
            );
        }
        let email = self.email.as_deref().filter(|email| !is_address(email));
        change.fault_if("email", email.map(|email| format!("{} is not a mail address", quote(email))));
        let is_mute = self.email.is_none() && is_address(&self.username);
        let mute = "is a mail address; set email to an address as well, so that the user can receive mail";
        change.fault_if("username", is_mute.then(|| mute.to_owned()));
        let name = self.name.as_deref();
        change.fault_if(
            "name",
            name.and_then(|name| line_fault(name, NAME_MAX).or_else(|| unseen_fault(name))),
        );
        if let Some(before) = before {
            self.check_built_in(change, before);
        }
        change.check()?;
        let was_privileged = before.is_some_and(|before| before.document.privileged);
        if self.privileged && !was_privileged {
            limit("privileged users", change.catalog.agents.len(), AGENTS_MAX)?;
        }
        if let Some(before) = before {
            self.check_use(change, &before.document).await?;
        }
        change.bumps = self.privileged || was_privileged || before.is_some_and(|one| one.id == SYSTEM_USER.0);
        let id = before.map_or_else(|| change.ids.draw(), |before| UserId(before.id));
        let changed_in = if change.bumps { change.version } else { change.version - 1 };
        users::write(&mut change.db, id, self, changed_in).await?;
        Ok(id.0)
    }
}

impl UserDocument {
    /// Protects the administrator and the system user: they cannot be renamed or disabled, nor change their privileges.
    fn check_built_in(&self, change: &mut Edit<'_>, before: &Stored<Self>) {
        let who = match UserId(before.id) {
            SYSTEM_USER => "the system user",
            ADMIN_USER => "the administrator",
            _ => return,
        };
        let old = &before.document;
        if self.username != old.username {
            change.fault("username", format!("{} is {who} and cannot be renamed", old.username));
        }
        if self.disabled {
            change.fault("disabled", format!("{} is {who} and cannot be disabled", old.username));
        }
        if self.privileged != old.privileged {
            let value = old.privileged;
            change.fault("privileged", format!("{} is {who}; privileged must be {value}", old.username));
        }
    }

    async fn check_use(&self, change: &mut Edit<'_>, before: &Self) -> Result<()> {
        let address = |user: &Self| user.email.as_deref().map(fold);
        let goes = self.disabled && !before.disabled;
        let falls = goes || (before.privileged && !self.privileged);
        let is_renamed = fold(&self.username) != fold(&before.username);
        let has_moved = address(self) != address(before);
        let words = |has_no_name: bool, has_no_address: bool| -> Vec<&str> {
            let name = has_no_name.then_some(before.username.as_str());
            name.into_iter().chain(before.email.as_deref().filter(|_| has_no_address)).collect()
        };
        let mut scrips = Vec::new();
        for (thing, words) in [
            (Thing::Owner, words(falls || is_renamed, falls || has_moved)),
            // A person can be named by any address, so the name stays valid when a user gets another address.
            (Thing::Person, words(goes || is_renamed, goes)),
        ] {
            if !words.is_empty() {
                scrips.extend(change.scrips_naming(thing, &words).await?);
            }
        }
        change.scrips_in_use(&format!("the user {}", quote(&before.username)), &scrips)
    }
}
