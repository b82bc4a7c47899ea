#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_eval::access::fuzz_access_log(data));
