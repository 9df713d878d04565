//! The planner: runs `prepare` off the async threads, as many at once as there are cores, with a bounded queue before it.

use crate::error::{Error, Kind, Result};
use crate::metrics::PREPARE_SECONDS;
use crate::plan::{self, Catalog, Command, Context, Plan, Situation};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Requests that may wait to be planned; one more is told to come again.
pub const WAITING_MAX: usize = 512;
/// How long a plan may take. It aborts the request and never changes a plan.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// A plan with what it was made from: an answer needs the names.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The configuration.
    pub catalog: Arc<Catalog>,
    /// The people.
    pub situation: Situation,
    /// Who asked.
    pub context: Context,
}

/// Runs `prepare`.
#[derive(Debug)]
pub struct Planner {
    cores: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Planner {
    /// A planner of as many plans at once as the machine has cores.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { cores: Arc::new(Semaphore::new(cores)), waiting: AtomicUsize::new(0) }
    }

    /// Prepares a plan.
    ///
    /// # Errors
    /// Those of [`plan::prepare`]; `busy` when too many wait or a plan takes longer than [`DEADLINE`].
    pub async fn prepare(
        &self,
        catalog: Arc<Catalog>,
        situation: Situation,
        command: &Arc<Command>,
        context: Context,
    ) -> Result<Box<Prepared>> {
        let _place = Place::take(&self.waiting)?;
        let permit = Arc::clone(&self.cores).acquire_owned().await;
        let command = Arc::clone(command);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let begun = Instant::now();
            let plan = plan::prepare(&catalog, &situation, &command, &context);
            metrics::histogram!(PREPARE_SECONDS).record(begun.elapsed());
            let plan = plan?;
            Ok(Box::new(Prepared { plan, catalog, situation, context }))
        });
        match tokio::time::timeout(DEADLINE, task).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(join)) => Err(Error::internal("The plan could not be made.", join)),
            Err(_) => {
                let detail =
                    "The plan of this request takes too long. Look for a scrip with a very large template.";
                Err(Error::new(Kind::Busy, "plan_too_slow", detail))
            }
        }
    }
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

/// A place in the queue before the planner.
struct Place<'p>(&'p AtomicUsize);

impl<'p> Place<'p> {
    fn take(waiting: &'p AtomicUsize) -> Result<Self> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(Error::new(
                Kind::Busy,
                "busy",
                "Too many requests wait to be planned. Send it again in a moment.",
            ));
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
