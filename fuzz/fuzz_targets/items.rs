#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_eval::task::fuzz_items(data));
