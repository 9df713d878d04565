//! The only source of the time and of randomness; everything else receives them as arguments.

use crate::models::Ids;
use crate::models::secret::Secret;
use crate::plan::context::to_micros;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read as _;
use time::OffsetDateTime;

/// Returns the current time in UTC, to the microsecond.
#[expect(clippy::disallowed_methods, reason = "this is the only place that reads the clock")]
pub fn now() -> OffsetDateTime {
    to_micros(OffsetDateTime::now_utc())
}

/// Returns a seed that is different for each call and each process.
pub fn seed() -> u64 {
    // Each RandomState has different keys, derived from the randomness of the operating system.
    RandomState::new().hash_one(std::process::id())
}

/// The number of random bytes in a token, which are written in hexadecimal.
pub const TOKEN_BYTES: usize = 32;

/// Creates a token of random bytes after a prefix.
///
/// # Errors
/// `/dev/urandom` cannot be read.
pub fn token(prefix: &str) -> std::io::Result<Secret> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Secret::new(format!("{prefix}{}", hex::encode(bytes))))
}

/// Creates a source of ids that starts at the current time.
pub fn ids() -> Ids {
    Ids::new(now(), seed())
}
