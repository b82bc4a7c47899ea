#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_store::fuzz_address(data));
