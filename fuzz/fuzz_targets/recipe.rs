#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_run::recipe::fuzz_recipe(data));
