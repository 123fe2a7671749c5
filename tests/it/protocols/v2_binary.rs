//! The binary tensors, classification and parameters of the Open Inference Protocol over REST, byte by byte.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::protocols::oip::{Answered, answered, decode, encode, post};
use crate::support::onnx;
use crate::support::server::Server;

const ECHO: &str = "/v2/models/echo/infer";
const LENGTH: &str = "inference-header-content-length";

/// A server of a model that gives back one input of each of these types.
async fn echo(names: &[&str]) -> (TempDir, Server) {
    let known = onnx::DATATYPES.into_iter();
    let datatypes: Vec<_> = known.filter(|(name, _)| names.contains(name)).collect();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("echo.onnx");
    onnx::save(&onnx::echo(&datatypes), &file);
    let server = Server::start(&[file.to_str().unwrap(), "--engine", "onnxruntime"]).await;
    (directory, server)
}

async fn iris() -> Server {
    Server::start(&["model-examples/iris", "--engine", "tract"]).await
}

fn binary(name: &str, shape: &Value, size: usize) -> Value {
    json!({ "name": name, "datatype": name, "shape": shape, "parameters": { "binary_data_size": size } })
}

/// Two elements of each type.
fn elements(datatype: &str) -> Value {
    match datatype {
        "BOOL" => json!([true, false]),
        "FP16" | "BF16" => json!([0x3800, 0xc000]),
        "FP32" | "FP64" => json!([0.5, -3.25]),
        "BYTES" => json!(["", "gr\u{fc}n \u{1f642}\n"]),
        "INT8" => json!([-128, 127]),
        "INT16" | "INT32" | "INT64" => json!([-2, 300]),
        "UINT64" => json!([0, u64::MAX]),
        _ => json!([0, 255]),
    }
}

#[tokio::test]
async fn every_datatype_arrives_and_comes_back_as_bytes() {
    let all = onnx::DATATYPES.map(|(name, _)| name);
    let (_directory, server) = echo(&all).await;
    let (mut inputs, mut bytes) = (Vec::new(), Vec::new());
    for name in all {
        let own = encode(name, elements(name).as_array().unwrap());
        inputs.push(binary(name, &json!([1, 2]), own.len()));
        bytes.extend(own);
    }
    let request = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let answer = post(&server, ECHO, &request, &bytes).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.content_type, "application/octet-stream");
    for name in all {
        let own = &answer.binary[&format!("{name}_out")];
        let sent = elements(name);
        assert_eq!(own, &encode(name, sent.as_array().unwrap()), "{name}");
        assert_eq!(json!(decode(name, own)), sent, "{name}");
    }
}

#[tokio::test]
async fn json_and_binary_mix_in_both_directions() {
    let (_directory, server) = echo(&["FP32", "INT64", "BYTES"]).await;
    let inputs = json!([
        binary("BYTES", &json!([1, 2]), 10),
        { "name": "INT64", "datatype": "INT64", "shape": [1, 2], "data": [[7, 8]] },
        binary("FP32", &json!([1, 2]), 8),
    ]);
    let bytes = [
        encode("BYTES", &[json!("ab"), json!("")]),
        encode("FP32", &[json!(1.5), json!(2)]),
    ];
    let outputs = json!([
        { "name": "FP32_out", "parameters": { "binary_data": false } },
        { "name": "INT64_out" },
        { "name": "BYTES_out" },
    ]);
    let parameters = json!({ "binary_data_output": true });
    let request =
        json!({ "id": "x", "inputs": inputs, "outputs": outputs, "parameters": parameters });
    let answer = post(&server, ECHO, &request, &bytes.concat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let written = &answer.json["outputs"];
    assert_eq!(written[0]["data"], json!([1.5, 2.0]));
    assert_eq!(written[1]["parameters"], json!({ "binary_data_size": 16 }));
    assert_eq!(written[1].get("data"), None);
    assert_eq!(
        decode("INT64", &answer.binary["INT64_out"]),
        [json!(7), json!(8)]
    );
    assert_eq!(answer.binary["BYTES_out"], bytes[0]);
    assert_eq!(answer.json["id"], "x");
}

#[tokio::test]
async fn without_binary_outputs_the_answer_is_plain_json() {
    let (_directory, server) = echo(&["FP32"]).await;
    let bytes = encode("FP32", &[json!(1), json!(2)]);
    let request = json!({ "inputs": [binary("FP32", &json!([1, 2]), 8)] });
    let answer = post(&server, ECHO, &request, &bytes).await;
    assert_eq!(answer.json["outputs"][0]["data"], json!([1.0, 2.0]));
    assert!(!answer.has_header && answer.content_type == "application/json");
    // The header may stand there for JSON alone.
    let plain = json!({ "inputs": [{ "name": "FP32", "datatype": "FP32", "shape": [1, 2], "data": [1, 2] }] });
    let answer = post(&server, ECHO, &plain, &[]).await;
    assert_eq!(answer.json["outputs"][0]["data"], json!([1.0, 2.0]));
}

#[tokio::test]
async fn a_large_answer_is_sent_in_parts_and_arrives_whole() {
    let (_directory, server) = echo(&["INT32"]).await;
    let bytes: Vec<u8> = (0..500_000_i32).flat_map(i32::to_le_bytes).collect();
    let input = binary("INT32", &json!([250_000, 2]), bytes.len());
    let request = json!({ "inputs": [input], "parameters": { "binary_data_output": true } });
    let answer = post(&server, ECHO, &request, &bytes).await;
    assert_eq!(answer.binary["INT32_out"], bytes);
}

#[tokio::test]
async fn no_rows_are_no_bytes() {
    let (_directory, server) = echo(&["FP32", "BYTES"]).await;
    let shape = json!([0, 2]);
    let inputs = json!([binary("FP32", &shape, 0), binary("BYTES", &shape, 0)]);
    let request = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let answer = post(&server, ECHO, &request, &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json["outputs"][0]["shape"], shape);
}

async fn refused_fp32(server: &Server, input: Value, bytes: &[u8]) -> Answered {
    post(server, ECHO, &json!({ "inputs": [input] }), bytes).await
}

#[tokio::test]
async fn sizes_that_do_not_agree_are_refused_by_name() {
    let (_directory, server) = echo(&["FP32", "BYTES"]).await;
    let shape = json!([1, 2]);
    for (input, bytes, says) in [
        (binary("FP32", &shape, 8), &[0; 7][..], "`FP32`"),
        (binary("FP32", &shape, 8), &[0; 9], "1 bytes are left"),
        (binary("FP32", &shape, 4), &[0; 4], "takes 8 bytes, got 4"),
        (
            binary("FP32", &shape, 12),
            &[0; 12],
            "takes 8 bytes, got 12",
        ),
        (
            binary("BYTES", &shape, 4),
            &[0; 4],
            "takes 2 elements, got 1",
        ),
        (
            binary("BYTES", &shape, 8),
            &[9, 0, 0, 0, 0, 0, 0, 0],
            "element 0 says that it has 9 bytes, 4 are left",
        ),
        (
            binary("BYTES", &shape, 9),
            &[1, 0, 0, 0, 0xff, 0, 0, 0, 0],
            "not UTF-8",
        ),
        (binary("FP32", &json!([u64::MAX, 2]), 8), &[0; 8], "shape"),
        (
            binary("FP32", &json!([1_u64 << 62, 1_u64 << 62]), 8),
            &[0; 8],
            "memory can hold",
        ),
    ] {
        let answer = refused_fp32(&server, input, bytes).await;
        let message = answer.refused(400);
        assert!(message.contains(says), "`{says}` is not in: {message}");
    }
    let mut both = binary("FP32", &shape, 8);
    both["data"] = json!([1, 2]);
    assert!(
        refused_fp32(&server, both, &[0; 8])
            .await
            .refused(400)
            .contains("both")
    );
    for size in [json!(-1), json!("8"), json!(8.0)] {
        let mut input = binary("FP32", &shape, 8);
        input["parameters"]["binary_data_size"] = size;
        let answer = refused_fp32(&server, input, &[0; 8]).await;
        assert!(answer.refused(400).contains("`binary_data_size`"));
    }
}

#[tokio::test]
async fn a_byte_that_is_no_boolean_is_refused() {
    let (_directory, server) = echo(&["BOOL"]).await;
    let answer = refused_fp32(&server, binary("BOOL", &json!([1, 2]), 2), &[1, 2]).await;
    assert!(answer.refused(400).contains("expected 0 or 1"));
}

#[rstest]
#[case::longer_than_the_body("999")]
#[case::negative("-1")]
#[case::text("x")]
#[case::huge("99999999999999999999")]
#[tokio::test]
async fn a_header_that_is_no_length_is_refused(#[case] length: &str) {
    let server = iris().await;
    let request = server.request(Method::POST, "/v2/models/iris/infer");
    let answer = answered(request.header(LENGTH, length).body("{\"inputs\": []}")).await;
    assert!(
        answer
            .refused(400)
            .contains("Inference-Header-Content-Length")
    );
}

#[tokio::test]
async fn a_body_without_json_is_the_one_tensor_of_the_model() {
    let server = iris().await;
    let row: Vec<u8> = [6.3_f32, 3.3, 6.0, 2.5]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let request = |body: Vec<u8>| {
        let request = server.request(Method::POST, "/v2/models/iris/infer");
        answered(request.header(LENGTH, "0").body(body))
    };
    let answer = request(row.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(decode("INT64", &answer.binary["label"]), [json!(2)]);
    assert_eq!(answer.json["outputs"][0]["shape"], json!([1]));
    // It is one row, never more.
    let two = request([row.clone(), row].concat()).await;
    assert!(
        two.refused(400).contains("takes 16 bytes, got 32"),
        "{two:?}"
    );
    let (_directory, server) = echo(&["FP32", "INT64"]).await;
    let request = server.request(Method::POST, ECHO).header(LENGTH, "0");
    let answer = answered(request.body(vec![0; 8])).await;
    assert!(answer.refused(400).contains("2 inputs"), "{answer:?}");
}

fn features(outputs: &Value, parameters: &Value) -> Value {
    let input = json!({ "name": "features", "datatype": "FP32", "shape": [2, 4], "data": [5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5] });
    json!({ "inputs": [input], "outputs": outputs, "parameters": parameters })
}

async fn ask_iris(server: &Server, outputs: Value, parameters: Value) -> Answered {
    let path = "/v2/models/iris/infer";
    post(server, path, &features(&outputs, &parameters), &[]).await
}

#[tokio::test]
async fn the_best_classes_come_as_text() {
    let server = iris().await;
    let wanted = json!([{ "name": "probabilities", "parameters": { "classification": 2 } }]);
    let answer = ask_iris(&server, wanted, json!({})).await;
    let output = &answer.json["outputs"][0];
    assert_eq!(
        (&output["datatype"], &output["shape"]),
        (&json!("BYTES"), &json!([2, 2]))
    );
    let classes: Vec<&str> = output["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    let indices: Vec<&str> = classes
        .iter()
        .map(|class| class.split(':').nth(1).unwrap())
        .collect();
    assert_eq!(indices, ["0", "1", "2", "1"]);
    let value: f64 = classes[0].split(':').next().unwrap().parse().unwrap();
    assert!(value > 0.9, "{value}");
    let all = json!([{ "name": "probabilities", "parameters": { "classification": 99, "binary_data": true } }]);
    let answer = ask_iris(&server, all, json!({})).await;
    assert_eq!(decode("BYTES", &answer.binary["probabilities"]).len(), 6);
    let none = json!([{ "name": "label", "parameters": { "classification": 0 } }]);
    let answer = ask_iris(&server, none, json!({})).await;
    assert_eq!(answer.json["outputs"][0]["data"], json!([0, 2]));
    let wrong = json!([{ "name": "label", "parameters": { "classification": "3" } }]);
    assert!(
        ask_iris(&server, wrong, json!({}))
            .await
            .refused(400)
            .contains("`classification`")
    );
}

#[rstest]
#[case::priority(json!({ "priority": 0, "sequence_id": "a", "sequence_start": true }), 200)]
#[case::others(json!({ "text": "a", "share": 0.5, "flag": false, "list": [1], "nothing": null }), 200)]
#[case::last_answer(json!({ "triton_enable_empty_final_response": true }), 200)]
#[case::long_timeout(json!({ "timeout": 60_000_000 }), 200)]
#[case::reserved(json!({ "triton_something": 1 }), 400)]
#[case::priority_text(json!({ "priority": "high" }), 400)]
#[case::timeout_negative(json!({ "timeout": -5 }), 400)]
#[case::binary_text(json!({ "binary_data_output": "yes" }), 400)]
#[case::no_object(json!([1]), 400)]
#[tokio::test]
async fn parameters_are_taken_or_refused_by_name(#[case] parameters: Value, #[case] status: u16) {
    let answer = ask_iris(&iris().await, json!([]), parameters.clone()).await;
    assert_eq!(answer.status, status, "{parameters} {answer:?}");
}

#[tokio::test]
async fn there_is_a_most_of_everything() {
    let server = iris().await;
    let many: serde_json::Map<String, Value> = (0..101)
        .map(|index| (format!("p{index}"), json!(1)))
        .collect();
    assert!(
        ask_iris(&server, json!([]), json!(many))
            .await
            .refused(400)
            .contains("parameters")
    );
    let path = "/v2/models/iris/infer";
    let inputs = vec![json!({}); 10_001];
    let answer = post(&server, path, &json!({ "inputs": inputs }), &[]).await;
    assert!(answer.refused(400).contains("10000"));
    let twice = json!([{ "name": "label" }, { "name": "label" }]);
    assert!(
        ask_iris(&server, twice, json!({}))
            .await
            .refused(400)
            .contains("twice")
    );
    let deep = format!(
        "{{\"inputs\": [], \"x\": {}1{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let (status, _) = server.post_json(path, deep).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn shared_memory_is_not_there_for_tensors_either() {
    let server = iris().await;
    let region = json!({ "shared_memory_region": "r", "shared_memory_byte_size": 32 });
    let output = json!([{ "name": "label", "parameters": region }]);
    assert!(
        ask_iris(&server, output, json!({}))
            .await
            .refused(501)
            .contains("`label`")
    );
    let input =
        json!({ "name": "features", "datatype": "FP32", "shape": [2, 4], "parameters": region });
    let answer = post(
        &server,
        "/v2/models/iris/infer",
        &json!({ "inputs": [input] }),
        &[],
    )
    .await;
    assert!(answer.refused(501).contains("shared memory"));
}

#[rstest]
#[case::system_status(Method::GET, "/v2/systemsharedmemory/status", 200)]
#[case::cuda_status(Method::GET, "/v2/cudasharedmemory/status", 200)]
#[case::region(Method::GET, "/v2/systemsharedmemory/region/r/status", 404)]
#[case::register(Method::POST, "/v2/systemsharedmemory/region/r/register", 501)]
#[case::register_cuda(Method::POST, "/v2/cudasharedmemory/region/r/register", 501)]
#[case::unregister(Method::POST, "/v2/systemsharedmemory/region/r/unregister", 200)]
#[case::unregister_all(Method::POST, "/v2/cudasharedmemory/unregister", 200)]
#[case::logging(Method::GET, "/v2/logging", 200)]
#[case::set_logging(Method::POST, "/v2/logging", 501)]
#[case::trace(Method::GET, "/v2/trace/setting", 200)]
#[case::set_trace(Method::POST, "/v2/trace/setting", 501)]
#[case::model_trace(Method::GET, "/v2/models/iris/trace/setting", 200)]
#[case::unknown_trace(Method::GET, "/v2/models/rose/trace/setting", 404)]
#[case::generate(Method::POST, "/v2/models/iris/generate", 501)]
#[case::generate_stream(Method::POST, "/v2/models/iris/versions/1/generate_stream", 501)]
#[case::repository(Method::POST, "/v2/repository/mine/index", 501)]
#[case::repository_load(Method::POST, "/v2/repository/mine/models/iris/load", 501)]
#[case::load(Method::POST, "/v2/repository/models/iris/load", 403)]
#[case::unload(Method::POST, "/v2/repository/models/iris/unload", 403)]
#[tokio::test]
async fn what_is_not_there_says_so(
    #[case] method: Method,
    #[case] path: &str,
    #[case] status: u16,
) {
    let response = iris()
        .await
        .request(method, path)
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), status);
    let text = response.text().await.unwrap();
    if status == 200 {
        assert!(
            text.is_empty() || serde_json::from_str::<Value>(&text).is_ok(),
            "{text}"
        );
    } else {
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer["error"].as_str().unwrap().len() > 10, "{answer}");
    }
}

/// Such an output is the memory of the request itself, which must be there until the answer has been made, wherever the
/// tensors begin in the body.
#[tokio::test]
async fn an_output_that_is_an_input_comes_back_as_it_was_sent() {
    let path = "tests/models/passthrough.onnx";
    let server = Server::start(&[path, "--engine", "onnxruntime"]).await;
    let bytes: Vec<u8> = (0..128_u8)
        .map(f32::from)
        .flat_map(f32::to_le_bytes)
        .collect();
    for length in 0..8 {
        let shape = json!([64, 2]);
        let size = json!({ "binary_data_size": bytes.len() });
        let input = json!({ "name": "x", "datatype": "FP32", "shape": shape, "parameters": size });
        let request = json!({
            "id": "i".repeat(length),
            "inputs": [input],
            "parameters": { "binary_data_output": true },
        });
        let path = "/v2/models/passthrough/infer";
        for _ in 0..3 {
            let answer = post(&server, path, &request, &bytes).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.binary["x"], bytes, "{length}");
        }
    }
}
