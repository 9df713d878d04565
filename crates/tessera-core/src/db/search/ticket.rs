//! Reads one ticket.

use crate::db::error;
use crate::db::tickets::{self, Load, TicketRef};
use crate::error::{Error, Result};
use crate::models::{Ticket, UserId};
use crate::plan::{People, Target};
use sqlx::PgPool;

/// Returns a ticket and the people it names.
///
/// # Errors
/// `not_found`; those of the database.
pub async fn get(pool: &PgPool, ticket: TicketRef, actor: UserId) -> Result<(Ticket, People)> {
    let mut db = pool.acquire().await.map_err(error)?;
    let loaded =
        tickets::load(&mut db, ticket, Load { actor, key: None, people: &[], messages: &[] }).await?;
    match loaded.situation.ticket {
        Target::Existing(ticket) => Ok((*ticket, loaded.situation.people)),
        Target::New { .. } => Err(Error::not_found("ticket", ticket)),
    }
}
