//! The faults that must not break an invariant: each under a load, and afterwards the clients' book, the receivers' counts
//! and `tessera check` say that nothing was lost, nothing came about twice, and nobody got an answer without a reason.
//!
//! In the test command each is short. With `TESSERA_SOAK_SECONDS` each is kept up for that long: see `scripts/soak.sh`.

mod connectors;
mod crash;
mod kill;
mod mails;
mod migration;
mod nodes;
mod overload;
mod postgres;
mod receivers;
mod restart;

use std::time::{Duration, Instant};

/// Where what is random begins. Another number is another test.
const SEED: u64 = 0x7e55_e1a5;

/// Counts the rounds of a fault: so many at least, in the short form and in the long one, where it goes on until the time
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

/// Numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    /// From the beginning.
    pub fn new() -> Self {
        Self(SEED)
    }

    /// The next one, below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}
