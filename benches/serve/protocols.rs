//! The same row by every protocol: none may cost more than JSON on `/invocations`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use onstage::protocol::inference::ModelInferRequest;
use onstage::protocol::inference::model_infer_request::InferInputTensor;
use prost::Message;

use crate::Scale;
use crate::bodies::{Form, IRIS_INPUT, IRIS_ROW, iris};
use crate::client::Request;
use crate::contender::Contender;
use crate::drive::Round;
use crate::grpc;
use crate::report::Report;
use crate::turns::{Row, take};

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    for engine in ["tract", "onnxruntime"] {
        let arguments = ["model-examples/iris", "--engine", engine];
        let ours = Contender::onstage(engine, &arguments).await;
        for connections in [8, 1, 64] {
            compare(&mut report, &ours, connections, scale);
        }
    }
    report
}

fn compare(report: &mut Report, ours: &Contender, connections: usize, scale: Scale) {
    let (http, grpc) = (ours.address(), ours.grpc_address());
    let row = |what: &str, request| Row {
        what: what.to_owned(),
        contender: ours,
        request,
    };
    let rows = [
        row(Form::Invocations.name(), iris(http, Form::Invocations)),
        row(Form::Json.name(), iris(http, Form::Json)),
        row(Form::Binary.name(), iris(http, Form::Binary)),
        row("V1", v1(http)),
        row("gRPC", infer(grpc)),
    ];
    let rounds = take(&rows, connections, scale.of(15, 3), Duration::from_secs(1));
    report.line(format!("iris, {}, {connections} connections\n", ours.name));
    rounds.table(&rows, report);
    report.line("");
    for (index, row) in rows.iter().enumerate().skip(1) {
        let rate = rounds.ratio(index, 0, Round::per_second).value;
        let what = format!(
            "{}, {connections} connections, {}: rate by that of `/invocations`",
            ours.name, row.what
        );
        report.at_least(&what, rate, 1.0);
    }
}

fn v1(address: SocketAddr) -> Request {
    let body = serde_json::json!({ "instances": [IRIS_ROW] }).to_string();
    Request::new(address, "/v1/models/iris:predict", &body)
}

fn infer(address: SocketAddr) -> Request {
    let bytes: Vec<u8> = IRIS_ROW.into_iter().flat_map(f32::to_le_bytes).collect();
    let message = ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![InferInputTensor {
            name: IRIS_INPUT.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 4],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::from(bytes)],
        ..ModelInferRequest::default()
    };
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let call = grpc::call(&address.to_string(), path, &message.encode_to_vec());
    Request::grpc(address, call)
}
