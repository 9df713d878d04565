//! The actions of operators on deliveries and endpoints.

use super::{Caller, Tessera, clock};
use crate::db::deliveries::{self, Order};
use crate::error::Result;
use crate::models::DeliveryId;

impl Tessera {
    /// Holds a delivery until it is released. An attempt in progress is completed.
    ///
    /// # Errors
    /// `not_found`; `delivery_finished`; those of the database.
    pub async fn hold_delivery(&self, caller: &Caller, delivery: DeliveryId) -> Result<()> {
        deliveries::hold(&self.pools.write, delivery, order(caller)).await
    }

    /// Releases a delivery, which becomes due immediately, even if the breaker of its endpoint is open.
    ///
    /// # Errors
    /// `not_found`; `delivery_finished`; `endpoint_held`; those of the database.
    pub async fn release_delivery(&self, caller: &Caller, delivery: DeliveryId) -> Result<()> {
        deliveries::release(&self.pools.write, delivery, order(caller)).await?;
        self.wakeup.wake();
        Ok(())
    }

    /// Cancels a delivery. An attempt in progress may still succeed; the delivery is then recorded as delivered.
    ///
    /// # Errors
    /// `not_found`; `delivery_finished`; those of the database.
    pub async fn cancel_delivery(&self, caller: &Caller, delivery: DeliveryId) -> Result<()> {
        deliveries::cancel(&self.pools.write, delivery, order(caller)).await
    }

    /// Sends a finished delivery again, unchanged, to all of its recipients.
    ///
    /// # Errors
    /// `not_found`; `delivery_unfinished`; `payload_gone`; those of the database.
    pub async fn resend_delivery(&self, caller: &Caller, delivery: DeliveryId) -> Result<()> {
        deliveries::resend(&self.pools.write, delivery, order(caller)).await?;
        self.wakeup.wake();
        Ok(())
    }

    /// Holds all deliveries to an endpoint until the endpoint is released.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn hold_endpoint(&self, caller: &Caller, endpoint: &str) -> Result<()> {
        deliveries::hold_endpoint(&self.pools.write, endpoint, order(caller)).await
    }

    /// Releases an endpoint and closes its breaker.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn release_endpoint(&self, caller: &Caller, endpoint: &str) -> Result<()> {
        deliveries::release_endpoint(&self.pools.write, endpoint, order(caller)).await?;
        self.wakeup.wake();
        Ok(())
    }
}

fn order(caller: &Caller) -> Order {
    Order { actor: caller.user.id, ids: clock::ids() }
}
