//! Latency at half of the capacity, from the intended time of sending; with all of the machine, and with a quota of one
//! CPU.

use std::path::PathBuf;
use std::time::Duration;

use crate::Scale;
use crate::bodies::{Form, iris};
use crate::client::Request;
use crate::contender::Contender;
use crate::load::{OpenLoop, capacity, quantiles};
use crate::report::{Median, Report, quantile};

const SHARE: f64 = 0.5;

/// Latencies of one stretch at this rate.
fn stretch(request: &Request, rate: f64, seconds: u64) -> Vec<Duration> {
    let load = OpenLoop::start(request, rate);
    std::thread::sleep(Duration::from_secs(seconds));
    let (samples, failures) = load.end();
    assert!(failures.is_empty(), "{failures:?}");
    samples.iter().map(|sample| sample.took).collect()
}

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    let constant = Contender::constant();
    let mut contenders = vec![constant];
    for engine in ["tract", "onnxruntime"] {
        contenders
            .push(Contender::onstage(engine, &["model-examples/iris", "--engine", engine]).await);
    }
    let requests: Vec<Request> = contenders
        .iter()
        .map(|contender| iris(contender.address, Form::Invocations))
        .collect();
    let most = requests[1..].iter().map(|request| {
        capacity(request, Duration::from_secs(2));
        capacity(request, Duration::from_secs(3))
    });
    let rate = most.fold(f64::INFINITY, f64::min) * SHARE;
    let rounds = scale.of(9, 2);
    let mut all: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    let mut p99: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let mut base = Vec::new();
    for _ in 0..rounds {
        for (index, request) in requests.iter().enumerate() {
            let mut latencies = stretch(request, rate, 3);
            if index == 0 {
                base.push(quantile(&mut latencies, 0.5).as_secs_f64());
            }
            p99[index].push(quantile(&mut latencies, 0.99).as_secs_f64());
            all[index].extend(latencies);
        }
    }
    report.line(format!(
        "iris, {rate:.0} requests/s on 16 connections, {rounds} stretches of 3 s each\n"
    ));
    report.line("| | p50, ms | p99, ms | p99.9, ms | max, ms |\n|---|---|---|---|---|");
    for (contender, latencies) in contenders.iter().zip(&mut all) {
        report.line(format!("| {} | {} |", contender.name, quantiles(latencies)));
    }
    for (contender, p99) in contenders.iter().zip(&p99).skip(1) {
        let ratios = p99.iter().zip(&base).map(|(p99, p50)| p99 / p50);
        let what = format!("iris, {}: p99 by the constant server's p50", contender.name);
        report.bar(&what, Median::of(ratios).value, 10.0, "");
    }
    report
}

/// A control group with a quota of one CPU, under version 1 or 2 of the kernel's interface.
struct Group {
    directory: PathBuf,
}

impl Group {
    fn new() -> std::io::Result<Self> {
        let name = format!("onstage-bench-{}", std::process::id());
        let first = PathBuf::from("/sys/fs/cgroup/cpu");
        let is_first = first.is_dir();
        let root = if is_first {
            first
        } else {
            PathBuf::from("/sys/fs/cgroup")
        };
        let directory = root.join(name);
        std::fs::create_dir(&directory)?;
        let group = Self { directory };
        if is_first {
            group.set("cpu.cfs_period_us", "100000")?;
            group.set("cpu.cfs_quota_us", "100000")?;
        } else {
            group.set("cpu.max", "100000 100000")?;
        }
        Ok(group)
    }

    fn set(&self, file: &str, value: &str) -> std::io::Result<()> {
        std::fs::write(self.directory.join(file), value)
    }

    fn enter(&self) {
        self.set("cgroup.procs", &std::process::id().to_string())
            .unwrap();
    }

    fn leave(&self) {
        let above = self.directory.parent().unwrap();
        std::fs::write(above.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }

    /// Periods so far, and how many of them were cut short.
    fn periods(&self) -> (f64, f64) {
        let text = std::fs::read_to_string(self.directory.join("cpu.stat")).unwrap();
        let field = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0.0, |value| value.trim().parse().unwrap())
        };
        (field("nr_periods "), field("nr_throttled "))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.directory);
    }
}

pub(crate) async fn quota(scale: Scale) -> Report {
    let mut report = Report::default();
    let group = match Group::new() {
        Ok(group) => group,
        Err(error) => {
            report.line(format!(
                "Not measured: no control group may be made here ({error})."
            ));
            return report;
        }
    };
    report.line("| server | requests/s | p50, ms | p99, ms | p99.9, ms | max, ms | throttled periods |\n|---|---|---|---|---|---|---|");
    for engine in ["none", "tract", "onnxruntime"] {
        // Started inside, as it counts its CPUs when it starts: what this process starts is where this process is.
        group.enter();
        let server = match engine {
            "none" => Contender::constant(),
            _ => Contender::onstage(engine, &["model-examples/iris", "--engine", engine]).await,
        };
        group.leave();
        let request = iris(server.address, Form::Invocations);
        capacity(&request, Duration::from_secs(2));
        let rate = capacity(&request, Duration::from_secs(4)) * SHARE;
        std::thread::sleep(Duration::from_secs(1));
        let before = group.periods();
        let mut ratios = Vec::new();
        let mut all = Vec::new();
        for _ in 0..scale.of(9, 2) {
            let mut latencies = stretch(&request, rate, 3);
            let at =
                |share, latencies: &mut Vec<Duration>| quantile(latencies, share).as_secs_f64();
            ratios.push(at(0.99, &mut latencies) / at(0.5, &mut latencies));
            all.extend(latencies);
        }
        let after = group.periods();
        let throttled = (after.1 - before.1) / (after.0 - before.0).max(1.0);
        report.line(format!(
            "| {} | {rate:.0} | {} | {:.1} % |",
            server.name,
            quantiles(&mut all),
            throttled * 100.0
        ));
        if engine == "none" {
            let times = Median::of(ratios).value;
            report.line(format!("| its p99 by its p50 | | | {times:.1} | | | |"));
            continue;
        }
        report.bar(
            &format!("{engine}, one CPU: p99 by p50"),
            Median::of(ratios).value,
            3.0,
            "",
        );
        report.bar(
            &format!("{engine}, one CPU: throttled periods"),
            throttled * 100.0,
            5.0,
            " %",
        );
    }
    report
}
