//! The only place that asks the machine for the time and for chance; everything else is handed them.

use crate::models::Ids;
use crate::models::secret::Secret;
use crate::plan::context::to_micros;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read as _;
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

/// How many random bytes a token has, in hex.
pub const TOKEN_BYTES: usize = 32;

/// A token that nobody can guess, behind a prefix.
///
/// # Errors
/// The machine gives no randomness.
pub fn token(prefix: &str) -> std::io::Result<Secret> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Secret::new(format!("{prefix}{}", hex::encode(bytes))))
}

/// A fresh source of ids.
pub fn ids() -> Ids {
    Ids::new(now(), seed())
}
