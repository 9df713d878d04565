//! Lanes: the queues whose plans took many steps. Their plans share a few places, and take turns, queue by queue.

use super::busy;
use crate::error::Result;
use crate::models::QueueId;
use crate::plan::HEAVY;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A queue counts as heavy for this long after its last heavy plan.
const HEAVY_FOR: Duration = Duration::from_secs(10);
/// The work that may wait in one queue, in steps: about ten seconds of one core. Further requests are rejected with `busy`, so that
/// they do not take the server's places for requests.
const BACKLOG_MAX: u64 = 100_000_000;
/// The maximum number of requests of all heavy queues that wait; further ones are rejected with `busy`.
const WAITING_MAX: usize = 128;

/// The heavy queues, and the places for their plans.
#[derive(Debug)]
pub(super) struct Lanes {
    places: Arc<Semaphore>,
    /// The most places that one queue has or waits for.
    share: usize,
    queues: Mutex<HashMap<QueueId, Lane>>,
}

/// A queue that was heavy.
#[derive(Debug)]
struct Lane {
    until: Instant,
    /// The steps of its last heavy plan.
    steps: u64,
    /// Requests that have a turn or wait for one.
    entered: Arc<()>,
    turns: Arc<Semaphore>,
}

/// A place for a plan; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _turn: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _entered: Arc<()>,
}

impl Lanes {
    /// Creates this many places. One queue takes at most half of them, rounded up.
    pub fn new(places: usize) -> Self {
        let share = places.div_ceil(2);
        Self { places: Arc::new(Semaphore::new(places)), share, queues: Mutex::default() }
    }

    /// Records the steps of a plan of a queue.
    pub fn record(&self, queue: QueueId, steps: u64, now: Instant) {
        if steps < HEAVY {
            return;
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = queues.entry(queue).or_insert_with(|| Lane::new(self.share, now));
        (lane.until, lane.steps) = (now + HEAVY_FOR, steps);
    }

    /// True if a plan of the queue was heavy a short time ago.
    pub fn is_heavy(&self, queue: QueueId, now: Instant) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(&queue).is_some_and(|lane| now < lane.until)
    }

    /// Waits for the turn of a heavy queue, then for a place. A queue waits with at most its share of the places, so that another
    /// queue's next plan is never behind more of its plans than that.
    ///
    /// # Errors
    /// `busy` if too many requests wait.
    pub async fn enter(&self, queue: QueueId) -> Result<Place> {
        let (turns, entered) = self.queued(queue)?;
        // The semaphores are never closed.
        let turn = turns.acquire_owned().await.map_err(|_| busy())?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| busy())?;
        Ok(Place { _turn: turn, _place: place, _entered: entered })
    }

    fn queued(&self, queue: QueueId) -> Result<(Arc<Semaphore>, Arc<()>)> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: usize = queues.values().map(Lane::entered).sum();
        let lane = queues.entry(queue).or_insert_with(|| Lane::new(self.share, Instant::now()));
        if waiting >= WAITING_MAX || lane.entered() as u64 * lane.steps >= BACKLOG_MAX {
            return Err(busy());
        }
        Ok((Arc::clone(&lane.turns), Arc::clone(&lane.entered)))
    }
}

impl Lane {
    fn new(share: usize, now: Instant) -> Self {
        Self { until: now, steps: HEAVY, entered: Arc::default(), turns: Arc::new(Semaphore::new(share)) }
    }

    fn entered(&self) -> usize {
        Arc::strong_count(&self.entered) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::pin::pin;
    use uuid::Uuid;

    fn queue(n: u128) -> QueueId {
        QueueId(Uuid::from_u128(n))
    }

    #[test]
    fn a_queue_is_heavy_for_a_while_after_a_plan_of_many_steps_and_no_other_queue_is() {
        let (lanes, now) = (Lanes::new(1), Instant::now());
        lanes.record(queue(1), HEAVY - 1, now);
        assert!(!lanes.is_heavy(queue(1), now));

        lanes.record(queue(1), HEAVY, now);
        assert!(lanes.is_heavy(queue(1), now) && !lanes.is_heavy(queue(2), now));
        lanes.record(queue(1), 0, now);
        assert!(
            lanes.is_heavy(queue(1), now + HEAVY_FOR - Duration::from_nanos(1)),
            "a light plan does not end it"
        );
        assert!(!lanes.is_heavy(queue(1), now + HEAVY_FOR));
    }

    #[tokio::test]
    async fn heavy_queues_take_turns_however_many_requests_one_of_them_has() {
        let lanes = Lanes::new(1);
        let first = lanes.enter(queue(1)).await.unwrap();
        let mut second = pin!(lanes.enter(queue(1)));
        let mut third = pin!(lanes.enter(queue(1)));
        let mut other = pin!(lanes.enter(queue(2)));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        assert!(poll!(&mut other).is_pending(), "the only place is taken");

        drop(first);
        assert!(poll!(&mut second).is_pending(), "it has its turn now, but the other queue came before");
        let place = other.await.unwrap();
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(place);
        drop(second.await.unwrap());
        drop(third.await.unwrap());
    }

    #[tokio::test]
    async fn one_queue_never_takes_all_places() {
        let lanes = Lanes::new(4);
        let held = [lanes.enter(queue(1)).await.unwrap(), lanes.enter(queue(1)).await.unwrap()];
        assert!(poll!(pin!(lanes.enter(queue(1)))).is_pending());
        assert!(poll!(pin!(lanes.enter(queue(2)))).is_ready());
        drop(held);
    }

    #[tokio::test]
    async fn the_backlog_of_a_queue_is_limited_by_its_work() {
        let lanes = Lanes::new(1);
        lanes.record(queue(1), BACKLOG_MAX / 3, Instant::now());
        let held = lanes.enter(queue(1)).await.unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(lanes.enter(queue(1)))).collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        let rejected = lanes.enter(queue(1)).await.unwrap_err();
        assert_eq!(rejected.code(), crate::error::Code::Busy);
        let mut other = pin!(lanes.enter(queue(2)));
        assert!(poll!(&mut other).is_pending(), "another queue may wait");

        waiting.clear();
        drop(held);
        assert!(poll!(&mut other).is_ready());
        assert!(poll!(pin!(lanes.enter(queue(1)))).is_ready(), "there is room in the backlog again");
    }
}
