#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_curate::dedup::fuzz_dedup_records(data));
