//! Any requests at any desk.
#![no_main]

use tessera_core::testing::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    properties::on_small_stack(properties::plans, data);
});
