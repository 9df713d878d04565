//! Faults that must not break an invariant: each runs under a load. Afterwards the clients' records, the receivers' counts
//! and `tessera check` show that nothing was lost or done twice, and that every failed request got a reason.
//!
//! By default each is short. `TESSERA_SOAK_SECONDS` sets a longer time for each: see `scripts/soak.sh`.

mod connectors;
mod crash;
mod kill;
mod mails;
mod migration;
mod nodes;
mod overload;
pub mod postgres;
mod receivers;
mod restart;

use std::time::{Duration, Instant};

/// The seed of the random numbers. Another seed is another test.
const SEED: u64 = 0x7e55_e1a5;

/// Counts the rounds of a fault: at least the given number in the short and in the long form, which continues until the time
/// is over.
pub fn rounds((short, long): (usize, usize)) -> impl Iterator<Item = usize> {
    let soak = std::env::var("TESSERA_SOAK_SECONDS").ok();
    let soak = soak.map(|seconds| Duration::from_secs(seconds.parse().expect("a number of seconds")));
    let begun = Instant::now();
    (0..).take_while(move |round| match soak {
        None => *round < short,
        Some(soak) => *round < long || begun.elapsed() < soak,
    })
}

/// Random numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    /// Starts with the seed.
    pub fn new() -> Self {
        Self(SEED)
    }

    /// Returns the next number, below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}
