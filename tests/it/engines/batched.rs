//! Requests that run together get the answers that they get alone.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use crate::protocols::json;
use crate::protocols::json::Tolerance;
use crate::support::server::{Server, project};

/// The rows of a scoring request, each as a request of its own.
fn single_rows(request: &Value) -> Vec<Value> {
    if let Some(table) = request.get("dataframe_split") {
        let rows = table["data"].as_array().unwrap().iter();
        let row =
            |row: &Value| json!({"dataframe_split": {"columns": table["columns"], "data": [row]}});
        return rows.map(row).collect();
    }
    match &request["inputs"] {
        Value::Array(rows) => rows.iter().map(|row| json!({ "inputs": [row] })).collect(),
        Value::Object(inputs) => {
            let rows = inputs.values().next().unwrap().as_array().unwrap().len();
            let row = |row: usize| {
                let inputs: BTreeMap<&String, Value> = inputs
                    .iter()
                    .map(|(name, values)| (name, json!([values[row]])))
                    .collect();
                json!({ "inputs": inputs })
            };
            (0..rows).map(row).collect()
        }
        other => panic!("no rows in {other}"),
    }
}

async fn start(example: &str, engine: &str, flags: &[&str]) -> Server {
    let package = format!("model-examples/{example}");
    let fixed = [package.as_str(), "--engine", engine];
    Server::start(&[&fixed, flags].concat()).await
}

/// Both engines multiply one row by another kernel than several, which adds in another order: the last bits differ, as
/// they do in MLflow between one request of several rows and several of one row.
const LAST_BITS: Tolerance = Tolerance {
    relative: 1e-5,
    absolute: 1e-6,
};

/// How often the engine ran, and how many rows.
async fn runs(server: &Server) -> (u64, u64) {
    let text = server.get("/metrics").await.text().await.unwrap();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let number: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        format!("{number}").parse().unwrap()
    };
    (
        value("onstage_batch_rows_count"),
        value("onstage_batch_rows_sum"),
    )
}

#[rstest]
#[case::iris_on_tract("iris", "tract", "request.json")]
#[case::iris_on_onnxruntime("iris", "onnxruntime", "request.json")]
#[case::strings("penguins", "onnxruntime", "request.json")]
#[case::tensors_of_strings("penguins", "onnxruntime", "request-inputs.json")]
#[case::maps("wine", "onnxruntime", "request.json")]
#[case::diabetes("diabetes", "onnxruntime", "request.json")]
#[case::spam("spam", "onnxruntime", "request.json")]
#[case::images_on_tract("digits", "tract", "request.json")]
#[case::images_on_onnxruntime("digits", "onnxruntime", "request.json")]
#[tokio::test]
async fn together_as_alone(#[case] example: &str, #[case] engine: &str, #[case] request: &str) {
    let path = project().join("model-examples").join(example).join(request);
    let request: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rows = single_rows(&request);
    let alone = start(example, engine, &["--max-batch-size", "1"]).await;
    let mut expected = Vec::new();
    for row in &rows {
        expected.push(alone.post_json("/invocations", row.to_string()).await);
    }
    let flags = ["--max-batch-size", "16", "--max-queue-delay", "30ms"];
    let together = start(example, engine, &flags).await;
    let (before, _) = runs(&together).await;
    let asked = (0..48).map(|index| {
        let row = &rows[index % rows.len()];
        together.post_json("/invocations", row.to_string())
    });
    for (index, (status, answer)) in join_all(asked).await.into_iter().enumerate() {
        assert_eq!(status, 200, "{answer}");
        let expected = &expected[index % rows.len()].1;
        assert_eq!(
            json::difference(expected, &answer, LAST_BITS),
            None,
            "row {index}: {answer}"
        );
    }
    let (after, _) = runs(&together).await;
    assert!(
        after - before <= 24,
        "{} runs for 48 requests",
        after - before
    );
}

#[tokio::test]
async fn a_model_that_mixes_rows_is_never_batched() {
    let server =
        Server::start(&["tests/models/linear_sum.onnx", "--max-queue-delay", "30ms"]).await;
    let body =
        json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]});
    let ask = || server.post_json("/v2/models/linear_sum/infer", body.to_string());
    let (_, expected) = ask().await;
    for (_, answer) in join_all((0..8).map(|_| ask())).await {
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn a_request_says_how_long_it_waits_and_how_urgent_it_is() {
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    let infer = |parameters: Value| {
        let input = json!({"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]});
        let body = json!({"inputs": [input], "parameters": parameters});
        let server = &server;
        async move {
            server
                .post_json("/v2/models/iris/infer", body.to_string())
                .await
        }
    };
    let (status, answer) = infer(json!({"priority": 1, "timeout": 60_000_000, "other": "x"})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = infer(json!({"timeout": "soon"})).await;
    assert_eq!(status, 400);
    assert!(
        answer["error"].as_str().unwrap().contains("`timeout`"),
        "{answer}"
    );
    for (timeout, expected) in [("2s", 200), ("1ns", 504), ("soon", 400), ("0s", 400)] {
        for path in ["/invocations", "/v2/models/iris/infer"] {
            let body = if path == "/invocations" {
                json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]})
            } else {
                json!({"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
            };
            let request = server.request(reqwest::Method::POST, path).json(&body);
            let answer = request
                .header("x-request-timeout", timeout)
                .send()
                .await
                .unwrap();
            assert_eq!(
                answer.status(),
                expected,
                "{path} {timeout}: {}",
                answer.text().await.unwrap()
            );
        }
    }
}
