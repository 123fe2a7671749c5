//! Classic models without a server: `cargo bench --bench classic`. The classic engine beside ONNX Runtime through ort, with
//! one thread each, on rows that all differ: with one row that is repeated, branches are predicted.
//!
//! Both run in turn in one process, a block of batches each; the ratio is that of the quickest blocks.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its figures, and may stop on a surprise"
)]

#[allow(dead_code)]
#[path = "harness/report.rs"]
mod report;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use onstage::config::Settings;
use onstage::engine::{CancelToken, CompiledModel, Engine, EngineOptions, Session};
use onstage::model::{Batch, Package};
use onstage::tensor::{DType, Tensor};
use tokio::time::Instant;

/// Blocks of each side.
const TURNS: usize = 15;

/// Rows of a block.
const ROWS: usize = 2048;

/// A kind of models: what the ratios for batches of [`SIZES`] must be.
type Kind = (&'static str, &'static [&'static str], [f64; 4]);

const SIZES: [usize; 4] = [1, 8, 32, 1000];

const KINDS: [Kind; 4] = [
    (
        "up to 100 leaves",
        &[
            "boosting-100x3",
            "lightgbm-default",
            "lightgbm-100x6",
            "xgboost-100x6",
        ],
        [5.0, 3.5, 4.0, 6.0],
    ),
    (
        "up to 256 leaves",
        &["lightgbm-500x8", "xgboost-500x8"],
        [4.0, 3.5, 3.0, 3.0],
    ),
    (
        "deep forests",
        &["forest-100", "forest-20-deep"],
        [2.5, 2.5, 3.0, 2.0],
    ),
    (
        "pipelines",
        &["pipeline", "pipeline-zipmap"],
        [4.0, 3.5, 2.0, 1.2],
    ),
];

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let python = std::env::var("BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/harness/classic.py");
    let status = Command::new(&python)
        .arg(script)
        .arg(directory.path())
        .status();
    assert!(status.unwrap().success(), "{python} {script}");
    let engines = onstage::config::engines(&Settings::default().engine);
    let engine = |name: &str| engines.iter().find(|engine| engine.name() == name).unwrap();
    let sides = [engine("onnxruntime"), engine("classic")];
    let mut report = report::Report::default();
    report.line("| µs for a row, ONNX Runtime → classic (ratio) | 1 row | 8 | 32 | 1000 |");
    report.line("|---|---|---|---|---|");
    for (kind, models, bars) in KINDS {
        let mut least = [f64::MAX; 4];
        for name in models {
            let file = directory.path().join(format!("{name}.onnx"));
            let mut line = format!("| {name} |");
            for (size, least) in SIZES.iter().zip(&mut least) {
                let [theirs, ours] = compare(&file, sides, *size);
                let ratio = theirs / ours;
                *least = least.min(ratio);
                line += &format!(" {theirs:.2} → {ours:.2} ({ratio:.1}) |");
            }
            report.line(line);
        }
        for ((size, least), bar) in SIZES.iter().zip(least).zip(bars) {
            report.at_least(&format!("{kind}, {size} rows: least ratio"), least, bar);
        }
    }
    println!("{}", report::machine("onnxruntime"));
    println!("{report}");
}

/// Microseconds for a row on each side.
fn compare(file: &Path, sides: [&Arc<dyn Engine>; 2], size: usize) -> [f64; 2] {
    let package = Package::open(file).unwrap();
    let options = EngineOptions {
        intra_op_threads: Some(1),
        ..EngineOptions::default()
    };
    let models: [Arc<dyn CompiledModel>; 2] = sides.map(|engine| {
        engine
            .compile(&package, &options, &CancelToken::new())
            .unwrap()
    });
    let mut sessions = models.each_ref().map(|model| model.session().unwrap());
    let mut random = Random(1);
    let count = (ROWS / size).max(4);
    let batches: Vec<Batch> = (0..count)
        .map(|_| batch(&package, size, &mut random))
        .collect();
    let mut quickest = [Duration::MAX; 2];
    for _ in 0..TURNS {
        for (session, quickest) in sessions.iter_mut().zip(&mut quickest) {
            *quickest = (*quickest).min(block(&mut **session, &batches));
        }
    }
    quickest.map(|time| time.as_secs_f64() * 1e6 / (count * size) as f64)
}

fn block(session: &mut dyn Session, batches: &[Batch]) -> Duration {
    let begun = Instant::now();
    for batch in batches {
        std::hint::black_box(session.run(batch, &CancelToken::new()).unwrap());
    }
    begun.elapsed()
}

/// Rows of numbers as those that the models were trained with, roughly, and of the texts.
fn batch(package: &Package, rows: usize, random: &mut Random) -> Batch {
    let inputs = package.graph.signature.inputs.iter().map(|input| {
        let columns = input.shape.as_ref().and_then(|shape| shape.get(1)).unwrap();
        let shape = vec![rows, usize::try_from(columns.to_i64()).unwrap()];
        let count = shape.iter().product();
        let tensor = if input.dtype == DType::String {
            let texts = (0..count).map(|_| ["x", "y", "z", "w"][random.below(4)].to_owned());
            Tensor::from_strings(shape, texts.collect())
        } else {
            let numbers = (0..count).map(|_| random.normal());
            Tensor::from_vec::<f32>(shape, numbers.collect())
        };
        (input.name.clone(), tensor.unwrap())
    });
    package.graph.signature.bind(inputs.collect()).unwrap()
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() * end as f64) as usize
    }

    /// Nearly: a sum of uniform numbers.
    fn normal(&mut self) -> f32 {
        let sum: f64 = (0..6).map(|_| self.next()).sum();
        ((sum - 3.0) * 1.41) as f32
    }
}
