//! The planner: runs `prepare` where the request is, as long as plans are short and a thread of the server is left over.
//! Otherwise, and for a while after a long one, they run off the async threads, as many at once as there are cores, with a
//! bounded queue before them.

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

/// Requests that may wait to be planned; one more is told to come again.
pub const WAITING_MAX: usize = 512;
/// How long a plan may take. It aborts the request and never changes a plan.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// A plan that took longer may hold up the requests that share its thread, so those after it run aside.
const SHORT: Duration = Duration::from_millis(20);
/// For how long they do. Within this time templates written to be slow get, once, at most as many threads as [`here`] says.
const ASIDE_FOR: Duration = Duration::from_secs(10);

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

impl Prepared {
    /// The names of what the plan speaks of.
    pub fn names(&self) -> Names<'_> {
        Names { catalog: &self.catalog, people: &self.situation.people, actor: Some(&self.context.actor) }
    }
}

/// Runs `prepare`.
#[derive(Debug)]
pub struct Planner {
    cores: Arc<Semaphore>,
    /// Places for plans that run where their requests are.
    here: Semaphore,
    waiting: AtomicUsize,
    /// Until when plans run aside.
    aside: Mutex<Option<Instant>>,
}

impl Planner {
    /// A planner of as many plans at once as the machine has cores.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            here: Semaphore::new(here()),
            waiting: AtomicUsize::new(0),
            aside: Mutex::new(None),
        }
    }

    /// Prepares a plan.
    ///
    /// # Errors
    /// Those of [`plan::prepare`]; `busy` when too many wait or a plan takes longer than [`DEADLINE`].
    pub async fn run(
        &self,
        catalog: Arc<Catalog>,
        situation: Situation,
        command: &Arc<Command>,
        context: Context,
    ) -> Result<Box<Prepared>> {
        let (prepared, took) = match self.place_here(Instant::now()) {
            Some(_place) => prepare(catalog, situation, command, context),
            None => self.run_aside(catalog, situation, Arc::clone(command), context).await?,
        };
        self.note(took, Instant::now());
        if took > DEADLINE { Err(too_slow()) } else { prepared }
    }

    /// A place to run a plan where its request is, unless it has to run aside.
    fn place_here(&self, now: Instant) -> Option<SemaphorePermit<'_>> {
        if self.is_aside(now) { None } else { self.here.try_acquire().ok() }
    }

    async fn run_aside(
        &self,
        catalog: Arc<Catalog>,
        situation: Situation,
        command: Arc<Command>,
        context: Context,
    ) -> Result<Timed> {
        let _place = Place::take(&self.waiting)?;
        let permit = Arc::clone(&self.cores).acquire_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            prepare(catalog, situation, &command, context)
        });
        match tokio::time::timeout(DEADLINE, task).await {
            Ok(Ok(timed)) => Ok(timed),
            Ok(Err(join)) => Err(Error::internal("The plan could not be made.", join)),
            Err(_) => Ok((Err(too_slow()), DEADLINE)),
        }
    }

    /// Takes note of how long a plan took.
    fn note(&self, took: Duration, now: Instant) {
        if took > SHORT {
            *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + ASIDE_FOR);
        }
    }

    /// Whether plans run aside.
    fn is_aside(&self, now: Instant) -> bool {
        let until = *self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }
}

/// How many plans may run on the threads of the server at once: one thread remains for everything else, where there is more
/// than one. A plan is known to be long only when it is over, so without this as many long ones as there are threads could
/// begin together.
fn here() -> usize {
    let threads = Handle::try_current().map_or(1, |server| server.metrics().num_workers());
    threads.saturating_sub(1).max(1)
}

/// What became of a plan, and how long it took.
type Timed = (Result<Box<Prepared>>, Duration);

fn prepare(catalog: Arc<Catalog>, situation: Situation, command: &Command, context: Context) -> Timed {
    let begun = Instant::now();
    let prepared = plan::prepare(&catalog, &situation, command, &context)
        .map(|plan| Box::new(Prepared { plan, catalog, situation, context }));
    let took = begun.elapsed();
    metrics::histogram!(PREPARE_SECONDS).record(took);
    (prepared, took)
}

fn too_slow() -> Error {
    let detail = "The plan of this request takes too long. Look for a scrip with a very large template.";
    Error::new(Code::PlanTooSlow, detail)
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
                Code::Busy,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_plan_sends_those_after_it_aside_for_a_while_and_a_short_one_does_not() {
        let (planner, now) = (Planner::new(), Instant::now());
        planner.note(SHORT, now);
        assert!(!planner.is_aside(now));

        planner.note(SHORT * 2, now);
        assert!(planner.is_aside(now));
        planner.note(SHORT, now);
        assert!(planner.is_aside(now + ASIDE_FOR - Duration::from_nanos(1)), "a short one proves nothing");
        assert!(!planner.is_aside(now + ASIDE_FOR));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn one_thread_of_the_server_is_left_over_by_plans_that_begin_together() {
        let (planner, now) = (Planner::new(), Instant::now());
        let (first, second) = (planner.place_here(now), planner.place_here(now));
        assert!(first.is_some() && second.is_some());
        assert!(planner.place_here(now).is_none(), "the third thread remains");
        drop(first);
        assert!(planner.place_here(now).is_some());

        drop(second);
        planner.note(SHORT * 2, now);
        assert!(planner.place_here(now).is_none(), "all run aside after a long one");
    }
}
