//! The services over real sockets, each test with a database of its own; and the generated code against the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests and their helpers report failures by panicking"
)]

mod actions;
mod desk;
mod generated;
mod listeners;
mod log;
mod statuses;
mod tickets;

use std::time::Duration;
use tokio::time::{interval, timeout};

/// Interval at which a condition is checked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` returns a value.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = interval(LOOK_EVERY);
    let seen = timeout(desk::SOON, async {
        loop {
            looks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{what}: not within {} s", desk::SOON.as_secs()))
}
