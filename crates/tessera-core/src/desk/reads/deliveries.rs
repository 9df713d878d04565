//! Reads of deliveries and of their endpoints.

use super::{DeliveryFilter, TicketRef};
use crate::db::deliveries::{self, DeliveryDetail, DeliverySummary, Endpoint};
use crate::db::tickets;
use crate::desk::{Caller, Tessera};
use crate::error::{Error, Result};
use crate::models::DeliveryId;
use crate::models::page::Page;

/// The default number of hours for which an endpoint shows attempts.
pub const HOURS_DEFAULT: i32 = 24;
/// The maximum number of hours for which an endpoint shows attempts.
pub const HOURS_MAX: i32 = 168;

impl Tessera {
    /// Lists deliveries, newest first.
    ///
    /// # Errors
    /// `malformed_cursor`; those of the database.
    pub async fn deliveries(
        &self,
        _caller: &Caller,
        filter: &DeliveryFilter,
        limit: i64,
        cursor: Option<&str>,
    ) -> Result<Page<DeliverySummary>> {
        // A rare combination of criteria may have to read all deliveries.
        let mut db = self.pools.searches.take().await?;
        let listed = deliveries::page(&mut db, filter, limit, cursor).await;
        db.done(listed)
    }

    /// Lists the deliveries of a ticket, newest first.
    ///
    /// # Errors
    /// `not_found`; `malformed_cursor`; those of the database.
    pub async fn deliveries_of(
        &self,
        caller: &Caller,
        ticket: TicketRef,
        limit: i64,
        cursor: Option<&str>,
    ) -> Result<Page<DeliverySummary>> {
        let ticket = Some(tickets::id_of(&self.pools.read, ticket).await?);
        self.deliveries(caller, &DeliveryFilter { ticket, ..DeliveryFilter::default() }, limit, cursor).await
    }

    /// Reads a delivery with its attempts and the actions of operators.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn delivery(&self, _caller: &Caller, delivery: DeliveryId) -> Result<DeliveryDetail> {
        deliveries::whole(&self.pools.read, delivery).await
    }

    /// Lists the endpoints that had attempts in the last `hours` (1 to [`HOURS_MAX`], by default [`HOURS_DEFAULT`]), that have
    /// unfinished deliveries, or that are held or failing; the worst first.
    ///
    /// # Errors
    /// `invalid` if `hours` is out of range; those of the database.
    pub async fn endpoints(&self, _caller: &Caller, hours: Option<i32>) -> Result<Vec<Endpoint>> {
        let hours = hours.unwrap_or(HOURS_DEFAULT);
        if !(1..=HOURS_MAX).contains(&hours) {
            let message = format!("is {hours}; it must be 1 to {HOURS_MAX}");
            return Err(Error::invalid_field("hours", message));
        }
        self.endpoints_of(hours, None).await
    }

    /// Reads one endpoint.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn endpoint(&self, _caller: &Caller, endpoint: &str) -> Result<Endpoint> {
        let found = self.endpoints_of(HOURS_DEFAULT, Some(endpoint)).await?.pop();
        found.ok_or_else(|| Error::not_found("endpoint", endpoint))
    }

    /// Reads endpoints; every attempt of these hours is read.
    async fn endpoints_of(&self, hours: i32, only: Option<&str>) -> Result<Vec<Endpoint>> {
        let mut db = self.pools.searches.take().await?;
        let found = deliveries::endpoints(&mut *db, hours, only).await;
        db.done(found)
    }
}
