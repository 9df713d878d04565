//! Operations on the database: maintenance, backups, and the reads of `tessera doctor` and `/metrics`.

pub mod backup;
pub mod doctor;
pub mod gauges;
pub mod maintenance;
pub mod ticket_counts;
