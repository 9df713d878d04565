//! People: the owner, and the watchers in their roles.

use super::{Cause, Draft, Line};
use crate::error::{Error, Result};
use crate::models::text;
use crate::models::user::{NOBODY, SYSTEM_USER};
use crate::models::{Change, Role, TransactionType, UserId, Watcher};
use crate::plan::command::Difference;
use std::collections::HashSet;

/// People per role of a ticket.
pub(in crate::plan) const WATCHERS_MAX: usize = 200;

impl Draft<'_> {
    pub fn set_owner(&mut self, wanted: Option<&str>, cause: Cause) -> Result<bool> {
        let new = wanted.map(|word| self.owner_of(word)).transpose()?.flatten();
        let old = self.ticket.owner;
        if new == old {
            return Ok(false);
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line::set("Owner", &self.username(old), &self.username(new));
        self.push(TransactionType::Set, Change::Owner { old, new }, line, cause);
        Ok(true)
    }

    /// Returns the agent of a username or address; `None` for `Nobody`.
    pub fn owner_of(&self, word: &str) -> Result<Option<UserId>> {
        let word = &*text::typed(word);
        if word.eq_ignore_ascii_case(NOBODY) {
            return Ok(None);
        }
        let agent = self.catalog.agent(word).filter(|agent| agent.privileged && !agent.disabled);
        agent.map(|agent| Some(agent.id)).ok_or_else(|| {
            let message = if self.situation.people.find(word).is_some() || self.catalog.agent(word).is_some()
            {
                format!("{word} cannot own tickets: only privileged users who are not disabled can")
            } else {
                let agents = self.catalog.agents.iter().filter(|agent| agent.privileged && !agent.disabled);
                format!(
                    "there is no user \"{word}\"; these can own tickets: {}",
                    text::list(agents.map(|a| a.username.as_str()))
                )
            };
            Error::invalid_field("owner", message)
        })
    }

    pub fn add_watcher(&mut self, role: Role, word: &str, cause: Cause) -> Result<bool> {
        let watcher = self.watcher(role, word, cause)?;
        let watchers = self.ticket.watchers(role);
        if watchers.iter().any(|there| there.is_same_person(&watcher)) {
            return Ok(false);
        }
        if watchers.len() >= WATCHERS_MAX {
            let message = format!("already has {WATCHERS_MAX} people, which is the limit");
            return Err(Error::invalid_field(role_field(role), message));
        }
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line {
            field: Some(role.rt_name().to_owned()),
            new: Some(self.watcher_name(&watcher)),
            ..Line::default()
        };
        self.push(TransactionType::AddWatcher, Change::AddWatcher { role, watcher }, line, cause);
        Ok(true)
    }

    pub fn remove_watcher(&mut self, role: Role, word: &str, cause: Cause) -> Result<bool> {
        let wanted = self.watcher(role, word, cause)?;
        let Some(watcher) =
            self.ticket.watchers(role).iter().find(|there| there.is_same_person(&wanted)).cloned()
        else {
            return Ok(false);
        };
        self.demand("ModifyTicket", self.ticket.queue, cause)?;
        let line = Line {
            field: Some(role.rt_name().to_owned()),
            old: Some(self.watcher_name(&watcher)),
            ..Line::default()
        };
        self.push(TransactionType::DelWatcher, Change::DelWatcher { role, watcher }, line, cause);
        Ok(true)
    }

    /// Returns the first person who would be both added and removed, as the request spells it.
    pub fn contradiction<'d>(&self, role: Role, difference: &'d Difference) -> Option<&'d str> {
        let person = |word: &str| self.person(role, word, Cause::REQUEST).ok();
        let removed: HashSet<Person> = difference.remove.iter().filter_map(|word| person(word)).collect();
        let is_removed = |word: &&String| person(word).is_some_and(|person| removed.contains(&person));
        difference.add.iter().find(is_removed).map(String::as_str)
    }

    /// Returns a watcher for a username or an address. The address of a user stands for the user.
    pub fn watcher(&mut self, role: Role, word: &str, cause: Cause) -> Result<Watcher> {
        let (user, address) = match self.person(role, word, cause)? {
            Person::User(user) => (Some(user), None),
            Person::Address(_) => (None, Some(text::typed(text::address_in(word)).into_owned())),
        };
        Ok(Watcher { id: self.ids.draw(), user, address })
    }

    fn person(&self, role: Role, word: &str, cause: Cause) -> Result<Person> {
        let word = &*text::typed(text::address_in(word));
        // The load did not look up the words of scrips: they can name agents, the ticket's people, and bare addresses.
        let user = self
            .situation
            .people
            .find(word)
            .map(|user| user.id)
            .or_else(|| self.catalog.agent(word).map(|agent| agent.id));
        let message = match user {
            Some(SYSTEM_USER) => format!("{word} is the system user and cannot watch a ticket"),
            Some(user) => return Ok(Person::User(user)),
            None if text::is_address(word) => return Ok(Person::Address(text::fold(word))),
            None if cause.is_request() => {
                format!("\"{word}\" is neither a user nor a mail address (name@example.org)")
            }
            None => format!("there is no user \"{word}\"; a scrip can name an agent or a mail address"),
        };
        Err(Error::invalid_field(role_field(role), message))
    }
}

/// The person that a word names.
#[derive(PartialEq, Eq, Hash)]
enum Person {
    User(UserId),
    /// The folded address of nobody's account.
    Address(String),
}

/// Returns the member of a request's body that holds the people of a role.
pub(in crate::plan) fn role_field(role: Role) -> &'static str {
    match role {
        Role::Requestor => "requestors",
        Role::Cc => "cc",
        Role::AdminCc => "admin_cc",
    }
}
