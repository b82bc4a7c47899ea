#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_curate::fasttext::fuzz_fasttext(data));
