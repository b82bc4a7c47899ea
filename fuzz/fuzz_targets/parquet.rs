#![no_main]

use std::sync::Once;

static HOOK: Once = Once::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The decoder's panics are caught, so a panic may only abort where nothing caught it.
    HOOK.call_once(|| drop(std::panic::take_hook()));
    smolt_data::fuzz_parquet(data);
});
