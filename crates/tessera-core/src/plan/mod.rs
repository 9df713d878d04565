//! Plans: a request turned into everything that it will do, before any of it is done. Pure and synchronous.
//!
//! `prepare(catalog, situation, command, context) -> Plan`. Preview shows the plan; only a plan is ever written.

pub mod catalog;
pub mod command;
pub mod context;
pub mod documents;
mod draft;
mod effects;
pub mod explain;
mod hash;
pub mod import;
mod mail;
mod names;
mod prepare;
mod request;
pub mod situation;
mod trial;
mod variables;

#[cfg(test)]
pub(crate) mod tests;

pub use catalog::{Catalog, Installation};
pub use command::Command;
pub use context::{Access, Context};
pub use hash::PlanHash;
pub use names::Names;
pub use prepare::prepare;
pub use situation::{People, Situation, Target};

use crate::models::{
    CustomFieldId, Delivery, DeliveryId, RequestId, Role, Ticket, Transaction, UserId, Watcher, WatcherId,
};
use crate::scrip::evaluation::Evaluation;
use time::OffsetDateTime;
use uuid::Uuid;

/// How deep a cascade goes: a change of the request is at 0, what its scrips change is at 1, and so on.
pub const CASCADE_DEPTH_MAX: u32 = 10;
/// How deep a chain of deliveries goes: a request that came through so many of them, one made because of another, sends
/// nothing more. So two desks that answer each other's webhooks, or mails, come to an end.
pub const EXTERNAL_DEPTH_MAX: u32 = 5;
/// Scrips fired per request.
pub const FIRED_MAX: usize = 200;
/// Deliveries per request.
pub const DELIVERIES_MAX: usize = 100;
/// Bytes of text that all templates of a request may render to.
pub const RENDERED_MAX: usize = 2 * 1024 * 1024;
/// Scrips on trial per request.
pub const SHADOWS_MAX: usize = 50;
/// Items of a list given to a template.
pub const LIST_MAX: usize = 200;

/// Everything that a request will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The request.
    pub request: RequestId,
    /// Who asked.
    pub actor: UserId,
    /// Through what.
    pub channel: &'static str,
    /// When.
    pub now: OffsetDateTime,
    /// The configuration it was prepared against; it is written only while that is current.
    pub config_version: i64,
    /// The ticket it was prepared against; `None` for a create. It is written only while its version is current.
    pub before: Option<Ticket>,
    /// The ticket after.
    pub ticket: Ticket,
    /// The history that it adds, in order.
    pub transactions: Vec<Transaction>,
    /// What leaves.
    pub deliveries: Vec<Delivery>,
    /// Every scrip considered.
    pub evaluations: Vec<Evaluation>,
    /// The rows of people and values that come and go.
    pub rows: Rows,
    /// Over everything that matters; equal plans have equal hashes.
    pub hash: PlanHash,
}

impl Plan {
    /// What was decided of the scrip that made a delivery.
    pub fn maker(&self, delivery: DeliveryId) -> Option<&Evaluation> {
        self.evaluations.iter().find(|evaluation| evaluation.deliveries.contains(&delivery))
    }
}

/// The difference between the ticket before and after, in rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Values that come, each with the id of its row.
    pub values_in: Vec<(Uuid, CustomFieldId, String)>,
    /// Values that go.
    pub values_out: Vec<(CustomFieldId, String)>,
    /// People who come.
    pub watchers_in: Vec<(Role, Watcher)>,
    /// People who go.
    pub watchers_out: Vec<WatcherId>,
}
