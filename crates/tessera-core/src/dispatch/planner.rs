//! The planner: runs `prepare` where the request is, as long as plans are short. When one was long, others for a while run
//! off the async threads, as many at once as there are cores, with a bounded queue before them.

use crate::error::{Error, Kind, Result};
use crate::metrics::PREPARE_SECONDS;
use crate::plan::{self, Catalog, Command, Context, Plan, Situation};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Requests that may wait to be planned; one more is told to come again.
pub const WAITING_MAX: usize = 512;
/// How long a plan may take. It aborts the request and never changes a plan.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// A plan that took longer may hold up the requests that share its thread, so those after it run aside.
const SHORT: Duration = Duration::from_millis(20);
/// For how long they do. A template written to be slow gets a thread of the server at most once in this time.
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

/// Runs `prepare`.
#[derive(Debug)]
pub struct Planner {
    cores: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Until when plans run aside.
    aside: Mutex<Option<Instant>>,
}

impl Planner {
    /// A planner of as many plans at once as the machine has cores.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { cores: Arc::new(Semaphore::new(cores)), waiting: AtomicUsize::new(0), aside: Mutex::new(None) }
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
        let (prepared, took) = if self.is_aside() {
            self.prepare_aside(catalog, situation, Arc::clone(command), context).await?
        } else {
            prepare(catalog, situation, command, context)
        };
        if took > SHORT {
            *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + ASIDE_FOR);
        }
        if took > DEADLINE { Err(too_slow()) } else { prepared }
    }

    async fn prepare_aside(
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

    fn is_aside(&self) -> bool {
        let until = *self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
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
    Error::new(Kind::Busy, "plan_too_slow", detail)
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
