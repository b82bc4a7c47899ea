#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_arch::fuzz_config(data));
