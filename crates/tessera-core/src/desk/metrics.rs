//! Counts changes by outcome and scrips by verdict, and reads the gauges for a scrape.

use super::Tessera;
use crate::db::ops::gauges::{self, Queue};
use crate::error::{Kind, Result};
use crate::metrics::{CHANGES, SCRIPS};
use crate::plan::Catalog;
use crate::scrip::evaluation::{Evaluation, Verdict};
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;

/// Counts a change by its outcome, and returns the result unchanged. `word` is the label of a successful outcome.
pub(super) fn count_change<T>(
    kind: &'static str,
    result: Result<T>,
    word: fn(&T) -> &'static str,
) -> Result<T> {
    let outcome = match &result {
        Ok(done) => word(done),
        Err(error) => match error.kind() {
            Kind::Busy => "busy",
            Kind::Unavailable => "unavailable",
            Kind::Internal => "failed",
            _ => "refused",
        },
    };
    ::metrics::counter!(CHANGES, "kind" => kind, "outcome" => outcome).increment(1);
    result
}

/// Counts the scrips of a committed change. A counter is looked up once per verdict, not once per scrip, of which there may be a
/// thousand.
pub(super) fn count_scrips(evaluations: &[Evaluation]) {
    let counters: [(Verdict, fn() -> ::metrics::Counter); 7] = [
        (Verdict::NotApplicable, || ::metrics::counter!(SCRIPS, "verdict" => "not_applicable")),
        (Verdict::Fired, || ::metrics::counter!(SCRIPS, "verdict" => "fired")),
        (Verdict::Declined, || ::metrics::counter!(SCRIPS, "verdict" => "declined")),
        (Verdict::Shadow, || ::metrics::counter!(SCRIPS, "verdict" => "shadow")),
        (Verdict::Refused, || ::metrics::counter!(SCRIPS, "verdict" => "refused")),
        (Verdict::Failed, || ::metrics::counter!(SCRIPS, "verdict" => "failed")),
        (Verdict::Stopped, || ::metrics::counter!(SCRIPS, "verdict" => "stopped")),
    ];
    for (verdict, counter) in counters {
        let found = evaluations.iter().filter(|one| one.verdict == verdict).count();
        if found > 0 {
            counter().increment(found as u64);
        }
    }
}

/// The state of a desk at the time of a scrape.
#[derive(Debug)]
pub struct Gauges {
    /// Each connection pool with the number of its idle and used connections.
    pub pools: [(&'static str, usize, usize); 6],
    /// The configuration cached in this process.
    pub catalog: Arc<Catalog>,
    /// The queue of deliveries; `None` if the database did not respond in time.
    pub queue: Option<Queue>,
}

impl Tessera {
    /// Reads the gauges, waiting at most `patience` for the database.
    pub async fn gauges(&self, patience: Duration) -> Gauges {
        let of_pool = |pool: &PgPool| {
            let idle = pool.num_idle();
            (idle, (pool.size() as usize).saturating_sub(idle))
        };
        // Before the query below takes a connection itself.
        let pools = [
            ("write", of_pool(&self.pools.write)),
            ("read", of_pool(&self.pools.read)),
            ("reserved", of_pool(&self.pools.reserved)),
            ("changes", self.pools.changes.count()),
            ("previews", self.pools.previews.count()),
            ("searches", self.pools.searches.count()),
        ];
        let catalog = self.catalog();
        let kinds = catalog.delivery_kinds();
        let queue = tokio::time::timeout(patience, gauges::queue(&self.pools.read, &kinds)).await;
        let queue = queue.ok().and_then(Result::ok);
        Gauges { pools: pools.map(|(name, (idle, used))| (name, idle, used)), catalog, queue }
    }
}
