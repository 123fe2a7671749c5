//! The fuzz targets for a moment, on the stable compiler: what their corpora hold, and mutations of it.
//!
//! `make fuzz` looks for new inputs; here none may come back. What an input did is told with the seed of its mutation.

use std::fs;
use std::panic::catch_unwind;

use rstest::rstest;

use crate::support::server::project;

#[expect(unreachable_pub, reason = "it is the library of the fuzz crate")]
#[path = "../../../fuzz/src/targets/mod.rs"]
mod targets;

/// Mutations of each target.
const ROUNDS: u64 = 3_000;

/// Texts that parsers stumble over.
const TOKENS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"NaN",
    b"-0",
    b"1e400",
    b"-1",
    b"18446744073709551616",
    b"9223372036854775807",
    b"\\ud800",
    b"\\u0000",
    b"\x00",
    b"\xff\xff\xff\xff",
    b"\x80",
    b"\xc3\x28",
    b"%2F",
    b"//",
    b"\r\n",
    b"[[[[[[[[[[[[[[[[",
];

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }
}

/// The inputs that are kept for a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = project().join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One of the inputs with up to four changes.
fn mutation(inputs: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut data = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        let end = (at + 1 + random.below(16)).min(data.len());
        match random.below(7) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(data.drain(at..end)),
            3 => drop(data.splice(at..at, TOKENS[random.below(TOKENS.len())].to_vec())),
            4 => drop(data.splice(at..end, TOKENS[random.below(TOKENS.len())].to_vec())),
            5 => data.truncate(at),
            _ => {
                let other = &inputs[random.below(inputs.len())];
                data.truncate(at);
                data.extend(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    data
}

#[rstest]
fn no_input_stops_a_decoder(
    #[values(
        "mlflow_json",
        "mlflow_csv",
        "mlflow_parquet",
        "oip_json",
        "oip_binary",
        "v1_json",
        "cloud_event",
        "inflate",
        "path",
        "grpc_infer",
        "grpc_stream",
        "manifest",
        "graph",
        "classic",
        "registry_files",
        "webhook"
    )]
    name: &str,
) {
    let target = targets::target(name);
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "`{name}` has no corpus");
    targets::prepare();
    for input in &inputs {
        target(input);
    }
    let memory = Memory::new();
    // Fixed, so that a change of the code is all that changes the outcome.
    for seed in 0..ROUNDS {
        let input = mutation(&inputs, seed);
        // Its own message has been printed.
        let stopped = catch_unwind(|| target(&input)).is_err();
        assert!(!stopped, "`{name}`, seed {seed}: {}", input.escape_ascii());
        let grown = memory.grown();
        assert!(
            grown < targets::MOST_MEMORY + KEPT,
            "`{name}`, seed {seed} took {} MiB: {}",
            grown >> 20,
            input.escape_ascii()
        );
    }
}

/// What allocators keep of blocks that were freed, and tests of theirs.
const KEPT: usize = 20 << 20;

/// What this process has resident.
struct Memory {
    before: usize,
}

impl Memory {
    fn new() -> Self {
        // From here on the peak counts.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self {
            before: resident("VmRSS:"),
        }
    }

    /// The most it had since, beyond what it had then; nothing where the system does not tell.
    fn grown(&self) -> usize {
        resident("VmHWM:").saturating_sub(self.before)
    }
}

fn resident(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kibibytes.unwrap_or(0) << 10
}

#[test]
fn every_target_has_a_corpus_and_a_file_for_libfuzzer() {
    for (name, _) in targets::TARGETS {
        let file = project().join(format!("fuzz/fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
        assert!(!corpus(name).is_empty(), "{name}");
    }
}
