//! Any JSON as the definition of a lifecycle.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tessera_core::testing::properties::lifecycles(data));
