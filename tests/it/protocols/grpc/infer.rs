//! Inference: every datatype, in bytes and in typed elements, and the numbers of REST.

use onstage::protocol::inference::InferTensorContents;
use onstage::protocol::inference::model_infer_request::InferInputTensor;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::support::onnx;

/// Two elements of each datatype, as bytes.
fn raw(datatype: &str) -> Vec<u8> {
    match datatype {
        "BOOL" => vec![1, 0],
        "UINT8" => vec![0, 255],
        "INT8" => vec![0x80, 0x7f],
        "UINT16" => [0_u16, u16::MAX].map(u16::to_le_bytes).concat(),
        "INT16" => [i16::MIN, i16::MAX].map(i16::to_le_bytes).concat(),
        "UINT32" => [0, u32::MAX].map(u32::to_le_bytes).concat(),
        "INT32" => [i32::MIN, i32::MAX].map(i32::to_le_bytes).concat(),
        "UINT64" => [0, u64::MAX].map(u64::to_le_bytes).concat(),
        "INT64" => [i64::MIN, i64::MAX].map(i64::to_le_bytes).concat(),
        "FP32" => [0.1_f32, f32::NEG_INFINITY].map(f32::to_le_bytes).concat(),
        "FP64" => [0.1_f64, 1e300].map(f64::to_le_bytes).concat(),
        // 0.5 and the largest number; the same of BF16 is 0.5 and -3.
        "FP16" => [0x3800_u16, 0x7bff].map(u16::to_le_bytes).concat(),
        "BF16" => [0x3f00_u16, 0xc040].map(u16::to_le_bytes).concat(),
        "BYTES" => [&[0, 0, 0, 0][..], &[6, 0, 0, 0], "grün\n".as_bytes()].concat(),
        other => panic!("{other}"),
    }
}

/// The same as typed elements, where there are such.
fn typed(datatype: &str) -> Option<InferTensorContents> {
    let mut typed = InferTensorContents::default();
    match datatype {
        "BOOL" => typed.bool_contents = vec![true, false],
        "UINT8" => typed.uint_contents = vec![0, 255],
        "UINT16" => typed.uint_contents = vec![0, u16::MAX.into()],
        "UINT32" => typed.uint_contents = vec![0, u32::MAX],
        "UINT64" => typed.uint64_contents = vec![0, u64::MAX],
        "INT8" => typed.int_contents = vec![-128, 127],
        "INT16" => typed.int_contents = vec![i16::MIN.into(), i16::MAX.into()],
        "INT32" => typed.int_contents = vec![i32::MIN, i32::MAX],
        "INT64" => typed.int64_contents = vec![i64::MIN, i64::MAX],
        "FP32" => typed.fp32_contents = vec![0.1, f32::NEG_INFINITY],
        "FP64" => typed.fp64_contents = vec![0.1, 1e300],
        "BYTES" => typed.bytes_contents = vec![bytes(b""), bytes("grün\n".as_bytes())],
        _ => return None,
    }
    Some(typed)
}

/// A server of a model that gives back one input of each type.
async fn echo() -> (TempDir, Server) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("echo.onnx");
    onnx::save(&onnx::echo(&onnx::DATATYPES), &file);
    let server = Server::start(&[file.to_str().unwrap(), "--engine", "onnxruntime"]).await;
    (directory, server)
}

fn echoed(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs,
        raw_input_contents: raw,
        ..ModelInferRequest::default()
    }
}

#[tokio::test]
async fn every_datatype_arrives_as_bytes_and_comes_back() {
    let (_directory, server) = echo().await;
    let names = onnx::DATATYPES.map(|(name, _)| name);
    let inputs = names.map(|name| input(name, name, &[1, 2])).to_vec();
    let contents = names.map(|name| bytes(&raw(name))).to_vec();
    let request = echoed(inputs, contents);
    let answer = client(&server).await.model_infer(request).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.outputs.len(), names.len());
    for name in names {
        let wanted = format!("{name}_out");
        let place = answer.outputs.iter().position(|one| one.name == wanted);
        let output = &answer.outputs[place.unwrap()];
        assert_eq!(
            (output.datatype.as_str(), &output.shape[..]),
            (name, &[1, 2][..])
        );
        assert!(output.contents.is_none(), "answers are raw");
        assert_eq!(
            answer.raw_output_contents[place.unwrap()],
            raw(name),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_datatype_with_a_field_arrives_in_it() {
    let (_directory, server) = echo().await;
    let names = onnx::DATATYPES.map(|(name, _)| name);
    let mut client = client(&server).await;
    // The model wants all inputs, and those without a field can only come as bytes.
    for name in names {
        let inputs = names.map(|other| {
            let zeros = typed(other).unwrap_or_default();
            let contents = Some(zeros);
            InferInputTensor {
                contents,
                ..input(other, other, &[1, 2])
            }
        });
        let answer = client.model_infer(echoed(inputs.to_vec(), vec![])).await;
        let error = answer.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name}");
        assert!(
            error.message().contains("no typed form"),
            "{}",
            error.message()
        );
    }
}

#[rstest]
#[case::bool("BOOL", 9)]
#[case::uint8("UINT8", 2)]
#[case::int16("INT16", 5)]
#[case::int64("INT64", 7)]
#[case::uint64("UINT64", 13)]
#[case::fp32("FP32", 1)]
#[case::fp64("FP64", 11)]
#[case::bytes("BYTES", 8)]
#[tokio::test]
async fn typed_elements_give_the_answer_of_bytes(#[case] name: &str, #[case] number: u64) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("echo.onnx");
    onnx::save(&onnx::echo(&[(name, number)]), &file);
    let server = Server::start(&[file.to_str().unwrap(), "--engine", "onnxruntime"]).await;
    let contents = typed(name);
    let given = InferInputTensor {
        contents,
        ..input(name, name, &[1, 2])
    };
    let request = echoed(vec![given], vec![]);
    let answer = client(&server).await.model_infer(request).await.unwrap();
    assert_eq!(answer.into_inner().raw_output_contents, [bytes(&raw(name))]);
}

#[tokio::test]
async fn the_numbers_are_those_of_rest() {
    let server = iris().await;
    let answer = client(&server).await.model_infer(flowers()).await.unwrap();
    let answer = answer.into_inner();
    let body = json!({ "inputs": [{
        "name": "features", "datatype": "FP32", "shape": [2, 4],
        "data": [5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5],
    }] });
    let (_, rest) = server
        .post_json("/v2/models/iris/infer", body.to_string())
        .await;
    let found: Vec<f32> = outputs(&answer)[1]
        .1
        .chunks_exact(4)
        .map(|number| f32::from_le_bytes(number.try_into().unwrap()))
        .collect();
    let expected = rest["outputs"][1]["data"].as_array().unwrap().iter();
    #[expect(clippy::cast_possible_truncation, reason = "they are singles")]
    let expected: Vec<f32> = expected
        .map(|number| number.as_f64().unwrap() as f32)
        .collect();
    assert_eq!(found, expected);
    assert_eq!(json!(labels(&answer)), rest["outputs"][0]["data"]);
}

#[tokio::test]
async fn an_answer_names_model_version_and_request() {
    let server = iris().await;
    let mut request = tonic::Request::new(ModelInferRequest {
        id: "7 ü".to_owned(),
        model_version: "1".to_owned(),
        ..flowers()
    });
    let id = "my-own-id".parse().unwrap();
    request.metadata_mut().insert("x-request-id", id);
    let answer = client(&server).await.model_infer(request).await.unwrap();
    let header = |name: &str| answer.metadata().get(name).unwrap().to_str().unwrap();
    assert_eq!(header("x-request-id"), "my-own-id");
    assert_eq!(header("x-model-name"), "iris");
    assert_eq!(header("x-model-version"), "1");
    let answer = answer.into_inner();
    assert_eq!(answer.id, "7 ü");
    assert_eq!((&*answer.model_name, &*answer.model_version), ("iris", "1"));
    assert_eq!(labels(&answer), [0, 2]);
    assert!(answer.parameters.is_empty());
}

#[tokio::test]
async fn outputs_come_as_they_are_asked_for() {
    let server = iris().await;
    let mut client = client(&server).await;
    let both = vec![wanted("probabilities", &[]), wanted("label", &[])];
    let request = ModelInferRequest {
        outputs: both,
        ..flowers()
    };
    let answer = client.model_infer(request).await.unwrap().into_inner();
    let names: Vec<&str> = outputs(&answer).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["probabilities", "label"]);
    let best = [("classification", ParameterChoice::Int64Param(1))];
    let classes = vec![wanted("probabilities", &best)];
    let request = ModelInferRequest {
        outputs: classes,
        ..flowers()
    };
    let answer = client.model_infer(request).await.unwrap().into_inner();
    let output = &answer.outputs[0];
    assert_eq!(
        (output.datatype.as_str(), &output.shape[..]),
        ("BYTES", &[2, 1][..])
    );
    let text = String::from_utf8_lossy(&answer.raw_output_contents[0]).into_owned();
    assert!(text.contains(":0") && text.contains(":2"), "{text}");
}

#[tokio::test]
async fn maps_are_one_tensor_of_scores_with_the_labels_beside_it() {
    let path = "tests/conformance/mlflow/models/iris_zipmap";
    let server = Server::start(&[path, "--engine", "onnxruntime"]).await;
    let request = ModelInferRequest {
        model_name: "iris_zipmap".to_owned(),
        inputs: vec![input("X", "FP32", &[2, 4])],
        ..flowers()
    };
    let answer = client(&server).await.model_infer(request).await.unwrap();
    let scores = &answer.get_ref().outputs[1];
    assert_eq!(
        (scores.datatype.as_str(), &scores.shape[..]),
        ("FP32", &[2, 3][..])
    );
    let labels = scores.parameters["labels"].parameter_choice.clone();
    let Some(ParameterChoice::StringParam(labels)) = labels else {
        panic!("{labels:?}");
    };
    let told: Value = serde_json::from_str(&labels).unwrap();
    assert_eq!(told, json!(["0", "1", "2"]));
    let metadata = server
        .get("/v2/models/iris_zipmap")
        .await
        .text()
        .await
        .unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let told = &metadata["properties"]["labels.output_probability"];
    assert_eq!(*told, labels, "{metadata}");
}

#[rstest]
#[case::model(ModelInferRequest { model_name: "rose".to_owned(), ..flowers() }, Code::NotFound, "rose")]
#[case::no_model(ModelInferRequest { model_name: String::new(), ..flowers() }, Code::NotFound, "empty")]
#[case::version(ModelInferRequest { model_version: "7".to_owned(), ..flowers() }, Code::NotFound, "7")]
#[case::no_version(ModelInferRequest { model_version: "newest".to_owned(), ..flowers() }, Code::NotFound, "newest")]
#[case::no_inputs(ModelInferRequest { inputs: vec![], raw_input_contents: vec![], ..flowers() }, Code::InvalidArgument, "`features`")]
#[case::input(ModelInferRequest { inputs: vec![input("petals", "FP32", &[2, 4])], ..flowers() }, Code::InvalidArgument, "`petals`")]
#[case::datatype(ModelInferRequest { inputs: vec![input("features", "FLOAT", &[2, 4])], ..flowers() }, Code::InvalidArgument, "`FLOAT`")]
#[case::other_datatype(ModelInferRequest { inputs: vec![input("features", "INT32", &[2, 4])], ..flowers() }, Code::InvalidArgument, "FP32")]
#[case::shape(ModelInferRequest { inputs: vec![input("features", "FP32", &[8])], ..flowers() }, Code::InvalidArgument, "[8]")]
#[case::bytes(ModelInferRequest { inputs: vec![input("features", "FP32", &[3, 4])], ..flowers() }, Code::InvalidArgument, "48")]
#[case::huge(ModelInferRequest { inputs: vec![input("features", "FP32", &[i64::MAX, 4])], ..flowers() }, Code::InvalidArgument, "`features`")]
#[case::negative(ModelInferRequest { inputs: vec![input("features", "FP32", &[-1, 4])], ..flowers() }, Code::InvalidArgument, "-1")]
#[case::output(ModelInferRequest { outputs: vec![wanted("class", &[])], ..flowers() }, Code::InvalidArgument, "`class`")]
#[case::raw_missing(ModelInferRequest { raw_input_contents: vec![], ..flowers() }, Code::InvalidArgument, "`features`")]
#[case::raw_too_many(ModelInferRequest { raw_input_contents: vec![bytes(b""), bytes(b"")], ..flowers() }, Code::InvalidArgument, "raw_input_contents")]
#[case::parameter(ModelInferRequest { parameters: [("timeout".to_owned(), parameter(ParameterChoice::StringParam("soon".to_owned())))].into(), ..flowers() }, Code::InvalidArgument, "`timeout`")]
#[tokio::test]
async fn what_cannot_be_answered_is_a_code_and_says_why(
    #[case] request: ModelInferRequest,
    #[case] code: Code,
    #[case] says: &str,
) {
    let server = iris().await;
    let error = client(&server)
        .await
        .model_infer(request)
        .await
        .unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(says), "{}", error.message());
    assert!(error.metadata().get("x-request-id").is_some());
    assert!(error.metadata().get("x-onstage-status").is_none());
}

#[tokio::test]
async fn requests_are_counted_and_logged_as_those_of_http() {
    let server = Server::start(&[
        "model-examples/iris",
        "--engine",
        "tract",
        "--access-log",
        "all",
    ])
    .await;
    let mut client = client(&server).await;
    client.model_infer(flowers()).await.unwrap();
    let wrong = ModelInferRequest {
        inputs: vec![],
        ..flowers()
    };
    client.model_infer(wrong).await.unwrap_err();
    assert_eq!(ended(&server, "success").await, 1.0);
    assert_eq!(ended(&server, "client_error").await, 1.0);
    let log = server.terminate().await.stderr;
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("ModelInfer"))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines.iter().all(|line| line.contains("iris")), "{log}");
    assert!(
        !lines[0].contains("grpc_status") && lines[1].contains("grpc_status"),
        "{log}"
    );
}
