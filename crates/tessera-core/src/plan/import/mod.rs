//! The pure part of imports: turns a line of a file into a ticket with its history, or into faults.
//!
//! [`Read::of`] reads a line and needs nothing else; [`check()`] checks it against the configuration; [`Checked::rows`] turns
//! it into rows. An export writes [`Line`]s too.

mod check;
mod line;
mod read;
mod rows;
mod who;

#[cfg(test)]
mod tests;

pub use check::{Checked, Missing, Refused, Thing, check};
pub use line::{Line, Past, Values};
pub use read::{Key, Read, look, number_of};
pub use rows::Imported;
use time::{Duration, OffsetDateTime};
pub use who::Who;

/// The longest line, in bytes.
pub const LINE_MAX: usize = 32 * 1024 * 1024;
/// The largest ticket number that a line may give. It is far below 2^53, so that later numbers are safe in JSON too.
pub const NUMBER_MAX: i64 = 1_000_000_000_000;
/// The maximum number of transactions on a line.
pub const TRANSACTIONS_MAX: usize = 10_000;
/// The first time that a date can have. RT: a date that is not set is 1970-01-01, in some time zone.
pub const FIRST: OffsetDateTime = time::macros::datetime!(1970-01-02 00:00 UTC);
/// How far a past event may lie ahead of this machine's clock, because clocks differ.
pub const AHEAD_MAX: Duration = Duration::minutes(5);
