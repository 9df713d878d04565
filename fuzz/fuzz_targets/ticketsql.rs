//! Any text as a query.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tessera_core::testing::properties::ticketsql(data));
