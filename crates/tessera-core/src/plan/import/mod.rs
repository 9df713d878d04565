//! Imports, the pure part: a line of a file becomes a ticket with its history, or the faults that keep it from being one.
//!
//! [`Read::of`] reads a line and knows nothing else; [`check()`] holds it against the configuration; [`Checked::rows`] makes
//! what is written. [`Line`] is also what an export writes.

mod check;
mod line;
mod read;
mod rows;

#[cfg(test)]
mod tests;

pub use check::{Checked, Missing, Refused, Thing, check};
pub use line::{Line, Past, Values, Who};
pub use read::{Key, Read, look, number_of};
pub use rows::Imported;
use time::Duration;

/// The longest line, in bytes.
pub const LINE_MAX: usize = 32 * 1024 * 1024;
/// The largest number that a line may give: far from what JSON carries everywhere, so that the numbers after it are carried too.
pub const NUMBER_MAX: i64 = 1_000_000_000_000;
/// The most transactions of a line.
pub const TRANSACTIONS_MAX: usize = 10_000;
/// How far ahead of this machine's clock a time may be at which something has happened: what clocks differ by.
pub const AHEAD_MAX: Duration = Duration::minutes(5);
