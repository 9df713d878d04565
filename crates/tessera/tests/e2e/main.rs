//! The real program from end to end: over HTTP, on its own PostgreSQL, with a real mail server and a real receiver of webhooks.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test whose setup fails reports it by panicking"
)]

mod backup;
mod cli;
mod commands;
mod doctor;
mod faults;
mod grpc;
mod import;
mod load;
mod loops;
mod mail;
mod pages;
mod receiver;
mod same;
mod secrets;
mod serving;
mod sidecar;
mod silence;
mod support;
mod tidy;
mod walk;
