//! Engines without a server: `cargo bench --bench engines`. What our way of running tract costs beside tract alone.
//!
//! Both run in turn in one process, so that a slow moment of the machine is in both; the ratio is the median of the pairs.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its figures, and may stop on a surprise"
)]

#[allow(dead_code)]
#[path = "harness/report.rs"]
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onstage::engine::{CancelToken, Engine as _, EngineOptions, Session, Tract};
use onstage::model::{Batch, Dim, Package};
use onstage::tensor::Tensor;
use tokio::time::Instant;
use tract_onnx::prelude::*;

/// Runs of each side that are compared in pairs.
const PAIRS: usize = 40;

/// The most that watching its numbers may cost a net on tract.
const BAR: f64 = 1.10;

fn main() {
    let mut report = report::Report::default();
    report.line("| net | rows | tract alone | watched | ratio, middle half |");
    report.line("|---|---|---|---|---|");
    for name in ["minilm", "mobilenet", "resnet"] {
        let directory = tempfile::tempdir().unwrap();
        let file = made(name, directory.path());
        for rows in [1, 4] {
            let pair = compare(&file, rows);
            let ratios = pair.ratios();
            let [low, middle, high] = [1, 2, 3].map(|quarter| ratios[ratios.len() * quarter / 4]);
            let [alone, watched] = pair.medians().map(|time| time.as_secs_f64() * 1e3);
            report.line(format!(
                "| {name} | {rows} | {alone:.2} ms | {watched:.2} ms | {middle:.3} ({low:.3} to {high:.3}) |"
            ));
            report.bar(
                &format!("{name}, {rows} rows: watched by alone"),
                middle,
                BAR,
                "",
            );
        }
    }
    println!("{}", report::machine("tract"));
    println!("{report}");
}

/// Times of runs, those of the same place one after the other.
struct Pairs {
    alone: Vec<Duration>,
    watched: Vec<Duration>,
}

impl Pairs {
    /// Watched by alone, ascending.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.watched.iter().zip(&self.alone);
        let ratios = pairs.map(|(watched, alone)| watched.as_secs_f64() / alone.as_secs_f64());
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    fn medians(&self) -> [Duration; 2] {
        [&self.alone, &self.watched].map(|times| {
            let mut times = times.clone();
            times.sort();
            times[times.len() / 2]
        })
    }
}

fn compare(file: &Path, rows: usize) -> Pairs {
    let package = Package::open(file).unwrap();
    let batch = batch(&package, rows);
    let model = Tract.compile(&package, &EngineOptions::default(), &CancelToken::new());
    let mut session = model.unwrap().session().unwrap();
    let alone = alone(file, &batch);
    let input = tract_input(&batch);
    let (mut pairs, warm) = (
        Pairs {
            alone: Vec::new(),
            watched: Vec::new(),
        },
        3,
    );
    for _ in 0..warm {
        alone.run(tvec!(input.clone().into_tvalue())).unwrap();
        run(&mut *session, &batch);
    }
    for turn in 0..PAIRS {
        let mut first = || {
            let begun = Instant::now();
            alone.run(tvec!(input.clone().into_tvalue())).unwrap();
            pairs.alone.push(begun.elapsed());
        };
        let mut second = || {
            let begun = Instant::now();
            run(&mut *session, &batch);
            pairs.watched.push(begun.elapsed());
        };
        // Neither is always the first.
        if turn % 2 == 0 {
            first();
            second();
        } else {
            second();
            first();
        }
    }
    pairs
}

fn run(session: &mut dyn Session, batch: &Batch) {
    session.run(batch, &CancelToken::new()).unwrap();
}

/// tract as its own documentation runs a net: declared with its shapes, optimised, run.
fn alone(file: &Path, batch: &Batch) -> Arc<TypedRunnableModel> {
    let input = tract_input(batch);
    let mut model = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .model_for_path(file)
        .unwrap();
    let fact = InferenceFact::dt_shape(input.datum_type(), input.shape());
    model.set_input_fact(0, fact).unwrap();
    model.into_optimized().unwrap().into_runnable().unwrap()
}

fn tract_input(batch: &Batch) -> tract_onnx::prelude::Tensor {
    let tensor = &batch.inputs()[0];
    match tensor.as_slice::<f32>() {
        Some(floats) => tract_onnx::prelude::Tensor::from_shape(tensor.shape(), floats),
        None => tract_onnx::prelude::Tensor::from_shape(
            tensor.shape(),
            tensor.as_slice::<i64>().unwrap(),
        ),
    }
    .unwrap()
}

/// So many rows of numbers that look random.
fn batch(package: &Package, rows: usize) -> Batch {
    let input = &package.graph.signature.inputs[0];
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any(_) => rows,
    };
    let shape: Vec<usize> = input.shape.iter().flatten().map(size).collect();
    let count: usize = shape.iter().product();
    let tensor = match input.dtype {
        onstage::tensor::DType::I64 => {
            let tokens = (0..count).map(|n| (n as i64 * 37) % 1000).collect();
            Tensor::from_vec::<i64>(shape, tokens)
        }
        _ => {
            let floats = (0..count).map(|n| (n as f32 * 0.618_034).fract()).collect();
            Tensor::from_vec::<f32>(shape, floats)
        }
    };
    let named = vec![(input.name.clone(), tensor.unwrap())];
    package.graph.signature.bind(named).unwrap()
}

/// A net with random weights, made by the script of the harness.
fn made(name: &str, directory: &Path) -> PathBuf {
    let python = std::env::var("BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/harness/models.py");
    let status = Command::new(&python)
        .args([script, name])
        .arg(directory)
        .status();
    assert!(status.unwrap().success(), "{python} {script} {name}");
    directory.join(format!("{name}-1.onnx"))
}
