//! Deliveries in the database: what workers and connectors do with them, what people see of them, and what people do to them.
//!
//! `tickets` is never touched here. All times are the database's clock's.

mod orders;
mod seen;
mod settle;
mod work;

pub use orders::*;
pub use seen::*;
pub use settle::*;
pub use work::*;
