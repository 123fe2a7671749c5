//! Packages and requests that MLflow and Triton serve, recorded from them.

use rstest::rstest;
use serde_json::{Value, json};

use crate::answers::{get, refused};
use crate::server::Server;

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
