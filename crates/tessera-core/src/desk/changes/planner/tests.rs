//! Tests of the planner: which place a plan takes, and for how long.

use super::*;
use crate::plan::HEAVY;
use std::sync::mpsc;
use uuid::Uuid;

const HEAVY_QUEUE: QueueId = QueueId(Uuid::from_u128(1));

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn plans_that_start_together_leave_one_thread_free() {
    let planner = Planner::new();
    let (first, second) = (planner.inline.try_acquire(), planner.inline.try_acquire());
    assert!(first.is_ok() && second.is_ok());
    assert!(planner.inline.try_acquire().is_err(), "the third thread stays free");
    drop(first);
    assert!(planner.inline.try_acquire().is_ok());
}

#[tokio::test]
async fn heavy_plans_take_no_place_of_a_light_queue() {
    let planner = Planner::new();
    let free = (planner.inline.available_permits(), planner.light.available_permits());
    planner.heavy.record(HEAVY_QUEUE, HEAVY, Instant::now());
    assert!(planner.is_heavy(Some(HEAVY_QUEUE)) && !planner.is_heavy(Some(QueueId(Uuid::from_u128(2)))));

    let _place = planner.heavy.enter(HEAVY_QUEUE).await.unwrap();
    assert_eq!((planner.inline.available_permits(), planner.light.available_permits()), free);
}

#[tokio::test]
async fn a_place_is_free_when_its_work_has_ended_and_not_at_the_deadline() {
    let places = Arc::new(Semaphore::new(1));
    let place = Arc::clone(&places).try_acquire_owned().unwrap();
    let (end, ended) = mpsc::channel::<()>();
    let planned = offload(place, Duration::ZERO, move || {
        ended.recv().ok();
        Ok(())
    });
    assert_eq!(planned.await.unwrap_err().code(), Code::PlanTooSlow);
    assert!(Arc::clone(&places).try_acquire_owned().is_err(), "the work goes on");

    end.send(()).unwrap();
    assert!(places.acquire().await.is_ok());
}
