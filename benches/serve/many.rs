//! A thousand models in one process, and a thousand of which a tenth fits into memory.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Scale;
use crate::client::{Client, Request};
use crate::contender::Contender;
use crate::drive::Round;
use crate::process::Usage;
use crate::report::{Median, Report};
use crate::server::Starter;
use crate::turns::{Row, take};

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    let models = scale.of(1000, 200);
    let (one, many) = (directory(1), directory(models));
    let file = std::fs::metadata(many.path().join("m0.onnx"))
        .unwrap()
        .len();
    let start = |path: &Path| {
        let path = path.display().to_string();
        async move {
            Contender::onstage(
                "tract",
                &[&path, "--engine", "tract", "--default-model", "m0"],
            )
            .await
        }
    };
    // A directory with one graph in it is that graph, under the directory's name.
    let few = start(&one.path().join("m0.onnx")).await;
    let began = Instant::now();
    let full = start(many.path()).await;
    let started = began.elapsed().as_secs_f64();
    let resident = |contender: &Contender| Usage::of(contender.processes()[0]).resident_mb;
    let each = (resident(&full) - resident(&few)) * 1024.0 / models as f64;
    report.line(format!(
        "{models} models of {file} bytes: started in {started:.1} s, {:.1} MB with one and {:.1} MB with all, {each:.1} kB for \
         each.\n",
        resident(&few),
        resident(&full),
    ));
    report.bar("start of all, s", started, 60.0, "");
    report.bar(
        "memory for an idle model, kB",
        each,
        file as f64 / 1024.0 + 100.0,
        "",
    );
    let row = |what: &str, contender| Row {
        what: what.to_owned(),
        contender,
        request: Request::invocations(Contender::address(contender), "[1.0, 1.0]"),
    };
    let rows = [row("one model", &few), row("one of all", &full)];
    let rounds = take(&rows, 8, scale.of(15, 3), Duration::from_secs(1));
    rounds.table(&rows, &mut report);
    let cpu = rounds.ratio(1, 0, Round::cpu_us).value;
    report.bar("CPU for an answer by that with one model", cpu, 1.05, "");
    // Each model is asked once, so that it has all its series.
    for model in 0..models {
        ask(&full, model);
    }
    let scrapes = (0..scale.of(15, 3)).map(|_| scrape(&full));
    let scrape = Median::of(scrapes.collect::<Vec<_>>());
    report.line(format!("\n/metrics with all of them takes {scrape} ms."));
    report.bar("/metrics, ms", scrape.value, 100.0, "");
    drop((few, full));
    lazy(&mut report, &many, models, each).await;
    report
}

/// Models `m0`, `m1`, …, each of which multiplies by another number.
fn directory(models: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for model in 0..models {
        let file = directory.path().join(format!("m{model}.onnx"));
        crate::onnx::save(&crate::onnx::times(model as f32 + 1.0), &file);
    }
    directory
}

fn ask(contender: &Contender, model: usize) -> Duration {
    let path = format!("/models/m{model}/invocations");
    let request = Request::new(contender.address, &path, r#"{"inputs": [[1.0, 1.0]]}"#);
    let began = Instant::now();
    let answer = Client::connect(&request).unwrap().ask().unwrap();
    assert_eq!(
        (answer.status, answer.predicted),
        (200, Some(model as f64 + 1.0))
    );
    began.elapsed()
}

fn scrape(contender: &Contender) -> f64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(contender.address).unwrap();
    let began = Instant::now();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("onstage_requests_total{"));
    began.elapsed().as_secs_f64() * 1e3
}

/// Zipf's law: the model of rank n is asked for 1/n as often as the first.
async fn lazy(report: &mut Report, many: &TempDir, models: usize, each: f64) {
    // By the estimate that the budget goes by: 4 MB and twice the weights for each.
    let budget = format!("{}MiB", models / 10 * 4 + 4);
    let path = many.path().display().to_string();
    let arguments = [&*path, "--engine", "tract", "--lazy"];
    let starter = Starter::serve(&arguments).env("ONSTAGE_ENGINE__MEMORY_BUDGET", budget.clone());
    let server = Contender::started("lazy", starter.start().await);
    let weights: Vec<f64> = (1..=models).map(|rank| 1.0 / rank as f64).collect();
    let total: f64 = weights.iter().sum();
    let mut random: u64 = 7;
    let mut latencies = Vec::new();
    for _ in 0..models * 3 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut point = (random >> 11) as f64 / (1_u64 << 53) as f64 * total;
        let model = weights.iter().position(|weight| {
            point -= weight;
            point <= 0.0
        });
        latencies.push(ask(&server, model.unwrap_or(0)));
    }
    let resident = Usage::of(server.processes()[0]).resident_mb;
    let loaded = latencies
        .iter()
        .filter(|took| took.as_micros() > 1500)
        .count();
    report.line(format!(
        "\n`--lazy` with a budget of {budget}: {} requests by Zipf's law, all answered; about {loaded} of them waited for a load \
         (longer than 1.5 ms). {resident:.1} MB at the end; {each:.0} kB each when all are loaded.\n\n| p50 | p99 | p99.9 | max, ms |\n|---|---|---|---|\n| {} |",
        latencies.len(),
        crate::load::quantiles(&mut latencies),
    ));
}
