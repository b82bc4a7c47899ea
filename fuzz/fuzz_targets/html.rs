#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_curate::steps::html_text::fuzz_html(data));
