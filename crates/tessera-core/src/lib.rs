//! The core of Tessera: the model, the pure planning of changes, the database, the deliveries, and the desk, through which all
//! reads and changes go.
//!
//! Each module uses only modules on its left: `models < lifecycle < query < scrip < plan < db < delivery < desk`. Every module may
//! use `error` and `failpoint`.

pub mod db;
pub mod delivery;
pub mod desk;
pub mod error;
pub mod failpoint;
pub mod lifecycle;
pub mod metrics;
pub mod models;
pub mod plan;
pub mod query;
pub mod scrip;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Code, Error, Fault, Kind, Result};
