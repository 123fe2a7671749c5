//! Models in processes of their own: the same answers, and a crash that ends nothing else.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::lifecycle::swap::scene::{counter, until};
use crate::support::server::{Server, Starter, project};

const RESTARTS: &str = r#"onstage_worker_restarts_total{model="iris"}"#;

/// Servers of example packages, with `iris` in a process of its own.
async fn serve(models: &[&str], flags: &[&str], settings: &str) -> (Server, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("onstage.toml");
    let isolated = models.iter().map(|model| {
        let own = if *model == "iris" { settings } else { "" };
        let isolation = if *model == "penguins" {
            "none"
        } else {
            "process"
        };
        format!("[models.{model}]\nisolation = '{isolation}'\n{own}\n")
    });
    fs::write(&config, isolated.collect::<String>()).unwrap();
    let paths: Vec<String> = { models.iter() }
        .map(|model| format!("model-examples/{model}"))
        .collect();
    let mut arguments: Vec<&str> = paths.iter().map(String::as_str).collect();
    arguments.extend(["--config", config.to_str().unwrap()]);
    arguments.extend(flags);
    (Server::start(&arguments).await, directory)
}

/// The number of the last worker's process, by the log.
async fn worker(server: &Server) -> u32 {
    let log = server.logged(&["a worker serves"]).await;
    let line = log.lines().rfind(|line| line.contains("a worker serves"));
    let line = line.expect("it is there");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["process"].as_u64().unwrap().try_into().unwrap()
}

fn signal(process: u32, name: &str) {
    let script = format!("kill -{name} {process}");
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .status();
    assert!(status.unwrap().success());
}

/// Whether it runs; what nobody has waited for yet does not.
fn runs(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat"));
    status.is_ok_and(|status| !status.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

fn request_of(model: &str) -> String {
    fs::read_to_string(
        project()
            .join("model-examples")
            .join(model)
            .join("request.json"),
    )
    .unwrap()
}

async fn predict(server: &Server, model: &str) -> (u16, Option<String>, Vec<u8>) {
    let path = format!("/models/{model}/invocations");
    let request = server.request(Method::POST, &path);
    let request = request.header("content-type", "application/json");
    let response = request.body(request_of(model)).send().await.unwrap();
    let retry = response.headers().get("retry-after");
    let retry = retry.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    (status, retry, response.bytes().await.unwrap().to_vec())
}

/// Requests sent, and the status and `retry-after` of those that failed.
type Told = (u64, Vec<(u16, Option<String>)>);

/// Requests without a pause; the status and `retry-after` of each that failed.
struct Steady {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Told>>,
}

impl Steady {
    fn start(server: &Arc<Server>, model: &'static str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..clients).map(|_| {
            let (server, stop) = (Arc::clone(server), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut sent, mut failed) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let (status, retry, _) = predict(&server, model).await;
                    sent += 1;
                    if status != 200 {
                        failed.push((status, retry));
                    }
                }
                (sent, failed)
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    async fn end(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let (mut sent, mut failed) = (0, Vec::new());
        for task in self.tasks {
            let (more, others) = task.await.unwrap();
            sent += more;
            failed.extend(others);
        }
        (sent, failed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_ends_one_model_for_a_moment_and_no_other() {
    let (server, _files) = serve(&["iris", "penguins"], &["--engine", "onnxruntime"], "").await;
    let server = Arc::new(server);
    let other = Steady::start(&server, "penguins", 2);
    let own = Steady::start(&server, "iris", 4);
    for crash in 1..=2u64 {
        sleep(Duration::from_millis(200)).await;
        let before = worker(&server).await;
        signal(before, "ABRT");
        until("no worker takes its place", &server, async || {
            worker(&server).await != before && counter(&server, RESTARTS).await == crash
        })
        .await;
        until("the model does not answer again", &server, async || {
            predict(&server, "iris").await.0 == 200
        })
        .await;
    }
    let (sent, failed) = other.end().await;
    assert!(sent > 20 && failed.is_empty(), "{sent}: {failed:?}");
    let (sent, failed) = own.end().await;
    assert!(sent > 20 && !failed.is_empty(), "{sent}: {failed:?}");
    for (status, retry) in failed {
        assert_eq!(status, 503);
        assert!(retry.is_some(), "a client is told when to try again");
    }
    server.logged(&["it was ended by signal 6"]).await;
    assert_eq!(server.get("/v2/health/ready").await.status(), 200);
}

/// In ONNX Runtime 1.32 this division raises a signal on x86-64, as the processor's own instruction does.
#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn a_request_that_crashes_the_engine_is_not_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let graph = crate::support::onnx::Parts::default()
        .node("Div", &["x", "minus_one"], "y")
        .integers("minus_one", &[u64::MAX])
        .value(true, "x", 7, &[0])
        .value(false, "y", 7, &[0]);
    let path = directory.path().join("divide.onnx");
    crate::support::onnx::save(&graph.model(), &path);
    let config = directory.path().join("onstage.toml");
    fs::write(&config, "[models.divide]\nisolation = 'process'\n").unwrap();
    let (path, config) = (path.to_str().unwrap(), config.to_str().unwrap());
    let server = Server::start(&[path, "--engine", "onnxruntime", "--config", config]).await;
    let infer = async |number: i64| {
        let input = serde_json::json!({
            "name": "x", "datatype": "INT64", "shape": [1], "data": [number]
        });
        let body = serde_json::json!({ "inputs": [input] }).to_string();
        server.post_json("/v2/models/divide/infer", body).await
    };
    assert_eq!(infer(5).await.1["outputs"][0]["data"][0], -5);
    let (status, answer) = infer(i64::MIN).await;
    assert_eq!(status, 503, "{answer}");
    until("the model does not answer again", &server, async || {
        infer(7).await.1["outputs"][0]["data"][0] == -7
    })
    .await;
    let restarts = r#"onstage_worker_restarts_total{model="divide"}"#;
    assert_eq!(counter(&server, restarts).await, 1, "{}", server.stderr());
}

#[tokio::test]
async fn answers_are_the_same_bit_for_bit() {
    let models = ["iris", "diabetes", "wine", "digits", "spam"];
    let (isolated, _files) = serve(&models, &["--engine", "onnxruntime"], "").await;
    let paths = models.map(|model| format!("model-examples/{model}"));
    let mut arguments: Vec<&str> = paths.iter().map(String::as_str).collect();
    arguments.extend(["--engine", "onnxruntime"]);
    let plain = Server::start(&arguments).await;
    for model in models {
        let (status, _, expected) = predict(&plain, model).await;
        assert_eq!(status, 200, "{model}");
        let (status, _, answer) = predict(&isolated, model).await;
        assert_eq!(status, 200, "{model}");
        assert_eq!(answer, expected, "{model}");
    }
    let path = "/v2/models/iris/infer";
    let wrong =
        r#"{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}"#;
    let expected = plain.post_json(path, wrong).await;
    assert_eq!(isolated.post_json(path, wrong).await, expected);
    let workers = || isolated.stderr().matches("a worker serves").count();
    until("one for each model", &isolated, async || {
        workers() == models.len()
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_at_the_deadline() {
    let timeout = "request_timeout = '500ms'";
    let (server, _files) = serve(&["iris"], &["--engine", "tract"], timeout).await;
    assert_eq!(predict(&server, "iris").await.0, 200);
    let hanging = worker(&server).await;
    signal(hanging, "STOP");
    assert_eq!(predict(&server, "iris").await.0, 504);
    until("the model does not answer again", &server, async || {
        predict(&server, "iris").await.0 == 200
    })
    .await;
    until("another one serves", &server, async || {
        worker(&server).await != hanging
    })
    .await;
    assert!(!runs(hanging));
    assert_eq!(counter(&server, RESTARTS).await, 1);
    server.logged(&["was killed"]).await;
}

/// Without a process of its own, an engine is stopped between two operators.
#[rstest]
#[case("tract")]
#[case("onnxruntime")]
#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_makes_way(#[case] engine: &str) {
    const OPERATORS: usize = 100;
    const WIDTH: u64 = 256;
    let mut graph = crate::support::onnx::Parts::default()
        .filled("widen", &[1, WIDTH], 1.0)
        .filled("again", &[WIDTH, WIDTH], 1.0 / 256.0)
        .filled("narrow", &[WIDTH, 1], 1.0)
        .node("MatMul", &["x", "widen"], "h0");
    for operator in 0..OPERATORS {
        let (from, to) = (format!("h{operator}"), format!("h{}", operator + 1));
        graph = graph.node("MatMul", &[&from, "again"], &to);
    }
    let graph = graph
        .node("MatMul", &[&format!("h{OPERATORS}"), "narrow"], "y")
        .value(true, "x", 1, &[0, 1])
        .value(false, "y", 1, &[0, 1]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.onnx");
    crate::support::onnx::save(&graph.model(), &path);
    let config = directory.path().join("onstage.toml");
    let settings = "[models.long]\nrequest_timeout = '2s'\n[models.long.batching]\ninstances = 1\n";
    fs::write(&config, settings).unwrap();
    let (path, config) = (path.to_str().unwrap(), config.to_str().unwrap());
    let server = Server::start(&[path, "--engine", engine, "--config", config]).await;
    let infer = async |rows: usize| {
        let input = serde_json::json!({
            "name": "x", "datatype": "FP32", "shape": [rows, 1], "data": vec![1.0; rows]
        });
        let body = serde_json::json!({ "inputs": [input] }).to_string();
        server.post_json("/v2/models/long/infer", body).await.0
    };
    assert_eq!(infer(1).await, 200);
    assert_eq!(infer(32_768).await, 504);
    // It would wait for the rest of the long one otherwise, far beyond its own deadline.
    let answers = [infer(1).await, infer(1).await];
    assert!(answers.contains(&200), "{answers:?}");
}

#[tokio::test]
async fn a_worker_ends_with_its_server() {
    let (server, _files) = serve(&["iris"], &["--engine", "tract"], "").await;
    let process = worker(&server).await;
    assert!(runs(process));
    // As `kill -9` would end it.
    drop(server);
    for _ in 0..500 {
        if !runs(process) {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!runs(process), "an orphan");

    let (server, _files) = serve(&["iris"], &["--engine", "tract"], "").await;
    let process = worker(&server).await;
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    for _ in 0..500 {
        if !runs(process) {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!runs(process), "an orphan");
}

#[tokio::test]
async fn a_worker_has_no_socket_that_listens_and_no_socket_of_a_client() {
    let (server, _files) = serve(&["iris"], &["--engine", "tract"], "").await;
    assert_eq!(predict(&server, "iris").await.0, 200);
    let mut internet = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        let inode = |line: &str| line.split_whitespace().nth(9).map(str::to_owned);
        internet.extend(text.lines().skip(1).filter_map(inode));
    }
    assert!(internet.len() > 1, "{internet:?}");
    let files = fs::read_dir(format!("/proc/{}/fd", worker(&server).await)).unwrap();
    let links = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| {
            let link = link.to_str()?.to_owned();
            let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    assert!(!sockets.is_empty(), "it speaks to its server over one");
    let inherited: Vec<&String> = sockets
        .iter()
        .filter(|socket| internet.contains(*socket))
        .collect();
    assert!(inherited.is_empty(), "{inherited:?}");
}

#[tokio::test]
async fn the_command_of_workers_is_for_servers_only() {
    let ended = Starter::command(&["worker", "--settings", "{}"])
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    let help = Starter::command(&["--help"]).run().await;
    assert!(!help.stdout.contains("worker"), "{}", help.stdout);
}
