//! What many servers cost the registry that they follow.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::Scale;
use crate::mlflow_server::{MlflowClient, MlflowServer};
use crate::process::Usage;
use crate::report::Report;
use crate::server::Server;

/// How long all models may take to be loaded by all servers.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn run(scale: &Scale) -> Report {
    let (servers, models) = (scale.of(20, 4), scale.of(50, 5));
    let time = Duration::from_secs(scale.of(120, 20) as u64);
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    for model in 1..=models {
        // Two versions each, of which the second one is only moved to at the end.
        for expression in [
            format!("register('m{model}', times(1))"),
            format!("register('m{model}', times(2))"),
            format!("client.set_registered_model_alias('m{model}', 'champion', '1')"),
        ] {
            python.eval(&expression).await;
        }
    }
    let mut fleet = Vec::new();
    for number in 0..servers {
        let cache = mlflow.home().join(format!("cache-{number}"));
        let arguments = [
            ["--registry", &mlflow.url],
            ["--follow", "@champion"],
            ["--cache-dir", cache.to_str().unwrap()],
            ["--engine", &scale.engine],
        ];
        fleet.push(Server::start(&arguments.concat()).await);
    }
    let began = Instant::now();
    for server in &fleet {
        until_all_serve(server, models, began).await;
    }
    let started = began.elapsed();
    let before = requests(&mlflow);
    sleep(time).await;
    let quiet = (requests(&mlflow) - before) as f64 / time.as_secs_f64();

    let before = requests(&mlflow);
    let moves = scale.of(10, 2);
    for model in 1..=moves {
        let moved = format!("client.set_registered_model_alias('m{model}', 'champion', '2')");
        python.eval(&moved).await;
        sleep(time / moves as u32).await;
    }
    let moving = requests(&mlflow) - before;
    let per_move = (moving as f64 - quiet * time.as_secs_f64()) / (moves * servers) as f64;
    let mut report = Report::default();
    let memory: f64 = fleet
        .iter()
        .map(|server| Usage::of(server.process_id()).resident_mb)
        .sum();
    report.line(format!(
        "{servers} servers, {models} models, polled every 5 s (the default); all were loaded {:.0} s after the last server's \
         start, a server holds {:.1} MB. A swap costs {per_move:.1} requests for each server.",
        started.as_secs_f64(),
        memory / servers as f64
    ));
    report.bar("requests/s at the MLflow server", quiet, 5.0, "");
    report
}

/// Lines of the MLflow server's access log.
fn requests(mlflow: &MlflowServer) -> usize {
    let log = std::fs::read_to_string(mlflow.home().join("log")).expect("it is kept");
    log.matches(" HTTP/1.1\" ").count()
}

async fn until_all_serve(server: &Server, models: usize, began: Instant) {
    loop {
        let (_, index) = server.post_json("/v2/repository/index", "{}").await;
        let entries = index.as_array().map_or(&[][..], Vec::as_slice);
        let ready = |entry: &&Value| entry["state"] == "READY";
        if entries.iter().filter(ready).count() == models {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{index}");
        sleep(Duration::from_millis(200)).await;
    }
}
