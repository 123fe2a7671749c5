#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onstage_fuzz::run("v1_json", data));
