//! What an operator relies on: health, metrics, request ids, several models, limits and a clean end.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::Version;
use http_body_util::BodyExt as _;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

use crate::protocols::http::RawRequest;
use crate::support::onnx;
use crate::support::server::{Server, Starter, project};

pub(crate) const BODY: &str = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;
const V2_BODY: &str = r#"{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}"#;
pub(crate) const IRIS: [&str; 3] = ["model-examples/iris", "--engine", "tract"];

pub(crate) async fn iris(more: &[&str]) -> Server {
    Server::start(&[&IRIS, more].concat()).await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

pub(crate) fn copy_iris(to: &Path) {
    copy(&project().join("model-examples/iris"), to);
}

pub(crate) async fn metrics(server: &Server) -> String {
    let response = server.get("/metrics").await;
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().unwrap();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    response.text().await.unwrap()
}

/// The value of a series that has all these labels.
pub(crate) fn sample(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = metrics.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn metrics_count_requests_by_model_and_outcome() {
    let server = iris(&[]).await;
    server.post_json("/invocations", BODY).await;
    server
        .post_json("/invocations", r#"{"inputs": [[1]]}"#)
        .await;
    server.post_json("/v2/models/iris/infer", V2_BODY).await;
    let text = metrics(&server).await;
    for (protocol, outcome, count) in [
        ("mlflow", "success", 1.0),
        ("mlflow", "client_error", 1.0),
        ("mlflow", "server_error", 0.0),
        ("v2_rest", "success", 1.0),
        ("v2_rest", "client_error", 0.0),
    ] {
        let labels = [
            "model=\"iris\"",
            "version=\"1\"",
            &format!("protocol=\"{protocol}\""),
            &format!("outcome=\"{outcome}\""),
        ];
        let found = sample(&text, "onstage_requests_total", &labels);
        assert_eq!(found, Some(count), "{protocol} {outcome}\n{text}");
    }
    let labels = ["model=\"iris\"", "version=\"1\""];
    // Two requests of one row, and the example of three rows that warmed the model up.
    assert_eq!(sample(&text, "onstage_rows_total", &labels), Some(5.0));
    let durations = sample(
        &text,
        "onstage_request_duration_seconds_count",
        &["model=\"iris\"", "protocol=\"mlflow\""],
    );
    assert_eq!(durations, Some(2.0));
    let info = sample(
        &text,
        "onstage_model_info",
        &["model=\"iris\"", "engine=\"tract\"", "digest=\"sha256:"],
    );
    assert_eq!(info, Some(1.0));
    let state = |state: &str| {
        sample(
            &text,
            "onstage_model_state",
            &["model=\"iris\"", &format!("state=\"{state}\"")],
        )
    };
    assert_eq!((state("ready"), state("failed")), (Some(1.0), Some(0.0)));
}

#[tokio::test]
async fn metrics_have_the_documented_names_and_few_buckets() {
    let server = iris(&[]).await;
    server.post_json("/invocations", BODY).await;
    let text = metrics(&server).await;
    for (name, kind) in [
        ("onstage_requests_total", "counter"),
        ("onstage_request_duration_seconds", "histogram"),
        ("onstage_queue_duration_seconds", "histogram"),
        ("onstage_inference_duration_seconds", "histogram"),
        ("onstage_batch_rows", "histogram"),
        ("onstage_batch_rows_limit", "gauge"),
        ("onstage_rows_total", "counter"),
        ("onstage_request_size_bytes", "histogram"),
        ("onstage_requests_in_flight", "gauge"),
        ("onstage_queue_depth", "gauge"),
        ("onstage_outputs_nonfinite_total", "counter"),
        ("onstage_model_info", "gauge"),
        ("onstage_model_state", "gauge"),
        ("onstage_model_memory_bytes", "gauge"),
        ("onstage_build_info", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
    ] {
        assert!(
            text.contains(&format!("# TYPE {name} {kind}\n")),
            "{name} {kind}\n{text}"
        );
    }
    let buckets = text.lines().filter(|line| {
        line.starts_with("onstage_request_duration_seconds_bucket") && !line.contains("+Inf")
    });
    assert!((1..=14).contains(&buckets.count()), "{text}");
}

#[tokio::test]
async fn a_client_cannot_make_a_label() {
    let server = iris(&[]).await;
    let before = metrics(&server).await.lines().count();
    for number in 0..20 {
        for path in [
            format!("/models/made-up-{number}/invocations"),
            format!("/models/iris/versions/9{number}/invocations"),
            format!("/v2/models/made-up-{number}/infer"),
            format!("/v2/models/iris/versions/9{number}/infer"),
            format!("/v2/models/iris/versions/made-up-{number}/infer"),
            format!("/v2/models/made%2Fup{number}/infer"),
        ] {
            let (status, answer) = server.post_json(&path, BODY).await;
            assert_eq!(status, 404, "{path}: {answer}");
        }
        server.get(&format!("/made-up-{number}")).await;
    }
    let text = metrics(&server).await;
    assert!(!text.contains("made"), "{text}");
    assert!(!text.contains("version=\"9"), "{text}");
    let unknown = ["model=\"unknown\"", "outcome=\"client_error\""];
    let counted = sample(&text, "onstage_requests_total", &unknown);
    assert!(counted.is_some_and(|count| count >= 40.0), "{text}");
    // The two protocols of `unknown`: five outcomes and one histogram each, and nothing per name.
    assert!(text.lines().count() < before + 60, "{text}");
}

#[rstest]
#[case::taken("caller-7_a.b:c/d", true)]
#[case::with_a_space("two words", false)]
#[case::with_a_quote("a\"b", false)]
#[case::too_long(
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefX",
    false
)]
#[tokio::test]
async fn a_request_id_is_taken_when_it_is_safe(#[case] given: &str, #[case] taken: bool) {
    let server = iris(&[]).await;
    let request = server
        .request(Method::POST, "/invocations")
        .header("x-request-id", given)
        .header("content-type", "application/json")
        .body(BODY);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-request-id"].to_str().unwrap();
    assert_eq!(id == given, taken, "{id}");
    assert_eq!(id.len() == 36, !taken, "{id}");
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_predictions_name_the_version() {
    let server = iris(&[]).await;
    let paths = ["/ping", "/v2", "/nothing", "/metrics", "/v2/health/ready"];
    let mut ids = std::collections::BTreeSet::new();
    for path in paths {
        let response = server.get(path).await;
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} came twice");
    }
    for (path, body, status) in [
        ("/invocations", BODY, 200),
        ("/invocations", "{", 400),
        ("/v2/models/iris/infer", V2_BODY, 200),
        ("/v2/models/iris/infer", "{", 400),
    ] {
        let response = server.post(path, "application/json", body).await;
        assert_eq!(response.status(), status);
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        let found = (header("x-model-name"), header("x-model-version"));
        assert_eq!(found, ("iris", "1"), "{path}");
    }
}

#[tokio::test]
async fn live_and_ready_answer_on_both_surfaces() {
    let server = iris(&[]).await;
    for path in ["/ping", "/health", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let live = server.get("/v2/health/live").await.text().await.unwrap();
    assert_eq!(live, r#"{"live":true}"#);
    let ready = server.get("/v2/health/ready").await.text().await.unwrap();
    assert_eq!(ready, r#"{"ready":true}"#);
    let version = server.get("/version").await;
    assert_eq!(version.status(), 200);
}

#[tokio::test]
async fn a_model_that_need_not_be_there_keeps_the_server_ready() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("onstage.toml");
    let models = project().join("tests/conformance/mlflow/models");
    let text = format!(
        "[models.good]\nsource = {:?}\n[models.bad]\nsource = {:?}\nrequired = false\n",
        project().join("model-examples/iris"),
        models.join("churn_cols")
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap(), "--engine", "tract"]).await;
    assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    assert_eq!(server.get("/ping").await.status(), 200);
    assert_eq!(server.get("/v2/models/good/ready").await.status(), 200);
    assert_eq!(server.get("/v2/models/bad/ready").await.status(), 503);
    let (status, answer) = server.post_json("/v2/models/bad/infer", V2_BODY).await;
    assert_eq!(status, 503, "{answer}");
    let (status, answer) = server.post_json("/models/bad/invocations", BODY).await;
    assert_eq!(status, 503, "{answer}");
    let text = metrics(&server).await;
    assert!(!text.contains("outcome=\"server_error\",protocol=\"mlflow\",version=\"1\"} 1"));
}

#[tokio::test]
async fn several_models_have_no_default_until_one_is_named() {
    let models = [
        "model-examples/iris",
        "tests/conformance/mlflow/models/iris_nosig",
    ];
    let server = Server::start(&[models[0], models[1], "--engine", "tract"]).await;
    let (status, answer) = server.post_json("/invocations", BODY).await;
    assert_eq!(status, 404, "{answer}");
    let message = answer["message"].as_str().unwrap();
    for name in ["`iris`", "`iris_nosig`", "/models/"] {
        assert!(message.contains(name), "{message}");
    }
    for name in ["iris", "iris_nosig"] {
        let path = format!("/models/{name}/invocations");
        let (status, answer) = server.post_json(&path, BODY).await;
        assert_eq!(status, 200, "{name}: {answer}");
    }
    let listed = server.get("/v2/models").await.text().await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["models"], json!(["iris", "iris_nosig"]));

    let named = ["--engine", "tract", "--default-model", "iris_nosig"];
    let server = Server::start(&[&models[..], &named].concat()).await;
    let response = server.post("/invocations", "application/json", BODY).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-model-name"], "iris_nosig");
}

#[tokio::test]
async fn a_default_model_that_is_not_served_is_an_error() {
    let arguments = [&IRIS[..], &["--default-model", "rose"]].concat();
    let ended = Starter::serve(&arguments).run().await;
    assert!(
        matches!(ended.status.code(), Some(1 | 78)),
        "{:?}",
        ended.status
    );
    for name in ["`rose`", "`iris`"] {
        assert!(ended.stderr.contains(name), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_name_with_a_space_and_a_dot_is_reached_percent_encoded() {
    let directory = TempDir::new().unwrap();
    let package = directory.path().join("iris v1.5 ü");
    copy_iris(&package);
    let server = Server::start(&[package.to_str().unwrap(), "--engine", "tract"]).await;
    let name = "iris%20v1.5%20%C3%BC";
    for (path, body) in [
        (format!("/models/{name}/invocations"), BODY),
        (format!("/models/{name}/versions/1/invocations"), BODY),
        (format!("/v2/models/{name}/infer"), V2_BODY),
        (format!("/v2/models/{name}/versions/1/infer"), V2_BODY),
    ] {
        let response = server.post(&path, "application/json", body).await;
        assert_eq!(response.status(), 200, "{path}");
        let header = response.headers()["x-model-name"].as_bytes();
        assert!(
            header.starts_with(b"iris v1.5 ") && header.is_ascii(),
            "{header:?}"
        );
    }
    let metadata = server.get(&format!("/v2/models/{name}")).await;
    let metadata: Value = serde_json::from_str(&metadata.text().await.unwrap()).unwrap();
    assert_eq!(metadata["name"], "iris v1.5 ü");
    let text = metrics(&server).await;
    let labels = ["model=\"iris v1.5 ü\"", "outcome=\"success\""];
    assert!(
        sample(&text, "onstage_requests_total", &labels).is_some(),
        "{text}"
    );
}

#[rstest]
#[case::separator("a%2Fb")]
#[case::parent("..%2F..%2Fetc")]
#[case::dots("%2E%2E")]
#[case::control("a%00b")]
#[case::line("a%0Ab")]
#[case::not_utf8("%FF%FE")]
#[tokio::test]
async fn a_name_that_can_be_no_model_is_a_client_error(#[case] name: &str) {
    let server = iris(&[]).await;
    for path in [
        format!("/models/{name}/invocations"),
        format!("/v2/models/{name}/infer"),
    ] {
        let request = RawRequest {
            method: "POST",
            path: &path,
            headers: vec![("Content-Type", "application/json")],
            body: Some(BODY.into()),
        };
        let response = request.send(server.address()).await.unwrap();
        let body = String::from_utf8_lossy(&response.body);
        assert!((400..500).contains(&response.status), "{path}: {body}");
        let key = if path.starts_with("/v2") {
            "error"
        } else {
            "message"
        };
        let parsed: Value = serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("{path}: no JSON ({error}): {body}"));
        assert!(
            parsed[key].is_string() || parsed["detail"].is_string(),
            "{path}: {body}"
        );
    }
}

#[tokio::test]
async fn the_highest_version_of_a_tree_is_the_default_and_all_are_addressable() {
    let directory = TempDir::new().unwrap();
    let tree = directory.path().join("flower");
    for version in ["2", "10"] {
        let file = tree.join(version);
        std::fs::create_dir_all(&file).unwrap();
        onnx::save(&onnx::echo(&[("FP32", 1)]), &file.join("model.onnx"));
    }
    let server = Server::start(&[tree.to_str().unwrap(), "--engine", "tract"]).await;
    let body = r#"{"inputs": [[1.0, 2.0]]}"#;
    for (path, version) in [
        ("/invocations", "10"),
        ("/models/flower/invocations", "10"),
        ("/models/flower/versions/10/invocations", "10"),
        ("/models/flower/versions/2/invocations", "2"),
    ] {
        let response = server.post(path, "application/json", body).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["x-model-version"], version, "{path}");
    }
    let metadata = server.get("/v2/models/flower").await.text().await.unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["versions"], json!(["2", "10"]));
    let (status, answer) = server
        .post_json("/models/flower/versions/3/invocations", body)
        .await;
    assert_eq!(status, 404);
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains('3') && message.contains("`2`") && message.contains("`10`"),
        "{message}"
    );
}

async fn health(server: &Server) -> HealthClient<tonic::transport::Channel> {
    let address = format!("http://{}", server.grpc_address());
    let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
    HealthClient::new(endpoint.connect().await.unwrap())
}

async fn grpc_status(client: &mut HealthClient<tonic::transport::Channel>) -> ServingStatus {
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test]
async fn grpc_health_says_serving_and_then_not() {
    let server = iris(&["--shutdown-delay", "3s"]).await;
    let mut client = health(&server).await;
    assert_eq!(grpc_status(&mut client).await, ServingStatus::Serving);
    server.signal_termination();
    let deadline = Instant::now() + Duration::from_secs(2);
    while grpc_status(&mut client).await != ServingStatus::NotServing {
        assert!(Instant::now() < deadline, "still serving after SIGTERM");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_health_watcher_does_not_keep_the_server_from_ending() {
    let server = iris(&["--drain-timeout", "1s"]).await;
    let mut client = health(&server).await;
    let watched = client.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watched = watched.into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let started = Instant::now();
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
}

/// A request whose body is still on its way.
struct SlowRequest {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl SlowRequest {
    async fn begin(to: SocketAddr, path: &str, body: &str) -> Self {
        let (first, rest) = body.as_bytes().split_at(body.len() / 2);
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(first).await.unwrap();
        // The server shall have begun to read it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Self {
            stream,
            rest: rest.to_vec(),
        }
    }

    async fn finish(mut self) -> String {
        self.stream.write_all(&self.rest).await.unwrap();
        self.answer().await
    }

    /// What the server sends until it closes the connection.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let read = self.stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        let _ = read.expect("the server closes the connection");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_sigterm() {
    let server = iris(&[]).await;
    let address = server.address();
    let slow = SlowRequest::begin(address, "/invocations", BODY).await;
    server.signal_termination();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = TcpStream::connect(address).await;
    assert!(refused.is_err(), "new connections are refused by now");
    let answer = slow.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"predictions\""), "{answer}");
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn readiness_goes_first_and_requests_are_answered_during_the_delay() {
    let server = iris(&["--shutdown-delay", "2s"]).await;
    let started = Instant::now();
    server.signal_termination();
    while server.get("/v2/health/ready").await.status() != 503 {
        assert!(started.elapsed() < Duration::from_secs(1), "still ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.get("/ping").await.status(), 503);
    assert_eq!(server.get("/v2/health/live").await.status(), 200);
    assert_eq!(server.get("/health").await.status(), 200);
    let response = RawRequest {
        method: "POST",
        path: "/invocations",
        headers: vec![("Content-Type", "application/json")],
        body: Some(BODY.into()),
    };
    let response = response.send(server.address()).await.unwrap();
    assert_eq!(response.status, 200, "on a new connection");
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_the_server_from_ending() {
    let server = iris(&[]).await;
    server.post_json("/invocations", BODY).await;
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    let started = Instant::now();
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[rstest]
#[case::while_draining(&[])]
#[case::while_waiting(&["--shutdown-delay", "30s"])]
#[tokio::test]
async fn a_second_signal_ends_the_server_at_once(#[case] more: &[&str]) {
    let server = iris(more).await;
    let mut slow = SlowRequest::begin(server.address(), "/invocations", BODY).await;
    let started = Instant::now();
    server.signal_termination();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal_termination();
    let ended = server.ended().await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}\n{}",
        started.elapsed(),
        ended.stderr
    );
    assert_eq!(slow.answer().await, "", "there was nothing to answer");
}

#[tokio::test]
async fn requests_that_outlive_the_drain_timeout_are_cut_off() {
    let server = iris(&["--drain-timeout", "1s"]).await;
    let _slow = SlowRequest::begin(server.address(), "/invocations", BODY).await;
    let started = Instant::now();
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
}

#[rstest]
#[case::mlflow("/invocations")]
#[case::v2("/v2/models/iris/infer")]
#[tokio::test]
async fn a_request_that_takes_too_long_gets_504(#[case] path: &str) {
    let server = iris(&["--request-timeout", "500ms"]).await;
    let mut slow = SlowRequest::begin(server.address(), path, BODY).await;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), slow.stream.read(&mut answer));
    let length = read.await.expect("an answer in time").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("x-request-id"), "{answer}");
    if path.starts_with("/v2") {
        assert!(answer.contains("{\"error\":"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_gets_413_in_the_shape_of_each_surface() {
    let server = iris(&["--max-body", "1KiB"]).await;
    let large = format!("{{\"inputs\": [[{}0]]}}", "1,".repeat(600));
    let (status, answer) = server.post_json("/invocations", large.clone()).await;
    assert_eq!(status, 413, "{answer}");
    assert!(answer["error_code"].is_string(), "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("1024"), "{message}");
    let (status, answer) = server.post_json("/v2/models/iris/infer", large).await;
    assert_eq!(status, 413, "{answer}");
    let message = answer["error"].as_str().unwrap();
    assert!(message.contains("1024"), "{message}");
    assert_eq!(server.post_json("/invocations", BODY).await.0, 200);
}

#[tokio::test]
async fn fifty_requests_go_over_one_connection() {
    let server = iris(&[]).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!(
        "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    for number in 0..50 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while !answer.ends_with(b"}}") {
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "closed after {number} answers");
            answer.extend_from_slice(&part[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{number}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_each_with_its_own_data() {
    let server = iris(&[]).await;
    let flowers = [
        "5.1, 3.5, 1.4, 0.2",
        "7.0, 3.2, 4.7, 1.4",
        "6.3, 3.3, 6.0, 2.5",
    ];
    let request = |number: usize| {
        let body = format!("{{\"inputs\": [[{}]]}}", flowers[number % 3]);
        let last = if number == 29 {
            "Connection: close\r\n"
        } else {
            ""
        };
        format!(
            "POST /invocations HTTP/1.1\r\nHost: x\r\n{last}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let all: String = (0..30).map(request).collect();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(all.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let labels: Vec<&str> = answers
        .split("\"label\": [")
        .skip(1)
        .map(|rest| &rest[..1])
        .collect();
    assert_eq!(labels, ["0", "1", "2"].repeat(10), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 30);
}

#[tokio::test]
async fn http2_is_spoken_without_an_upgrade() {
    let server = iris(&[]).await;
    let endpoint = tonic::transport::Endpoint::from_shared(server.url("")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let request = axum::http::Request::post("/invocations")
        .header("content-type", "application/json")
        .body(tonic::body::Body::new(http_body_util::Full::from(BODY)))
        .unwrap();
    let response = channel.oneshot(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-model-name"], "iris");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["predictions"]["label"], json!([0]));
}
