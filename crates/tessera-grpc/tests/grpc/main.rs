//! The services over real sockets, each test on a database of its own; and the generated code against the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking, its helpers too"
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

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until there is something to see.
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
