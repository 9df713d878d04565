//! What becomes of an attempt, whoever made it: the schedule says when again, and the database records it, once.

use super::{Attempt, Leased, Outcome, retry};
use crate::db::deliveries::{self, Settlement, Turned};
use crate::error::{Kind, Result};
use crate::metrics::{DELIVERY_ATTEMPT_SECONDS, DELIVERY_ATTEMPTS};
use crate::models::{DeliveryId, Ids};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

/// How long a lease holds when whoever has it dies.
pub const LEASE: Duration = Duration::from_secs(30);

/// An attempt that came to an end.
pub type Ended = (Arc<Leased>, Attempt);

/// One attempt of each delivery, and what has to wait for the next batch: a delivery whose lease ran out may have two.
pub fn without_doubles(ended: Vec<Ended>) -> (Vec<Ended>, Vec<Ended>) {
    let mut seen = BTreeSet::new();
    ended.into_iter().partition(|(leased, _)| seen.insert(leased.delivery.id))
}

/// What came of settling.
#[derive(Debug, Default)]
pub struct Settled {
    /// Whether a breaker closed: what was held for its endpoint may go.
    pub has_closed: bool,
    /// What cannot be recorded, and is held until somebody looks.
    pub held: Vec<DeliveryId>,
}

/// What an attempt comes to.
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

/// Settles a batch, each delivery of which stands in it once. When the database refuses it, each is tried alone, so that one
/// that cannot be recorded does not hold up the others.
///
/// # Errors
/// The database does not answer. The same call may be made again: an attempt is settled once.
pub async fn settle(pool: &PgPool, batch: &[Settlement]) -> Result<Settled> {
    let error = match deliveries::settle(pool, batch).await {
        Ok(turned) => {
            turned.iter().for_each(tell);
            return Ok(Settled { has_closed: turned.iter().any(|one| !one.is_open), held: Vec::new() });
        }
        Err(error) if matches!(error.kind(), Kind::Busy | Kind::Unavailable) => return Err(error),
        Err(error) => error,
    };
    let mut settled = Settled::default();
    if let [one] = batch {
        let delivery = one.leased.delivery.id;
        tracing::error!(error = &error as &dyn StdError, %delivery, "an attempt cannot be recorded; its delivery is held");
        if let Err(error) = deliveries::hold_unrecorded(pool, delivery, one.leased.token).await {
            tracing::error!(error = &error as &dyn StdError, %delivery, "it cannot be held either; it is attempted again");
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

/// Tells the operator of a breaker that opened or closed.
fn tell(turned: &Turned) {
    let endpoint = &turned.endpoint;
    if turned.is_open {
        let (failures, first) = (deliveries::OPENS_AFTER, deliveries::PROBE_FIRST.as_secs());
        tracing::warn!(%endpoint, "an endpoint failed {failures} times in a row; its deliveries are held, and one is tried in {first} s");
    } else {
        tracing::info!(%endpoint, "an endpoint works again; its deliveries go on");
    }
}

/// Counts an attempt, for whoever watches. Costs nothing where nobody does.
pub fn count(leased: &Leased, attempt: &Attempt) {
    let kind = leased.delivery.payload.kind().to_string();
    metrics::counter!(DELIVERY_ATTEMPTS, "kind" => kind.clone(), "outcome" => attempt.outcome.as_str())
        .increment(1);
    metrics::histogram!(DELIVERY_ATTEMPT_SECONDS, "kind" => kind).record(attempt.duration);
}
