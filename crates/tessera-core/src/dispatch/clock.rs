//! The only place that asks the machine for the time and for chance; everything else is handed them.

use crate::models::Ids;
use crate::plan::context::to_micros;
use std::hash::{BuildHasher, RandomState};
use time::OffsetDateTime;

/// The time, in microseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the clock")]
pub fn now() -> OffsetDateTime {
    to_micros(OffsetDateTime::now_utc())
}

/// A seed that differs from one call to the next and from one process to the next.
pub fn seed() -> u64 {
    // Each RandomState has keys of its own, begun from the operating system's randomness.
    RandomState::new().hash_one(std::process::id())
}

/// A fresh source of ids.
pub fn ids() -> Ids {
    Ids::new(now(), seed())
}
