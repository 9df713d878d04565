//! Reads of tickets, their history, searches, and deliveries.

mod deliveries;
mod search;
mod ticket_counts;
mod tickets;
mod why;

pub use crate::db::deliveries::{
    AttemptRecord, DeliveryDetail, DeliverySummary, Endpoint, Filter as DeliveryFilter, Hold, Hour,
    LastAttempt, OperatorAction, Stored,
};
pub use crate::db::history::{Recorded, Request};
pub use crate::db::ops::gauges::Queue as DeliveryQueue;
pub use crate::db::search::{Count, Counted, Explained, Export, Found, Search, Warning};
pub use crate::db::tickets::TicketRef;
pub use deliveries::{HOURS_DEFAULT, HOURS_MAX};
pub(super) use ticket_counts::TicketCounts;
pub use ticket_counts::{Counts, TicketCount};
pub use tickets::TicketRead;
pub use why::Causes;
