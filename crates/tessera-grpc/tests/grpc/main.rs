//! The services over real sockets, each test on a database of its own; and the generated code against the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking, its helpers too"
)]

mod generated;
mod statuses;
