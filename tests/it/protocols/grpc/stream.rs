//! Many requests over one stream.

use std::time::Duration;

use onstage::protocol::inference::{ModelStatisticsRequest, ModelStreamInferResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Streaming};

use super::limits::until;
use super::*;
use crate::lifecycle::swap::scene::Files;

type Requests = mpsc::UnboundedSender<ModelInferRequest>;

/// An open stream: requests go in on one side, answers come out on the other.
async fn open(
    client: &mut Client,
    metadata: &[(&'static str, &str)],
) -> (Requests, Streaming<ModelStreamInferResponse>) {
    let (requests, receiver) = mpsc::unbounded_channel();
    let mut call = Request::new(UnboundedReceiverStream::new(receiver));
    for (name, value) in metadata {
        call.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let answers = client.model_stream_infer(call).await.unwrap();
    (requests, answers.into_inner())
}

fn numbered(id: usize) -> ModelInferRequest {
    ModelInferRequest {
        id: id.to_string(),
        ..flowers()
    }
}

fn of_no_model() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "rose".to_owned(),
        id: "lost".to_owned(),
        ..flowers()
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let server = iris().await;
    let (requests, mut answers) = open(&mut client(&server).await, &[]).await;
    for id in 0..100 {
        requests.send(numbered(id)).unwrap();
    }
    drop(requests);
    for id in 0..100 {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer.error_message, "");
        let answer = answer.infer_response.unwrap();
        assert_eq!(
            (answer.id.as_str(), labels(&answer)),
            (&*id.to_string(), vec![0, 2])
        );
    }
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn an_error_is_told_in_its_place_and_the_stream_goes_on() {
    let server = iris().await;
    let (requests, mut answers) = open(&mut client(&server).await, &[]).await;
    for request in [numbered(1), of_no_model(), numbered(2)] {
        requests.send(request).unwrap();
    }
    let mut next = async || answers.next().await.unwrap().unwrap();
    assert_eq!(next().await.infer_response.unwrap().id, "1");
    let failed = next().await;
    assert!(failed.error_message.contains("`rose`"), "{failed:?}");
    assert_eq!(failed.infer_response.unwrap().id, "lost");
    assert_eq!(next().await.infer_response.unwrap().id, "2");
}

#[tokio::test]
async fn an_error_ends_the_stream_when_the_client_wants_that() {
    let server = iris().await;
    let metadata = [("triton_grpc_error", "true")];
    let (requests, mut answers) = open(&mut client(&server).await, &metadata).await;
    for request in [numbered(1), of_no_model(), numbered(2)] {
        requests.send(request).unwrap();
    }
    answers.next().await.unwrap().unwrap();
    let error = answers.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("`rose`"), "{error}");
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn the_last_answer_is_marked_when_the_client_wants_that() {
    let server = iris().await;
    let (requests, mut answers) = open(&mut client(&server).await, &[]).await;
    let name = "triton_enable_empty_final_response".to_owned();
    let mut request = numbered(1);
    request
        .parameters
        .insert(name, parameter(ParameterChoice::BoolParam(true)));
    requests.send(request).unwrap();
    let answer = answers
        .next()
        .await
        .unwrap()
        .unwrap()
        .infer_response
        .unwrap();
    let is_final = &answer.parameters["triton_final_response"].parameter_choice;
    assert_eq!(*is_final, Some(ParameterChoice::BoolParam(true)));
}

#[tokio::test]
async fn requests_of_one_stream_run_together() {
    let server = patient("16").await;
    let (requests, mut answers) = open(&mut client(&server).await, &[]).await;
    // Eight requests of two rows fill a batch; one by one they would wait for minutes.
    for id in 0..8 {
        requests.send(numbered(id)).unwrap();
    }
    for id in 0..8 {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer.infer_response.unwrap().id, id.to_string());
    }
}

#[tokio::test]
async fn the_deadline_of_the_call_ends_the_stream() {
    let server = iris().await;
    let call = RawCall {
        path: "/inference.GRPCInferenceService/ModelStreamInfer",
        ..RawCall::infer(&flowers())
    };
    let answer = call
        .header("grpc-timeout", "20S")
        .send(server.grpc_address())
        .await;
    assert_eq!(answer.status, None, "{}", answer.message);
    let metadata = [("grpc-timeout", "300m")];
    let (_requests, mut answers) = open(&mut client(&server).await, &metadata).await;
    let error = answers.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{error}"
    );
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream_with_our_words() {
    let flags = ["--max-body", "4KiB"];
    let package = ["model-examples/iris", "--engine", "tract"];
    let server = Server::start(&[&package[..], &flags].concat()).await;
    let (requests, mut answers) = open(&mut client(&server).await, &[]).await;
    requests.send(numbered(1)).unwrap();
    let id = "x".repeat(5000);
    requests
        .send(ModelInferRequest { id, ..flowers() })
        .unwrap();
    answers.next().await.unwrap().unwrap();
    let error = answers.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("`server.max_body`"), "{error}");
}

#[tokio::test]
async fn requests_of_a_stream_that_is_dropped_leave_the_queue() {
    let server = patient("64").await;
    let (requests, answers) = open(&mut client(&server).await, &[]).await;
    for id in 0..3 {
        requests.send(numbered(id)).unwrap();
    }
    let queue = r#"onstage_queue_depth{model="iris"}"#;
    until("they wait", async || metric(&server, queue).await == 3.0).await;
    drop((requests, answers));
    until("they are counted", async || {
        ended(&server, "cancelled").await == 3.0
    })
    .await;
}

#[tokio::test]
async fn a_stream_sees_a_swap_and_no_error() {
    let files = Files::of(&[1.0, 2.0]).await;
    let server = files.serve("", &[]).await;
    let mut client = client(&server).await;
    let (requests, mut answers) = open(&mut client, &[]).await;
    let two = ModelInferRequest {
        model_name: "scale".to_owned(),
        inputs: vec![input("x", "FP32", &[1, 2])],
        raw_input_contents: vec![bytes(&[1.0_f32, 1.0].map(f32::to_le_bytes).concat())],
        ..ModelInferRequest::default()
    };
    let mut versions = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while versions.last() != Some(&"2".to_owned()) {
        assert!(
            Instant::now() < deadline,
            "version 2 never came: {versions:?}"
        );
        if versions.len() == 5 {
            files.promote(2).await;
        }
        requests.send(two.clone()).unwrap();
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer.error_message, "");
        let answer = answer.infer_response.unwrap();
        let factor: f32 = answer.model_version.parse().unwrap();
        let expected = [factor, factor].map(f32::to_le_bytes).concat();
        assert_eq!(answer.raw_output_contents, [bytes(&expected)]);
        versions.push(answer.model_version);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(versions.is_sorted(), "never back: {versions:?}");
    // What is counted is of one version.
    let request = ModelStatisticsRequest {
        name: "scale".to_owned(),
        version: "2".to_owned(),
    };
    let told = client.model_statistics(request).await.unwrap().into_inner();
    assert_eq!(told.model_stats[0].inference_count, 1);
}

#[tokio::test]
async fn a_stream_that_its_client_keeps_open_does_not_keep_the_server() {
    let server = iris().await;
    let (requests, mut answers) = open(&mut client(&server).await, &[]).await;
    requests.send(numbered(1)).unwrap();
    answers.next().await.unwrap().unwrap();
    server.signal_termination();
    let error = answers.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    drop(requests);
}
