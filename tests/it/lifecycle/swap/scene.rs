//! What the tests of swaps share: models whose answers tell their version, a registry of files, and load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::support::server::{Server, Starter};

/// Long enough for a poll of half a second and a load on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request whose answer tells the version: version N multiplies by N.
pub(crate) async fn ask(server: &Server, path: &str) -> (u16, Option<String>, Value) {
    let request = server.request(reqwest::Method::POST, path);
    let response = request
        .json(&json!({ "inputs": [[1.0]] }))
        .send()
        .await
        .unwrap();
    let version = response.headers().get("x-model-version");
    let version = version.map(|version| version.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    (status, version, response.json().await.unwrap())
}

/// The version that answers on `path`; the header and the prediction must agree.
pub(crate) async fn version(server: &Server, path: &str) -> u64 {
    let (status, header, answer) = ask(server, path).await;
    assert_eq!(status, 200, "{answer}");
    let predicted = answer["predictions"]["y"][0][0].as_f64().unwrap();
    assert_eq!(
        header.unwrap(),
        format!("{predicted}"),
        "one version answers, not two"
    );
    format!("{predicted}").parse().unwrap()
}

pub(crate) async fn until_version(server: &Server, path: &str, expected: u64) -> Duration {
    let started = Instant::now();
    let wait = async {
        while version(server, path).await != expected {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!(
            "version {expected} never came on stage: {}",
            server.stderr()
        );
    }
    started.elapsed()
}

pub(crate) async fn until(what: &str, server: &Server, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("{what}: {}", server.stderr());
    }
}

/// Waits until this version answers on `path`.
pub(crate) async fn until_answering(server: &Server, path: &str, version: u64) {
    until("the version never came", server, async || {
        answering(server, path).await == Some(version)
    })
    .await;
}

pub(crate) async fn metrics(server: &Server) -> String {
    server.get("/metrics").await.text().await.unwrap()
}

/// The value of a counter, given with its labels as `/metrics` writes them; 0 while there is none.
pub(crate) async fn counter(server: &Server, series: &str) -> u64 {
    let text = metrics(server).await;
    let value = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

/// How often a version could not go on stage, or was taken back.
pub(crate) async fn candidate_failures(server: &Server) -> u64 {
    let text = metrics(server).await;
    let series = "onstage_candidate_failures_total{";
    let lines = text.lines().filter(|line| line.starts_with(series));
    let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    counts.sum()
}

/// A server that follows the champions of the registry at `uri`.
pub(crate) async fn follow(uri: &str, flags: &[&str]) -> Server {
    let champions = ["--registry", uri, "--follow", "@champion"];
    Server::start(&[&champions, flags].concat()).await
}

/// Requests without a pause, and how many of them failed.
pub(crate) struct Load {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

/// Where MLflow's protocol, V1 and the Open Inference Protocol have the first number of `y`.
const FIRST_NUMBERS: [&str; 3] = [
    "/predictions/y/0/0",
    "/predictions/0/0",
    "/outputs/0/data/0",
];

fn first_number(answer: &Value) -> &Value {
    let found = FIRST_NUMBERS.iter().find_map(|path| answer.pointer(path));
    found.unwrap_or(&Value::Null)
}

impl Load {
    pub(crate) fn start(server: &Server, path: &str, clients: usize) -> Self {
        Self::with(server, path, clients, &json!({ "inputs": [[1.0]] }))
    }

    pub(crate) fn with(server: &Server, path: &str, clients: usize, body: &Value) -> Self {
        Self::at(&server.url(path), clients, body)
    }

    pub(crate) fn at(url: &str, clients: usize, body: &Value) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let tasks = (0..clients).map(|_| {
            let body = body.clone();
            let (stop, sent, url) = (Arc::clone(&stop), Arc::clone(&sent), url.to_owned());
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.post(&url).json(&body).send().await {
                        Ok(response) if response.status() == 200 => {
                            let header = response.headers()["x-model-version"]
                                .to_str()
                                .unwrap()
                                .to_owned();
                            let answer: Value = response.json().await.unwrap();
                            let predicted = first_number(&answer);
                            let told = predicted.as_f64().map(|number| number.to_string());
                            if told.as_ref() != Some(&header) {
                                failures.push(format!("version {header} answered {predicted}"));
                            }
                        }
                        Ok(response) => failures.push(format!("{}", response.status())),
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
                failures
            })
        });
        let tasks = tasks.collect();
        Self { stop, sent, tasks }
    }

    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        (self.sent.load(Ordering::Relaxed), failures)
    }
}

pub(crate) async fn registry(arguments: &[&str]) {
    let command = [&["registry"], arguments].concat();
    let ended = Starter::command(&command).run().await;
    assert_eq!(
        ended.status.code(),
        Some(0),
        "{arguments:?}: {}",
        ended.stderr
    );
}

/// A registry of files in which version N of model `scale` multiplies by the N-th factor; version 1 is the champion.
pub(crate) struct Files {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) models: String,
}

impl Files {
    pub(crate) async fn of(factors: &[f32]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let models = directory.path().join("models").to_str().unwrap().to_owned();
        let files = Self { directory, models };
        for (index, factor) in factors.iter().enumerate() {
            let graph = files.directory.path().join(format!("{index}.onnx"));
            crate::support::onnx::save(&crate::support::onnx::times(*factor), &graph);
            let package = files.directory.path().join(format!("package-{index}"));
            let (graph, package) = (graph.to_str().unwrap(), package.to_str().unwrap());
            let made = Starter::command(&["package", graph, "-o", package])
                .run()
                .await;
            assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
            registry(&["register", "scale", package, "--registry", &files.models]).await;
        }
        files.promote(1).await;
        files
    }

    pub(crate) async fn promote(&self, version: u64) {
        let version = version.to_string();
        registry(&[
            "alias",
            "scale",
            "champion",
            &version,
            "--registry",
            &self.models,
        ])
        .await;
    }

    /// A server that follows the champion, with these settings for the model.
    pub(crate) async fn serve(&self, settings: &str, flags: &[&str]) -> Server {
        let config = self.directory.path().join("onstage.toml");
        std::fs::write(&config, format!("[models.scale]\n{settings}\n")).unwrap();
        let config = config.to_str().unwrap();
        let follow = [
            "--registry",
            &self.models,
            "--follow",
            "@champion",
            "--config",
            config,
        ];
        Server::start(&[&follow, flags].concat()).await
    }
}

/// The version that answers; the prediction is not looked at.
pub(crate) async fn answering(server: &Server, path: &str) -> Option<u64> {
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let request = server.request(reqwest::Method::POST, path).json(&body);
    let response = request.send().await.unwrap();
    let version = response.headers().get("x-model-version")?;
    version.to_str().unwrap().parse().ok()
}

/// The loaded versions, by the repository index.
pub(crate) async fn loaded(server: &Server) -> Vec<u64> {
    let (_, index) = server.post_json("/v2/repository/index", "{}").await;
    let ready = index
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["state"] == "READY");
    ready
        .map(|entry| entry["version"].as_str().unwrap().parse().unwrap())
        .collect()
}
