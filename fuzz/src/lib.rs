//! The bodies of the fuzz targets: `fuzz_targets/` gives them to libFuzzer, `tests/it/fuzz.rs` runs them for a moment.

pub mod allocator;
pub mod targets;
