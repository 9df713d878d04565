//! The API in process, each test on a database of its own: every route, every header, every bad input.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking, its helpers too"
)]

mod changes;
mod conditions;
mod contract;
mod desk;
mod doors;
mod lists;
mod past;
mod previews;
mod refusals;
