//! Imports, the pure part: a line of a file becomes a ticket with its history, or the faults that keep it from being one.
//!
//! [`Read::of`] reads a line and knows nothing else; [`check`] holds it against the configuration; [`Checked::rows`] makes
//! what is written. [`Line`] is also what an export writes.

mod check;
mod line;
mod read;
mod rows;

#[cfg(test)]
mod tests;

pub use check::{Checked, Missing, Refused, Thing, check};
pub use line::{Line, Past, Values, Who};
pub use read::{Key, Read, number_of};
pub use rows::Imported;

/// The longest line, in bytes.
pub const LINE_MAX: usize = 32 * 1024 * 1024;
/// The largest number that a line may give: what JSON carries everywhere, and far from the end of the sequence.
pub const NUMBER_MAX: i64 = (1 << 53) - 1;
/// The most transactions of a line.
pub const TRANSACTIONS_MAX: usize = 10_000;
