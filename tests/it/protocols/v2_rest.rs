//! Open Inference Protocol v2 over REST, as its clients use it.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::protocols::answers::{get, refused};
use crate::support::onnx;
use crate::support::server::Server;

const MODELS: &str = "tests/conformance/mlflow/models";
const INFER: &str = "/v2/models/iris/infer";

async fn iris() -> Server {
    Server::start(&["model-examples/iris", "--engine", "tract"]).await
}

async fn recorded(model: &str) -> Server {
    let path = format!("{MODELS}/{model}");
    Server::start(&[&path, "--engine", "onnxruntime"]).await
}

async fn infer(server: &Server, path: &str, body: &Value) -> Value {
    let (status, answer) = server.post_json(path, body.to_string()).await;
    assert_eq!(status, 200, "{body}: {answer}");
    answer
}

fn features(data: &Value) -> Value {
    json!({ "name": "features", "datatype": "FP32", "shape": [2, 4], "data": data })
}

fn flat() -> Value {
    json!([5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5])
}

#[tokio::test]
async fn the_server_describes_itself() {
    let server = iris().await;
    let (status, answer) = get(&server, "/v2").await;
    assert_eq!(status, 200);
    assert_eq!(answer["name"], "onstage");
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    assert!(answer["extensions"].is_array(), "{answer}");
}

#[rstest]
#[case::default("/v2/models/iris")]
#[case::version("/v2/models/iris/versions/1")]
#[tokio::test]
async fn a_model_describes_itself(#[case] path: &str) {
    let server = iris().await;
    let (status, answer) = get(&server, path).await;
    assert_eq!(status, 200);
    assert_eq!(answer["name"], "iris");
    assert_eq!(answer["versions"], json!(["1"]));
    assert_eq!(answer["platform"], "onnx_onnxv1");
    let inputs = json!([{ "name": "features", "datatype": "FP32", "shape": [-1, 4] }]);
    assert_eq!(answer["inputs"], inputs);
    let outputs = json!([
        { "name": "label", "datatype": "INT64", "shape": [-1] },
        { "name": "probabilities", "datatype": "FP32", "shape": [-1, 3] },
    ]);
    assert_eq!(answer["outputs"], outputs);
    let properties = answer["properties"].as_object().unwrap();
    assert!(properties.values().all(Value::is_string), "{answer}");
}

#[rstest]
#[case::default("/v2/models/iris/ready")]
#[case::version("/v2/models/iris/versions/1/ready")]
#[tokio::test]
async fn a_model_says_that_it_is_ready(#[case] path: &str) {
    let answer = get(&iris().await, path).await;
    assert_eq!(answer, (200, json!({ "name": "iris", "ready": true })));
}

#[rstest]
#[case::model("/v2/models/rose", "rose", "iris")]
#[case::model_ready("/v2/models/rose/ready", "rose", "iris")]
#[case::version("/v2/models/iris/versions/7", "7", "1")]
#[case::version_ready("/v2/models/iris/versions/7/ready", "7", "1")]
#[case::no_number("/v2/models/iris/versions/newest", "newest", "")]
#[case::zero("/v2/models/iris/versions/0", "0", "")]
#[tokio::test]
async fn what_is_not_served_is_404_and_named(
    #[case] path: &str,
    #[case] asked: &str,
    #[case] known: &str,
) {
    let server = iris().await;
    let (status, answer) = get(&server, path).await;
    assert_eq!(status, 404, "{answer}");
    let message = answer["error"].as_str().unwrap();
    assert!(
        message.contains(asked) && message.contains(known),
        "{message}"
    );
    if !path.ends_with("/ready") {
        let infer = format!("{path}/infer");
        let message = refused(
            &server,
            &infer,
            json!({ "inputs": [features(&flat())] }),
            404,
        )
        .await;
        assert!(message.contains(asked), "{message}");
    }
}

#[tokio::test]
async fn flat_and_nested_data_give_the_same_flat_answer() {
    let server = iris().await;
    let nested = json!([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]);
    let flat = infer(&server, INFER, &json!({ "inputs": [features(&flat())] })).await;
    let nested = infer(&server, INFER, &json!({ "inputs": [features(&nested)] })).await;
    assert_eq!(flat, nested);
    assert_eq!(flat["model_name"], "iris");
    assert_eq!(flat["model_version"], "1");
    assert!(flat.get("id").is_none(), "{flat}");
    let outputs = flat["outputs"].as_array().unwrap();
    let label = json!({ "name": "label", "datatype": "INT64", "shape": [2], "data": [0, 2] });
    assert_eq!(outputs[0], label);
    assert_eq!(outputs[1]["shape"], json!([2, 3]));
    assert_eq!(outputs[1]["data"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn the_id_comes_back() {
    let server = iris().await;
    for id in ["7", "a \"quoted\" id\n", ""] {
        let body = json!({ "id": id, "inputs": [features(&flat())] });
        assert_eq!(infer(&server, INFER, &body).await["id"], id);
    }
}

#[tokio::test]
async fn keys_that_this_server_does_not_know_are_passed_over() {
    let server = iris().await;
    let mut input = features(&flat());
    input["parameters"] = json!({ "any": [1, { "thing": null }] });
    let body = json!({
        "parameters": { "priority": 1, "timeout": 5000000 },
        "extra": [[], {}],
        "inputs": [input],
        "outputs": [{ "name": "label", "parameters": { "binary_data": false } }],
    });
    let answer = infer(&server, INFER, &body).await;
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
}

/// MLServer's own types, and clients generated from the description, send null for what is not set.
#[tokio::test]
async fn null_stands_for_what_is_not_there() {
    let server = iris().await;
    let without = infer(&server, INFER, &json!({ "inputs": [features(&flat())] })).await;
    let mut input = features(&flat());
    input["parameters"] = json!({ "content_type": null, "binary_data_size": null });
    let body = json!({ "id": null, "parameters": null, "inputs": [input], "outputs": null });
    assert_eq!(infer(&server, INFER, &body).await, without);
    let mut input = features(&flat());
    input["parameters"] = Value::Null;
    let parameters = json!({ "timeout": null, "priority": null, "binary_data_output": null });
    let outputs = json!([
        { "name": "label", "parameters": null },
        { "name": "probabilities", "parameters": { "binary_data": null, "classification": null } },
    ]);
    let body = json!({ "parameters": parameters, "inputs": [input], "outputs": outputs });
    assert_eq!(
        infer(&server, INFER, &body).await["outputs"],
        without["outputs"]
    );
    for missing in ["name", "shape", "datatype", "data"] {
        let mut input = features(&flat());
        input[missing] = Value::Null;
        let body = json!({ "inputs": [input] }).to_string();
        let message = refused(&server, INFER, body, 400).await;
        assert!(message.contains(&format!("`{missing}`")), "{message}");
    }
    refused(&server, INFER, json!({ "inputs": null }).to_string(), 400).await;
}

#[tokio::test]
async fn outputs_come_in_the_order_in_which_they_are_asked_for() {
    let server = iris().await;
    let names = async |outputs: Value| -> Vec<String> {
        let body = json!({ "inputs": [features(&flat())], "outputs": outputs });
        let answer = infer(&server, INFER, &body).await;
        let outputs = answer["outputs"].as_array().unwrap();
        outputs
            .iter()
            .map(|output| output["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let both = json!([{ "name": "probabilities" }, { "name": "label" }]);
    assert_eq!(names(both).await, ["probabilities", "label"]);
    assert_eq!(names(json!([{ "name": "label" }])).await, ["label"]);
    assert_eq!(names(json!([])).await, ["label", "probabilities"]);
}

/// What a client may send as each type, and must get back.
fn every_datatype() -> Vec<(&'static str, Value)> {
    vec![
        ("BOOL", json!([true, false])),
        ("UINT8", json!([0, 255])),
        ("UINT16", json!([0, 65_535])),
        ("UINT32", json!([0, u32::MAX])),
        ("UINT64", json!([0, u64::MAX])),
        ("INT8", json!([-128, 127])),
        ("INT16", json!([-32_768, 32_767])),
        ("INT32", json!([i32::MIN, i32::MAX])),
        ("INT64", json!([i64::MIN, i64::MAX])),
        ("FP32", json!([0.5, -3.0])),
        ("FP64", json!([0.1, 1e300])),
        ("BYTES", json!(["", "gr\u{fc}n \u{1f642} \"\\\n"])),
    ]
}

/// A server of a model that gives back one input of each type.
async fn echo(datatypes: &[(&str, u64)]) -> (TempDir, Server) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("echo.onnx");
    onnx::save(&onnx::echo(datatypes), &file);
    let server = Server::start(&[file.to_str().unwrap(), "--engine", "onnxruntime"]).await;
    (directory, server)
}

fn with_json_form() -> Vec<(&'static str, u64)> {
    let all = onnx::DATATYPES.into_iter();
    all.filter(|(name, _)| !name.ends_with("P16") && !name.ends_with("F16"))
        .collect()
}

#[tokio::test]
async fn every_datatype_arrives_and_comes_back() {
    let (_directory, server) = echo(&with_json_form()).await;
    let inputs: Vec<Value> = every_datatype()
        .into_iter()
        .map(|(name, data)| {
            json!({ "name": name, "datatype": name, "shape": [1, 2], "data": [data] })
        })
        .collect();
    let answer = infer(
        &server,
        "/v2/models/echo/infer",
        &json!({ "inputs": inputs }),
    )
    .await;
    for (name, data) in every_datatype() {
        let outputs = answer["outputs"].as_array().unwrap();
        let wanted = format!("{name}_out");
        let output = outputs.iter().find(|output| output["name"] == wanted);
        let output = output.unwrap_or_else(|| panic!("no {wanted} in {answer}"));
        assert_eq!(output["datatype"], name);
        assert_eq!(output["shape"], json!([1, 2]), "{name}");
        assert_eq!(output["data"], data, "{name}");
    }
}

#[rstest]
#[case::bool("BOOL", json!([1, 0]))]
#[case::bool_text("BOOL", json!(["true", "false"]))]
#[case::uint8("UINT8", json!([0, 256]))]
#[case::uint8_negative("UINT8", json!([-1, 0]))]
#[case::int8("INT8", json!([0, 128]))]
#[case::uint16("UINT16", json!([65_536, 0]))]
#[case::int16("INT16", json!([-32_769, 0]))]
#[case::uint32("UINT32", json!([4_294_967_296_u64, 0]))]
#[case::int32("INT32", json!([2_147_483_648_u64, 0]))]
#[case::int64("INT64", json!([9_223_372_036_854_775_808_u64, 0]))]
#[case::uint64_negative("UINT64", json!([-1, 0]))]
#[case::fraction("INT64", json!([0.5, 0]))]
#[case::text_for_number("FP32", json!(["1", "2"]))]
#[case::bool_for_number("FP64", json!([true, false]))]
#[case::number_for_text("BYTES", json!([1, 2]))]
#[case::null_for_text("BYTES", json!([null, "a"]))]
#[case::object("FP32", json!([{}, {}]))]
#[tokio::test]
async fn a_value_that_a_datatype_cannot_hold_is_refused(
    #[case] datatype: &'static str,
    #[case] data: Value,
) {
    let all = onnx::DATATYPES;
    let known: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| *name == datatype)
        .collect();
    let (_directory, server) = echo(&known).await;
    let input = json!({ "name": datatype, "datatype": datatype, "shape": [1, 2], "data": data });
    let message = refused(
        &server,
        "/v2/models/echo/infer",
        json!({ "inputs": [input] }),
        400,
    )
    .await;
    assert!(message.contains(&format!("`{datatype}`")), "{message}");
}

#[rstest]
#[case::fp16("FP16", 10)]
#[case::bf16("BF16", 16)]
#[tokio::test]
async fn half_precision_has_no_json_form(#[case] name: &str, #[case] number: u64) {
    let (_directory, server) = echo(&[(name, number)]).await;
    let (_, metadata) = get(&server, "/v2/models/echo").await;
    assert_eq!(metadata["inputs"][0]["datatype"], name);
    let input = json!({ "name": name, "datatype": name, "shape": [1, 2], "data": [1, 2] });
    let message = refused(
        &server,
        "/v2/models/echo/infer",
        json!({ "inputs": [input] }),
        400,
    )
    .await;
    assert!(message.contains("no JSON form"), "{message}");
}

#[tokio::test]
async fn what_is_not_finite_is_null_by_default_and_bare_when_asked() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("echo.onnx");
    onnx::save(&onnx::echo(&[("FP32", 1)]), &file);
    let file = file.to_str().unwrap();
    let body = r#"{"inputs": [{"name": "FP32", "datatype": "FP32", "shape": [1, 2], "data": [NaN, -Infinity]}]}"#;
    for (nonfinite, wanted) in [("null", "[null, null]"), ("bare", "[NaN, -Infinity]")] {
        let server = Server::start(&[file, "--engine", "tract", "--nonfinite", nonfinite]).await;
        let response = server
            .post("/v2/models/echo/infer", "application/json", body)
            .await;
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn maps_are_one_tensor_of_scores_with_the_labels_beside_it() {
    let server = recorded("iris_zipmap").await;
    let body = json!({ "inputs": [{
        "name": "X", "datatype": "FP32", "shape": [2, 4], "data": flat(),
    }] });
    let answer = infer(&server, "/v2/models/iris_zipmap/infer", &body).await;
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(outputs[0]["data"], json!([0, 2]));
    let scores = &outputs[1];
    assert_eq!(scores["name"], "output_probability");
    assert_eq!(scores["datatype"], "FP32");
    assert_eq!(scores["shape"], json!([2, 3]));
    let labels: Value =
        serde_json::from_str(scores["parameters"]["labels"].as_str().unwrap()).unwrap();
    assert_eq!(labels, json!(["0", "1", "2"]));
    let data: Vec<f64> = scores["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|score| score.as_f64().unwrap())
        .collect();
    for row in data.chunks(3) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    assert!(data[0] > 0.9 && data[5] > 0.9, "{data:?}");
    let (_, metadata) = get(&server, "/v2/models/iris_zipmap").await;
    assert_eq!(metadata["outputs"][1]["datatype"], "FP32");
    assert_eq!(metadata["outputs"][1]["shape"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn strings_and_numbers_go_in_side_by_side() {
    let server = recorded("churn_tensors").await;
    let numbers = ["age", "income", "tenure", "is_member"].map(
        |name| json!({ "name": name, "datatype": "FP32", "shape": [2, 1], "data": [[1.0], [0.0]] }),
    );
    let texts = ["city", "plan"].map(
        |name| json!({ "name": name, "datatype": "BYTES", "shape": [2, 1], "data": ["a", "b"] }),
    );
    let inputs = [&numbers[..], &texts[..]].concat();
    let body = json!({ "inputs": inputs });
    let answer = infer(&server, "/v2/models/churn_tensors/infer", &body).await;
    assert_eq!(answer["outputs"][0]["shape"], json!([2]));
    assert_eq!(answer["outputs"][1]["shape"], json!([2, 2]));
}

#[rstest]
#[case::unknown_input(json!([{ "name": "petals", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }]), &["`petals`", "`features`"])]
#[case::missing_input(json!([]), &["missing", "`features`"])]
#[case::duplicate_input(json!([features(&flat()), features(&flat())]), &["`features`", "twice"])]
#[case::wrong_datatype(json!([{ "name": "features", "datatype": "FP64", "shape": [1, 4], "data": [1, 2, 3, 4] }]), &["`features`", "FP64", "FP32"])]
#[case::unknown_datatype(json!([{ "name": "features", "datatype": "FLOAT", "shape": [1, 4], "data": [1, 2, 3, 4] }]), &["`features`", "`FLOAT`", "FP32"])]
#[case::wrong_rank(json!([{ "name": "features", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4] }]), &["`features`", "[4]", "[-1, 4]"])]
#[case::wrong_width(json!([{ "name": "features", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] }]), &["`features`", "[1, 3]", "[-1, 4]"])]
#[case::too_few(json!([{ "name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3] }]), &["`features`", "3", "4"])]
#[case::too_many(json!([{ "name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4, 5] }]), &["`features`", "5", "4"])]
#[case::nested_otherwise(json!([{ "name": "features", "datatype": "FP32", "shape": [2, 4], "data": [[1, 2], [3, 4], [5, 6], [7, 8]] }]), &["`features`", "[4, 2]", "[2, 4]"])]
#[case::negative_shape(json!([{ "name": "features", "datatype": "FP32", "shape": [-1, 4], "data": [1, 2, 3, 4] }]), &["shape"])]
#[case::no_name(json!([{ "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }]), &["`name`"])]
#[case::no_datatype(json!([{ "name": "features", "shape": [1, 4], "data": [1, 2, 3, 4] }]), &["`features`", "`datatype`"])]
#[case::no_shape(json!([{ "name": "features", "datatype": "FP32", "data": [1, 2, 3, 4] }]), &["`features`", "`shape`"])]
#[case::no_data(json!([{ "name": "features", "datatype": "FP32", "shape": [1, 4] }]), &["`features`", "`data`"])]
#[case::no_list(json!({ "features": [1, 2, 3, 4] }), &["`inputs`"])]
#[tokio::test]
async fn inputs_that_contradict_the_model_are_refused(
    #[case] inputs: Value,
    #[case] says: &[&str],
) {
    let server = iris().await;
    let message = refused(&server, INFER, json!({ "inputs": inputs }), 400).await;
    for part in says {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[tokio::test]
async fn of_several_inputs_the_missing_ones_are_listed() {
    let server = recorded("two_tower").await;
    let user = json!({ "name": "user", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] });
    let path = "/v2/models/two_tower/infer";
    let message = refused(&server, path, json!({ "inputs": [user] }), 400).await;
    assert!(
        message.contains("`item`") && !message.contains("`user`"),
        "{message}"
    );
    let message = refused(&server, path, json!({ "inputs": [] }), 400).await;
    assert!(
        message.contains("`item`") && message.contains("`user`"),
        "{message}"
    );
}

#[tokio::test]
async fn an_unknown_output_is_refused_with_the_known_ones() {
    let server = iris().await;
    let body = json!({ "inputs": [features(&flat())], "outputs": [{ "name": "class" }] });
    let message = refused(&server, INFER, body, 400).await;
    for name in ["`class`", "`label`", "`probabilities`"] {
        assert!(message.contains(name), "{message}");
    }
}

#[rstest]
#[case::nothing("")]
#[case::text("features")]
#[case::cut_off("{\"inputs\": [")]
#[case::list("[]")]
#[case::more("{\"inputs\": []} {}")]
#[case::no_inputs("{}")]
#[tokio::test]
async fn a_body_that_is_no_request_is_refused(#[case] body: &str) {
    refused(&iris().await, INFER, body, 400).await;
}

#[rstest]
#[case::infer(Method::GET, "/v2/models/iris/infer", "POST")]
#[case::infer_version(Method::PUT, "/v2/models/iris/versions/1/infer", "POST")]
#[case::metadata(Method::POST, "/v2/models/iris", "GET")]
#[case::live(Method::DELETE, "/v2/health/live", "GET")]
#[tokio::test]
async fn a_wrong_method_is_405_and_names_the_right_one(
    #[case] method: Method,
    #[case] path: &str,
    #[case] allowed: &str,
) {
    let server = iris().await;
    let response = server.request(method, path).send().await.unwrap();
    assert_eq!(response.status(), 405);
    let allow = response.headers()["allow"].to_str().unwrap();
    assert!(allow.contains(allowed), "{allow}");
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert!(answer["error"].is_string(), "{answer}");
}

#[tokio::test]
async fn an_unknown_path_is_404_in_json() {
    let server = iris().await;
    for path in ["/v2/nothing", "/v2/models/iris/nothing", "/v2/models/a/b/c"] {
        let (status, answer) = get(&server, path).await;
        assert_eq!((status, answer["error"].is_string()), (404, true), "{path}");
    }
}

#[tokio::test]
async fn no_content_type_is_fine() {
    let server = iris().await;
    let request = server
        .request(Method::POST, INFER)
        .body(json!({ "inputs": [features(&flat())] }).to_string());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn no_rows_give_no_rows_or_a_client_error() {
    let server = iris().await;
    let input = json!({ "name": "features", "datatype": "FP32", "shape": [0, 4], "data": [] });
    let (status, answer) = server
        .post_json(INFER, json!({ "inputs": [input] }).to_string())
        .await;
    assert!(status < 500, "{status}: {answer}");
}
