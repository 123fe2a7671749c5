#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onstage_fuzz::targets::target("registry_files")(data));
