//! Any text in the places of a mail where an address stands, and in the others.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tessera_core::testing::properties::addresses(data));
