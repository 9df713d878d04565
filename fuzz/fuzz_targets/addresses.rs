//! Any text in the places of a mail where an address stands, and in the others.
#![no_main]

use tessera_core::testing::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    properties::on_small_stack(properties::addresses, data);
});
