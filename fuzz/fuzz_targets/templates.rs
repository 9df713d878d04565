//! Any text as a template.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tessera_core::testing::properties::templates(data));
