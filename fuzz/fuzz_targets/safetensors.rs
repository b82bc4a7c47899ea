#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smolt_model::safetensors::fuzz_safetensors(data));
