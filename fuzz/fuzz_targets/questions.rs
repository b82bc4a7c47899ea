#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_eval::ruler::fuzz_questions(data));
