//! Deliveries in the database: leases and settlements for workers and connectors, lists for people, and operator actions.
//!
//! The states and their transitions are those of `models::delivery::DeliveryState`. Nothing here writes to `tickets`. All times
//! are those of the database's clock.

mod endpoints;
mod leases;
mod list;
mod one;
mod operator_actions;
mod settle;

#[cfg(test)]
mod tests;

pub use endpoints::*;
pub use leases::*;
pub use list::*;
pub use one::*;
pub use operator_actions::*;
pub use settle::*;
