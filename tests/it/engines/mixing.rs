//! An answer never depends on who else asks: models whose rows depend on each other, asked by many clients at once.

use std::path::PathBuf;

use futures_util::future::join_all;
use onstage::model::{Graph, RowProof};
use onstage::protocol::inference::{InferTensorContents, ModelInferRequest};
use rstest::rstest;
use serde_json::{Value, json};

use crate::protocols::grpc;
use crate::support::server::{Server, Starter, project};

const CLIENTS: usize = 24;

/// Requests of each client to each model over each protocol.
const REQUESTS: usize = 6;

/// The numbers of a row are at most this; answers may differ by 1e-5 of it.
const LARGEST: f64 = 100.0;

const PROTOCOLS: [&str; 3] = ["mlflow", "v1", "grpc"];

fn models() -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(project().join("tests/models/mixing")).unwrap();
    let named = files.map(|file| {
        let path = file.unwrap().path();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)
    });
    let mut models: Vec<_> = named.collect();
    models.sort();
    assert!(models.len() >= 15, "{models:?}");
    models
}

#[test]
fn the_graphs_prove_nothing_and_say_why() {
    for (name, path) in models() {
        let graph = Graph::read(&path).unwrap();
        let RowProof::Unproven(reason) = graph.rows else {
            panic!("`{name}` mixes its rows and is proven independent");
        };
        assert!(reason.contains("operator `"), "{name}: {reason}");
    }
}

/// The row of a client: different from those of all others.
fn row(client: usize) -> [f64; 4] {
    let base = 1.0 + client as f64;
    [
        base,
        50.0 - 3.0 * base,
        (base * 7.0) % 23.0 + 0.25,
        LARGEST - base,
    ]
}

async fn ask(
    server: &Server,
    grpc: &mut grpc::Client,
    protocol: &str,
    model: &str,
    client: usize,
) -> Vec<f64> {
    let (row, takes_index) = (row(client), model == "pick");
    let numbers = |value: &Value| -> Vec<f64> {
        let numbers = value
            .as_array()
            .unwrap_or_else(|| panic!("{model} over {protocol}: {value}"));
        numbers
            .iter()
            .map(|number| {
                number
                    .as_f64()
                    .unwrap_or_else(|| panic!("{model} over {protocol}: {value}"))
            })
            .collect()
    };
    match protocol {
        "mlflow" => {
            let mut inputs = json!({"x": [row]});
            if takes_index {
                inputs["i"] = json!([0]);
            }
            let path = format!("/models/{model}/invocations");
            let (status, answer) = server
                .post_json(&path, json!({ "inputs": inputs }).to_string())
                .await;
            assert_eq!(status, 200, "{model}: {answer}");
            numbers(&answer["predictions"]["y"][0])
        }
        "v1" => {
            let instance = if takes_index {
                json!({"x": row, "i": 0})
            } else {
                json!({ "x": row })
            };
            let body = json!({ "instances": [instance] });
            let (status, answer) = server
                .post_json(&format!("/v1/models/{model}:predict"), body.to_string())
                .await;
            assert_eq!(status, 200, "{model}: {answer}");
            numbers(&answer["predictions"][0])
        }
        _ => {
            let mut x = grpc::input("x", "FP32", &[1, 4]);
            x.contents = Some(InferTensorContents {
                fp32_contents: row.iter().map(|number| *number as f32).collect(),
                ..InferTensorContents::default()
            });
            let mut inputs = vec![x];
            if takes_index {
                let mut i = grpc::input("i", "INT64", &[1]);
                i.contents = Some(InferTensorContents {
                    int64_contents: vec![0],
                    ..InferTensorContents::default()
                });
                inputs.push(i);
            }
            let request = ModelInferRequest {
                model_name: model.to_owned(),
                inputs,
                ..ModelInferRequest::default()
            };
            let answer = grpc.model_infer(request).await.unwrap().into_inner();
            let bytes = &answer.raw_output_contents[0];
            bytes
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()).into())
                .collect()
        }
    }
}

fn differ(one: &[f64], other: &[f64]) -> bool {
    let largest = one
        .iter()
        .fold(1.0f64, |most, number| most.max(number.abs()));
    one.len() != other.len()
        || one
            .iter()
            .zip(other)
            .any(|(one, other)| (one - other).abs() > 1e-5 * largest)
}

/// Default settings; each client has a row of its own and asks again at once. What each gets alone comes first.
#[rstest]
#[case::onnxruntime("onnxruntime", "none")]
#[case::tract("tract", "none")]
#[case::isolated("onnxruntime", "process")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_depends_on_who_else_asks(#[case] engine: &str, #[case] isolation: &str) {
    let settings = tempfile::tempdir().unwrap();
    let config = settings.path().join("onstage.toml");
    let section = |(name, path): &(String, PathBuf)| {
        format!(
            "[models.{name}]\nsource = '{}'\nrequired = false\nisolation = '{isolation}'\n",
            path.display()
        )
    };
    std::fs::write(&config, models().iter().map(section).collect::<String>()).unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--engine", engine];
    let server = Starter::serve(&arguments).with_onnxruntime().start().await;
    let client = grpc::client(&server).await;
    let index = server
        .post_json("/v2/repository/index", r#"{"ready": true}"#.to_owned())
        .await
        .1;
    let ready: Vec<String> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(ready.len() >= 12, "{ready:?}");
    let mut answers = 0;
    for model in &ready {
        for protocol in PROTOCOLS {
            let mut alone = Vec::new();
            for number in 0..CLIENTS {
                alone.push(ask(&server, &mut client.clone(), protocol, model, number).await);
            }
            let alone = &alone;
            let asking = (0..CLIENTS).map(|number| {
                let (server, mut client) = (&server, client.clone());
                async move {
                    for _ in 0..REQUESTS {
                        let answer = ask(server, &mut client, protocol, model, number).await;
                        assert!(
                            !differ(&alone[number], &answer),
                            "{model} over {protocol}: client {number} got {answer:?}, alone {:?}",
                            alone[number]
                        );
                    }
                }
            });
            join_all(asking).await;
            answers += CLIENTS * REQUESTS;
        }
    }
    assert!(answers >= 12 * 3 * CLIENTS * REQUESTS, "{answers}");
}

/// The configuration endpoint, `inspect` and the block at the start say that requests run alone, and why.
#[tokio::test]
async fn each_place_says_why_requests_run_alone() {
    let server = Server::start(&["tests/models/mixing/mean.onnx"]).await;
    let reason = "operator `ReduceMean` brings the rows together";
    let config: Value = server
        .get("/v2/models/mean/config")
        .await
        .json()
        .await
        .unwrap();
    let parameter = |key: &str| config["parameters"][key]["string_value"].clone();
    assert_eq!(
        (parameter("rows"), parameter("rows_reason")),
        (json!("alone"), json!(reason))
    );
    assert_eq!(config["max_batch_size"], 0);
    let output = server.stdout();
    assert!(
        output.contains(&format!("each request runs alone: {reason}")),
        "{output}"
    );
    let inspected = Starter::command(&["inspect", "tests/models/mixing/mean.onnx"])
        .run()
        .await;
    let text: Vec<&str> = inspected.stdout.split_whitespace().collect();
    assert!(text.join(" ").contains(reason), "{}", inspected.stdout);
}

/// A request is never cut into parts that change its answer, whatever the largest batch is.
#[tokio::test]
async fn a_request_of_a_model_that_mixes_rows_is_run_whole() {
    let arguments = [
        "tests/models/mixing/cumsum.onnx",
        "--max-batch-size",
        "2",
        "--engine",
        "onnxruntime",
    ];
    let server = Starter::serve(&arguments).with_onnxruntime().start().await;
    let rows: Vec<[f64; 4]> = (0..5).map(row).collect();
    let (status, answer) = server
        .post_json("/invocations", json!({ "inputs": rows }).to_string())
        .await;
    assert_eq!(status, 200, "{answer}");
    let whole = answer["predictions"]["y"][4][3].as_f64().unwrap();
    let sum: f64 = rows.iter().map(|row| row[3]).sum();
    let mean = rows[4].iter().sum::<f64>() / 4.0;
    assert!(
        (whole - sum - mean).abs() < 1e-2,
        "{whole}, expected {}",
        sum + mean
    );
}

/// Sent in several requests its rows would get other answers, so that the refusal does not advise it.
#[tokio::test]
async fn more_rows_than_may_be_are_refused_for_a_model_that_mixes_rows() {
    let arguments = ["tests/models/mixing/mean.onnx", "--max-rows", "2"];
    let server = Server::start(&arguments).await;
    let rows: Vec<[f64; 4]> = (0..3).map(row).collect();
    let (status, answer) = server
        .post_json("/invocations", json!({ "inputs": rows }).to_string())
        .await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("`max_rows`, 2"), "{answer}");
}

/// On the operator's word requests share runs, unless a trial shows that they must not.
#[rstest]
#[case::trusted("any_rank", "declared")]
#[case::refuted("mixing/mean", "alone")]
#[tokio::test]
async fn the_word_of_the_operator_counts_until_a_trial_refutes_it(
    #[case] model: &str,
    #[case] expected: &str,
) {
    let settings = tempfile::tempdir().unwrap();
    let config = settings.path().join("onstage.toml");
    let source = project().join(format!("tests/models/{model}.onnx"));
    let text = format!(
        "[models.m]\nsource = '{}'\nrows = 'independent'\n",
        source.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]).await;
    let config: Value = server
        .get("/v2/models/m/config")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        config["parameters"]["rows"]["string_value"], expected,
        "{config}"
    );
}
