//! A version that loads, keeps the contract and fails on every row, on every protocol and by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use onstage::protocol::inference::ModelInferRequest;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::scene::{Files, Load, answering, counter, metrics, registry, until};
use crate::lifecycle::faults::failing::gather;
use crate::protocols::grpc;
use crate::support::onnx::{Parts, save};
use crate::support::server::{Server, Starter};

const PATH: &str = "/models/scale/invocations";

/// Registers a graph as the next version of `scale`, with an example where there is one.
async fn register(files: &Files, graph: Parts, name: &str, example: Option<&str>) {
    let file = files.directory.path().join(format!("{name}.onnx"));
    save(&graph.model(), &file);
    let package = files.directory.path().join(name);
    let (file, package) = (file.to_str().unwrap(), package.to_str().unwrap());
    let made = Starter::command(&["package", file, "-o", package])
        .run()
        .await;
    assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
    if let Some(rows) = example {
        crate::lifecycle::faults::example(std::path::Path::new(package), rows);
    }
    registry(&["register", "scale", package, "--registry", &files.models]).await;
}

/// Versions of `scale`: 1 is good, 2 fails on each row, 3 fails and has an example.
async fn scene(flags: &[&str]) -> (Files, Server) {
    let files = Files::of(&[1.0]).await;
    register(&files, gather(), "gather", None).await;
    let rows = r#"{"inputs": [[1.0, 2.0]]}"#;
    register(&files, gather(), "gather-example", Some(rows)).await;
    let server = files
        .serve("", &[flags, &["--poll-interval", "200ms"]].concat())
        .await;
    (files, server)
}

async fn counted(server: &Server, reason: &str) -> bool {
    let line = format!(r#"onstage_candidate_failures_total{{model="scale",reason="{reason}"}} 1"#);
    metrics(server).await.contains(&line)
}

async fn assert_status_says(server: &Server, words: &str) {
    let status = Starter::command(&["status", "--url", &server.url("")]);
    let text = status.run().await.stdout;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(line.contains(words), "{words}: {text}");
}

#[rstest]
#[case::mlflow(PATH, json!({ "inputs": [[1.0, 1.0]] }))]
#[case::v1("/v1/models/scale:predict", json!({ "instances": [[1.0, 1.0]] }))]
#[case::v2("/v2/models/scale/infer", json!({ "inputs": [
    { "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 1.0] },
] }))]
#[tokio::test]
async fn a_version_that_fails_on_every_row_is_taken_back_and_no_client_feels_it(
    #[case] path: &str,
    #[case] body: Value,
) {
    let (files, server) = scene(&["--engine", "onnxruntime"]).await;
    let load = Load::with(&server, path, 8, &body);
    files.promote(2).await;
    until("it is never taken back", &server, async || {
        counted(&server, "probation").await
    })
    .await;
    assert_eq!(answering(&server, PATH).await, Some(1));
    for words in ["requests failed", "errors of the engine", "version 1"] {
        assert_status_says(&server, words).await;
    }
    files.promote(3).await;
    until("its example is not tried", &server, async || {
        counted(&server, "example").await
    })
    .await;
    assert_eq!(answering(&server, PATH).await, Some(1));
    let (sent, failed) = load.end().await;
    assert!(sent > 50 && failed.is_empty(), "{sent}: {failed:?}");
    let errors = r#"onstage_engine_errors_total{model="scale",reason="run",version="2"}"#;
    let errors = counter(&server, errors).await;
    assert!((20..200).contains(&errors), "{errors} requests reached it");
    assert_status_says(&server, "the input example of the package fails").await;
    let log = server.stderr();
    let lines = log
        .lines()
        .filter(|line| line.contains("a run failed in the engine"));
    let lines: Vec<&str> = lines.collect();
    assert!((1..30).contains(&lines.len()), "{lines:?}");
    let line: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(
        (&line["level"], &line["reason"]),
        (&json!("WARN"), &json!("run"))
    );
    server.terminate().await;
}

/// The same over gRPC, where failures of the engine and of clients have one code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc_no_client_feels_it_either() {
    let (files, server) = scene(&["--engine", "onnxruntime"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let client = grpc::client(&server).await;
    let clients = (0..8).map(|_| {
        let (mut client, stop) = (client.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let request = ModelInferRequest {
                    model_name: "scale".to_owned(),
                    inputs: vec![grpc::input("x", "FP32", &[1, 2])],
                    raw_input_contents: vec![[1.0_f32; 2].map(f32::to_le_bytes).concat().into()],
                    ..ModelInferRequest::default()
                };
                client.model_infer(request).await.unwrap();
                sent += 1;
            }
            sent
        })
    });
    let clients: Vec<JoinHandle<u32>> = clients.collect();
    files.promote(2).await;
    until("it is never taken back", &server, async || {
        counted(&server, "probation").await
    })
    .await;
    assert_eq!(answering(&server, PATH).await, Some(1));
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<u32> = join_all(clients)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(sent.iter().all(|sent| *sent > 0), "{sent:?}");
    let errors = r#"onstage_engine_errors_total{model="scale",reason="run",version="2"}"#;
    let errors = counter(&server, errors).await;
    assert!((20..200).contains(&errors), "{errors} requests reached it");
}

#[tokio::test]
async fn a_version_in_doubt_that_has_nothing_to_fall_back_to_serves_with_a_warning() {
    let files = Files::of(&[1.0]).await;
    register(&files, gather(), "gather", None).await;
    files.promote(2).await;
    let server = files.serve("", &["--engine", "onnxruntime"]).await;
    server
        .logged(&["serves although it answered nothing"])
        .await;
    let requests = [
        (PATH, json!({ "inputs": [[1.0, 1.0]] })),
        (
            "/v1/models/scale:predict",
            json!({ "instances": [[1.0, 1.0]] }),
        ),
        (
            "/v2/models/scale/infer",
            json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 1.0] }] }),
        ),
    ];
    for (path, body) in &requests {
        let answer = server.post_json(path, body.to_string()).await;
        assert_eq!(answer.0, 400, "{path}: {}", answer.1);
    }
    for protocol in ["mlflow", "v1", "v2_rest"] {
        let series = format!(
            r#"onstage_requests_total{{model="scale",outcome="engine_error",protocol="{protocol}",version="2"}}"#
        );
        assert_eq!(counter(&server, &series).await, 1, "{protocol}");
    }
    server.terminate().await;
}

#[tokio::test]
async fn an_example_that_fails_keeps_a_first_version_off_unless_the_operator_lets_it_serve() {
    let files = Files::of(&[1.0]).await;
    let rows = r#"{"inputs": [[1.0, 2.0]]}"#;
    register(&files, gather(), "gather", Some(rows)).await;
    files.promote(2).await;
    let flags = ["--engine", "onnxruntime"];
    let server = files.serve("", &flags).await;
    until("its example is not tried", &server, async || {
        counted(&server, "example").await
    })
    .await;
    assert_eq!(answering(&server, PATH).await, None);
    server.terminate().await;
    let server = files.serve("example = 'warn'", &flags).await;
    server
        .logged(&["the package's own example fails in the engine"])
        .await;
    until("it does not serve", &server, async || {
        answering(&server, PATH).await == Some(2)
    })
    .await;
    server.terminate().await;
}

#[tokio::test]
async fn an_example_that_never_reaches_the_engine_is_worth_a_warning() {
    let files = Files::of(&[1.0]).await;
    let times = Parts::default()
        .value(true, "x", 1, &[0, 2])
        .value(false, "y", 1, &[0, 2])
        .filled("two", &[1], 2.0)
        .node("Mul", &["x", "two"], "y");
    let rows = r#"{"inputs": [[1.0, 2.0, 3.0]]}"#;
    register(&files, times, "odd", Some(rows)).await;
    files.promote(2).await;
    let server = files.serve("", &["--engine", "onnxruntime"]).await;
    server
        .logged(&["the package's own example is refused"])
        .await;
    until("it does not serve", &server, async || {
        answering(&server, PATH).await == Some(2)
    })
    .await;
    server.terminate().await;
}

#[tokio::test]
async fn verify_and_diff_say_what_a_server_would_find() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (good, bad) = (path("good.onnx"), path("bad.onnx"));
    save(&crate::support::onnx::times(2.0), good.as_ref());
    save(&gather().model(), bad.as_ref());
    let run = async |arguments: &[&str]| Starter::command(arguments).with_onnxruntime().run().await;
    let verified = run(&["verify", &bad]).await;
    assert_eq!(verified.status.code(), Some(1), "{}", verified.stdout);
    assert!(
        verified
            .stderr
            .contains("no engine gave an answer to any request"),
        "{}",
        verified.stderr
    );
    let differs = run(&["diff", &good, &bad]).await;
    assert_eq!(differs.status.code(), Some(1), "{}", differs.stdout);
    assert!(
        differs.stderr.contains("it fails on zeros, which"),
        "{}",
        differs.stderr
    );
    let same = run(&["diff", &good, &good]).await;
    assert_eq!(same.status.code(), Some(0), "{}", same.stderr);
    assert!(same.stdout.contains("answer zeros"), "{}", same.stdout);
}
