//! Packages and requests that MLflow and Triton serve, recorded from them.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};

use crate::protocols::answers::{get, refused};
use crate::support::server::{Server, Starter};

async fn serve(package: &str, engine: &str) -> Server {
    let path = format!("tests/models/served/{package}");
    Server::start(&[&path, "--engine", engine, "--name", "m"]).await
}

async fn answer(server: &Server, path: &str, body: &Value) -> Value {
    let (status, answer) = server.post_json(path, body.to_string()).await;
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

/// y = a × k, where k is a scalar.
#[rstest]
#[tokio::test]
async fn a_scalar_may_come_as_one_value_or_one_for_each_row(
    #[values("no_signature", "columns")] signature: &str,
    #[values("onnxruntime", "tract")] engine: &str,
) {
    let server = serve(&format!("scalar_{signature}"), engine).await;
    let one = json!({ "dataframe_records": [{ "a": 2.0, "k": 3.0 }] });
    let found = answer(&server, "/invocations", &one).await;
    assert_eq!(found["predictions"], json!([{ "y": 6.0 }]));
    let two = json!({ "dataframe_records": [{ "a": 2.0, "k": 3.0 }, { "a": 2.0, "k": 4.0 }] });
    let found = answer(&server, "/invocations", &two).await;
    assert_eq!(found["predictions"], json!([{ "y": 6.0 }, { "y": 8.0 }]));
    let csv = server
        .post("/invocations", "text/csv", "a,k\n2.0,3.0\n")
        .await;
    assert_eq!(csv.status(), 200);
    let rows = json!({ "instances": [{ "a": 2.0, "k": 3.0 }, { "a": 2.0, "k": 4.0 }] });
    let found = answer(&server, "/v1/models/m:predict", &rows).await;
    assert_eq!(found["predictions"], json!([6.0, 8.0]));
}

#[rstest]
#[case::scalar(json!([]))]
#[case::as_triton(json!([1]))]
#[tokio::test]
async fn a_scalar_may_be_a_tensor_of_one(#[case] shape: Value) {
    let server = serve("scalar_tensors", "onnxruntime").await;
    let columns = json!({ "inputs": { "a": [2.0], "k": [3.0] } });
    let found = answer(&server, "/invocations", &columns).await;
    assert_eq!(found["predictions"], json!({ "y": [6.0] }));
    let body = json!({ "inputs": [
        { "name": "a", "datatype": "FP32", "shape": [2], "data": [2.0, 3.0] },
        { "name": "k", "datatype": "FP32", "shape": shape, "data": [3.0] },
    ] });
    let found = answer(&server, "/v2/models/m/infer", &body).await;
    assert_eq!(found["outputs"][0]["data"], json!([6.0, 9.0]));
    let (_, config) = get(&server, "/v2/models/m/config").await;
    let scalar = &config["input"][1];
    assert_eq!(
        (&scalar["dims"], &scalar["reshape"]["shape"]),
        (&json!([1]), &json!([]))
    );
}

#[rstest]
#[case::bytes("metadata_bytes")]
#[case::a_key_that_is_null("metadata_none_key")]
#[tokio::test]
async fn metadata_may_be_whatever_python_writes(#[case] package: &str) {
    let server = serve(package, "tract").await;
    let found = answer(&server, "/invocations", &json!({ "inputs": [[1.0, 2.0]] })).await;
    assert_eq!(found["predictions"], json!({ "y": [[-1.0, -2.0]] }));
}

#[tokio::test]
async fn the_content_types_of_codecs_are_undone_or_refused() {
    let server = Server::start(&[
        "tests/models/twice_str.onnx",
        "--engine",
        "onnxruntime",
        "--name",
        "m",
    ])
    .await;
    let body = |own: Value, all: Value| {
        json!({
            "parameters": { "content_type": all },
            "inputs": [{
                "name": "x", "datatype": "BYTES", "shape": [1, 2], "data": ["w7w=", "YQ=="],
                "parameters": { "content_type": own },
            }],
        })
    };
    let decoded = json!(["ü", "a", "ü", "a"]);
    for (own, all, expected) in [
        (json!("base64"), Value::Null, &decoded),
        (Value::Null, json!("base64"), &decoded),
        (
            json!("str"),
            json!("base64"),
            &json!(["w7w=", "YQ==", "w7w=", "YQ=="]),
        ),
    ] {
        let found = answer(&server, "/v2/models/m/infer", &body(own, all)).await;
        assert_eq!(&found["outputs"][0]["data"], expected);
    }
    let body = body(json!("image/png"), Value::Null).to_string();
    let refused = refused(&server, "/v2/models/m/infer", body, 400).await;
    assert!(refused.contains("`image/png`"), "{refused}");
}

/// What MLflow answered, by graph (`tests/models/served.py`).
fn recorded() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("../../models/served/answers.json")).unwrap()
}

/// Those that tract cannot run: it has neither sequences nor optionals.
const FOR_ONNX_RUNTIME: [&str; 8] = [
    "sequence",
    "sequence_uneven",
    "sequence_and_tensor",
    "sequence_texts",
    "sequence_empty",
    "optional",
    "optional_sequence",
    "optional_input",
];

#[rstest]
#[tokio::test]
async fn graphs_are_answered_as_mlflow_answers_them(
    #[values("onnxruntime", "tract")] engine: &str,
    #[values("none", "process")] isolation: &str,
) {
    let recorded = recorded();
    let runs =
        |name: &&String| engine == "onnxruntime" || !FOR_ONNX_RUNTIME.contains(&name.as_str());
    let names: Vec<&String> = recorded.keys().filter(runs).collect();
    let directory = tempfile::tempdir().unwrap();
    let tables = names
        .iter()
        .map(|name| format!("[models.{name}]\nengine = '{engine}'\nisolation = '{isolation}'\n"));
    let config = directory.path().join("onstage.toml");
    fs::write(&config, tables.collect::<String>()).unwrap();
    let graphs = names
        .iter()
        .map(|name| format!("tests/models/served/{name}.onnx"));
    let graphs: Vec<String> = graphs.collect();
    let mut arguments = vec!["--config", config.to_str().unwrap()];
    arguments.extend(graphs.iter().map(String::as_str));
    let server = Starter::serve(&arguments).with_onnxruntime().start().await;
    for name in &names {
        for case in recorded[*name].as_array().unwrap() {
            let path = format!("/models/{name}/invocations");
            let found = answer(&server, &path, &case["request"]).await;
            assert_eq!(found, case["answer"], "{name}: {}", case["request"]);
        }
    }
    assert!(names.len() >= 9, "{names:?}");
}

async fn open(graph: &str) -> Server {
    let path = format!("tests/models/served/{graph}.onnx");
    Server::start(&[&path, "--engine", "onnxruntime", "--name", "m"]).await
}

#[tokio::test]
async fn a_value_that_is_named_twice_is_one_output_everywhere() {
    let server = open("twice").await;
    let (_, metadata) = get(&server, "/v2/models/m").await;
    let outputs = metadata["outputs"].as_array().unwrap();
    assert_eq!((outputs.len(), &outputs[0]["name"]), (1, &json!("y")));
    let tensor = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0] });
    let body = json!({ "inputs": [tensor] });
    let found = answer(&server, "/v2/models/m/infer", &body).await;
    assert_eq!(found["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(found["outputs"][0]["data"], json!([-1.0, -2.0]));
    let rows = json!({ "instances": [[1.0, 2.0]] });
    let found = answer(&server, "/v1/models/m:predict", &rows).await;
    assert_eq!(found["predictions"], json!([[-1.0, -2.0]]));
}

#[tokio::test]
async fn a_sequence_is_one_tensor_where_a_protocol_has_no_sequences() {
    let tensor =
        json!({ "name": "x", "datatype": "FP32", "shape": [3, 2], "data": [1, 2, 3, 4, 5, 6] });
    let body = json!({ "inputs": [tensor] });
    let server = open("sequence").await;
    let found = answer(&server, "/v2/models/m/infer", &body).await;
    assert_eq!(found["outputs"][0]["shape"], json!([3, 1, 2]));
    assert_eq!(
        found["outputs"][0]["data"],
        json!([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    );
    let rows = json!({ "instances": [[1.0, 2.0], [3.0, 4.0]] });
    let found = answer(&server, "/v1/models/m:predict", &rows).await;
    assert_eq!(found["predictions"], json!([[[1.0, 2.0]], [[3.0, 4.0]]]));

    let server = open("sequence_uneven").await;
    let found = refused(&server, "/v2/models/m/infer", &body, 400).await;
    assert!(
        found.contains("a sequence of tensors of different shapes"),
        "{found}"
    );
    let split = json!({ "columns": ["a", "b"], "data": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]] });
    let frame = json!({ "dataframe_split": split }).to_string();
    let (status, found) = server.post_json("/invocations", frame).await;
    assert_eq!(status, 400, "{found}");
    let message = found["message"].as_str().unwrap();
    assert!(
        message.contains("which make no column of a data frame"),
        "{message}"
    );
    let found = answer(
        &server,
        "/v1/models/m:predict",
        &json!({ "inputs": [[1, 2], [3, 4], [5, 6]] }),
    )
    .await;
    assert_eq!(
        found["outputs"],
        json!([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]])
    );
}

#[rstest]
#[tokio::test]
async fn an_input_with_an_initializer_may_be_left_out(
    #[values("onnxruntime", "tract")] engine: &str,
) {
    let path = "tests/models/served/default.onnx";
    let server = Server::start(&[path, "--engine", engine, "--name", "m"]).await;
    let (_, metadata) = get(&server, "/v2/models/m").await;
    let [x, c] = [&metadata["inputs"][0], &metadata["inputs"][1]];
    assert_eq!((&x["name"], &x["optional"]), (&json!("x"), &Value::Null));
    assert_eq!((&c["name"], &c["optional"]), (&json!("c"), &json!(true)));
    let (_, config) = get(&server, "/v2/models/m/config").await;
    assert_eq!(config["input"][1]["optional"], json!(true));

    let x = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0] });
    let c = json!({ "name": "c", "datatype": "FP32", "shape": [2], "data": [10.0, 10.0] });
    for (inputs, expected) in [
        (json!([x]), json!([2.0, 3.0])),
        (json!([x, c]), json!([11.0, 12.0])),
        (json!([c, x]), json!([11.0, 12.0])),
    ] {
        let found = answer(&server, "/v2/models/m/infer", &json!({ "inputs": inputs })).await;
        assert_eq!(found["outputs"][0]["data"], expected);
    }
    for (body, expected) in [
        (
            json!({ "instances": [[1.0, 2.0]] }),
            json!({ "predictions": [[2.0, 3.0]] }),
        ),
        (
            json!({ "instances": [{ "x": [1.0, 2.0] }] }),
            json!({ "predictions": [[2.0, 3.0]] }),
        ),
        (
            json!({ "inputs": { "x": [[1.0, 2.0]], "c": [10, 10] } }),
            json!({ "outputs": [[11.0, 12.0]] }),
        ),
    ] {
        let found = answer(&server, "/v1/models/m:predict", &body).await;
        assert_eq!(found, expected, "{body}");
    }
    let wrong = json!({ "name": "c", "datatype": "FP32", "shape": [3], "data": [1, 1, 1] });
    let found = refused(
        &server,
        "/v2/models/m/infer",
        &json!({ "inputs": [x, wrong] }),
        400,
    )
    .await;
    assert!(
        found.contains("input `c` has shape [3], expected [2]"),
        "{found}"
    );
    let found = refused(
        &server,
        "/v2/models/m/infer",
        &json!({ "inputs": [c] }),
        400,
    )
    .await;
    assert!(found.contains("missing input `x`"), "{found}");
}

/// Rows of requests that replace an input must not be answered with what others gave.
#[tokio::test]
async fn requests_with_other_values_of_an_optional_input_do_not_share_them() {
    let server = open("default").await;
    let ask = async |c: Option<f32>, x: f32| {
        let mut inputs =
            vec![json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [x, x] })];
        if let Some(c) = c {
            inputs.push(json!({ "name": "c", "datatype": "FP32", "shape": [2], "data": [c, c] }));
        }
        let found = answer(&server, "/v2/models/m/infer", &json!({ "inputs": inputs })).await;
        let expected = x + c.unwrap_or(1.0);
        assert_eq!(
            found["outputs"][0]["data"],
            json!([expected, expected]),
            "{c:?} {x}"
        );
    };
    let all = (0..300_u16).map(|index| {
        let c = (index % 3 > 0).then(|| f32::from(index % 7));
        ask(c, f32::from(index))
    });
    futures_util::future::join_all(all).await;
}
