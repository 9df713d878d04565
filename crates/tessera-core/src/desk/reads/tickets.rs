//! Reads of one ticket, as it is now and as it was, and of its history.

use super::{Recorded, TicketRef};
use crate::db::{history, search};
use crate::desk::{Caller, Tessera};
use crate::error::Result;
use crate::models::page::Page;
use crate::models::{Ticket, User};
use crate::plan::{Catalog, Names, People};
use std::sync::Arc;

/// A ticket, with the names of everything that it refers to.
#[derive(Debug)]
pub struct TicketRead {
    /// The ticket.
    pub ticket: Ticket,
    catalog: Arc<Catalog>,
    people: People,
    actor: User,
}

impl TicketRead {
    /// Returns the names behind the ids of the ticket.
    pub fn names(&self) -> Names<'_> {
        Names { catalog: &self.catalog, people: &self.people, actor: Some(&self.actor) }
    }
}

impl Tessera {
    /// Reads a ticket.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn ticket(&self, caller: &Caller, ticket: TicketRef) -> Result<TicketRead> {
        let (catalog, actor) = (self.fresh_catalog().await?, caller.user.clone());
        let (ticket, people) = search::get(&self.pools.read, ticket, actor.id).await?;
        Ok(TicketRead { ticket, catalog, people, actor })
    }

    /// Reads a ticket as it was after its transaction `seq`, with current names.
    ///
    /// # Errors
    /// `not_found`, also for a transaction before an import; those of the database.
    pub async fn ticket_at(&self, caller: &Caller, ticket: TicketRef, seq: i64) -> Result<TicketRead> {
        let (catalog, actor) = (self.fresh_catalog().await?, caller.user.clone());
        let (ticket, people) = history::at(&self.pools.read, ticket, seq).await?;
        Ok(TicketRead { ticket, catalog, people, actor })
    }

    /// Reads a page of a ticket's history, oldest first.
    ///
    /// # Errors
    /// `not_found`; `malformed_cursor`; those of the database.
    pub async fn history(
        &self,
        _caller: &Caller,
        ticket: TicketRef,
        limit: i64,
        cursor: Option<&str>,
    ) -> Result<Page<Recorded>> {
        history::list(&self.pools.read, ticket, limit, cursor).await
    }
}
