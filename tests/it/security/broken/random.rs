//! Packages that chance has damaged, beside a good one.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{good_answers, is_ready, listed, package};
use crate::support::server::{Server, project};

/// Numbers that look random and are the same in every run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// Damaged packages in one directory.
const AT_ONCE: usize = 24;

/// Directories, unless `ONSTAGE_BROKEN_ROUNDS` says more.
const ROUNDS: usize = 6;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// What loading it reads; the rest of an example's directory is notes.
fn parts(package: &Path) -> Vec<PathBuf> {
    [
        "MLmodel",
        "model.onnx",
        "serving_input_example.json",
        "input_example.json",
    ]
    .map(|name| package.join(name))
    .into_iter()
    .filter(|path| path.is_file())
    .collect()
}

/// Does one bad thing to a package.
fn damage(package: &Path, random: &mut Seeded) -> String {
    let parts = parts(package);
    let Some(path) = parts.get(random.below(parts.len())) else {
        return "nothing is left".to_owned();
    };
    let mut bytes = fs::read(path).unwrap();
    let shown = path.file_name().unwrap().to_string_lossy().into_owned();
    let what = match random.below(9) {
        0 => {
            bytes.truncate(random.below(bytes.len()));
            format!("{shown} is cut to {}", bytes.len())
        }
        1 | 2 => {
            let flips = 1 + random.below(16);
            for _ in 0..flips {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            format!("{flips} bits of {shown} are flipped")
        }
        3 => {
            let other = &parts[random.below(parts.len())];
            let theirs = fs::read(other).unwrap();
            fs::write(other, &bytes).unwrap();
            bytes = theirs;
            format!("{shown} and {} are swapped", other.display())
        }
        4 => {
            bytes = (0..random.below(2000)).map(|_| random.byte()).collect();
            format!("{shown} is noise")
        }
        5 => {
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            let at = random.below(bytes.len());
            bytes.splice(at..at, piece);
            format!("a piece of {shown} is there twice")
        }
        6 => {
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            bytes.drain(from.min(to)..from.max(to));
            format!("a piece of {shown} is missing")
        }
        7 => {
            fs::remove_file(path).unwrap();
            return format!("{shown} is gone");
        }
        _ => {
            let from = random.below(bytes.len());
            let end = bytes.len().min(from + 64);
            bytes[from..end].fill(random.byte());
            format!("64 bytes of {shown} are alike")
        }
    };
    fs::write(path, bytes).unwrap();
    what
}

/// One directory of damaged packages beside a good one.
async fn round(seed: u64) {
    let mut random = Seeded(seed);
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    package(&root.join("good"));
    let examples = ["iris", "penguins", "wine", "diabetes"];
    let mut done = Vec::new();
    for number in 0..AT_ONCE {
        let place = root.join(format!("bad{number:02}"));
        let example = examples[random.below(examples.len())];
        copy(&project().join("model-examples").join(example), &place);
        let times = 1 + random.below(3);
        let what: Vec<_> = (0..times).map(|_| damage(&place, &mut random)).collect();
        done.push(format!("{example}: {}", what.join(", ")));
    }
    let server = match crate::support::server::Starter::serve(&[root.to_str().unwrap()])
        .try_start()
        .await
    {
        Ok(server) => server,
        Err(ended) => panic!("seed {seed} ended the server: {done:#?}\n{}", ended.stderr),
    };
    is_ready(&server).await;
    good_answers(&server, "good").await;
    all_are_listed(&server, &done, seed).await;
    good_answers(&server, "good").await;
    let ended = server.terminate().await;
    assert_eq!(
        ended.status.code(),
        Some(0),
        "seed {seed}: {}",
        ended.stderr
    );
}

/// A damaged package may be good enough to serve; else there must be a reason.
async fn all_are_listed(server: &Server, done: &[String], seed: u64) {
    for (number, what) in done.iter().enumerate() {
        let rows = listed(server, &format!("bad{number:02}")).await;
        let [(_, state, reason)] = rows.as_slice() else {
            // A manifest of which nothing is left makes it a bare graph, or nothing.
            assert!(
                rows.is_empty() && what.contains("is gone"),
                "seed {seed}: {what}: {rows:?}"
            );
            continue;
        };
        let told = state == "READY" || (state == "UNAVAILABLE" && !reason.is_empty());
        assert!(told, "seed {seed}: {what}: {rows:?}");
    }
}

#[tokio::test]
async fn whatever_chance_does_to_other_packages_the_good_one_serves() {
    let rounds = std::env::var("ONSTAGE_BROKEN_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().unwrap());
    for seed in 1..=rounds {
        round(0x9e37_79b9_7f4a_7c15 ^ u64::try_from(seed).unwrap()).await;
    }
}
