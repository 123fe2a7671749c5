//! The log: which requests get a line, what is in it, and that it stands in nobody's way.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::lifecycle::operations::{BODY, IRIS, copy_iris, iris, metrics, sample};
use crate::protocols::http::RawRequest;
use crate::support::server::{Server, Starter};

/// The lines of the access log so far.
fn access_log(stderr: &str) -> Vec<Value> {
    let lines = stderr.lines().map(|line| {
        serde_json::from_str::<Value>(line)
            .unwrap_or_else(|error| panic!("a line of the log is no JSON ({error}): {line}"))
    });
    lines
        .filter(|line| line["target"] == "onstage::access")
        .collect()
}

async fn one_request_of_each_kind(server: &Server) {
    for path in [
        "/ping",
        "/health",
        "/version",
        "/metrics",
        "/v2/health/live",
        "/v2/health/ready",
    ] {
        server.get(path).await;
    }
    server.post_json("/invocations", BODY).await;
    let request = server
        .request(Method::POST, "/models/rose/invocations")
        .header("content-type", "application/json")
        .header("x-request-id", "the-one")
        .body(BODY);
    assert_eq!(request.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_access_log_has_errors_only_by_default() {
    let server = iris(&[]).await;
    one_request_of_each_kind(&server).await;
    let ended = server.terminate().await;
    let lines = access_log(&ended.stderr);
    let [line] = lines.as_slice() else {
        panic!("one line is wanted: {lines:#?}");
    };
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/models/rose/invocations");
    assert_eq!(line["status"], 404);
    assert_eq!(line["request_id"], "the-one");
    assert!(line["took_ms"].is_number(), "{line}");
}

#[tokio::test]
async fn the_access_log_has_everything_but_probes_when_asked() {
    let server = iris(&["--access-log", "all"]).await;
    one_request_of_each_kind(&server).await;
    let ended = server.terminate().await;
    let lines = access_log(&ended.stderr);
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["path"].as_str().unwrap(),
                line["status"].as_u64().unwrap(),
                line["model"].as_str().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("/invocations", 200, "iris"),
        ("/models/rose/invocations", 404, "-"),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_log_line_cannot_be_forged_through_a_path() {
    let server = iris(&[]).await;
    let path = "/models/a%0A%7B%22level%22%3A%22FORGED%22%7D%1b%5B31m/invocations";
    let request = RawRequest {
        method: "POST",
        path,
        headers: vec![("Content-Type", "application/json")],
        body: Some(BODY.into()),
    };
    let response = request.send(server.address()).await.unwrap();
    assert_eq!(response.status, 404);
    let ended = server.terminate().await;
    assert_eq!(access_log(&ended.stderr).len(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains('\x1b'), "{}", ended.stderr);
}

/// Who starts a server from a program and forgets its stderr has a pipe that fills up after 64 KiB.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let starter = Starter::serve(&[&IRIS[..], &["--log-level", "trace"]].concat());
    let server = starter.with_unread_stderr().start().await;
    let lost = |metrics: &str| sample(metrics, "onstage_log_lines_lost_total", &[]).unwrap();
    assert_eq!(lost(&metrics(&server).await), 0.0, "nothing was lost yet");
    let deadline = Instant::now() + Duration::from_secs(60);
    while lost(&metrics(&server).await) == 0.0 {
        assert!(Instant::now() < deadline, "more lines than the queue takes");
        for _ in 0..100 {
            let (status, answer) = server.post_json("/invocations", BODY).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
    let ended = server.terminate().await;
    assert!(ended.status.success(), "{}", ended.status);
}

/// MLflow names CUDA in every package that is logged without a list of providers.
#[tokio::test]
async fn providers_of_packages_that_are_not_here_are_told_once() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["one", "two", "three"] {
        let package = directory.path().join(name);
        copy_iris(&package);
        let manifest = package.join("MLmodel");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let provider = "    - CPUExecutionProvider\n";
        let both = format!("    - CUDAExecutionProvider\n{provider}");
        std::fs::write(&manifest, text.replace(provider, &both)).unwrap();
    }
    let path = directory.path().to_str().unwrap();
    let server = Starter::serve(&[path, "--engine", "onnxruntime"]).with_onnxruntime();
    let ended = server.start().await.terminate().await;
    let lines = ended.stderr.lines();
    let lines: Vec<&str> = lines.filter(|line| line.contains("CUDA")).collect();
    let [line] = lines.as_slice() else {
        panic!("one line is wanted: {lines:#?}");
    };
    let fix = r#"onnx_execution_providers=[\"CPUExecutionProvider\"]"#;
    assert!(line.contains("INFO") && line.contains(fix), "{line}");
}
