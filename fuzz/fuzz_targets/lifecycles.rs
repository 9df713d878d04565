//! Any JSON as the definition of a lifecycle.
#![no_main]

use tessera_core::testing::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    properties::on_small_stack(properties::lifecycles, data);
});
