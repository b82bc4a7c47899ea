#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_eval::model::server::fuzz_server(data));
