//! What a model feels of another one that is asked for far more than it can answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onstage::model::Package;

use crate::Scale;
use crate::bodies::{Form, infer, iris};
use crate::contender::Contender;
use crate::drive::closed_loop;
use crate::load::{OpenLoop, quantiles};
use crate::models::made;
use crate::raw::inputs;
use crate::report::{Median, Report, quantile};
use crate::server::Starter;

/// A tenth of these would keep it busy.
const CONNECTIONS: usize = 40;

const STRETCH: Duration = Duration::from_secs(3);

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    report.line("| the neighbour | its rate | | p50, ms | p99, ms | p99.9, ms | max, ms |\n|---|---|---|---|---|---|---|");
    let (minilm, file) = made("minilm");
    let (mobilenet, noisy) = made("mobilenet");
    let _keep = (minilm, mobilenet);
    let configuration = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    // The share of the runners that one model may have.
    std::fs::write(
        configuration.path(),
        "[models.mobilenet.batching]\ninstances = 1\n",
    )
    .unwrap();
    let paths = [&file, &noisy].map(|path| path.display().to_string());
    let config = configuration.path().display().to_string();
    let arguments = [
        &*paths[0],
        &paths[1],
        "model-examples/iris",
        "--engine",
        "onnxruntime",
        "--config",
        &config,
    ];
    let arguments = [
        &arguments[..],
        &["--intra-op-threads", "1", "--default-model", "iris"],
    ]
    .concat();
    let ours = Contender::started(
        "onstage",
        Starter::serve(&arguments).with_onnxruntime().start().await,
    );
    let request = |model: &str, file: &std::path::Path| {
        let package = Package::open(file).unwrap();
        infer(
            ours.address,
            model,
            &inputs(&package.graph.signature, 1),
            Form::Binary,
        )
    };
    let noise = request("mobilenet", &noisy);
    let small = iris(ours.address, Form::Invocations);
    let medium = request("minilm", &file);
    for (name, quiet) in [("iris", small), ("minilm", medium)] {
        let most = closed_loop(&quiet, &ours.processes(), 4, STRETCH).per_second();
        let rate = (most * 0.1).min(500.0);
        let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut refused = Vec::new();
        for _ in 0..scale.of(9, 2) {
            let mut first = stretch(&quiet, rate, &mut refused);
            let stop = Arc::new(AtomicBool::new(false));
            let (loud, stopped, processes) = (noise.clone(), Arc::clone(&stop), ours.processes());
            let driver = std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    closed_loop(&loud, &processes, CONNECTIONS, Duration::from_millis(500));
                }
            });
            std::thread::sleep(Duration::from_millis(300));
            let mut second = stretch(&quiet, rate, &mut refused);
            stop.store(true, Ordering::Relaxed);
            driver.join().unwrap();
            let p99 = |latencies: &mut Vec<Duration>| quantile(latencies, 0.99).as_secs_f64();
            ratios.push(p99(&mut second) / p99(&mut first));
            alone.extend(first);
            beside.extend(second);
        }
        report.line(format!(
            "| {name} | {rate:.0}/s | alone | {} |",
            quantiles(&mut alone)
        ));
        report.line(format!(
            "| {name} | {rate:.0}/s | beside mobilenet | {} |",
            quantiles(&mut beside)
        ));
        report.bar(
            &format!("{name} beside a model at ten times its capacity: p99 by that alone"),
            Median::of(ratios).value,
            1.5,
            "",
        );
        report.never(&format!("{name}: refused"), &refused);
    }
    report
}

fn stretch(
    request: &crate::client::Request,
    rate: f64,
    refused: &mut Vec<String>,
) -> Vec<Duration> {
    let load = OpenLoop::start(request, rate);
    std::thread::sleep(STRETCH);
    let (samples, failures) = load.end();
    refused.extend(failures);
    samples.iter().map(|sample| sample.took).collect()
}
