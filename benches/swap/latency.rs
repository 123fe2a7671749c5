//! What requests feel of swaps: the same commands move the served model, and one that nobody follows.

use std::time::{Duration, Instant};

use tokio::time::{interval, sleep};

use crate::Scale;
use crate::client::Request;
use crate::files::{EACH_SWAP_LOADS, Files, announced, until_announced};
use crate::load::{OpenLoop, capacity, quantiles, within};
use crate::report::{Report, quantile};

const VERSIONS: u64 = 4;

/// Between two swaps.
const EVERY: Duration = Duration::from_millis(100);

/// Part of the capacity at which latency is judged.
const SHARE: f64 = 0.3;

pub(crate) async fn run(scale: &Scale) -> Report {
    let swaps = scale.of(100, 20) as u64;
    let rounds = scale.of(6, 1);
    let files = Files::new();
    files.add_times("scale", VERSIONS).await;
    files.add_times("other", VERSIONS).await;
    let server = files.serve(&["scale"], EACH_SWAP_LOADS, scale).await;
    let request = Request::invocations(server.address(), "[1.0, 1.0]");
    let most = capacity(&request, Duration::from_secs(scale.of(5, 2) as u64));
    let load = OpenLoop::start(&request, most * SHARE);
    sleep(Duration::from_secs(1)).await;
    let mut windows = Vec::new();
    let mut last = 1;
    for _ in 0..rounds {
        for moved in ["scale", "other", "other", "scale"] {
            let (began, before) = (Instant::now(), announced(&server));
            let mut ticks = interval(EVERY);
            for _ in 0..swaps {
                ticks.tick().await;
                last = last % VERSIONS + 1;
                files.promote(moved, last).await;
            }
            if moved == "scale" {
                // Fewer when one was overtaken by the next before it was loaded.
                until_announced(&server, before + 1).await;
            }
            sleep(EVERY).await;
            windows.push((
                moved,
                began,
                Instant::now(),
                announced(&server).saturating_sub(before),
            ));
        }
    }
    let (samples, failures) = load.end();
    let mut report = Report::default();
    let rate = most * SHARE;
    report.line(format!(
        "{most:.0} requests/s at most, judged at {rate:.0}; one move every {EVERY:?}.\n"
    ));
    report.line("| round | moved | swaps | p50, ms | p99, ms | p99.9, ms | max, ms |\n|---|---|---|---|---|---|---|");
    let (mut swap, mut control) = (Vec::new(), Vec::new());
    let mut p99 = (Vec::new(), Vec::new());
    for (round, (moved, from, to, swapped)) in windows.into_iter().enumerate() {
        let mut latencies = within(&samples, from, to);
        let line = quantiles(&mut latencies);
        report.line(format!("| {} | {moved} | {swapped} | {line} |", round + 1));
        let (all, of_rounds) = match moved {
            "scale" => (&mut swap, &mut p99.0),
            _ => (&mut control, &mut p99.1),
        };
        of_rounds.push(quantile(&mut latencies, 0.99));
        all.extend(latencies);
    }
    let (line, against) = (quantiles(&mut swap), quantiles(&mut control));
    report.line(format!("| all | scale | | {line} |"));
    report.line(format!("| all | other | | {against} |"));
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    let all = ratio(quantile(&mut swap, 0.99), quantile(&mut control, 0.99));
    let median = ratio(quantile(&mut p99.0, 0.5), quantile(&mut p99.1, 0.5));
    report.bar("p99 of all by the control's", all, 1.5, "");
    report.bar(
        "median of the rounds' p99 by the control's",
        median,
        1.5,
        "",
    );
    report.never("failed requests", &failures);
    server.terminate().await;
    report
}
