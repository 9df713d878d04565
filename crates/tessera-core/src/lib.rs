//! The core of Tessera: nouns, the pure brain, the one mouth that speaks SQL, the one door through which things leave.
//!
//! Each module uses only what stands to its left: `models < lifecycle < query < scrip < plan < db < delivery < desk`; `error` and
//! `failpoint` are everybody's.

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
