#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_text::fuzz_template(data));
