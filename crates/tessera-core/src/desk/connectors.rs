//! Connectors: authenticated by their token, they lease due deliveries and report the results.

use super::{Caller, Tessera, clock};
use crate::db::connectors;
pub use crate::db::deliveries::Room;
use crate::db::deliveries::{self, Holder};
use crate::delivery::connector::{self, Handed, Receipt, Told, Unsent};
use crate::delivery::settle::LEASE;
use crate::delivery::worker::poll;
use crate::error::{Code, Error, Result};
use crate::models::secret::Secret;
use crate::models::text::{list, quote};
use crate::models::{Connector, DeliveryId, DeliveryKind, User};
use crate::plan::Access;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The prefix of connector tokens, by which scanners for leaked secrets recognize them.
pub const TOKEN_PREFIX: &str = "tsc_";
/// The longest time that a lease waits for due deliveries.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Returns the number of connectors that query the queue at the same time, of a number of connections for writes. A wakeup wakes all
/// that wait, and other writes need connections too.
pub(super) fn leasing_max(writes: usize) -> usize {
    (writes / 2).max(1)
}

/// Returns the number of tokens that are looked up at the same time. Anybody who can connect may send tokens.
pub(super) fn lookups_max(writes: usize) -> usize {
    (writes / 3).max(1)
}

/// The ticket of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// The ticket number.
    pub number: i64,
    /// The URL of the ticket's page.
    pub url: String,
}

impl Tessera {
    /// Returns the connector with this token.
    ///
    /// # Errors
    /// `unauthenticated`; those of the database.
    pub async fn connector(&self, token: &str) -> Result<Connector> {
        let unknown = || {
            let detail =
                "The token is invalid or has been revoked. `tessera connector add` creates a new one.";
            Error::new(Code::Unauthenticated, detail)
        };
        // Other tokens are rejected without a query.
        if !token.starts_with(TOKEN_PREFIX) {
            return Err(unknown());
        }
        // Fails only if the semaphore is closed, which never happens.
        let _lookup = self.lookups.acquire().await;
        connectors::by_token(&self.pools.write, &token_hash(token)).await?.ok_or_else(unknown)
    }

    /// Returns the caller as whom a connector reads and changes tickets.
    ///
    /// # Errors
    /// `403 forbidden` if the connector is not bound to a user, or its user is disabled or no longer privileged.
    pub async fn caller_of(&self, connector: &Connector) -> Result<Caller> {
        let forbidden = |detail: String| Error::new(Code::Forbidden, detail);
        let name = quote(&connector.name);
        let id = connector.user.ok_or_else(|| {
            forbidden(format!("The connector {name} is not bound to a user, so it cannot read or change tickets. `tessera connector add NAME --as USER` creates one that is."))
        })?;
        let agents = &self.fresh_catalog().await?.agents;
        let user =
            agents.get(id).filter(|user| !user.disabled).map(|user| User::clone(user)).ok_or_else(|| {
                forbidden(format!(
                    "The user of the connector {name} is disabled or no longer privileged. Enable the user, or make the user privileged again."
                ))
            })?;
        Ok(Caller { user, channel: "grpc", access: Access::All, depth: 0 })
    }

    /// Leases due deliveries for a connector. If none is due, waits for one: for `wait`, at most [`WAIT_MAX`], and no longer than
    /// until `stop` is cancelled. The caller keeps the second value until the connector has the leases; if it is dropped before, or
    /// this call is, they are given back.
    ///
    /// # Errors
    /// `403 forbidden` if the connector is not bound to one of the kinds in `room`; those of the database.
    pub async fn lease(
        &self,
        connector: &Connector,
        room: &Room,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<(Vec<Handed>, Unsent)> {
        if let Some((kind, _)) = room.kinds.iter().find(|(kind, _)| !connector.kinds.contains(kind)) {
            return Err(not_bound(connector, kind.as_str()));
        }
        let (by, room) = (Holder::Connector(connector.id), Arc::new(room.clone()));
        let (mut wakeup, until) = (self.wakeup.listen(), Instant::now() + wait.min(WAIT_MAX));
        loop {
            // Fails only if the semaphore is closed, which never happens.
            let slot = Arc::clone(&self.leasing).acquire_owned().await;
            let (pool, bell, room) = (self.pools.write.clone(), Arc::clone(&self.wakeup), Arc::clone(&room));
            let leasing = tokio::spawn(async move {
                let _slot = slot;
                connector::lease(pool, bell, by, &room, clock::ids()).await
            });
            let (handed, unsent) =
                leasing.await.map_err(|error| Error::internal("An internal error occurred.", error))??;
            let again = Instant::now() + poll(clock::seed());
            if !handed.is_empty() || Instant::now() >= until || stop.is_cancelled() {
                return Ok((handed, unsent));
            }
            tokio::select! {
                () = wakeup.woken() => {}
                () = sleep_until(again.min(until)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Returns the tickets of leased deliveries, by ticket id.
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

    /// Extends leases; returns those that are lost.
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

    /// Records the results of a connector's leases; returns one receipt for each, in the same order. Idempotent.
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

/// Returns the SHA-256 of a token, the only part of it that is stored.
pub(super) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

pub(super) fn new_token() -> Result<Secret> {
    clock::token(TOKEN_PREFIX).map_err(|error| {
        Error::internal("No token can be created, because /dev/urandom cannot be read.", error)
    })
}

/// Returns the error for a kind that the connector is not bound to.
pub(super) fn not_bound(connector: &Connector, kind: &str) -> Error {
    let detail = format!(
        "The token is not bound to the kind {}. `tessera connector add NAME --kind {kind}` creates one that is. The kinds of the connector {}: {}.",
        quote(kind),
        quote(&connector.name),
        list(connector.kinds.iter().map(DeliveryKind::as_str))
    );
    Error::new(Code::Forbidden, detail)
}

#[cfg(test)]
mod tests;
