#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onstage_fuzz::run("classic", data));
