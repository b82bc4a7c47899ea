#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_curate::decontaminate::fuzz_evaluation_set(data));
