//! Large models, one engine thread: what a server adds to ONNX Runtime alone.

use std::path::Path;
use std::time::Duration;

use onstage::model::Package;

use crate::Scale;
use crate::bodies::{Form, infer};
use crate::contender::Contender;
use crate::drive::{Round, closed_loop};
use crate::models::made;
use crate::raw::{Loop, Raw, inputs};
use crate::report::{Median, Report};
use crate::server::Starter;

/// Rows of a call of ONNX Runtime alone; the best one counts.
const SIZES: [usize; 2] = [1, 8];

/// So many requests are there that the engine never waits for one.
const CONNECTIONS: usize = 12;

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    report.line(
        "| model | | rows/s | CPU for a row, ms | rate by the best alone | CPU by the best alone |\n|---|---|---|---|---|---|",
    );
    for model in ["resnet", "mobilenet", "minilm"] {
        one(&mut report, model, scale).await;
    }
    report
}

async fn one(report: &mut Report, model: &str, scale: Scale) {
    let (_directory, file) = made(model);
    let ours = start(&file, &[]).await;
    let package = Package::open(&file).unwrap();
    let request = infer(
        ours.address,
        model,
        &inputs(&package.graph.signature, 1),
        Form::Binary,
    );
    let mut alone = SIZES.map(|rows| (rows, Raw::start(&file, rows)));
    let time = Duration::from_secs(2);
    // What pays is learned from the runs.
    closed_loop(&request, &ours.processes(), CONNECTIONS, time * 3);
    let mut turns: Vec<(Vec<(usize, Loop)>, Round)> = Vec::new();
    for _ in 0..scale.of(15, 3) {
        let loops = alone.iter_mut().map(|(rows, raw)| (*rows, raw.run(time)));
        let loops = loops.collect();
        let round = closed_loop(&request, &ours.processes(), CONNECTIONS, time);
        turns.push((loops, round));
    }
    let rate = |(rows, one): &(usize, Loop)| (rows * one.calls) as f64 / one.seconds;
    let cpu = |(rows, one): &(usize, Loop)| one.cpu / (rows * one.calls) as f64;
    for (index, rows) in SIZES.iter().enumerate() {
        let of = |figure: &dyn Fn(&(usize, Loop)) -> f64| {
            Median::of(turns.iter().map(|(loops, _)| figure(&loops[index]))).value
        };
        let (rate, cpu) = (of(&rate), of(&cpu) * 1e3);
        report.line(format!(
            "| {model} | alone, {rows} rows | {rate:.1} | {cpu:.2} | | |"
        ));
    }
    let rates = turns
        .iter()
        .map(|(loops, round)| round.per_second() / loops.iter().map(rate).fold(0.0, f64::max));
    let cpus = turns.iter().map(|(loops, round)| {
        round.cpu / round.answers as f64 / loops.iter().map(cpu).fold(f64::INFINITY, f64::min)
    });
    let (rates, cpus) = (Median::of(rates), Median::of(cpus));
    report.line(format!(
        "| {model} | onstage | {:.1} | {:.2} | {rates} | {cpus} |",
        Median::of(turns.iter().map(|(_, round)| round.per_second())).value,
        Median::of(turns.iter().map(|(_, round)| round.cpu_us())).value / 1e3,
    ));
    report.at_least(
        &format!("{model}: rate by ONNX Runtime alone"),
        rates.value,
        0.97,
    );
    report.bar(
        &format!("{model}: server's CPU for a row by ONNX Runtime alone"),
        cpus.value,
        1.05,
        "",
    );
}

/// A server with one thread for the engine, and these settings.
pub(crate) async fn start(file: &Path, settings: &[(&str, &str)]) -> Contender {
    let path = file.display().to_string();
    let arguments = [&path, "--engine", "onnxruntime", "--intra-op-threads", "1"];
    let mut starter = Starter::serve(&arguments).with_onnxruntime();
    starter = starter.env("ONSTAGE_BATCHING__INSTANCES", "1");
    for (name, value) in settings {
        starter = starter.env(name, *value);
    }
    Contender::started("onstage", starter.start().await)
}
