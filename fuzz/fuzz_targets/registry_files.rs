#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onstage_fuzz::run("registry_files", data));
