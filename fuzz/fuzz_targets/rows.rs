#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_data::fuzz_rows(data));
