//! Plans: a request turned into everything that it will do, before any of it is done. Pure and synchronous.
//!
//! `prepare(catalog, situation, command, context) -> Plan`. Preview shows the plan; only a plan is ever written.

mod budget;
pub mod catalog;
pub mod command;
mod commit;
mod connector;
mod consider;
pub mod context;
pub mod documents;
mod draft;
mod effects;
pub mod explain;
mod hash;
pub mod import;
mod intent;
mod mail;
mod names;
mod passes;
mod past_passes;
mod prepare;
mod progress;
mod request;
mod rows;
pub mod situation;
mod trial;
mod variables;
mod webhook;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use catalog::{Catalog, Installation};
pub use command::Command;
pub use context::{Access, Context};
pub use hash::PlanHash;
pub use names::Names;
pub use passes::Pass;
pub(crate) use past_passes::past_passes;
pub use prepare::prepare;
pub use rows::Rows;
pub use situation::{People, Situation, Target};

use crate::models::{Delivery, DeliveryId, RequestId, Ticket, Transaction, UserId};
use crate::scrip::evaluation::Evaluation;
use time::OffsetDateTime;

/// The depth of the deepest cascade. Changes of the request have depth 0, changes by their scrips depth 1, and so on.
pub const CASCADE_DEPTH_MAX: u32 = 10;
/// The length of the longest chain of deliveries, each caused by the one before. A request that is at the end of such a chain
/// sends nothing, so that two servers that respond to each other's webhooks or mails stop.
pub const EXTERNAL_DEPTH_MAX: u32 = 5;
/// Scrips fired per request.
pub const FIRED_MAX: usize = 200;
/// Deliveries per request.
pub const DELIVERIES_MAX: usize = 100;
/// Bytes of text that all templates of a request may render to: ten mails with a reply of 1 MiB, and their forms for the hash.
pub const RENDERED_MAX: usize = 16 * 1024 * 1024;
/// Steps of work per request ([`crate::models::steps`]): conditions evaluated, variables built, and templates rendered. About a
/// second of one core.
pub const WORK_MAX: u64 = 10_000_000;
/// Steps of work per request for scrips on trial, which therefore never take any from the others.
pub const TRIALS_MAX: u64 = 2_000_000;
/// Steps of a plan from which it counts as heavy: it would delay the requests that share its thread.
pub const HEAVY: u64 = 200_000;
/// Scrips on trial evaluated per request.
pub const SHADOWS_MAX: usize = 50;
/// Items of a list that a template receives.
pub const LIST_MAX: usize = 200;

/// Everything that a request will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The id of the request.
    pub request: RequestId,
    /// The user who made the request.
    pub actor: UserId,
    /// The channel of the request, for example `rest`.
    pub channel: &'static str,
    /// The time of the request.
    pub now: OffsetDateTime,
    /// The version of the configuration that it is based on. It is written only while that is current.
    pub config_version: i64,
    /// The ticket that it is based on; `None` for a create. It is written only while the ticket's version is current.
    pub before: Option<Ticket>,
    /// The ticket after.
    pub ticket: Ticket,
    /// The transactions that it adds to the history, in order.
    pub transactions: Vec<Transaction>,
    /// The deliveries that it creates.
    pub deliveries: Vec<Delivery>,
    /// Every scrip considered.
    pub evaluations: Vec<Evaluation>,
    /// The passes of scrips, in order.
    pub passes: Vec<Pass>,
    /// The rows of people and values to insert and delete.
    pub rows: Rows,
    /// The steps of work that it took.
    pub steps: u64,
    /// The hash of all effects. Ids, times and a new ticket's number do not influence it.
    pub hash: PlanHash,
}

impl Plan {
    /// Returns the evaluation of the scrip that created a delivery.
    pub fn maker(&self, delivery: DeliveryId) -> Option<&Evaluation> {
        self.evaluations.iter().find(|evaluation| evaluation.deliveries.contains(&delivery))
    }
}
