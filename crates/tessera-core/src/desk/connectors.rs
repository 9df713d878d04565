//! Connectors: let in by their token, handed what is due, and heard about what came of it.

use super::{Caller, Tessera, clock};
use crate::db::connectors;
use crate::db::deliveries::{self, Holder, Room};
use crate::delivery::connector::{self, Handed, Receipt, Told};
use crate::delivery::settle::LEASE;
use crate::delivery::worker::poll;
use crate::error::{Code, Error, Result};
use crate::models::secret::Secret;
use crate::models::text::{list, quote};
use crate::models::{Connector, DeliveryId, DeliveryKind, User};
use crate::plan::Access;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What tokens of connectors begin with, so that scanners for leaked secrets know them.
pub const TOKEN_PREFIX: &str = "tsc_";
/// The longest that a lease waits for something that is due.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Connectors that look at the queue at a time: a bell wakes all that wait, and requests need the database too.
pub(super) const LEASING_MAX: usize = 4;

/// The ticket of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// What people call it.
    pub number: i64,
    /// Where people see it.
    pub url: String,
}

impl Tessera {
    /// The connector that has this token.
    ///
    /// # Errors
    /// `unauthenticated`; those of the database.
    pub async fn connector(&self, token: &str) -> Result<Connector> {
        let unknown = || {
            let detail =
                "This token opens nothing: it is wrong, or was revoked. `tessera connector add` makes one.";
            Error::new(Code::Unauthenticated, detail)
        };
        // Whatever else a client sends as a token is not looked up.
        if !token.starts_with(TOKEN_PREFIX) {
            return Err(unknown());
        }
        connectors::by_token(&self.pools.write, &token_hash(token)).await?.ok_or_else(unknown)
    }

    /// As whom a connector reads and changes tickets.
    ///
    /// # Errors
    /// `403 forbidden` when it may not, or its user may not any more.
    pub async fn caller_of(&self, connector: &Connector) -> Result<Caller> {
        let forbidden = |detail: String| Error::new(Code::Forbidden, detail);
        let name = quote(&connector.name);
        let id = connector.user.ok_or_else(|| {
            forbidden(format!("The connector {name} delivers, and may do nothing with tickets. Add one with `tessera connector add NAME --as USER`."))
        })?;
        let agents = &self.fresh_catalog().await?.agents;
        let user =
            agents.get(id).filter(|user| !user.disabled).map(|user| User::clone(user)).ok_or_else(|| {
                forbidden(format!(
                    "The user of the connector {name} is disabled, or not privileged any more."
                ))
            })?;
        Ok(Caller { user, channel: "grpc", access: Access::All, depth: 0 })
    }

    /// Leases what is due for a connector, and waits for something when nothing is: for `wait`, at most [`WAIT_MAX`], and until
    /// `stop` is cancelled.
    ///
    /// # Errors
    /// `403 forbidden` when the connector is not there for a kind that it asks for; those of the database.
    pub async fn lease(
        &self,
        connector: &Connector,
        room: &Room,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Vec<Handed>> {
        if let Some((kind, _)) = room.kinds.iter().find(|(kind, _)| !connector.kinds.contains(kind)) {
            return Err(not_bound(connector, kind.as_str()));
        }
        let (pool, by) = (&self.pools.write, Holder::Connector(connector.id));
        let (mut wakeup, until) = (self.wakeup.listen(), Instant::now() + wait.min(WAIT_MAX));
        loop {
            let leased = {
                // Fails only when it is closed, which it never is.
                let _lock = self.leasing.acquire().await;
                deliveries::lease(pool, by, room, LEASE).await?
            };
            let handed = connector::hand_over(pool, leased, &mut clock::ids()).await?;
            let again = Instant::now() + poll(clock::seed());
            if !handed.is_empty() || Instant::now() >= until || stop.is_cancelled() {
                return Ok(handed);
            }
            tokio::select! {
                () = wakeup.woken() => {}
                () = sleep_until(again.min(until)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// The tickets of what was handed over, by id.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tickets_of(&self, handed: &[Handed]) -> Result<BTreeMap<Uuid, TicketKey>> {
        let ids: Vec<Uuid> = handed.iter().map(|one| one.leased.delivery.ticket.0).collect();
        let numbers = connectors::ticket_numbers(&self.pools.read, &ids).await?;
        let installation = &self.catalog().installation;
        let key = |(id, number)| (id, TicketKey { number, url: installation.ticket_url(number) });
        Ok(numbers.into_iter().map(key).collect())
    }

    /// Puts off the end of leases; answers those that are lost.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn extend(
        &self,
        connector: &Connector,
        held: &[(DeliveryId, i64)],
    ) -> Result<Vec<(DeliveryId, i64)>> {
        let by = Holder::Connector(connector.id);
        let kept = deliveries::extend(&self.pools.write, by, held, LEASE).await?;
        Ok(held.iter().filter(|one| !kept.contains(one)).copied().collect())
    }

    /// Takes what a connector says of its leases; answers one receipt each, in their order. Safe to call again.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn settle(&self, connector: &Connector, told: Vec<Told>) -> Result<Vec<Receipt>> {
        let by = Holder::Connector(connector.id);
        let (receipts, has_freed) = connector::take(&self.pools.write, by, told, &mut clock::ids()).await?;
        if has_freed {
            self.wakeup.wake();
        }
        Ok(receipts)
    }
}

/// SHA-256 of a token: all that is kept of it.
pub(super) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A new token.
pub(super) fn new_token() -> Result<Secret> {
    clock::token(TOKEN_PREFIX)
        .map_err(|error| Error::internal("A token cannot be made: this machine gives no randomness.", error))
}

/// A kind that a connector is not there for.
pub(super) fn not_bound(connector: &Connector, kind: &str) -> Error {
    let detail = format!(
        "The connector {} is not bound to {}, but to {}. Add one with `tessera connector add NAME --kind {kind}`.",
        quote(&connector.name),
        quote(kind),
        list(connector.kinds.iter().map(DeliveryKind::as_str))
    );
    Error::new(Code::Forbidden, detail)
}

#[cfg(test)]
#[path = "connectors_tests.rs"]
mod tests;
