//! The database as an operator sees it: maintenance, backups, what `tessera doctor` and `/metrics` read.

pub mod backup;
pub mod doctor;
pub mod gauges;
pub mod maintenance;
pub mod ticket_counts;
