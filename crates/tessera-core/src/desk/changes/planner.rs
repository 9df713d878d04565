//! Runs `prepare` on the thread of the request, as long as plans are short and one thread of the server stays free. Otherwise, and
//! for a while after a long plan, plans run on blocking threads, as many at a time as there are cores, behind a bounded queue.

use crate::error::{Code, Error, Result};
use crate::metrics::PREPARE_SECONDS;
use crate::plan::{self, Catalog, Command, Context, Names, Plan, Situation};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The maximum number of requests that wait to be planned; further ones are rejected with `busy`.
pub const WAITING_MAX: usize = 512;
/// The time limit of a plan. Exceeding it fails the request; it never changes a plan.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The duration above which a plan may delay the requests that share its thread, so that the next plans run on blocking threads.
const SHORT: Duration = Duration::from_millis(20);
/// The time for which they do. In each such period, templates written to be slow can occupy at most [`inline_max`] threads of the
/// server, once.
const OFFLOAD_FOR: Duration = Duration::from_secs(10);

/// A plan with its inputs, which responses need for names.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The configuration.
    pub catalog: Arc<Catalog>,
    /// The situation, with the people.
    pub situation: Situation,
    /// The context, with the caller.
    pub context: Context,
}

impl Prepared {
    /// Returns the names behind the ids of the plan.
    pub fn names(&self) -> Names<'_> {
        Names { catalog: &self.catalog, people: &self.situation.people, actor: Some(&self.context.actor) }
    }
}

/// Runs `prepare`, and limits how many plans run at a time.
#[derive(Debug)]
pub struct Planner {
    cores: Arc<Semaphore>,
    /// Permits for plans on the threads of their requests.
    inline: Semaphore,
    waiting: AtomicUsize,
    /// The time until which all plans run on blocking threads.
    offload_until: Mutex<Option<Instant>>,
}

impl Planner {
    /// Creates a planner that runs as many plans on blocking threads as the machine has cores.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            inline: Semaphore::new(inline_max()),
            waiting: AtomicUsize::new(0),
            offload_until: Mutex::new(None),
        }
    }

    /// Prepares a plan.
    ///
    /// # Errors
    /// Those of [`plan::prepare`]; `busy` if more than [`WAITING_MAX`] requests wait; `plan_too_slow` if the plan takes longer than
    /// [`DEADLINE`].
    pub async fn run(
        &self,
        catalog: Arc<Catalog>,
        situation: Situation,
        command: &Arc<Command>,
        context: Context,
    ) -> Result<Box<Prepared>> {
        let (prepared, took) = match self.inline_permit(Instant::now()) {
            Some(_permit) => timed(catalog, situation, command, context),
            None => self.offload(catalog, situation, Arc::clone(command), context).await?,
        };
        self.record(took, Instant::now());
        if took > DEADLINE { Err(too_slow()) } else { prepared }
    }

    /// Returns a permit to run a plan on the thread of its request, unless it must run on a blocking thread.
    fn inline_permit(&self, now: Instant) -> Option<SemaphorePermit<'_>> {
        if self.is_offloading(now) { None } else { self.inline.try_acquire().ok() }
    }

    /// Runs a plan on a blocking thread.
    async fn offload(
        &self,
        catalog: Arc<Catalog>,
        situation: Situation,
        command: Arc<Command>,
        context: Context,
    ) -> Result<Timed> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let permit = Arc::clone(&self.cores).acquire_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            timed(catalog, situation, &command, context)
        });
        match tokio::time::timeout(DEADLINE, task).await {
            Ok(Ok(timed)) => Ok(timed),
            Ok(Err(join)) => Err(Error::internal("The plan could not be prepared.", join)),
            Err(_) => Ok((Err(too_slow()), DEADLINE)),
        }
    }

    /// Records the duration of a plan; after a long one, the next plans run on blocking threads.
    fn record(&self, took: Duration, now: Instant) {
        if took > SHORT {
            *self.offload_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + OFFLOAD_FOR);
        }
    }

    /// True while all plans run on blocking threads.
    fn is_offloading(&self, now: Instant) -> bool {
        let until = *self.offload_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }
}

/// Returns the number of plans that may run on the threads of the server at a time: all threads but one, and at least one. The
/// duration of a plan is known only when it is finished, so without this limit, long plans could occupy all threads.
fn inline_max() -> usize {
    let threads = Handle::try_current().map_or(1, |server| server.metrics().num_workers());
    threads.saturating_sub(1).max(1)
}

/// The result of a plan, and its duration.
type Timed = (Result<Box<Prepared>>, Duration);

fn timed(catalog: Arc<Catalog>, situation: Situation, command: &Command, context: Context) -> Timed {
    let started = Instant::now();
    let prepared = plan::prepare(&catalog, &situation, command, &context)
        .map(|plan| Box::new(Prepared { plan, catalog, situation, context }));
    let took = started.elapsed();
    metrics::histogram!(PREPARE_SECONDS).record(took);
    (prepared, took)
}

fn too_slow() -> Error {
    let detail = "The plan of this request took too long. Look for a scrip with a very large template.";
    Error::new(Code::PlanTooSlow, detail)
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

/// A request that is in the queue of the planner or being planned on a blocking thread.
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn enter(waiting: &'p AtomicUsize) -> Result<Self> {
        let entered = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(Error::new(
                Code::Busy,
                "Too many requests are waiting to be planned. Retry the request in a moment.",
            ));
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_plan_moves_the_next_ones_to_blocking_threads_for_a_while() {
        let (planner, now) = (Planner::new(), Instant::now());
        planner.record(SHORT, now);
        assert!(!planner.is_offloading(now));

        planner.record(SHORT * 2, now);
        assert!(planner.is_offloading(now));
        planner.record(SHORT, now);
        assert!(
            planner.is_offloading(now + OFFLOAD_FOR - Duration::from_nanos(1)),
            "a short plan does not end it"
        );
        assert!(!planner.is_offloading(now + OFFLOAD_FOR));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn plans_that_start_together_leave_one_thread_free() {
        let (planner, now) = (Planner::new(), Instant::now());
        let (first, second) = (planner.inline_permit(now), planner.inline_permit(now));
        assert!(first.is_some() && second.is_some());
        assert!(planner.inline_permit(now).is_none(), "the third thread stays free");
        drop(first);
        assert!(planner.inline_permit(now).is_some());

        drop(second);
        planner.record(SHORT * 2, now);
        assert!(planner.inline_permit(now).is_none(), "after a long plan, all run on blocking threads");
    }
}
