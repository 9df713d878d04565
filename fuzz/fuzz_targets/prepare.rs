//! Any requests at any desk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tessera_core::testing::properties::plans(data));
