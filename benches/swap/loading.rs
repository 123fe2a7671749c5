//! What the requests of one model feel of another one being loaded: no more than of any process at that priority.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Scale;
use crate::client::Request;
use crate::files::{EACH_SWAP_LOADS, Files, until_announced};
use crate::load::{OpenLoop, capacity, quantiles, within};
use crate::process::cpu_seconds;
use crate::report::{Report, quantile};
use crate::server::Server;

/// Part of the capacity at which latency is judged.
const SHARE: f64 = 0.3;

/// Loads that tell what one costs; the cheapest counts.
const CALIBRATION: usize = 3;

/// Between a load and its control.
const REST: Duration = Duration::from_millis(500);

pub(crate) async fn run(scale: &Scale) -> Report {
    let loads = scale.of(10, 2);
    let files = Files::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/model-examples/iris");
    files.add_package("iris", example.as_ref()).await;
    files.promote("iris", 1).await;
    files.add_generated("resnet").await;
    let models = ["iris", "resnet"];
    let server = files.serve(&models, EACH_SWAP_LOADS, scale).await;
    let request = Request::invocations(server.address(), "[5.1, 3.5, 1.4, 0.2]");
    // What a load costs is measured while nothing else is done.
    let (mut number, mut cost) = (0, f64::INFINITY);
    for _ in 0..CALIBRATION {
        let before = cpu_seconds(server.process_id());
        load_next(&files, &server, &mut number).await;
        cost = cost.min(cpu_seconds(server.process_id()) - before);
    }
    let most = capacity(&request, Duration::from_secs(scale.of(5, 2) as u64));
    let load = OpenLoop::start(&request, most * SHARE);
    sleep(Duration::from_secs(1)).await;
    let (mut loading, mut control) = (Vec::new(), Vec::new());
    for _ in 0..loads {
        let began = Instant::now();
        load_next(&files, &server, &mut number).await;
        let took = began.elapsed();
        loading.push((began, began + took));
        sleep(REST).await;
        let began = Instant::now();
        burn(cost, began + took).await;
        control.push((began, Instant::now()));
        sleep(REST).await;
    }
    let (samples, failures) = load.end();
    let mut report = Report::default();
    let longest = loading.iter().map(|(from, to)| *to - *from).max();
    let total: Duration = loading.iter().map(|(from, to)| *to - *from).sum();
    report.line(format!(
        "{most:.0} requests/s at most, judged at {:.0}. {loads} loads, {:.1} s on average, {:.1} s at most; each takes \
         {cost:.2} s of a core.\n",
        most * SHARE,
        total.as_secs_f64() / loads as f64,
        longest.unwrap_or_default().as_secs_f64(),
    ));
    report.line(
        "| beside | requests | p50, ms | p99, ms | p99.9, ms | max, ms |\n|---|---|---|---|---|---|",
    );
    let gather = |windows: &[(Instant, Instant)]| -> Vec<Duration> {
        let all = windows
            .iter()
            .flat_map(|(from, to)| within(&samples, *from, *to));
        all.collect()
    };
    let (mut loading, mut control) = (gather(&loading), gather(&control));
    for (what, latencies) in [("loading", &mut loading), ("another process", &mut control)] {
        let line = quantiles(latencies);
        report.line(format!("| {what} | {} | {line} |", latencies.len()));
    }
    let p99 = |latencies: &mut [Duration]| quantile(latencies, 0.99).as_secs_f64();
    report.bar(
        "p99 by the control's",
        p99(&mut loading) / p99(&mut control),
        2.0,
        "",
    );
    report.never("failed requests", &failures);
    server.terminate().await;
    report
}

/// Moves to the other version and waits until it is on stage.
async fn load_next(files: &Files, server: &Server, number: &mut usize) {
    *number += 1;
    files.promote("resnet", *number as u64 % 2 + 1).await;
    // Two models were announced at the start.
    until_announced(server, *number + 2).await;
}

/// Takes that much processor time at the priority of loading, if it gets it until then; returns no earlier than then.
async fn burn(cpu: f64, until: Instant) {
    let mut command = Command::new("nice");
    let burner = command.args(["-n", "15", "sh", "-c", "while :; do :; done"]);
    let mut burner = burner.spawn().expect("every system has `nice` and `sh`");
    while Instant::now() < until && cpu_seconds(burner.id()) < cpu {
        sleep(Duration::from_millis(5)).await;
    }
    burner.kill().expect("it runs until it is killed");
    burner.wait().expect("it was killed");
    sleep(until.saturating_duration_since(Instant::now())).await;
}
