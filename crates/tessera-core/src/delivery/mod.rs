//! Delivery of messages; nothing else sends data out of Tessera. Transports make attempts; workers lease, send and settle.
//!
//! Nothing here runs during a request: a delivery is a row that was written together with the change that caused it.

pub mod connector;
pub mod email;
pub mod guard;
mod mask;
pub mod retry;
mod secrets;
pub mod settle;
pub mod sign;
pub mod smtp;
pub mod wakeup;
pub mod webhook;
pub mod worker;

use crate::models::delivery::{
    Attempt, AttemptOutcome as Outcome, Health, Leased, RecipientAnswer, sentence,
};

#[cfg(test)]
mod tests;
