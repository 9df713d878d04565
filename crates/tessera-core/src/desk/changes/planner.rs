//! Runs `prepare` on the thread of the request, as long as its plans are light and one thread of the server stays free. The plans
//! of a queue whose scrips are heavy run on blocking threads, behind places of their own, so that other queues do not wait for them.

mod lanes;

use crate::error::{Code, Error, Result};
use crate::metrics::PREPARE_SECONDS;
use crate::models::QueueId;
use crate::plan::{self, Catalog, Command, Context, Names, Plan, Situation, Target};
use lanes::Lanes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// The maximum number of requests of light queues that wait to be planned; further ones are rejected with `busy`.
pub const WAITING_MAX: usize = 512;
/// The time limit of a plan. Exceeding it fails the request; it never changes a plan. The steps of a plan are counted
/// ([`plan::WORK_MAX`]), so that the work ends soon after, and its place is taken until then.
pub const DEADLINE: Duration = Duration::from_secs(2);

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
    /// Places for plans on the threads of their requests.
    inline: Semaphore,
    /// Places for further light plans, on blocking threads.
    light: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Places for the plans of heavy queues, on blocking threads.
    heavy: Arc<Lanes>,
}

impl Planner {
    /// Creates a planner that runs as many light plans on blocking threads as the machine has cores, and half as many heavy ones.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            inline: Semaphore::new(inline_max()),
            light: Arc::new(Semaphore::new(cores)),
            waiting: AtomicUsize::new(0),
            heavy: Arc::new(Lanes::new((cores / 2).max(1))),
        }
    }

    /// Prepares a plan.
    ///
    /// # Errors
    /// Those of [`plan::prepare`]; `busy` if too many requests wait; `plan_too_slow` if the plan takes longer than [`DEADLINE`].
    pub async fn run(
        &self,
        catalog: Arc<Catalog>,
        situation: Situation,
        command: &Arc<Command>,
        context: Context,
    ) -> Result<Box<Prepared>> {
        let queue = queue_of(&catalog, &situation, command);
        let (heavy, command) = (Arc::clone(&self.heavy), Arc::clone(command));
        let work = move || {
            let (prepared, took) = timed(catalog, situation, &command, context);
            if let Some((queue, prepared)) = queue.zip(prepared.as_ref().ok()) {
                heavy.record(queue, prepared.plan.steps, Instant::now());
            }
            if took > DEADLINE { Err(too_slow()) } else { prepared }
        };
        if !self.is_heavy(queue) {
            if let Ok(_place) = self.inline.try_acquire() {
                return work();
            }
            let _waiting = Waiting::enter(&self.waiting)?;
            let place = Arc::clone(&self.light).acquire_owned().await;
            // The queue may have turned out to be heavy in the meantime.
            if !self.is_heavy(queue) {
                return offload(place, DEADLINE, work).await;
            }
        }
        match queue {
            Some(queue) => offload(self.heavy.enter(queue).await?, DEADLINE, work).await,
            None => work(),
        }
    }

    fn is_heavy(&self, queue: Option<QueueId>) -> bool {
        queue.is_some_and(|queue| self.heavy.is_heavy(queue, Instant::now()))
    }
}

/// Returns the queue whose scrips a request runs: the one that it names, otherwise the ticket's. `None` if there is no such queue,
/// which fails the request.
fn queue_of(catalog: &Catalog, situation: &Situation, command: &Command) -> Option<QueueId> {
    let named = match command {
        Command::Create(create) => Some(&create.queue),
        Command::Update(update) => update.queue.as_ref(),
    };
    match (named, &situation.ticket) {
        (Some(name), _) => catalog.queues.find(name).map(|queue| queue.id),
        (None, Target::Existing(ticket)) => Some(ticket.queue),
        (None, Target::New { .. }) => None,
    }
}

/// Runs work on a blocking thread. Its place is free again when the work has ended, even if nobody waits for it any longer.
///
/// # Errors
/// Those of the work; `plan_too_slow` if it has not ended after `deadline`.
async fn offload<T: Send + 'static>(
    place: impl Send + 'static,
    deadline: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let task = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(join)) => Err(Error::internal("The plan could not be prepared.", join)),
        Err(_) => Err(too_slow()),
    }
}

/// Returns the number of plans that may run on the threads of the server at a time: all threads but one, and at least one. How
/// heavy a plan is shows only when it is finished, so without this limit, heavy plans could occupy all threads.
fn inline_max() -> usize {
    let threads = Handle::try_current().map_or(1, |server| server.metrics().num_workers());
    threads.saturating_sub(1).max(1)
}

fn timed(
    catalog: Arc<Catalog>,
    situation: Situation,
    command: &Command,
    context: Context,
) -> (Result<Box<Prepared>>, Duration) {
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

/// A request that waits for a place.
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn enter(waiting: &'p AtomicUsize) -> Result<Self> {
        let entered = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX { Err(busy()) } else { Ok(entered) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn busy() -> Error {
    Error::new(Code::Busy, "Too many requests are waiting to be planned. Retry the request in a moment.")
}

#[cfg(test)]
mod tests;
