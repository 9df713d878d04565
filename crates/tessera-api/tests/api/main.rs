//! The API in process, each test on a database of its own: every route, every header, every bad input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking, its helpers too"
)]

mod answers;
mod changes;
mod conditions;
mod connectors;
mod contract;
mod deliveries;
mod desk;
mod export;
mod listeners;
mod lists;
mod measures;
mod past;
mod previews;
mod refusals;
mod scrips;
mod search;
mod sizes;
mod sockets;
mod stops;
mod wire;
