//! The bodies of the fuzz targets: `fuzz_targets/` gives them to libFuzzer, `tests/it/security/fuzz.rs` runs them for a moment.

pub mod memory;
pub mod targets;

/// Runs a target, which may take no more memory than it may.
///
/// # Panics
/// When it does, and whenever the target finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = targets::target(name);
    // What is made once is made before.
    targets::prepare();
    let peak = memory::peak(|| target(data));
    assert!(
        peak <= targets::MOST_MEMORY,
        "`{name}` took {peak} bytes of memory for {} of data",
        data.len()
    );
}
