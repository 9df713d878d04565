//! Settlement of attempts by workers and connectors: the retry schedule determines the next attempt, and the result is recorded
//! once.

use super::{Attempt, Leased, Outcome, retry};
use crate::db::deliveries::{self, BreakerChange, Settlement};
use crate::error::{Kind, Result};
use crate::metrics::{DELIVERY_ATTEMPT_SECONDS, DELIVERY_ATTEMPTS};
use crate::models::delivery::HoldReason;
use crate::models::{DeliveryId, Ids};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

/// The duration of a lease that is not extended.
pub const LEASE: Duration = Duration::from_secs(30);

/// An attempt that has ended.
pub type Ended = (Arc<Leased>, Attempt);

/// Returns one attempt per delivery, and the others for the next batch: a delivery whose lease expired may have two attempts.
pub fn without_duplicates(ended: Vec<Ended>) -> (Vec<Ended>, Vec<Ended>) {
    let mut seen = BTreeSet::new();
    ended.into_iter().partition(|(leased, _)| seen.insert(leased.delivery.id))
}

/// The result of settling a batch.
#[derive(Debug, Default)]
pub struct Settled {
    /// True if a breaker closed, so that deliveries to its endpoint may be due.
    pub has_closed: bool,
    /// Deliveries whose attempts cannot be recorded, and which are held until an operator releases or cancels them.
    pub held: Vec<DeliveryId>,
}

/// Returns the settlement of an attempt, with the delay before a retry from the schedule and the receiver's request.
pub fn settlement(leased: Arc<Leased>, attempt: Attempt, ids: &mut Ids) -> Settlement {
    let again = match attempt.outcome {
        Outcome::Retry => {
            retry::next(&leased.delivery.payload.kind(), leased.in_schedule, leased.delivery.id)
                .map(|scheduled| retry::wait(scheduled, attempt.wait))
        }
        Outcome::Delivered | Outcome::Permanent => None,
    };
    Settlement { leased, attempt, again, transaction: ids.draw() }
}

/// Settles a batch without duplicate deliveries. If the database rejects the batch, each settlement is tried alone, so that one
/// that cannot be recorded does not block the others.
///
/// # Errors
/// `busy` and `database_unavailable`. It is safe to repeat the call: an attempt is settled only once.
pub async fn settle(pool: &PgPool, batch: &[Settlement]) -> Result<Settled> {
    let error = match deliveries::settle(pool, batch).await {
        Ok(changes) => {
            changes.iter().for_each(log);
            return Ok(Settled { has_closed: changes.iter().any(|one| !one.is_open), held: Vec::new() });
        }
        Err(error) if matches!(error.kind(), Kind::Busy | Kind::Unavailable) => return Err(error),
        Err(error) => error,
    };
    let mut settled = Settled::default();
    if let [one] = batch {
        let delivery = one.leased.delivery.id;
        tracing::error!(error = &error as &dyn StdError, %delivery, "an attempt cannot be recorded; its delivery is held");
        if let Err(error) =
            deliveries::set_aside(pool, &[(delivery, one.leased.token, HoldReason::Unrecorded)]).await
        {
            tracing::error!(error = &error as &dyn StdError, %delivery, "the delivery cannot be held either and will be attempted again");
        }
        settled.held.push(delivery);
        return Ok(settled);
    }
    for one in batch {
        let alone = Box::pin(settle(pool, std::slice::from_ref(one))).await?;
        settled.has_closed |= alone.has_closed;
        settled.held.extend(alone.held);
    }
    Ok(settled)
}

/// Logs that a breaker opened or closed.
fn log(change: &BreakerChange) {
    let endpoint = &change.endpoint;
    if change.is_open {
        let (failures, first) = (deliveries::OPENS_AFTER, deliveries::PROBE_FIRST.as_secs());
        tracing::warn!(%endpoint, "an endpoint failed {failures} times in a row; its deliveries are held, and the next one is tried in {first} s");
    } else {
        tracing::info!(%endpoint, "an endpoint works again; its deliveries continue");
    }
}

/// Counts an attempt in the metrics; does nothing without a recorder.
pub fn count(leased: &Leased, attempt: &Attempt) {
    let kind = leased.delivery.payload.kind().to_string();
    metrics::counter!(DELIVERY_ATTEMPTS, "kind" => kind.clone(), "outcome" => attempt.outcome.as_str())
        .increment(1);
    metrics::histogram!(DELIVERY_ATTEMPT_SECONDS, "kind" => kind).record(attempt.duration);
}
